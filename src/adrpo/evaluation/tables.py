"""A table of methods and metrics as Markdown, CSV and LaTeX (Table 1 of arXiv 2510.18053).

A cell prints mean ± standard error over seeds, as the paper does, and the 95 % interval. Bold is
the best method of a column, underlined (in Markdown: italic) the second best; the base, which no
method may beat on a divergence, takes no part. An asterisk marks a paired difference to the
reference method whose Holm-adjusted p-value is below 0.05.
"""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from adrpo.evaluation.across_seeds import SeedEstimate

ALPHA = 0.05
MARKDOWN_ASTERISK = r"\*"

CSV_HEADER = (
    "method", "metric", "mean", "standard_error", "low", "high", "seeds", "reference",
    "difference", "difference_low", "difference_high", "p_value", "p_holm",
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
    """A metric: its key, its heading, and which direction is better."""

    key: str
    label: str
    better: Literal["higher", "lower"] = "higher"


@dataclass(frozen=True)
class Cell:
    """A method's value of a metric and, unless it is the reference, how it differs from it."""

    estimate: SeedEstimate
    difference: SeedEstimate | None = None
    p_holm: float | None = None

    @property
    def differs(self) -> bool:
        """True where the difference to the reference survives Holm's correction."""
        return self.p_holm is not None and self.p_holm < ALPHA


@dataclass(frozen=True)
class ResultsTable:
    """Rows name -> metric -> cell, in order; ``unranked`` rows (the base) are never the best."""

    columns: Sequence[Column]
    rows: Mapping[str, Mapping[str, Cell]]
    reference: str
    unranked: frozenset[str] = frozenset()

    def rank(self, name: str, column: Column) -> int:
        """1 for the best method of the column, 2 for the second, 0 for all others."""
        ranked = [
            (row[column.key].estimate.mean, other)
            for other, row in self.rows.items()
            if other not in self.unranked and column.key in row
        ]
        if len(ranked) < 2:
            return 0
        ranked.sort(key=lambda item: item[0], reverse=column.better == "higher")
        best = {other: place for place, (_, other) in enumerate(ranked[:2], 1)}
        return best.get(name, 0)

    def places(self, column: Column) -> int:
        """Decimals of the column."""
        return decimal_places(
            row[column.key].estimate for row in self.rows.values() if column.key in row
        )


def to_markdown(table: ResultsTable) -> str:
    """The table in GitHub's Markdown, with its legend below."""

    def cell(name: str, column: Column) -> str:
        found = table.rows[name].get(column.key)
        if found is None:
            return "–"
        value, interval = printed(found.estimate, table.places(column))
        mark = {0: "", 1: "**", 2: "*"}[table.rank(name, column)]
        return f"{mark}{value}{mark}{_asterisk(found, MARKDOWN_ASTERISK)} {interval}"

    head = [f"{_markdown(column.label)} {_arrow(column)}" for column in table.columns]
    lines = ["| | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    lines += [
        f"| {_markdown(name)} | {' | '.join(cell(name, column) for column in table.columns)} |"
        for name in table.rows
    ]
    return "\n".join(lines) + f"\n\n{_markdown(legend(table))}\n"


def to_latex(table: ResultsTable) -> str:
    """A ``tabular`` that needs the package booktabs."""

    def cell(name: str, column: Column) -> str:
        found = table.rows[name].get(column.key)
        if found is None:
            return "--"
        value, interval = printed(found.estimate, table.places(column))
        command = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}[table.rank(name, column)]
        text = command.format(value.replace("±", r"$\pm$"))
        interval = r"{\scriptsize " + interval + "}"
        return f"{text}{_asterisk(found, '$^{*}$')} {interval}".replace("−", "$-$")

    arrows = {"higher": r"$\uparrow$", "lower": r"$\downarrow$"}
    head = [f"{_latex(column.label)} {arrows[column.better]}" for column in table.columns]
    lines = [
        f"% {legend(table)}",
        rf"\begin{{tabular}}{{l{'c' * len(head)}}}",
        r"\toprule",
        " & ".join(["Method", *head]) + r" \\",
        r"\midrule",
        *(
            " & ".join([_latex(name), *(cell(name, column) for column in table.columns)]) + r" \\"
            for name in table.rows
        ),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def to_csv(table: ResultsTable) -> str:
    """One line for each method and metric, in full precision."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for name, row in table.rows.items():
        for key, cell in row.items():
            own = cell.estimate
            values: list[object] = [own.mean, _known(own.standard_error), own.low, own.high]
            values.append(len(own.by_seed))
            other = cell.difference
            if other is not None:
                values += [table.reference, other.mean, other.low, other.high]
                values += [other.p_value, cell.p_holm]
            empty = [""] * (len(CSV_HEADER) - 2 - len(values))
            writer.writerow([name, key, *values, *empty])
    return stream.getvalue()


def printed(estimate: SeedEstimate, places: int) -> tuple[str, str]:
    """(mean ± standard error, [low, high]) as text; without the error where there is one seed."""

    def text(value: float) -> str:
        shown = f"{value:.{places}f}"
        return (shown.lstrip("-") if float(shown) == 0 else shown).replace("-", "−")

    error = estimate.standard_error
    plus = "" if math.isnan(error) else f" ± {text(error)}"
    return f"{text(estimate.mean)}{plus}", f"[{text(estimate.low)}, {text(estimate.high)}]"


def decimal_places(estimates: Iterable[SeedEstimate]) -> int:
    """Decimals (0 to 5) that show two digits of the median half-width of the intervals and one of
    the median standard error."""
    half_widths, errors = [], []
    for estimate in estimates:
        # Equal seeds leave an error of rounding alone, which is no size to show.
        least = 1e-9 * abs(estimate.mean)
        half_width = (estimate.high - estimate.low) / 2
        half_widths += [half_width] if half_width > least else []
        errors += [estimate.standard_error] if estimate.standard_error > least else []
    places = [
        digits - 1 - math.floor(math.log10(statistics.median_low(sizes)))
        for sizes, digits in ((half_widths, 2), (errors, 1))
        if sizes
    ]
    return min(5, max(0, *places)) if places else 3


def legend(table: ResultsTable) -> str:
    """Legend of the cells, in one line."""
    seeds = max(
        (len(cell.estimate.by_seed) for row in table.rows.values() for cell in row.values()),
        default=0,
    )
    alone = [name for name in table.rows if name in table.unranked]
    note = f" Not trained here, so over prompts and samples alone: {', '.join(alone)}."
    return (
        f"Mean ± standard error over {seeds} seeds, [95 % interval over seeds, prompts and "
        f"samples]. An asterisk: the paired difference to {table.reference} has p < {ALPHA} after "
        f"Holm's correction.{note if len(alone) > 1 else ''}"
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _asterisk(cell: Cell, mark: str) -> str:
    return mark if cell.differs else ""


def _arrow(column: Column) -> str:
    return "↑" if column.better == "higher" else "↓"


def _markdown(text: str) -> str:
    return " ".join(text.split()).translate(_MARKDOWN)


def _latex(text: str) -> str:
    return " ".join(text.split()).translate(_LATEX)
