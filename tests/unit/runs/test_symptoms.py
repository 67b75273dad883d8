"""Symptoms of a training that learns nothing or goes astray: told once, with the key and the
section that explains."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from adrpo.runs.directory import RunDirectory
from adrpo.runs.progress import TrainingProgress
from adrpo.runs.symptoms import NORM, PAGE, STEPS, SYMPTOMS, symptoms

FLOW: dict[str, Any] = {"algorithm": {"advantage_clip": [-1.0, 1.0], "advantage_scale": "none"}}
LLM: dict[str, Any] = {
    "domain": "llm",
    "algorithm": {"advantage_clip": 0.04, "advantage_scale": "group", "beta_0": 0.04},
}


def rows(count: int, **columns: Any) -> list[dict[str, Any]]:
    fine = {"samples": 8, "samples_excluded": 0, "advantage_std": 0.5, "divergence": 0.0}
    return [
        fine | {"step": step, "samples_per_second": 1.0} | columns for step in range(1, count + 1)
    ]


def test_a_healthy_run_has_none():
    assert symptoms(rows(50), FLOW, 50) == []


def test_advantages_far_below_the_clip_are_told_with_the_key():
    """0.0015 beside a clip of 1, as it was met; at a tenth of the clip there is nothing to say."""
    (told,) = symptoms(rows(50, advantage_std=0.0015), FLOW, 50)
    assert told.startswith(f"steps 1 to {STEPS}: ") and "0.0015" in told
    assert "algorithm.advantage_scale=group" in told and "clip of 1," in told
    assert symptoms(rows(50, advantage_std=0.1), FLOW, 50) == []


def test_rewards_of_a_language_model_are_advantages_where_no_scale_divides_them():
    small = rows(20, advantage_std=None, reward_std=0.001)
    assert symptoms(small, LLM, 20) == []
    unscaled = {"algorithm": LLM["algorithm"] | {"advantage_scale": "none"}}
    (told,) = symptoms(small, unscaled, 20)
    assert "clip of 0.04," in told
    # Without a clip of its own the coefficient's is beta_0.
    implied = {"algorithm": {"advantage_clip": None, "beta_0": 0.04, "advantage_scale": "none"}}
    assert symptoms(small, implied, 20) == [told]
    # A method without a clip is far from none.
    assert symptoms(small, {"algorithm": {"beta_0": 1.0, "advantage_scale": "none"}}, 20) == []


@pytest.mark.parametrize("constant", [{"advantage_std": 0.0}, {"degenerate_fraction": 1.0}])
def test_a_constant_reward_is_told(constant: dict[str, Any]):
    (told,) = symptoms(rows(20, **constant), FLOW, 20)
    assert "one reward" in told and "samples_per_prompt" in told


def test_pairs_that_mostly_tell_nothing_are_told_with_the_churn():
    """As a reward of 0 or 1 makes them; at a half there is nothing to say."""
    settings = {"algorithm": {"method": "fdfo", "churn": 0.0025}}
    few = rows(20, informative_fraction=0.125)
    few[4]["informative_fraction"] = 0.25
    (told,) = symptoms(few, settings, 20)
    assert told.startswith(f"steps 1 to {STEPS}: 12 to 25 % of pairs")
    assert "graded reward" in told and "algorithm.churn, now 0.0025," in told
    assert symptoms(rows(20, informative_fraction=0.5), settings, 20) == []
    # A step without any score has no share.
    assert symptoms(rows(20, informative_fraction=None), settings, 20) == []


def test_samples_without_a_score_in_every_step_are_told_with_the_first_error():
    failing = rows(20, samples_excluded=2)
    failing[3]["reward_error"] = "judge: RuntimeError: away (mine.py, line 3)"
    failing[5]["reward_error"] = "judge: RuntimeError: another (mine.py, line 9)"
    (told,) = symptoms(failing, FLOW, 20)
    assert f"{2 * STEPS} of {8 * STEPS}" in told and "(judge: RuntimeError: away (mine.py" in told
    # A step that has all scores begins the count anew.
    failing[8]["samples_excluded"] = 0
    assert symptoms(failing[:18], FLOW, 20) == []
    assert len(symptoms(failing[:19], FLOW, 20)) == 1


def test_a_short_run_is_told_by_all_of_its_steps():
    assert len(symptoms(rows(3, advantage_std=0.001), FLOW, 3)) == 1
    assert symptoms(rows(2, advantage_std=0.001), FLOW, 3) == []


@pytest.mark.parametrize(
    ("settings", "share", "told"),
    [
        (FLOW, 0.95, True),
        (FLOW, 0.9, False),
        # A clip in standard deviations was chosen as such.
        ({"algorithm": {"advantage_clip": [-0.1, 0.1], "advantage_scale": "batch"}}, 1.0, False),
    ],
)
def test_advantages_that_are_all_clipped_are_told(settings: Any, share: float, told: bool):
    found = symptoms(rows(20, advantage_clipped_fraction=share), settings, 20)
    assert len(found) == told
    if told:
        assert "95 to 95 % of advantages were beyond their clip of 1 in 10 steps" in found[0]


def test_a_coefficient_that_is_clipped_for_all_samples_is_the_papers_way():
    """Of a language model nothing but the coefficient is clipped, and rows have no advantages."""
    unscaled = {**LLM, "algorithm": {**LLM["algorithm"], "advantage_scale": "none"}}
    clipped = [
        {key: value for key, value in row.items() if key != "advantage_std"}
        for row in rows(20, advantage_clipped_fraction=1.0, reward_std=0.5)
    ]
    assert symptoms(clipped, unscaled, 20) == []


@pytest.mark.parametrize(("settings", "bound"), [(FLOW, 0.2), (LLM, 2.0)])
def test_a_divergence_beyond_the_domains_bound_is_told(settings: Any, bound: float):
    settings = {"domain": "flow"} | settings
    assert symptoms(rows(20, divergence=bound), settings, 20) == []
    far = rows(20, divergence=1.01 * bound)
    (told,) = symptoms(far, settings, 20)
    assert told.startswith("steps 1 to 10: the divergence was up to ")
    assert f"in each of 10 steps, beyond {bound:g}, " in told and "raise algorithm.beta_0" in told
    # One spike, or a step without a reference pass, is none.
    far[8]["divergence"], far[17]["divergence"] = None, 0.0
    assert symptoms(far[:18], settings, 20) == []


def evaluation(step: int, split: str = "unseen", **metrics: Any) -> dict[str, Any]:
    fine = {"divergence": 0.01, "velocity_norm_ratio": 1.01, "clip_diversity": 30.0}
    return {"step": step, "split": split} | fine | metrics


def measured(*metrics: dict[str, Any], settings: Any = FLOW) -> list[str]:
    """The sentences on a run whose evaluations after the base's have ``metrics``."""
    found = [evaluation(10 * place, **own) for place, own in enumerate(({}, *metrics))]
    return symptoms(rows(10 * len(metrics)), {"domain": "flow"} | settings, 20, found)


def test_a_divergence_of_an_evaluation_is_told_once_with_that_of_the_steps():
    (told,) = measured({"divergence": 0.1}, {"divergence": 0.21}, {"divergence": 0.3})
    assert told.startswith("step 20: the divergence was up to 0.21 at an evaluation, beyond 0.2")
    far = rows(20, divergence=0.5)
    assert len(symptoms(far, FLOW, 20, [evaluation(0), evaluation(10, divergence=0.5)])) == 1


@pytest.mark.parametrize(("ratio", "looks"), [(0.84, "washed out"), (1.16, "over-driven")])
def test_a_velocity_of_another_size_is_told(ratio: float, looks: str):
    (told,) = measured({"velocity_norm_ratio": ratio})
    assert told.startswith(f"step 10: the policy's velocity is {ratio} times the reference's")
    assert looks in told
    assert [measured({"velocity_norm_ratio": bound}) for bound in NORM] == [[], []]


def test_diversity_that_is_lost_is_told_beside_the_bases():
    (told,) = measured({"clip_diversity": 21.0}, {"clip_diversity": 20.0})
    assert told.startswith("step 20: clip_diversity fell to 20, 67 % of the base's 30: ")
    assert "clip_novelty" in told
    # Prompts that training sees may become alike, and a run without a base's row has no bound.
    seen = [evaluation(0), evaluation(10, "seen", clip_diversity=1.0)]
    assert symptoms(rows(20), FLOW, 20, seen) == []
    assert symptoms(rows(20), FLOW, 20, [evaluation(10, clip_diversity=1.0)]) == []


def entropies(*parts: tuple[int, float]) -> list[dict[str, Any]]:
    values = [value for count, value in parts for _ in range(count)]
    return [row | {"entropy": v} for row, v in zip(rows(len(values)), values, strict=True)]


def test_an_entropy_that_collapses_is_told_beside_that_of_the_first_steps():
    (told,) = symptoms(entropies((1, 0.05), (9, 0.55), (10, 0.3), (12, 0.09)), LLM, 40)
    assert told.startswith("steps 21 to 30: the policy's entropy was 0.09 to 0.09 nats a token")
    assert "less than 20 % of the 0.5 it began with" in told and "generation.temperature" in told
    # It falls in every run that learns; and a model that was sure before has nothing to lose.
    assert symptoms(entropies((10, 0.5), (30, 0.1)), LLM, 40) == []
    assert symptoms(entropies((10, 0.04), (30, 0.0001)), LLM, 40) == []


def test_each_symptom_ends_with_a_section_of_the_page():
    text = (Path(__file__).parents[3] / PAGE).read_text(encoding="utf-8")
    headings = {
        line[3:].lower().replace(" ", "-") for line in text.splitlines() if line[:3] == "## "
    }
    sections = {symptom.section for symptom in SYMPTOMS}
    assert sections <= headings
    assert headings - sections == {"what-ends-a-run"}
    (told,) = symptoms(rows(20, advantage_std=0.0), FLOW, 20)
    assert told.endswith(f"({PAGE}#one-reward-for-all-samples)")


def test_each_key_that_a_symptom_names_is_a_key():
    settings = (Path(__file__).parents[3] / "docs/reference/settings.md").read_text()
    source = Path(symptoms.__code__.co_filename).read_text()
    sections = "algorithm|training|generation|evaluation|reward"
    named = set(re.findall(rf"\b((?:{sections})\.(?:0\.)?[a-z_0-9]+)", source)) - {"algorithm.get"}
    assert len(named) > 8

    def is_key(dotted: str) -> bool:
        last = dotted.rpartition(".")[2]
        return f"| `{last}` |" in settings or f"### `{dotted}`" in settings

    assert [dotted for dotted in named if not is_key(dotted)] == []


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", yaml.safe_dump({"domain": "flow"} | FLOW))


def test_a_run_tells_each_once(run: RunDirectory, capsys: pytest.CaptureFixture[str]):
    with TrainingProgress(30, completed=0, enabled=True, run=run) as bar:
        run.append_evaluation(evaluation(0))
        for row in rows(14, advantage_std=0.001):
            run.append_metrics(row)
            bar.update(row)
        run.append_evaluation(evaluation(14, clip_diversity=10.0))
    out = capsys.readouterr().out
    assert out.count("algorithm.advantage_scale=group") == 1 and "steps 1 to 10: " in out
    assert out.count("step 14: clip_diversity fell to 10") == 1
    assert run.listeners == []
    # Nor again after it was resumed; what shows there with what came before is told.
    for row in rows(22, advantage_std=0.001, divergence=0.3)[14:19]:
        run.append_metrics(row)
    with TrainingProgress(30, completed=19, enabled=True, run=run) as bar:
        for row in rows(24, advantage_std=0.001, divergence=0.3)[19:]:
            run.append_metrics(row)
            bar.update(row)
        run.append_evaluation(evaluation(24, clip_diversity=10.0))
    out = capsys.readouterr().out
    assert "algorithm.advantage_scale" not in out and "clip_diversity" not in out
    assert out.count("steps 15 to 24: the divergence was up to 0.3") == 1
