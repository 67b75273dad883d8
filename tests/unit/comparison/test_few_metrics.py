"""A comparison of a domain that measures little: rewards, perhaps a price, and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from adrpo.comparison import collect, figures, write_results
from adrpo.comparison.analysis import analyse
from adrpo.comparison.page import results_table
from support.fabricated_comparison import fabricate_comparison
from support.strict_page import Page

PLACES = ("step", "split")


@pytest.mark.parametrize("price", [(), ("divergence",)], ids=["no price", "a price"])
def test_runs_without_a_diversity_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, price: tuple[str, ...]
) -> None:
    plan = fabricate_comparison(
        tmp_path / "cmp", methods=("ours", "fixed"), seeds=2, prompts=8, seen=False
    )
    for method in plan.methods:
        for seed in plan.seeds:
            keep_only(plan.run_folder(method, seed), ("clip_score", *price))
    monkeypatch.setattr(figures, "save", lambda figure, path: None)
    page = Page(write_results(collect(plan), "adrpo compare"))
    tables = [attrs.get("data-table") for attrs in page.all("table")]
    assert "results-unseen" in tables and "kept-unseen" not in tables
    assert ("trade-unseen-1" in tables) == bool(price)


def keep_only(run: Path, kept: tuple[str, ...]) -> None:
    """Leave a made-up run these metrics, and the sum of its one reward."""
    rows = []
    for line in (run / "evaluations.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        file = run / f"samples/step-{row['step']:06d}/values.json"
        table = json.loads(file.read_text(encoding="utf-8"))
        measured = {name: table[name] for name in kept} | {"reward": table["clip_score"]}
        file.write_text(json.dumps(measured), encoding="utf-8")
        row = {name: row[name] for name in PLACES}
        for name, column in measured.items():
            mean = float(np.mean(column))
            row |= {name: mean, f"{name}_low": mean - 1, f"{name}_high": mean + 1}
        rows.append(json.dumps(row) + "\n")
    (run / "evaluations.jsonl").write_text("".join(rows), encoding="utf-8")


def test_less_is_better_of_a_term_that_is_lowered(tmp_path: Path) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "fixed"), seeds=2, seen=False)
    for method in plan.methods:
        for seed in plan.seeds:
            path = plan.run_folder(method, seed) / "config.yaml"
            config = yaml.safe_load(path.read_text())
            config["reward"][0]["weight"] = -1.0
            path.write_text(yaml.safe_dump(config))
        method.settings["reward"][0]["weight"] = -1.0
    analysis = analyse(collect(plan))
    assert analysis.lowered == ["clip_score"]
    better = {c.key: c.better for c in results_table(analysis, analysis.splits[0]).columns}
    assert (better["clip_score"], better["clip_score_evaluation"]) == ("lower", "higher")


def test_a_metric_that_no_prompt_has_is_said_to_be_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = fabricate_comparison(
        tmp_path / "cmp", methods=("ours", "fixed"), seeds=2, prompts=8, seen=False
    )
    for method in plan.methods:
        for seed in plan.seeds:
            leave_empty(plan.run_folder(method, seed), ("gold_accuracy", "clip_diversity"))
    monkeypatch.setattr(figures, "save", lambda figure, path: None)
    page = Page(write_results(collect(plan), "adrpo compare"))
    assert "No unseen prompt has gold accuracy of every seed and sample." in page.text
    assert "in gold accuracy, of which there are too few values for an interval" in page.text
    assert "nan" not in (plan.folder / "table-unseen.csv").read_text()
    (split,) = json.loads((plan.folder / "summary.json").read_text())["splits"].values()
    assert "gold_accuracy" not in split["base"]
    pairs = [(trade_off["reward"], trade_off["price"]) for trade_off in split["trade_offs"]]
    assert pairs == [("clip_score", "divergence")]


def leave_empty(run: Path, metrics: tuple[str, ...]) -> None:
    """Take every value of the metrics from a made-up run, as rewards that gave no score do."""
    rows = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    for row in rows:
        file = run / f"samples/step-{row['step']:06d}/values.json"
        table = json.loads(file.read_text(encoding="utf-8"))
        for name in metrics:
            table[name] = np.full(np.shape(table[name]), None).tolist()
            row |= dict.fromkeys((name, f"{name}_low", f"{name}_high"))
        file.write_text(json.dumps(table), encoding="utf-8")
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "evaluations.jsonl").write_text(lines, encoding="utf-8")
