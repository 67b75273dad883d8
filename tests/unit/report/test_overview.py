"""One page of several runs: what it says of each is what the run's own files say."""

import json
import re
from pathlib import Path

import pytest

from adrpo.cli.report import report
from adrpo.errors import AdrpoError
from adrpo.report import write_overview
from adrpo.report.overview import names_of
from adrpo.report.summary import metric_table
from adrpo.runs import RunDirectory
from support.fabricated_run import CONFIG, fabricate
from support.strict_page import Page


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A finished run, one of fewer steps and another setting, and one that has only begun."""
    folder = tmp_path_factory.mktemp("several")
    first = fabricate(folder / "first", steps=20, evaluated=(0, 20), pictured=2, samples=2)
    second = fabricate(folder / "<b>second", steps=10, evaluated=(0, 10), pictured=2, samples=2)
    begun = fabricate(folder / "begun", steps=0, evaluated=(), pictured=0)
    for run, steps in ((first, 20), (second, 42), (begun, 20)):
        text = CONFIG.replace("steps: 100", f"steps: {steps}")
        (run / "config.yaml").write_text(text, encoding="utf-8")
        (run / "inputs.json").write_text('{"prompts": {"train": [], "held_out": []}, "folder": ""}')
    return [first, second, begun]


@pytest.fixture(scope="module")
def page(runs: list[Path]) -> Page:
    return Page(write_overview(runs, runs[0].parent / "all" / "page.html"))


def rows_of(page: Page, table: str) -> dict[str, list[str]]:
    """First cell -> text of the others, of the rows of a table of the page."""
    found = re.search(f'data-table="{table}">(.*?)</table>', page.source, re.DOTALL)
    assert found
    body = found[1].partition("<tbody>")[2]
    rows = [
        [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", cell)).strip() for cell in cells]
        for row in re.findall(r"<tr.*?</tr>", body, re.DOTALL)
        for cells in [re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
    ]
    return {row[0].partition(" ADRPO")[0]: row[1:] for row in rows}


def test_a_run_has_the_numbers_of_its_own_table(runs: list[Path], page: Page) -> None:
    told = rows_of(page, "runs")
    metrics = rows_of(page, "metrics")
    assert "CLIP score, reward CLIP is what they are trained on" in page.text
    for place, (run, name) in enumerate(
        [(runs[0], "first"), (runs[1], "&lt;b&gt;second")]
    ):  # fmt: skip
        table = metric_table(RunDirectory.open(run).read_evaluations(), "unseen")
        assert table is not None
        row = next(row for row in table.metrics if row.key == "clip_score")
        assert row.final and row.change and row.base
        final, change, base = (f"{n.value} {n.interval}" for n in (row.final, row.change, row.base))
        assert told[name][:4] == [final, change, row.verb, base]
        of_run = metrics["CLIP score, reward CLIP 100 cos; the model that rewards"][1 + place]
        assert of_run == f"{final} {row.change.value}"
    assert told["begun"][:4] == ["–", "–", "", "–"]


def test_states_are_told(page: Page) -> None:
    told = rows_of(page, "runs")
    # A step of the made-up runs takes 5.1 s.
    assert told["first"][4:] == ["20 steps", "1.7 min"]
    assert told["&lt;b&gt;second"][4:] == ["10 of 42 steps, 2.7 min left", "51.0 s"]
    assert told["begun"][4:] == ["0 of 20 steps", "–"]


def test_curves_of_all_runs_lie_in_one_chart(runs: list[Path], page: Page) -> None:
    charts = [json.loads(plot["data-points"] or "") for plot in page.all("div")
              if plot.get("class") == "plot"]  # fmt: skip
    reward = next(chart for chart in charts if chart["lines"][0]["raw"])
    names = [(line["name"], line["series"], line["x"][-1]) for line in reward["lines"]]
    assert names == [("first", 1, 20), ("<b>second", 2, 10)]
    rows = RunDirectory.open(runs[1]).read_metrics()
    values = [row["reward_mean"] for row in rows]
    assert reward["lines"][1]["y"] == pytest.approx(values, rel=1e-5)
    (evaluated, *_) = charts
    last = RunDirectory.open(runs[0]).read_evaluations("unseen")[-1]
    ends = [evaluated["lines"][0][end][-1] for end in ("y", "low", "high")]
    told = [last[f"clip_score{end}"] for end in ("", "_low", "_high")]
    assert ends == pytest.approx(told, rel=1e-5)
    # A color of its own in the drawing, too.
    assert {"var(--series-1)", "var(--series-2)"} <= set(re.findall(r"var\(--[^)]+\)", page.source))


def test_only_settings_that_differ_are_listed(page: Page) -> None:
    table = page.source.partition('<section id="settings">')[2]
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", table)
    assert cells[4:] == ["training.steps", "20", "42", "20"]


def test_pictures_of_shared_prompts_lie_beside_each_other(runs: list[Path], tmp_path: Path) -> None:
    page = Page(write_overview(runs[:2], tmp_path / "page.html"))
    # Two prompts, and two samples of the base and of each run.
    assert len(page.all("img")) == 2 * (1 + 2) * 2


def test_runs_of_different_rewards_are_told_by_what_is_no_reward(tmp_path: Path) -> None:
    one, other = (
        fabricate(tmp_path / name, steps=4, evaluated=(0, 4), pictured=0) for name in "ab"
    )
    text = CONFIG.replace("weight: 1.0", "weight: 2.0")
    (other / "config.yaml").write_text(text, encoding="utf-8")
    page = Page(write_overview([one, other], tmp_path / "page.html"))
    assert "They are trained on different rewards, and told by gold accuracy here" in page.text
    table = metric_table(RunDirectory.open(other).read_evaluations(), "unseen")
    assert table is not None and table.metrics[0].key == "gold_accuracy"
    final = table.metrics[0].final
    assert final and rows_of(page, "runs")["b"][0] == f"{final.value} {final.interval}"


def test_names_tell_folders_apart() -> None:
    assert names_of([Path("a/run"), Path("b/other")]) == ["run", "other"]
    assert names_of([Path("/x/a/run"), Path("/x/b/run")]) == ["a/run", "b/run"]


def test_what_is_no_page_of_several_runs_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(AdrpoError, match=r"each run once; received .*first twice"):
        write_overview([runs[0], runs[0]], tmp_path / "page.html")
    with pytest.raises(AdrpoError, match="at most 8 runs for one page; received 9"):
        write_overview([tmp_path / str(place) for place in range(9)], tmp_path / "page.html")
    with pytest.raises(AdrpoError, match=r"--output: expected several runs"):
        report([runs[0]], output=tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_command_writes_beside_the_first_run(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    report(runs[:2])
    assert capsys.readouterr().out == f"Report: {runs[0].parent / 'report.html'}\n"
    assert Page(runs[0].parent / "report.html").text.count("2 runs beside each other") == 1
