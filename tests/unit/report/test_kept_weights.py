"""A report of a run that early stopping ended tells of the weights that final/ has."""

import re
from pathlib import Path

import pytest

from adrpo.report import write_report
from adrpo.report.result import result_lines
from adrpo.runs import RunDirectory
from support.fabricated_run import fabricate
from support.strict_page import Page

NAME = "clip_diversity_l2"


def stopped_run(folder: Path, best: int, *, finished: bool = True) -> Path:
    """A run of 75 of 100 steps, which watched a metric that was best at the step ``best``."""
    run = fabricate(folder / "run", steps=75, evaluated=(0, 25, 50, 75), prompts=8)
    config = (run / "config.yaml").read_text(encoding="utf-8")
    watched = config.replace("evaluation: {", f"evaluation: {{early_stopping: {NAME}, ")
    assert watched != config
    (run / "config.yaml").write_text(watched, encoding="utf-8")
    rows = RunDirectory(run).read_evaluations()
    RunDirectory(run).evaluations.unlink()
    for row in rows:
        row |= {NAME: 2.0 if row["step"] == best else 1.0, f"{NAME}_low": 0.5, f"{NAME}_high": 2.5}
        RunDirectory(run).append_evaluation(row)
    if finished:
        (run / "final").mkdir()
    return run


def step_of(run: Path, key: str, value: float) -> int:
    """The step at which a metric of unseen prompts is nearest to ``value``."""
    rows = RunDirectory(run).read_evaluations("unseen")
    return min(rows, key=lambda row: abs(row[key] - value))["step"]


def test_the_numbers_are_those_of_the_kept_step(tmp_path: Path):
    run = stopped_run(tmp_path, 25)
    page = Page(write_report(run))
    told = (
        "final/ has the weights of step 25, where CLIP diversity, L2 was best; the run went on to "
        "step 75."
    )
    assert told in page.text
    assert "Early stopping ended the run after 75 of 100 steps." in page.text
    assert page.source.count("Fine-tuned, step 25</th>") == 4  # unseen and seen, and by category
    assert "Fine-tuned, step 75</th>" not in page.source
    # The pictures are of the last evaluation, and say so.
    assert page.source.count("<h3>Fine-tuned, step 75</h3>") == 3
    head, *lines, last = result_lines(run)
    assert "after step 25" in head and last == told
    (line,) = (line for line in lines if "CLIP score, reward CLIP" in line)
    printed = re.search(r"-> ([\d.]+)", line)
    assert printed and step_of(run, "clip_score", float(printed[1])) == 25
    assert (
        step_of(run, "clip_score", float(page.cells["unseen", "clip_score", "final"].split()[0]))
        == 25
    )


def test_the_base_may_be_what_was_kept(tmp_path: Path):
    run = stopped_run(tmp_path, 0)
    told = (
        "final/ has the untrained weights: CLIP diversity, L2 was best before training; the run "
        "went on to step 75."
    )
    assert told in Page(write_report(run)).text
    head, *_, last = result_lines(run)
    assert "after step 75" in head and last == told


@pytest.mark.parametrize(("best", "finished"), [(75, True), (25, False)])
def test_a_run_whose_last_step_counts_says_nothing_of_it(tmp_path: Path, best: int, finished: bool):
    run = stopped_run(tmp_path, best, finished=finished)
    page = Page(write_report(run))
    assert "final/" not in page.text and "<h3>Fine-tuned</h3>" in page.source
    assert "after step 75" in result_lines(run)[0] and "final/" not in result_lines(run)[-1]
