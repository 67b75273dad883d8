"""The summary of a benchmark's result, as lines of text for a terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

from adrpo.report.numbers import Quantity, compact, decimals, fixed, printed

NAMED = 5
"""Ids that a line names; the summary has all."""

NOTICED = {
    "missing": "Without a prediction: `official` leaves them out, the others count them as wrong",
    "unknown": "Predictions on no question of the data: left out",
    "other_version": "Predictions on other words than the data has, of another version of it",
    "answer_is_no_choice": "Their answer is none of the choices: counted, and hardly ever right",
    "repeated_choices": "A choice stands there twice: for `strict` it is one",
}
"""Kind of what was noticed -> what a line says of its ids."""

Table = list[list[str]]


def benchmark_lines(summary: Mapping[str, Any]) -> list[str]:
    """The accuracies of a result by group, what was noticed in its files, and the differences to
    another result where it has them; ``summary`` is the content of its summary.json."""
    data = summary["data"]
    lines = [f"{summary['title']}: {data['questions']} questions, sha256 {data['sha256']}"]
    lines += _aligned(_accuracies(summary))
    lines += ["Accuracies are shares with 95 % intervals over the questions."]
    for kind, ids in summary["noticed"].items():
        if ids:
            more = ", ..." if len(ids) > NAMED else ""
            lines.append(f"{NOTICED[kind]} ({len(ids)}): {', '.join(ids[:NAMED])}{more}")
    if "against" in summary:
        against = summary["against"]
        lines += ["", f"Difference to {against['folder']}, paired by question:"]
        lines += _aligned(_differences(against["differences"]))
        lines += ["p: McNemar's exact test, not adjusted for the number of groups."]
    return lines


def _accuracies(summary: Mapping[str, Any]) -> Table:
    scores, first = summary["scores"], summary["first_choice"]["strict"]
    columns = {
        "official": scores["official"],
        "official, missing = wrong": scores["official_missing_wrong"],
        "strict": scores["strict"],
    }
    if "shifts" in summary:
        columns["strict, over shifts"] = summary["shifts"]["strict"]
    columns["first choice (strict)"] = first
    if not summary["noticed"]["missing"]:
        del columns["official, missing = wrong"]
    table = [["", "n", *columns]]
    for grouping, groups in scores["strict"].items():
        places = decimals(_quantities(column[grouping] for column in columns.values()))
        for name, told in groups.items():
            cells = [_number(column[grouping][name], places) for column in columns.values()]
            table.append([_label(grouping, name), str(told["n"]), *cells])
    return table


def _differences(scores: Mapping[str, Any]) -> Table:
    shown = {"official": "official", "strict": "strict"}
    table = [["", *(f"{text}{part}" for text in shown.values() for part in ("", ": p"))]]
    for grouping, groups in scores["strict"].items():
        places = decimals(_quantities(scores[scorer][grouping] for scorer in shown))
        for name in groups:
            cells = []
            for scorer in shown:
                told = scores[scorer][grouping][name]
                p_value = told["mcnemar_p"]
                cells += [
                    _number(told, places, sign=True),
                    "" if p_value is None else compact(p_value),
                ]
            table.append([_label(grouping, name), *cells])
    return table


def _label(grouping: str, name: str) -> str:
    return name if grouping == name else f"{grouping}: {name}"


def _quantities(columns: Iterable[Mapping[str, Any]]) -> list[Quantity]:
    told = [group for column in columns for group in column.values()]
    return [_quantity(group) for group in told if group["mean"] is not None]


def _quantity(told: Mapping[str, Any]) -> Quantity:
    return Quantity(told["mean"], told["low"], told["high"])


def _number(told: Mapping[str, Any], places: int, *, sign: bool = False) -> str:
    if told["mean"] is None:
        return "none counted"
    if told["low"] is None:
        return fixed(told["mean"], places, sign=sign)
    number = printed(_quantity(told), places, sign=sign)
    return f"{number.value} {number.interval}"


def _aligned(table: Table) -> list[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
