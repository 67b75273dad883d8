"""The tables of docs/reference/metrics.md, out of adrpo/metrics.

``python -m tools.metric_tables`` writes them anew between the marks of the page, whose other text
stays as it is.
"""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from adrpo.metrics import EVALUATIONS, PLACES, REWARDS, STEPS, TERM, Metric
from adrpo.metrics.metric import ALL

PAGE = Path("docs/reference/metrics.md")
PART = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end of the table -->)", re.DOTALL)

Cell = Callable[[Metric], str]


def tables() -> dict[str, str]:
    """Name of a table, as the page marks it -> its lines."""
    measured = [metric for metric in EVALUATIONS if metric not in REWARDS]
    return {
        "metrics.jsonl": _table(
            (*STEPS, TERM),
            {"name": _name, "runs": _runs, "meaning": _meaning, "unit": _unit, "healthy": _healthy},
        ),
        "evaluations.jsonl": _table(
            (*PLACES, *measured),
            {"name": _name, "runs": _runs, "definition": _meaning, "range": _unit,
             "better": _better},
        ),
        "rewards": _table(
            REWARDS,
            {"name": _name, "runs": _runs, "what": _meaning, "range": _unit, "needs": _needs},
        ),
    }  # fmt: skip


def filled(page: str) -> str:
    """``page`` with the tables of today between its marks.

    Raises ValueError where a table has no place in the page.
    """
    found = tables()
    places = [match[2] for match in PART.finditer(page)]
    if sorted(places) != sorted(found):
        raise ValueError(f"expected a place for each of {sorted(found)}; the page has {places}")
    return PART.sub(lambda match: match[1] + found[match[2]] + match[3], page)


def _table(metrics: Iterable[Metric], columns: dict[str, Cell]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for metric in metrics:
        cells = (cell(metric).replace("|", "\\|") for cell in columns.values())
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _name(metric: Metric) -> str:
    if not metric.formula:
        return f"`{metric.name}`"
    return f"[`{metric.name}`]({_link(metric.formula)})"


def _runs(metric: Metric) -> str:
    return "all" if metric.domains == ALL else ", ".join(f"`{name}`" for name in metric.domains)


def _meaning(metric: Metric) -> str:
    also = f"; by category, too: `{metric.name}_<category>`" if metric.by_category else ""
    return metric.meaning + also


def _unit(metric: Metric) -> str:
    return metric.unit


def _healthy(metric: Metric) -> str:
    return metric.healthy


def _better(metric: Metric) -> str:
    return "" if metric.role == "place" else metric.better


def _needs(metric: Metric) -> str:
    return re.sub(r"docs/\S+\.md", lambda path: f"[{path[0]}]({_link(path[0])})", metric.needs)


def _link(path: str) -> str:
    """A path in the repository as the page links to it."""
    return os.path.relpath(path, PAGE.parent)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
