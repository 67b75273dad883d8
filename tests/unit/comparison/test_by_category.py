"""A comparison within the categories: the means and differences of the prompts of each."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adrpo.comparison import collect, write_results
from adrpo.comparison.by_category import by_category
from adrpo.comparison.collect import SplitResults
from adrpo.comparison.plan import Entry, Plan
from adrpo.evaluation.intervals import paired_difference
from support.fabricated_comparison import STEPS, fabricate_comparison
from support.strict_page import Page


def gold(plan: Plan, method: Entry, step: int) -> Any:
    """Gold accuracy as the runs' files have it, [seeds, prompts, samples]."""
    files = [
        plan.run_folder(method, seed) / f"samples/step-{step:06d}/values.json"
        for seed in plan.seeds
    ]
    return np.array([json.loads(file.read_text())["gold_accuracy"] for file in files])


def test_a_category_has_the_numbers_of_its_prompts_alone(tmp_path: Path) -> None:
    """Even and odd prompts by turns; the files that the runs wrote are the reference."""
    plan = fabricate_comparison(tmp_path / "comparison")
    page = write_results(collect(plan), "adrpo compare")
    summary = json.loads((plan.folder / "summary.json").read_text())
    found = summary["splits"]["unseen"]["by_category"]
    written = {method.name: gold(plan, method, STEPS[-1]) for method in plan.methods}
    theirs, first = written[plan.reference], gold(plan, plan.methods[0], 0)
    places = {"even": slice(0, None, 2), "odd": slice(1, None, 2)}
    prompts = theirs.shape[1]
    assert found["prompts"] == {"even": prompts // 2, "odd": prompts // 2}
    assert found["difference"].keys() == written.keys() - {plan.reference}
    for name, own in written.items():
        for category, place in places.items():
            mean = found["methods"][name][category]["mean"]
            assert mean == pytest.approx(own[:, place].mean())
            gained = found["change"][name][category]["mean"]
            assert gained == pytest.approx((own - first)[:, place].mean())
            if name == plan.reference:
                continue
            told = found["difference"][name][category]
            strata = [category] * (prompts // 2)
            expected = paired_difference(own[:, place], theirs[:, place], strata)
            assert told["mean"] == pytest.approx((own - theirs)[:, place].mean())
            assert (told["low"], told["high"]) == pytest.approx((expected.low, expected.high))
    # The means of the two differ, or exchanging them could not be told.
    even, odd = (found["base"][category]["mean"] for category in places)
    assert even != odd
    text = Path(page).read_text(encoding="utf-8")
    assert text.count("Gold accuracy by category <span>") == 3
    assert "paired by seed, prompt and noise" in text
    Page(page)
    with (plan.folder / "table-unseen-by-category.csv").open(newline="") as stream:
        cells = {(row["method"], row["metric"]): row for row in csv.DictReader(stream)}
    assert len(cells) == 2 * (1 + len(written))
    for name, own in written.items():
        for category, place in places.items():
            cell = cells[name, category]
            assert float(cell["mean"]) == pytest.approx(own[:, place].mean())
            if name != plan.reference:
                told = (own - theirs)[:, place].mean()
                assert float(cell["difference"]) == pytest.approx(told)
            assert cell["p_holm"] == ""
    text = (plan.folder / "table-unseen-by-category.md").read_text()
    assert f"even ({prompts // 2}) ↑ | odd ({prompts // 2}) ↑" in text
    assert "No difference is tested here." in text and "Holm" not in text


def test_prompts_of_one_category_have_no_table() -> None:
    values = {"gold_accuracy": np.zeros((2, 3, 1))}
    part = SplitResults([0], {}, {}, values, values, ["one"] * 3)
    assert by_category({"a": part}, "a", "gold_accuracy") is None
