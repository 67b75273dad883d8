"""Tables: what they print, what they mark, and that no name breaks them."""

import csv
import io
import math
import re
from dataclasses import replace

import pytest

from adrpo.comparison.tables import (
    CSV_HEADER,
    Cell,
    Column,
    ResultsTable,
    legend,
    quantity,
    to_csv,
    to_latex,
    to_markdown,
)
from adrpo.evaluation.intervals import Estimate
from adrpo.report.numbers import printed

HOSTILE = "a|b_c*d<e>&f%g$h#i{j}~k^l\\m\nn"


def estimate(mean: float, error: float = 0.02, *, half_width: float = 0.1) -> Estimate:
    low, high = mean - half_width, mean + half_width
    return Estimate(mean, low, high, error, (mean, mean, mean), detectable=0.15, p_value=0.01)


def table(**means: tuple[float, float]) -> ResultsTable:
    """Rows of (accuracy, divergence); every method but the first differs from it, p_holm 0.01."""
    first = next(iter(means))
    rows = {
        name: {
            key: Cell(
                estimate(mean),
                None if name in (first, "base") else estimate(mean - means[first][place]),
                None if name in (first, "base") else (0.01, 0.2)[place],
            )
            for place, (key, mean) in enumerate(zip(("accuracy", "cost"), pair, strict=True))
        }
        for name, pair in means.items()
    }
    columns = [Column("accuracy", "Accuracy"), Column("cost", "Cost", "lower")]
    return ResultsTable(columns, rows, first, frozenset({"base"}))


METHODS = table(ours=(0.7, 0.3), base=(0.9, 0.0), other=(0.6, 0.1), third=(0.5, 0.2))


def cells(markdown: str, name: str) -> list[str]:
    line = next(line for line in markdown.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[2:-1]]


def test_markdown_prints_and_marks() -> None:
    markdown = to_markdown(METHODS)
    assert cells(markdown, "ours") == ["**0.70 ± 0.02** [0.60, 0.80]", "0.30 ± 0.02 [0.20, 0.40]"]
    # Bold is the least divergence, italic the second; the base stays out of it. The asterisk is
    # that of p_holm 0.01, which 0.2 has not.
    assert cells(markdown, "other") == [
        r"*0.60 ± 0.02*\* [0.50, 0.70]",
        "**0.10 ± 0.02** [0.00, 0.20]",
    ]
    assert cells(markdown, "third")[1] == "*0.20 ± 0.02* [0.10, 0.30]"
    assert cells(markdown, "base") == ["0.90 ± 0.02 [0.80, 1.00]", "0.00 ± 0.02 [−0.10, 0.10]"]


def test_latex_prints_and_marks() -> None:
    latex = to_latex(METHODS)
    assert r"ours & \textbf{0.70 $\pm$ 0.02} {\scriptsize [0.60, 0.80]}" in latex
    assert r"other & \underline{0.60 $\pm$ 0.02}$^{*}$ {\scriptsize" in latex
    assert r"[$-$0.10, 0.10]" in latex and "−" not in latex
    assert latex.count(r"\\") == 5  # the heading and four rows
    assert r"\begin{tabular}{lcc}" in latex and r"Cost $\downarrow$" in latex


def test_csv_keeps_full_precision() -> None:
    precise = ResultsTable(
        [Column("accuracy", "Accuracy")],
        {"ours": {"accuracy": Cell(estimate(1 / 3))},
         "other": {"accuracy": Cell(estimate(2 / 3), estimate(1 / 3), 0.04)}},
        "ours",
    )  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(to_csv(precise))))
    assert list(rows[0]) == list(CSV_HEADER)
    assert float(rows[0]["mean"]) == 1 / 3 and rows[0]["difference"] == ""
    assert float(rows[1]["difference"]) == 1 / 3 and rows[1]["reference"] == "ours"
    assert float(rows[1]["p_holm"]) == 0.04 and rows[1]["seeds"] == "3"
    assert float(rows[1]["detectable"]) == 0.15 and rows[0]["detectable"] == ""


def test_names_cannot_break_a_table() -> None:
    hostile = table(**{HOSTILE: (0.7, 0.3), "other": (0.6, 0.1)})
    markdown, latex = to_markdown(hostile), to_latex(hostile)
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    # Every line has the heading's number of bars that are not escaped.
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {4}
    assert r"a\|b\_c\*d\<e\>&amp;f%g$h\#i\{j\}\~k^l\\m n" in markdown
    body = latex.partition(r"\midrule")[2]
    assert (
        r"a|b\_c*d\textless{}e\textgreater{}\&f\%g\$h\#i\{j\}\textasciitilde{}k"
        r"\textasciicircum{}l\textbackslash{}m n"
    ) in body
    assert next(csv.DictReader(io.StringIO(to_csv(hostile))))["method"] == HOSTILE


def test_a_missing_cell_is_a_dash() -> None:
    rows = {"ours": METHODS.rows["ours"], "other": {"cost": METHODS.rows["other"]["cost"]}}
    found = ResultsTable(METHODS.columns, rows, "ours")
    assert cells(to_markdown(found), "other")[0] == "–"
    assert "other & -- &" in to_latex(found)


@pytest.mark.parametrize(
    ("half_width", "error", "expected"),
    [(0.1, 0.02, "1.23 ± 0.02"), (12.0, 0.3, "1.2 ± 0.3"), (0.004, math.nan, "1.2346")],
)
def test_decimals_follow_interval_and_error(half_width: float, error: float, expected: str) -> None:
    value = estimate(1.23456, error, half_width=half_width)
    row = {"ours": {"accuracy": Cell(value)}}
    found = ResultsTable([Column("accuracy", "Accuracy")], row, "ours")
    assert cells(to_markdown(found), "ours")[0].startswith(f"{expected} [")


def test_no_negative_zero() -> None:
    small = quantity(estimate(-0.001, 0.001, half_width=0.002))
    assert printed(small, 2).value == "0.00 ± 0.00"
    assert printed(quantity(estimate(-0.01, 0.001)), 2).value == "−0.01 ± 0.00"


def test_methods_that_print_alike_share_the_mark() -> None:
    close = table(ours=(0.701, 0.3), base=(0.9, 0.0), other=(0.704, 0.1), third=(0.5, 0.2))
    assert cells(to_markdown(close), "ours")[0].startswith("**0.70 ± 0.02** ")
    assert cells(to_markdown(close), "other")[0].startswith("**0.70 ± 0.02** ")
    # Two are first, and so nobody is second.
    assert cells(to_markdown(close), "third")[0].startswith(r"0.50 ± 0.02\* ")
    assert to_latex(close).count(r"\textbf{0.70") == 2


@pytest.mark.parametrize(
    ("mean", "p", "side", "printed_p"),
    [
        (-0.2, 0.0494, "lower", "0.049"),
        (0.2, 0.0494, "higher", "0.049"),
        (0.2, 0.0496, "", "0.050"),  # prints as no less than 0.05
        (0.004, 0.0004, "", "< 0.001"),  # prints as 0.00
        (0.006, 0.0004, "higher", "< 0.001"),
    ],
)
def test_a_difference_is_judged_as_it_is_printed(
    mean: float, p: float, side: str, printed_p: str
) -> None:
    column = Column("accuracy", "Accuracy")
    rows = {
        "ours": {"accuracy": Cell(estimate(0.5))},
        "other": {"accuracy": Cell(estimate(0.5 + mean), estimate(mean), p)},
    }
    found = ResultsTable([column], rows, "ours")
    difference, cell = found.difference("other", column), found.cell("other", column)
    assert difference is not None and cell is not None
    assert (difference.side, difference.p) == (side, printed_p)
    assert difference.detectable == "0.15"
    assert cell.differs == (side != "") == (r"\*" in cells(to_markdown(found), "other")[0])
    assert found.difference("ours", column) is None


def test_the_legend_names_the_family_and_what_is_tested_alone() -> None:
    plain = ResultsTable(METHODS.columns, METHODS.rows, "ours", family=5)
    assert "Holm's correction for 5 differences." in to_markdown(plain)
    declared = ResultsTable(
        METHODS.columns,
        METHODS.rows,
        "ours",
        family=4,
        primary=("third", "cost"),
        pooled=["a", "b"],
    )
    text = legend(declared)
    assert "for 4 differences; third in Cost, the primary comparison, is tested alone." in text
    assert text.endswith("Pooled, being small: a, b.")


def test_differences_without_any_spread_tell_of_no_power() -> None:
    same = Estimate(0, 0, 0, 0, (0, 0), detectable=0, p_value=1)
    rows = {"ours": {"accuracy": Cell(estimate(0.5))}}
    rows["other"] = {"accuracy": Cell(estimate(0.5), same, 1.0)}
    found = ResultsTable(METHODS.columns, rows, "ours").difference("other", METHODS.columns[0])
    assert found is not None and (found.side, found.detectable) == ("", "")


def test_the_legend_of_one_seed_claims_no_other_seeds() -> None:
    one = replace(estimate(0.7, math.nan), by_seed=(0.7,))
    text = legend(ResultsTable(METHODS.columns, {"ours": {"accuracy": Cell(one)}}, "ours"))
    assert text.startswith("Mean of one seed, [95 % interval over prompts and samples, for this")
    assert "standard error" not in text
