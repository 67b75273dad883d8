"""Rewards that fail while a language model trains: some completions, all, the wrong values."""

import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from adrpo.errors import AdrpoError
from adrpo.llm.run import LanguageRun
from adrpo.report import write_report
from adrpo.rewards import RewardTerm
from adrpo.runs.directory import Row, RunDirectory
from support.tiny_language_runs import metrics_without_timings, tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS

Completions = list[str]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


def share_of_a(completions: Completions) -> list[float | None]:
    return [completion.split().count("a") / 8 for completion in completions]


def language_run(material: Path, *functions: Any, **sections: Any) -> LanguageRun:
    """Two steps of two prompts; the base and the end are evaluated."""
    settings: dict[str, Any] = {
        "training": {"steps": 2, "prompts_per_step": 2, "micro_batch_size": 8},
        "evaluation": {"every": 2},
        "checkpoint": {"every": 1},
    }
    for name, section in sections.items():
        settings[name] = settings.get(name, {}) | section
    run = LanguageRun(tiny_language_config(material, **settings))
    run.terms = [RewardTerm(function.__name__, 1.0, function) for function in functions]
    return run


def train(run: LanguageRun, folder: Path, **how: Any) -> list[Row]:
    path = run.train(folder / "run", progress=False, **how)
    return RunDirectory.open(path).read_metrics()


class InTraining:
    """A reward of language runs that is asked for the completions of step N as ``in_step``
    wishes, and answers in evaluations, which have other numbers of samples, without fail."""

    def __init__(self, in_step: Any, batch: int = 8) -> None:
        self.__name__ = "judge"
        self.in_step = in_step
        self.batch = batch
        self.steps = itertools.count(1)

    def __call__(self, completions: Completions, **_: Any) -> list[float | None]:
        if len(completions) == self.batch:
            return self.in_step(next(self.steps), completions)
        return share_of_a(completions)


def test_completions_whose_reward_raises_are_left_out_and_counted(
    material: Path, tmp_path: Path
) -> None:
    def judge(completions: Completions, **_: Any) -> list[float | None]:
        if any("b" in completion.split() for completion in completions):
            raise RuntimeError("no such\nword")
        return share_of_a(completions)

    seen: list[Completions] = []

    def scribe(completions: Completions, **_: Any) -> list[float | None]:
        seen.append(completions)
        return [0.0] * len(completions)

    rows = train(language_run(material, judge, scribe), tmp_path)
    assert [row["samples"] for row in rows] == [8, 8]
    in_steps = [completions for completions in seen if len(completions) == 8]
    for row, completions in zip(rows, in_steps, strict=True):
        kept = [text for text in completions if "b" not in text.split()]
        assert row["samples_excluded"] == 8 - len(kept) > 0
        expected = sum(text.split().count("a") / 8 for text in kept) / len(kept)
        # A mean of at most eight eighths, in float32.
        assert row["reward_mean"] == pytest.approx(expected, rel=1e-6)
        assert row["reward_judge_mean"] == pytest.approx(expected, rel=1e-6)
        told, _, place = row["reward_error"].partition(" (")
        assert told == "judge: RuntimeError: no such word"
        assert place.startswith("test_language_rewards.py, line ")


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_a_reward_that_is_not_finite_voids_its_sample_alone(
    material: Path, tmp_path: Path, missing: float | None
) -> None:
    def partly(step: int, completions: Completions) -> list[float | None]:
        return [missing, *([0.0, 0.5, 1.0] * 3)[: len(completions) - 1]]

    rows = train(language_run(material, InTraining(partly), training={"steps": 1}), tmp_path)
    assert rows[0]["samples_excluded"] == 1
    # The other seven, in float32: 0, 0.5 and 1 twice, and 0.
    assert rows[0]["reward_mean"] == pytest.approx(3 / 7, rel=1e-6)
    assert math.isfinite(rows[0]["loss"]) and rows[0]["grad_norm"] > 0
    assert "reward_error" not in rows[0]


def test_a_step_without_any_score_goes_on_and_is_resumed(material: Path, tmp_path: Path) -> None:
    """As with data that lack the answer of some prompts, one of which fills a step."""

    def second_unscored(step: int, completions: Completions) -> list[float | None]:
        return [None] * len(completions) if step == 2 else share_of_a(completions)

    def run() -> LanguageRun:
        judge = InTraining(second_unscored)
        return language_run(material, judge, training={"steps": 3}, checkpoint={"keep": 3})

    rows = train(run(), tmp_path)
    assert [row["samples_excluded"] for row in rows] == [0, 8, 0]
    empty = rows[1]
    assert empty["reward_mean"] is empty["reward_std"] is empty["reward_judge_mean"] is None
    # The KL to the reference is all that is learned from, with beta_0 in float32.
    assert math.isfinite(empty["loss"])
    assert empty["beta_min"] == empty["beta_max"] == pytest.approx(0.04, rel=1e-6)
    assert "<svg" in write_report(tmp_path / "run").read_text(encoding="utf-8")

    whole = metrics_without_timings(tmp_path / "run")
    folder = tmp_path / "run"
    for step in (2, 3):
        shutil.rmtree(folder / "checkpoints" / f"checkpoint-{step}")
    again = run()
    next(again.terms[0].function.steps)  # pyright: ignore[reportFunctionMemberAccess]
    train(again, tmp_path, resume=True)
    assert metrics_without_timings(folder) == whole


def test_rows_without_an_answer_are_left_out(tmp_path: Path) -> None:
    """The built-in rewards have no score where the data have no answer."""
    material = write_material(tmp_path)
    rows = [json.loads(line) for line in (material / "prompts.jsonl").read_text().splitlines()]
    lines = [json.dumps(row | {"answer": "a" if n % 2 else None}) for n, row in enumerate(rows)]
    (material / "prompts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = tiny_language_config(
        material,
        training={"prompts_per_step": 1, "micro_batch_size": 4, "steps": 6},
        evaluation={"every": 6},
        checkpoint={"every": 6},
    )
    settings = config.model_dump() | {"reward": [{"name": "exact_answer"}]}
    found = train(LanguageRun(type(config).model_validate(settings)), tmp_path)
    # Six prompts of 50, of which about half have an answer: here some have it and some not.
    assert {row["samples_excluded"] for row in found} == {0, 4}


def test_a_step_whose_reward_raised_for_all_stops_with_what_is_left_to_resume(
    material: Path, tmp_path: Path
) -> None:
    def away(step: int, completions: Completions) -> list[float | None]:
        if step >= 2:
            raise RuntimeError("the judge is away")
        return share_of_a(completions)

    class Away(InTraining):
        def __call__(self, completions: Completions, **_: Any) -> list[float | None]:
            if len(completions) == 1:  # Asked again, one completion at a time.
                raise RuntimeError("the judge is away")
            return super().__call__(completions)

    with pytest.raises(AdrpoError) as caught:
        train(language_run(material, Away(away)), tmp_path)
    message = str(caught.value)
    assert "step 2: the reward scored none of 8 samples" in message
    assert "judge: RuntimeError: the judge is away" in message and "\n" not in message
    assert str(tmp_path / "run") in message and "--resume" in message

    run = language_run(material, InTraining(lambda _, completions: share_of_a(completions)))
    assert [row["step"] for row in train(run, tmp_path, resume=True)] == [1, 2]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (0.5, "reward 'judge': expected a list of 8 numbers, one per sample, received float"),
        ([0.5] * 7, "reward 'judge': expected 8 values, one per sample, received 7"),
        (["good"] * 8, "reward 'judge': expected a number or None for each sample"),
    ],
)
def test_wrong_values_are_told_in_one_line(
    material: Path, tmp_path: Path, returned: Any, message: str
) -> None:
    judge = InTraining(lambda *_: returned)
    with pytest.raises(AdrpoError, match=message) as caught:
        train(language_run(material, judge), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_reward_that_takes_no_further_columns_is_told_in_one_line(
    material: Path, tmp_path: Path
) -> None:
    def narrow(prompts: list[str], completions: Completions) -> list[float | None]:
        return share_of_a(completions)

    with pytest.raises(AdrpoError, match=r"reward 'narrow': .*category.*\*\*columns") as caught:
        train(language_run(material, narrow), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_step_where_all_groups_are_equal_has_no_divergence_and_goes_on(
    material: Path, tmp_path: Path
) -> None:
    """No row is in the reference pass then, and the screen has no number to show."""
    judge = InTraining(lambda _, completions: [1.0] * len(completions))
    run = language_run(
        material, judge, algorithm={"kl_on_degenerate_groups": False}, training={"steps": 1}
    )
    path = run.train(tmp_path / "run", progress=True)
    assert RunDirectory.open(path).read_metrics()[0]["divergence"] is None


def test_an_async_reward_trains_as_the_same_function_does(material: Path, tmp_path: Path) -> None:
    import asyncio

    async def judge(completions: Completions, **_: Any) -> list[float | None]:
        await asyncio.sleep(0)
        return share_of_a(completions)

    waited = train(language_run(material, judge), tmp_path / "waited")

    def judge_at_once(completions: Completions, **_: Any) -> list[float | None]:
        return share_of_a(completions)

    judge_at_once.__name__ = "judge"
    at_once = train(language_run(material, judge_at_once), tmp_path / "at_once")
    assert [row["reward_mean"] for row in waited] == [row["reward_mean"] for row in at_once]
    folders = [
        tmp_path / name / "run" / "final" / "model.safetensors" for name in ("waited", "at_once")
    ]
    assert folders[0].read_bytes() == folders[1].read_bytes()


def test_the_values_of_a_term_are_those_of_its_function(material: Path, tmp_path: Path) -> None:
    """Neither weighed nor squashed, as in the domain flow."""
    from adrpo.rewards import Logistic

    judge = InTraining(lambda _, completions: [0.0, 2.0] * (len(completions) // 2))
    run = language_run(material, judge, training={"steps": 1})
    run.terms = [RewardTerm("judge", 3.0, judge, Logistic(location=1.0, scale=1.0))]
    (row,) = train(run, tmp_path)
    assert row["reward_judge_mean"] == 1.0
    squashed = 3 * (torch.sigmoid(torch.tensor(-1.0)) + torch.sigmoid(torch.tensor(1.0))) / 2
    assert row["reward_mean"] == pytest.approx(float(squashed), rel=1e-6)


def test_a_run_tells_that_its_advantages_are_far_below_the_clip(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def faint(completions: Completions, **_: Any) -> list[float | None]:
        return [len(completion) / 1e5 for completion in completions]

    run = language_run(material, faint, algorithm={"advantage_scale": "none"})
    run.train(tmp_path / "run")
    assert "steps 1 to 2: advantages had a spread of" in capsys.readouterr().out
