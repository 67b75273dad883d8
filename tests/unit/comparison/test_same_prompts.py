"""Runs of a comparison are paired prompt by prompt, and so must have the same ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from adrpo.comparison import collect
from adrpo.data import Prompt
from adrpo.errors import AdrpoError
from adrpo.runs.inputs import Inputs
from support.fabricated_comparison import fabricate_comparison


def keep(run: Path, held_out: list[Prompt]) -> None:
    for name, content in Inputs(held_out=held_out).files().items():
        (run / name).write_bytes(content)


@pytest.mark.parametrize("change", ["content", "category", "columns"])
def test_runs_whose_prompts_differ_in_what_the_lists_do_not_show_are_refused(
    tmp_path: Path, change: str
) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "fixed"), seeds=2, prompts=4)
    runs = [plan.run_folder(method, seed) for method in plan.methods for seed in (0, 1)]
    one: dict[str, Any] = {"content": "a", "category": "b", "columns": {"answer": 1}}
    for run in runs:
        keep(run, [Prompt(**one)])
    collect(plan)
    keep(runs[-1], [Prompt(**(one | {change: {"answer": 2} if change == "columns" else "c"}))])
    with pytest.raises(AdrpoError, match="the same held-out prompts"):
        collect(plan)


def test_runs_that_were_compared_with_other_pictures_are_refused(tmp_path: Path) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "fixed"), seeds=2, prompts=4)
    for number, method in enumerate(plan.methods):
        for seed in (0, 1):
            file = plan.run_folder(method, seed) / "samples/prompts.json"
            listing = json.loads(file.read_text()) | {"references": f"digest {number}"}
            file.write_text(json.dumps(listing))
            (plan.run_folder(method, seed) / "manifest.json").unlink(missing_ok=True)
    with pytest.raises(AdrpoError, match=r"and reference pictures; .* have different ones"):
        collect(plan)
