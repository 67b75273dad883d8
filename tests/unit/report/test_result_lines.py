"""What ``adrpo demo`` says at its end, computed from the run's files."""

import json
from pathlib import Path
from typing import Any

import pytest

from adrpo.errors import AdrpoError
from adrpo.report.kept import judges_trained_on
from adrpo.report.page import write_report
from adrpo.report.result import metric_lines, result_lines
from adrpo.rewards.scene_judge import SceneJudge
from adrpo.runs import RunDirectory
from adrpo.runs.facts import Facts, write_facts
from adrpo.runs.inputs import Inputs, callable_name

GOLD = ("gold_accuracy",)


def row(step: int, split: str, accuracy: float, change: float | None = None) -> dict[str, Any]:
    """An evaluation whose intervals reach 0.1 to each side."""
    found = {"step": step, "split": split, "samples": 40, "prompts": 10}
    values = {"gold_accuracy": accuracy}
    if change is not None:
        values["gold_accuracy_change"] = change
    for name, value in values.items():
        found |= {name: value, f"{name}_low": value - 0.1, f"{name}_high": value + 0.1}
    return found


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", "domain: flow\n")


def test_compares_the_base_with_the_latest_step_on_unseen_prompts(run: RunDirectory) -> None:
    run.append_evaluation(row(0, "unseen", 0.3))
    run.append_evaluation(row(0, "seen", 0.9))
    run.append_evaluation(row(10, "unseen", 0.4, change=0.1))
    run.append_evaluation(row(20, "unseen", 0.5, change=0.2))
    run.append_evaluation(row(20, "seen", 0.8, change=-0.1))
    head, line = result_lines(run.path)
    assert "step 20" in head and "10 unseen prompts" in head and "40 samples" in head
    assert "0.30" in line and "0.50" in line and "rose by 0.20" in line
    assert "0.9" not in line and "0.8" not in line


@pytest.mark.parametrize(
    ("change", "verdict"), [(0.2, "rose by"), (-0.2, "fell by"), (0.05, "unchanged")]
)
def test_the_verdict_is_that_of_the_interval(
    run: RunDirectory, change: float, verdict: str
) -> None:
    run.append_evaluation(row(0, "unseen", 0.5))
    run.append_evaluation(row(1, "unseen", 0.5 + change, change=change))
    verdicts = {"rose by", "fell by", "unchanged"}
    line = result_lines(run.path)[1]
    assert {word for word in verdicts if word in line} == {verdict}


def test_a_change_that_is_rounding_is_none(run: RunDirectory) -> None:
    """A reward of 4e-7 for every image, which a base rounded to six decimals had as 0."""
    rows = [row(0, "unseen", 0.0), row(5, "unseen", 4e-7, change=4e-7)]
    for found in rows:
        for key in [key for key in found if key.endswith(("_low", "_high"))]:
            found[key] = found[key.removesuffix("_low").removesuffix("_high")]
        run.append_evaluation(found)
    assert result_lines(run.path)[1].endswith("unchanged")


def test_the_samples_have_their_domains_word(run: RunDirectory) -> None:
    write_facts(run, Facts(domain="flow", samples="pictures"))
    run.append_evaluation(row(0, "unseen", 0.5))
    assert "40 pictures" in result_lines(run.path)[0]


def test_an_evaluation_alone_has_the_same_digits_and_verdicts() -> None:
    found = row(8, "unseen", 0.51234, change=0.21234)
    found |= {
        key.replace("gold_accuracy", "gold_accuracy_color"): value - 0.2
        for key, value in found.items()
        if key.startswith("gold_accuracy")
    }
    found |= {"clip_score": 4e-7, "clip_score_low": 4e-7, "clip_score_high": 4e-7}
    found |= {f"clip_score_change{end}": 4e-7 for end in ("", "_low", "_high")}
    assert metric_lines(found) == [
        "gold_accuracy        0.51 [0.41, 0.61]  change against the base +0.21 [+0.11, +0.31] rose",
        "clip_score           0 [0, 0]  change against the base 0 [0, 0] unchanged",
        "gold_accuracy_color  0.31 [0.21, 0.41]  "
        "change against the base +0.01 [−0.09, +0.11] unchanged",
    ]
    assert metric_lines(row(0, "seen", 0.5)) == ["gold_accuracy  0.50 [0.40, 0.60]"]


def test_samples_without_a_score_are_told(run: RunDirectory) -> None:
    write_facts(run, Facts(domain="flow", samples="pictures"))
    told = "A reward gave no score to 7 of 40 pictures; their prompts are left out of it."
    run.append_evaluation(row(0, "unseen", 0.5) | {"samples_excluded": 7})
    assert result_lines(run.path)[-1] == told
    # The base lacks some, and the prompts of both are compared.
    run.append_evaluation(row(5, "unseen", 0.6, change=0.1) | {"samples_excluded": 0})
    assert result_lines(run.path)[-1] == told
    found = row(5, "unseen", 0.6, change=0.1)
    assert metric_lines(found | {"samples_excluded": 7}, "pictures")[-1] == told
    assert metric_lines(found | {"samples_excluded": 0}) == metric_lines(found)


def test_only_the_base_was_measured(run: RunDirectory) -> None:
    run.append_evaluation(row(0, "unseen", 0.5))
    head, line = result_lines(run.path)
    assert "Base model" in head and "->" not in head + line


def test_a_run_without_evaluations_says_so(run: RunDirectory) -> None:
    assert result_lines(run.path) == ["No evaluation on unseen prompts has been written yet."]


def test_a_folder_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "evaluations.jsonl").write_text(json.dumps(row(0, "unseen", 0.5)))
    with pytest.raises(AdrpoError, match=str(tmp_path)):
        result_lines(tmp_path)


def test_a_reward_that_python_gave_is_named(tmp_path: Path) -> None:
    files = Inputs(reward="mine:judge").files()
    run = RunDirectory.create(tmp_path / "run", "domain: flow\n", files)
    run.append_evaluation(row(0, "unseen", 0.3))
    run.append_evaluation(row(10, "unseen", 0.4, change=0.1))
    assert "mine:judge" in result_lines(run.path)[-1]


@pytest.mark.parametrize(
    ("config", "marked"),
    [
        ("domain: flow\nreward: [{name: scene_judge}]\n", True),
        ("domain: flow\nreward: [{name: 'adrpo.rewards.scene_judge:SceneJudge'}]\n", True),
        ("domain: flow\nreward: [{name: clip_score}]\n", False),
    ],
)
def test_a_judge_that_the_reward_asks_is_called_trained_on(
    tmp_path: Path, config: str, marked: bool
) -> None:
    run = RunDirectory.create(tmp_path / "run", config)
    run.append_evaluation(row(0, "unseen", 0.3))
    run.append_evaluation(row(10, "unseen", 0.6, change=0.3))
    (line,) = [line for line in result_lines(run.path) if "Gold accuracy" in line]
    assert ("Gold accuracy (trained on)" in line) == marked
    run.append_metrics({"step": 1, "loss": 0.0})
    page = write_report(run.path).read_text(encoding="utf-8")
    # Its row, its figure, and the sentence at the head.
    told = ("Gold accuracy (trained on)", "gold accuracy (trained on) rose from")
    assert [words in page for words in told] == [marked, marked]
    assert "Gold accuracy" in page
    judges = judges_trained_on(run)
    lines = metric_lines(run.read_evaluations()[-1], trained=judges)
    assert lines[0].startswith("gold_accuracy (trained on)  ") == marked


def test_a_callable_in_the_recipes_place_says_what_is_trained_on(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "domain: flow\nreward: [{name: scene_judge}]\n")
    assert judges_trained_on(run) == ("gold_accuracy",)
    for reward, judges in ((callable_name(print), ()), (callable_name(SceneJudge()), GOLD)):
        for name, content in Inputs(reward=reward).files().items():
            (run.path / name).write_bytes(content)
        assert judges_trained_on(run) == judges
