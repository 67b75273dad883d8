"""What a result costs, read off the runs of a made-up comparison."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adrpo.comparison import Plan, collect
from adrpo.errors import AdrpoError
from adrpo.metrics import UNSEEN
from adrpo.runs.directory import RunDirectory
from support.fabricated_comparison import STEPS, fabricate_comparison

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two methods of one course, of which the second pays twice as much for a step."""
    plan = fabricate_comparison(tmp_path / "c", methods=("ours", "fixed"), seeds=2, seen=False)
    first, second = ([plan.run_folder(m, seed) for seed in plan.seeds] for m in plan.methods)
    for own, other in zip(first, second, strict=True):
        for step in STEPS:
            name = f"samples/step-{step:06d}/values.json"
            (other / name).write_text((own / name).read_text())
        (other / "evaluations.jsonl").write_text((own / "evaluations.jsonl").read_text())
        for folder, each in ((own, 1.0), (other, 2.0)):
            rows = RunDirectory.open(folder).read_metrics()
            for row in rows:
                # Dearer from step to step, so that no cost is a multiple of the steps.
                row |= {
                    "seconds_step": each * row["step"],
                    "samples": 64,
                    "model_calls": each * 100,
                }
            lines = (json.dumps(row) + "\n" for row in rows)
            (folder / "metrics.jsonl").write_text("".join(lines))
    return plan


def asked(plan: Plan, *levels: float):
    from time_to_result import Asked

    settings = {Path(method.name).name: {} for method in plan.methods}
    return Asked(
        "flow/demo", settings, (), 2, "gold_accuracy", levels, kept=("clip_diversity",)
    )  # fmt: skip


def methods(plan: Plan):
    return list(collect(plan).methods.values())


def test_completions_are_told_where_calls_are_not_counted(plan: Plan):
    from time_to_result import costs_at, table, tell

    of_images = asked(plan, 0.9)
    of_text = replace(of_images, recipe="llm/embedded")
    for method in methods(plan):
        level = float(method.splits[UNSEEN].curves["gold_accuracy"][:, 0].max()) + 0.01
        images, text = (costs_at(method, each, level)[0] for each in (of_images, of_text))
        assert text["completions"].tolist() == images["images"].tolist()
        assert set(text) == {"seconds", "completions"}
    assert "ratio of completions" in table(
        of_text, tell(replace(of_text, levels=(level,)), methods(plan))
    )


def test_a_cost_lies_where_each_seed_s_course_first_comes_to_the_level(plan: Plan):
    from time_to_result import tell

    part = collect(plan).methods[plan.methods[0].name].splits[UNSEEN]
    courses = part.by_prompt["gold_accuracy"].mean(axis=2)
    level = float(courses[:, 0].max() + 0.4 * (courses[:, 1] - courses[:, 0]).min())
    own, other = tell(asked(plan, level), methods(plan))
    shares = [np.interp(level, course[:2], (0, 1)) for course in courses]
    assert (own["reached"], own["seeds"]) == (2, 2)
    assert own["images"]["mean"] == pytest.approx(64 * STEPS[1] * np.mean(shares))
    seconds = STEPS[1] * (STEPS[1] + 1) / 2
    assert own["seconds"]["mean"] == pytest.approx(seconds * np.mean(shares))
    assert other["seconds"]["mean"] == pytest.approx(2 * own["seconds"]["mean"])
    # Of one course the pairing leaves nothing to chance.
    for cost, ratio in (("seconds", 2.0), ("network calls", 2.0), ("images", 1.0)):
        told = other[f"{cost}_ratio"]
        assert [told["mean"], told["low"], told["high"]] == pytest.approx([ratio] * 3)
    kept = part.curves["clip_diversity"]
    expected = [1 + share * (row[1] / row[0] - 1) for share, row in zip(shares, kept, strict=True)]
    assert own["clip_diversity_kept"] == pytest.approx(np.mean(expected))


def test_the_logarithm_s_linearised_values_are_its_derivative():
    """Each prompt's cost moved by a little moves the logarithm as its own value says."""
    from time_to_result import logs

    costs, step = np.random.default_rng(0).uniform(5, 9, size=(1, 6)), 1e-6
    values = logs(costs)
    assert values.mean() == pytest.approx(np.log(costs.mean()))
    for prompt in range(6):
        moved = costs.copy()
        moved[0, prompt] += step
        # The finite difference's own error: its step, and rounding over the step.
        derivative = (logs(moved).mean() - values.mean()) / step
        assert derivative == pytest.approx(1 / (6 * costs.mean()), abs=1e-6)


def test_a_setting_that_never_comes_to_the_level_has_no_cost(plan: Plan):
    from time_to_result import table, tell

    rows = tell(asked(plan, 0.99), methods(plan))
    assert [row["reached"] for row in rows] == [0, 0] and "seconds" not in rows[0]
    assert "| gold_accuracy 0.99 | ours | 0 of 2 |" in table(asked(plan, 0.99), rows)


def test_a_level_below_the_base_is_refused(plan: Plan):
    from time_to_result import tell

    with pytest.raises(AdrpoError, match="expected one above the base's"):
        tell(asked(plan, 0.1), methods(plan))


def test_the_lists_of_levers_start_from_what_flow_verifiable_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever the recipe is now: the commands train what the committed rows are of."""
    from time_to_result import Asked

    monkeypatch.chdir(BENCHMARKS.parent)
    before = ["benchmarks/losses/regression-adaptive.yaml"]
    for name in ("levers", "together"):
        asked = Asked.read(BENCHMARKS / f"time_lists/{name}.yaml")
        found = asked.plan(tmp_path / name).methods
        (was,) = Plan.resolve(tmp_path / "was", before, asked.overrides, 1, None).methods
        own, old = (
            {key: value for key, value in settings.items() if key not in ("description", "source")}
            for settings in (found[0].settings, was.settings)
        )
        assert own == old
        told = {repr(sorted(method.settings.items())) for method in found}
        assert len(told) == len(asked.settings)
