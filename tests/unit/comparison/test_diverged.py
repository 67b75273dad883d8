"""A run that diverged counts as the base from there on; its seed is not dropped."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from adrpo.comparison import Plan, collect, cost_curves, jobs_of, write_results
from adrpo.comparison.analysis import analyse
from adrpo.metrics import describe
from adrpo.runs.directory import RunDirectory
from support.fabricated_comparison import STEPS, fabricate_comparison
from support.strict_page import Page


def diverge(plan: Plan, method: int, seed: int, *, after: int) -> None:
    """Leave of a finished run what one leaves that diverged after the evaluation at ``after``."""
    run = RunDirectory.open(plan.run_folder(plan.methods[method], seed))
    run.truncate_after(after)
    shutil.rmtree(run.final)
    for step in STEPS:
        if step > after:
            shutil.rmtree(run.samples / f"step-{step:06d}")
    run.record_divergence(after + 1, "received loss nan")


@pytest.mark.parametrize("seeds", [[1], [0, 1, 2]])
def test_it_has_the_base_s_values_and_all_seeds_stay(tmp_path: Path, seeds: list[int]) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "greedy"))
    for seed in seeds:
        diverge(plan, 1, seed, after=STEPS[1])
    assert all(job.is_finished() for job in jobs_of(plan))
    results = collect(plan)
    assert results.seeds == [0, 1, 2]
    part = results.methods["greedy"].splits["unseen"]
    assert part.steps == list(STEPS)
    for seed in seeds:
        np.testing.assert_array_equal(part.final["clip_score"][seed], part.base["clip_score"][seed])
        assert part.curves["clip_score"][seed, 1] != part.curves["clip_score"][seed, 0]
        assert part.curves["clip_score"][seed, 2] == part.curves["clip_score"][seed, 0]
    analysis = analyse(results)
    assert analysis.diverged == {f"greedy-seed{seed}": STEPS[1] + 1 for seed in seeds}
    change = analysis.splits[0].change["greedy"]["clip_score"].by_seed
    assert [place for place, value in enumerate(change) if value == 0] == seeds
    # It spent nothing that it could keep, so that no equal price is left to compare at.
    spent = analysis.splits[0].trade_offs[1].matched[0]
    assert "ends where the base is" in spent.reasons["greedy"]
    page = Page(write_results(results, "adrpo compare"))
    assert f"greedy-seed{seeds[0]} diverged at step {STEPS[1] + 1}" in page.text
    summary = json.loads((plan.folder / "summary.json").read_text())
    assert summary["diverged"] == analysis.diverged


def test_one_that_is_only_unfinished_still_leaves_its_seed_out(tmp_path: Path) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "greedy"), seen=False)
    diverge(plan, 1, 1, after=STEPS[1])
    RunDirectory.open(plan.run_folder(plan.methods[1], 1)).diverged.unlink()
    assert collect(plan).seeds == [0, 2]


def test_costs_are_sums_of_the_steps_and_stand_under_their_rewards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "greedy"), seeds=2, seen=False)
    for place, method in enumerate(plan.methods):
        for seed in plan.seeds:
            path = plan.run_folder(method, seed) / "metrics.jsonl"
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            for row in rows:
                row |= {"samples": 10, "model_calls": 100 * (1 + place) + row["step"]}
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    diverge(plan, 1, 1, after=STEPS[1])
    path = plan.run_folder(plan.methods[1], 1) / "metrics.jsonl"
    assert len(path.read_text().splitlines()) == STEPS[1]
    results = collect(plan)
    steps = STEPS[-1]
    assert results.methods["ours"].costs["samples"][:, -1].tolist() == [10 * steps] * 2
    expected = 200 * steps + steps * (steps + 1) / 2
    half = 200 * STEPS[1] + STEPS[1] * (STEPS[1] + 1) / 2
    assert results.methods["greedy"].costs["model_calls"][:, -1].tolist() == [expected, half]
    drawn = {}
    monkeypatch.setattr(cost_curves, "save", lambda figure, path: drawn.setdefault("one", figure))
    cost_curves.draw_costs(results, ["gold_accuracy"], "unseen", tmp_path / "costs.png")
    calls = drawn["one"].axes[0]
    _, curve = (line for line in calls.lines if line.get_gid() is None)  # no pointer's disks
    assert curve.get_xdata()[[0, -1]].tolist() == [0, (expected + half) / 2]
    gold = results.methods["greedy"].splits["unseen"].curves["gold_accuracy"]
    np.testing.assert_allclose(curve.get_ydata(), gold.mean(axis=0))
    path.write_text(path.read_text().replace('"model_calls"', '"other"', 1))
    assert "model_calls" not in collect(plan).methods["greedy"].costs
    # One count is left: two rewards stand beside each other, not below.
    drawn.clear()
    rewards = ["gold_accuracy", "clip_score"]
    cost_curves.draw_costs(collect(plan), rewards, "unseen", tmp_path / "costs.png")
    left, right = drawn["one"].axes
    assert left.get_position().y0 == right.get_position().y0
    assert right.get_ylabel() == describe("clip_score").label


def test_a_method_of_which_every_run_diverged_is_drawn_over_what_it_cost(tmp_path: Path) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "greedy"), seeds=2, seen=False)
    for method in plan.methods:
        for seed in plan.seeds:
            path = plan.run_folder(method, seed) / "metrics.jsonl"
            rows = [json.loads(line) | {"samples": 10} for line in path.read_text().splitlines()]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for seed in plan.seeds:
        diverge(plan, 1, seed, after=0)
    results = collect(plan)
    assert results.methods["greedy"].costs["samples"].tolist() == [[0] * (STEPS[-1] + 1)] * 2
    write_results(results, "adrpo compare")
    assert (plan.folder / "figures" / "costs-unseen.png").exists()
