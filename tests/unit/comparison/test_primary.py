"""The primary comparison: declared before the runs, kept, told first, and tested alone."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adrpo.cli import app
from adrpo.cli.compare import _advise
from adrpo.comparison import Plan, collect, record, write_results
from adrpo.comparison.analysis import analyse
from adrpo.comparison.page import results_table
from adrpo.comparison.plan import distances_of
from support.fabricated_comparison import fabricate_comparison
from support.strict_page import Page


def test_what_was_not_declared_before_the_runs_only_describes(tmp_path: Path) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "fixed"), seeds=2, seen=False)
    record_file = plan.folder / "comparison.json"
    written = json.loads(record_file.read_text())
    assert written["primary"] == {"metric": None, "method": "fixed", "declared": True}
    del written["primary"]
    record_file.write_text(json.dumps(written))
    recipes = [method.recipe for method in plan.methods]
    late = Plan.resolve(plan.folder, recipes, [], 2, None, [], "clip_score=fixed")
    analysis = analyse(collect(late))
    assert (analysis.primary, analysis.primary_method) == ("clip_score", None)
    (split,) = analysis.splits
    tested = [p for row in split.p_holm.values() for p in row.values()]
    assert split.family == len(tested)
    page = Page(write_results(collect(late), "adrpo compare"))
    assert "No comparison was declared before the runs" in page.text
    record(late)
    assert json.loads(record_file.read_text())["primary"]["declared"] is False


def test_the_declared_comparison_stays_and_is_told_first(tmp_path: Path) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "fixed"), seeds=2, seen=False)
    recipes = [method.recipe for method in plan.methods]
    options = ["--seeds", "2", "--summary-only", "--output-dir", str(plan.folder)]
    runner = CliRunner()
    result = runner.invoke(app, ["compare", *recipes, *options])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(
        "Primary comparison: fixed against ours in the first of gold_accuracy"
    )
    page = Page(plan.folder / "comparison.html")
    assert "Declared before the runs: fixed − ours in gold accuracy is" in page.text
    for given, wanted in (
        ("clip_score=fixed", "declared before its runs"),
        ("gold_accuracy", "METRIC=METHOD"),
        ("gold_accuracy=ours", "METHOD one of fixed"),
        ("gold=fixed", "add a reward under evaluation.rewards"),
        # Known metrics, but one that nothing measures here, and one that no table has.
        ("image_reward=fixed", "expected --primary to name one of gold_accuracy, reward,"),
        ("edge_density=fixed", "expected --primary to name one of gold_accuracy, reward,"),
        ("kl=fixed", "expected --primary to name one of gold_accuracy, reward,"),
    ):
        result = runner.invoke(app, ["compare", *recipes, *options, "--primary", given])
        assert result.exit_code != 0 and wanted in str(result.exception), given


def test_fewer_recipes_and_seeds_are_taken_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", seeds=3, seen=False)
    ours, _, greedy = recipes = [method.recipe for method in plan.methods]
    options = ["--seeds", "2", "--output-dir", str(plan.folder)]
    result = CliRunner().invoke(app, ["compare", ours, greedy, *options, "--summary-only"])
    assert result.exit_code == 0, result.output
    assert f"Left out, though {plan.folder} has it: fixed, seed 2." in result.output
    summary = json.loads((plan.folder / "summary.json").read_text())
    assert summary["seeds"] == [0, 1]
    assert list(summary["splits"]["unseen"]["methods"]) == ["ours", "greedy"]
    # The comparison that was declared is not among them, so that none is tested alone.
    assert summary["primary_method"] is None
    fewer = Plan.resolve(plan.folder, [ours, greedy], [], 2, None)
    record(fewer)
    written = json.loads((plan.folder / "comparison.json").read_text())
    assert (written["seeds"], list(written["recipes"])) == ([0, 1], ["ours", "greedy"])
    # What was declared before the runs stays so, for when its method is compared again.
    assert Plan.resolve(plan.folder, recipes, [], 3, None).primary == plan.primary
    assert plan.run_folder(plan.methods[1], 2).is_dir()


def test_more_evaluations_are_advised_only_where_there_can_be_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for every, said in ((2, "evaluation.every=1 makes them 3."), (1, "")):
        overrides = ["training.steps=3", f"evaluation.every={every}"]
        _advise(Plan.resolve(tmp_path / "cmp", ["flow/demo"], overrides, 1, None))
        told = capsys.readouterr().out.strip()
        assert told.endswith(said) and bool(told) == bool(said)


def test_a_judge_that_a_method_is_trained_on_comes_after_the_others(tmp_path: Path) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "fixed"), seeds=2, seen=False)
    results = collect(plan)
    ours = analyse(results)
    assert (ours.primary, ours.title("gold_accuracy")) == ("gold_accuracy", "Gold accuracy")
    # The second method's reward asks gold itself.
    fixed = results.methods["fixed"]
    rewards = [*fixed.settings["reward"], {"name": "scene_judge", "weight": 1.0}]
    fixed = replace(fixed, settings={**fixed.settings, "reward": rewards})
    trained = analyse(replace(results, methods=results.methods | {"fixed": fixed}))
    assert trained.trained_on == ["clip_score", "clip_novelty", "scene_judge", "gold_accuracy"]
    assert trained.primary == "clip_score_evaluation"
    columns = [column.label for column in results_table(trained, trained.splits[0]).columns]
    assert "Gold accuracy (trained on)" in columns and "CLIP score, second CLIP" in columns
    assert "Gold accuracy" in [c.label for c in results_table(ours, ours.splits[0]).columns]


def test_a_distance_can_be_primary_where_it_is_measured() -> None:
    assert distances_of({"evaluation.distances": None}) == []
    drift = {"evaluation.distances.features": "embedded", "evaluation.distances.references": None}
    assert distances_of(drift) == ["frechet_drift", "kernel_drift"]
    real = drift | {"evaluation.distances.references": "photos"}
    assert distances_of(real) == ["frechet_distance", "kernel_distance"]
