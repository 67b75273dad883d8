"""A table of methods and metrics as Markdown, CSV and LaTeX (Table 1 of arXiv 2510.18053).

A cell prints mean ± standard error over seeds, as the paper does, and the 95 % interval. Bold is
the best method of a column, underlined (in Markdown: italic) the second best; methods whose means
print alike share their place, and the base, which no method may beat on a divergence, takes no
part. An asterisk marks a paired difference to the reference method whose p-value is below 0.05,
both as they are printed; Holm's method has adjusted it unless it is the primary comparison's.
Beside a difference that is not told from 0 stands the smallest one that would have been.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from adrpo.evaluation.intervals import Estimate, number
from adrpo.metrics import Better
from adrpo.report.numbers import Printed, Quantity, as_printed, decimals, fixed, printed

ALPHA = 0.05
P_PLACES = 3
"""Decimals of a p-value."""

MARKDOWN_ASTERISK = r"\*"
ARROWS: dict[Better, str] = {"higher": "↑", "lower": "↓", "neither": ""}
LATEX_ARROWS: dict[Better, str] = {
    "higher": r"$\uparrow$", "lower": r"$\downarrow$", "neither": "",
}  # fmt: skip

CSV_HEADER = (
    "method", "metric", "mean", "standard_error", "low", "high", "seeds", "reference",
    "difference", "difference_low", "difference_high", "p_value", "p_holm", "detectable",
)  # fmt: skip

_MARKDOWN = str.maketrans(
    {**{character: f"\\{character}" for character in "\\`*_{}[]<>#|~"}, "&": "&amp;"}
)
_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "²": "$^2$",
        "β": r"$\beta$",
        "−": "$-$",
    }
)


@dataclass(frozen=True)
class Column:
    """A metric: its key, its heading, which direction is better, and a few words about it."""

    key: str
    label: str
    better: Better = "higher"
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """A method's value of a metric and, unless it is the reference, how it differs from it."""

    estimate: Estimate
    difference: Estimate | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class PrintedCell:
    """A cell as a table shows it."""

    value: str
    interval: str
    rank: int
    """1 for the best of the column, 2 for the second, 0 for all others."""
    differs: bool
    """True where the difference to the reference survives Holm's correction."""


@dataclass(frozen=True)
class PrintedDifference:
    """A difference to the reference as a table shows it."""

    value: str
    interval: str
    p: str
    side: Literal["", "lower", "higher"]
    """Side on which the method lies; empty where the two are not told apart."""
    detectable: str
    """The smallest difference that would have been told from 0 with a chance of 80 %; empty where
    all seeds and prompts have the same, which tells nothing of what would have been."""


@dataclass(frozen=True)
class ResultsTable:
    """Rows name -> metric -> cell, in order; ``unranked`` rows (the base) are never the best."""

    columns: Sequence[Column]
    rows: Mapping[str, Mapping[str, Cell]]
    reference: str
    unranked: frozenset[str] = frozenset()
    family: int = 0
    """Number of differences that the p-values are adjusted for; 0 where none is tested."""
    primary: tuple[str, str] | None = None
    """Row and key of the difference that is tested alone."""
    pooled: Sequence[str] = ()
    """Categories that share a stratum."""

    def cell(self, name: str, column: Column) -> PrintedCell | None:
        """The cell of a row; None where the row lacks the metric."""
        found = self.rows[name].get(column.key)
        if found is None:
            return None
        text = printed(quantity(found.estimate), self._places(column))
        difference = self.difference(name, column)
        differs = difference is not None and difference.side != ""
        return PrintedCell(text.value, text.interval, self._rank(name, column), differs)

    def difference(self, name: str, column: Column) -> PrintedDifference | None:
        """The tested difference of a row to the reference; None where there is none."""
        found = self.rows[name].get(column.key)
        if found is None or found.difference is None or found.p_holm is None:
            return None
        others = (row[column.key].difference for row in self.rows.values() if column.key in row)
        places = decimals(quantity(other) for other in others if other is not None)
        text = printed(quantity(found.difference), places)
        mean, p = as_printed(found.difference.mean, places), as_printed(found.p_holm, P_PLACES)
        if p >= ALPHA or mean == 0:
            side = ""
        else:
            side = "lower" if mean < 0 else "higher"
        told = found.difference.detectable
        detectable = fixed(told, places) if told > 0 else ""
        return PrintedDifference(text.value, text.interval, _p(found.p_holm), side, detectable)

    def _rank(self, name: str, column: Column) -> int:
        """1 for the best method of the column, 2 for the second, 0 for all others; methods that
        print alike share their place."""
        places = self._places(column)
        ranked = {
            other: as_printed(row[column.key].estimate.mean, places)
            for other, row in self.rows.items()
            if other not in self.unranked and column.key in row
        }
        if column.better == "neither" or name not in ranked or len(ranked) < 2:
            return 0
        sign = 1 if column.better == "higher" else -1
        place = 1 + sum(sign * mean > sign * ranked[name] for mean in ranked.values())
        return place if place <= 2 else 0

    def _places(self, column: Column) -> int:
        return decimals(
            quantity(row[column.key].estimate) for row in self.rows.values() if column.key in row
        )


def quantity(estimate: Estimate) -> Quantity:
    """An estimate as the press takes it."""
    low, high = number(estimate.low), number(estimate.high)
    return Quantity(estimate.mean, low, high, estimate.standard_error)


def printed_column(estimates: Sequence[Estimate | None]) -> list[Printed]:
    """Estimates of one column, all with the same decimals; a dash where there is none."""
    known = [None if estimate is None else quantity(estimate) for estimate in estimates]
    places = decimals(found for found in known if found is not None)
    return [Printed("–", "") if found is None else printed(found, places) for found in known]


def to_markdown(table: ResultsTable) -> str:
    """The table in GitHub's Markdown, with its legend below."""

    def text(cell: PrintedCell | None) -> str:
        if cell is None:
            return "–"
        mark = ("", "**", "*")[cell.rank]
        asterisk = MARKDOWN_ASTERISK if cell.differs else ""
        return f"{mark}{cell.value}{mark}{asterisk} {cell.interval}"

    head = [f"{_markdown(column.label)} {ARROWS[column.better]}" for column in table.columns]
    lines = [f"| | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    lines += [
        f"| {' | '.join([_markdown(name), *map(text, cells)])} |" for name, cells in _rows(table)
    ]
    return "\n".join(lines) + f"\n\n{_markdown(legend(table))}\n"


def to_latex(table: ResultsTable) -> str:
    """A ``tabular`` that needs the package booktabs."""

    def text(cell: PrintedCell | None) -> str:
        if cell is None:
            return "--"
        command = ("{}", r"\textbf{{{}}}", r"\underline{{{}}}")[cell.rank]
        value = command.format(cell.value.replace("±", r"$\pm$"))
        interval = r"{\scriptsize " + cell.interval + "}"
        return f"{value}{'$^{*}$' if cell.differs else ''} {interval}".replace("−", "$-$")

    head = [f"{_latex(column.label)} {LATEX_ARROWS[column.better]}" for column in table.columns]
    rows = [[_latex(name), *map(text, cells)] for name, cells in _rows(table)]
    lines = [
        f"% {legend(table)}",
        rf"\begin{{tabular}}{{l{'c' * len(head)}}}",
        r"\toprule",
        " & ".join(["Method", *head]) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _rows(table: ResultsTable) -> list[tuple[str, list[PrintedCell | None]]]:
    return [(name, [table.cell(name, column) for column in table.columns]) for name in table.rows]


def to_csv(table: ResultsTable) -> str:
    """One line for each method and metric, in full precision."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for name, row in table.rows.items():
        for key, cell in row.items():
            own = cell.estimate
            values: list[object] = [own.mean, *map(number, (own.standard_error, own.low, own.high))]
            values.append(len(own.by_seed))
            other = cell.difference
            if other is not None:
                values += [table.reference, other.mean, number(other.low), number(other.high)]
                values += [number(other.p_value), cell.p_holm, number(other.detectable)]
            empty = [""] * (len(CSV_HEADER) - 2 - len(values))
            writer.writerow([name, key, *values, *empty])
    return stream.getvalue()


def legend(table: ResultsTable) -> str:
    """Legend of the cells, in one line."""
    seeds = max(
        (len(cell.estimate.by_seed) for row in table.rows.values() for cell in row.values()),
        default=0,
    )
    alone = [name for name in table.rows if name in table.unranked]
    note = f" Not trained here, so over prompts and samples alone: {'; '.join(alone)}."
    one = ""
    if table.primary is not None:
        method, key = table.primary
        label = next(column.label for column in table.columns if column.key == key)
        one = f"; {method} in {label}, the primary comparison, is tested alone"
    pooled = f" Pooled, being small: {', '.join(table.pooled)}." if table.pooled else ""
    of_cells = (
        f"Mean ± standard error over {seeds} seeds, [95 % interval over seeds, prompts and samples]"
        if seeds > 1
        else "Mean of one seed, [95 % interval over prompts and samples, for this seed alone]"
    )
    tested = (
        f"An asterisk: the paired difference to {table.reference} has p < {ALPHA} "
        f"after Holm's correction for {table.family} differences{one}."
        if table.family
        else "No difference is tested here."
    )
    return f"{of_cells}. {tested}{note if len(alone) > 1 else ''}{pooled}"


def _p(value: float) -> str:
    """A p-value as text."""
    least = 10.0**-P_PLACES
    return f"{value:.{P_PLACES}f}" if value >= least else f"< {least:.{P_PLACES}f}"


def _markdown(text: str) -> str:
    return " ".join(text.split()).translate(_MARKDOWN)


def _latex(text: str) -> str:
    return " ".join(text.split()).translate(_LATEX)
