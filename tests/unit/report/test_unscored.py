"""A page of evaluations in which samples have no score says how many."""

from pathlib import Path

from adrpo.report import write_report
from adrpo.runs import RunDirectory
from support.fabricated_run import fabricate
from support.strict_page import Page


def test_samples_without_a_score_are_told(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", pictured=0, evaluated=(0, 100))
    assert "A reward gave no score" not in Page(write_report(run)).text
    rows = RunDirectory(run).read_evaluations()
    RunDirectory(run).evaluations.unlink()
    for row in rows:
        row["samples_excluded"] = 3 if row["split"] == "seen" else 0
        RunDirectory(run).append_evaluation(row)
    told = "A reward gave no score to 3 of 408 samples; their prompts are left out of it."
    assert Page(write_report(run)).text.count(told) == 1
