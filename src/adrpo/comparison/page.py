"""Writes a comparison's results: summary.json, the tables, the figures and comparison.html."""

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from adrpo.comparison.analysis import (
    DESCRIPTIVE,
    Analysis,
    SplitAnalysis,
    analyse,
    minutes,
    to_json,
)
from adrpo.comparison.canvas import Drawing, themed
from adrpo.comparison.collect import Results, read_listing
from adrpo.comparison.figures import draw_all
from adrpo.comparison.layout import parts
from adrpo.comparison.picture_sheet import PICTURED_PROMPTS
from adrpo.comparison.plan import settings_that_differ
from adrpo.comparison.reference_lines import BASE
from adrpo.comparison.tables import (
    Cell,
    Column,
    ResultsTable,
    legend,
    printed_column,
    quantity,
    to_csv,
    to_latex,
    to_markdown,
)
from adrpo.comparison.trade_offs import Matched, TradeOff
from adrpo.evaluation.best_of_n import read_best_of_n
from adrpo.evaluation.intervals import Estimate
from adrpo.metrics import TOTAL, UNSEEN, Better, Metric, describe, ordered
from adrpo.report.numbers import decimals, fixed, printed
from adrpo.report.pictures import held_out_pictures
from adrpo.report.render import render
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import write_durably
from adrpo.runs.environment import environment_record
from adrpo.runs.facts import read_facts

PAGE = "comparison.html"
CROWDED = 2
"""Pictures shown of a prompt and method where they are large."""


def write_results(results: Results, command: str) -> Path:
    """Analyse the finished runs, write everything beside them, and return the page's path.

    Writes summary.json, table-<split>.md, .csv and .tex, the same of table-<split>-by-category
    where prompts have several, figures/*.png, charts as *.svg, too, and comparison.html to the
    comparison's folder. ``command`` is recorded. Raises AdrpoError as
    :func:`~adrpo.comparison.analysis.analyse` does.
    """
    folder = results.plan.folder
    analysis = analyse(results)
    unseen = results.methods[results.plan.reference].splits[results.splits[0]]
    best = read_best_of_n(folder, unseen.categories)
    drawings = draw_all(results, analysis, best, folder / "figures")
    summary = {"command": command, **to_json(analysis), "environment": environment_record()}
    _write(folder / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    for split in analysis.splits:
        for name, table in tables_of(analysis, split).items():
            _write(folder / f"{name}.md", to_markdown(table))
            _write(folder / f"{name}.csv", to_csv(table))
            _write(folder / f"{name}.tex", to_latex(table))
    page = folder / PAGE
    context = _context(results, analysis, drawings)
    _write(page, render("comparison/comparison.html.j2", context))
    return page


def tables_of(analysis: Analysis, split: SplitAnalysis) -> dict[str, ResultsTable]:
    """The tables of a split, by the names of their files without an ending."""
    name = f"table-{split.split}"
    tables = {name: results_table(analysis, split)}
    if (table := category_table(analysis, split)) is not None:
        tables[f"{name}-by-category"] = table
    return tables


def results_table(analysis: Analysis, split: SplitAnalysis) -> ResultsTable:
    """Table 1: the base, other models, and each method, the primary metric first."""
    judged = ordered([metric for metric in split.metrics if metric not in DESCRIPTIVE])
    judged.sort(key=lambda metric: metric != analysis.primary)
    columns = [
        Column(
            metric.name, analysis.title(metric.name), _better(metric, analysis.lowered), metric.note
        )
        for metric in map(describe, judged)
    ]
    rows: dict[str, dict[str, Cell]] = {
        name: {metric: Cell(estimates[metric]) for metric in judged if metric in estimates}
        for name, estimates in {BASE: split.base, **split.others}.items()
    }
    untrained = frozenset(rows)
    for name, estimates in split.final.items():
        differences, p_holm = split.difference.get(name, {}), split.p_holm.get(name, {})
        rows[name] = {
            metric: Cell(estimates[metric], differences.get(metric), p_holm.get(metric))
            for metric in judged
            if metric in estimates
        }
    primary = None
    if analysis.primary_method is not None and split.split == UNSEEN:
        primary = (analysis.primary_method, analysis.primary)
    return ResultsTable(
        columns, rows, analysis.reference, untrained, split.family, primary, split.pooled
    )


def category_table(analysis: Analysis, split: SplitAnalysis) -> ResultsTable | None:
    """The primary metric of the base and each method within the categories; None without any.

    Its differences describe, and none is tested.
    """
    found = split.by_category
    if found is None:
        return None
    better = _better(describe(analysis.primary), analysis.lowered)
    columns = [Column(name, f"{name} ({count})", better) for name, count in found.prompts.items()]
    rows = {BASE: {name: Cell(estimate) for name, estimate in found.base.items()}}
    for method, estimates in found.final.items():
        differences = found.difference.get(method, {})
        rows[method] = {
            name: Cell(estimate, differences.get(name)) for name, estimate in estimates.items()
        }
    return ResultsTable(columns, rows, analysis.reference, frozenset([BASE]))


def _better(metric: Metric, lowered: Collection[str]) -> Better:
    """The better direction of a metric: less, of one that training is paid to lower."""
    return "lower" if metric.name in lowered else metric.better


def headline(analysis: Analysis) -> list[tuple[str, bool]]:
    """The result of the primary metric in one sentence, as (text, whether it is an interval)."""
    split = analysis.splits[0]
    name, primary = analysis.reference, analysis.primary
    metric = describe(primary).in_sentence
    if primary not in split.base or primary not in split.final[name]:
        return [(f"No {split.split} prompt has {metric} of every seed and sample.", False)]
    sides = [quantity(of[primary]) for of in (split.base, split.final[name])]
    base, after = (printed(side, decimals(sides)) for side in sides)
    trained = " (trained on)" if primary in (TOTAL, *analysis.trained_on) else ""
    parts = [
        (f"On {split.prompts} {split.split} prompts, {name} takes {metric}{trained} from "
         f"{base.value} to {after.value} ", False),
        (after.interval, True),
    ]  # fmt: skip
    table = results_table(analysis, split)
    column = next(column for column in table.columns if column.key == primary)
    tested = [table.difference(other, column) for other in split.difference]
    sides_told = [difference.side for difference in tested if difference is not None]
    if sides_told:
        below, above, open_ = (sides_told.count(side) for side in ("lower", "higher", ""))
        parts.append((f"; of {len(sides_told)} other methods {below} score lower, {above} higher, "
                      f"and {open_} are not told apart", False))  # fmt: skip
    return [*parts, (".", False)]


def primary_result(analysis: Analysis) -> list[tuple[str, bool]]:
    """The primary comparison in one sentence, as (text, whether it is an interval); empty where
    none was declared before the runs."""
    split, method = analysis.splits[0], analysis.primary_method
    if method is None:
        return []
    table = results_table(analysis, split)
    column = next(column for column in table.columns if column.key == analysis.primary)
    found = table.difference(method, column)
    declared = (
        f"Declared before the runs: {method} − {analysis.reference} in "
        f"{describe(analysis.primary).in_sentence}"
    )
    if found is None:
        return [(f"{declared}, of which there are too few values for an interval.", False)]
    power = f"; of {found.detectable} this design would have told 80 in 100"
    told = {
        "": f"not told apart{power if found.detectable else ''}",
        "lower": "lower",
        "higher": "higher",
    }[found.side]
    return [
        (f"{declared} is {found.value} ", False),
        (found.interval, True),
        (f", p {found.p}: {told}.", False),
    ]


def _write(path: Path, text: str) -> None:
    write_durably(path, text.encode())


def _context(results: Results, analysis: Analysis, drawings: list[Drawing]) -> dict[str, Any]:
    plan = results.plan
    pictures = _pictures(results)
    return {
        "maker": "adrpo compare",
        "name": plan.folder.resolve().name,
        "headline": headline(analysis),
        "primary_result": primary_result(analysis),
        "declared": plan.primary.declared,
        "facts": _facts(results, analysis),
        "missing": [str(seed) for seed in plan.seeds if seed not in results.seeds],
        "not_compared": _labels(analysis.not_compared),
        "diverged": [f"{run} diverged at step {step}" for run, step in analysis.diverged.items()],
        "reference": plan.reference,
        "primary": describe(analysis.primary).in_sentence,
        "others": list(results.others),
        "trained_on": _labels(analysis.trained_on),
        "splits": [_split_context(analysis, split) for split in analysis.splits],
        "figures": [
            {"title": d.title, "note": d.note, "alt": d.alt, "svg": svg}
            for d in drawings
            if (svg := themed(d.path)) is not None  # the page shows the pictures themselves
        ],
        "methods": list(results.methods),
        "samples": _samples(results),
        "pictures": pictures,
        "sections": [
            *(
                (f"table-{split.split}", f"{split.split.capitalize()} prompts")
                for split in analysis.splits
            ),
            ("figures", "Figures"),
            *([("pictures", "Pictures")] if pictures else []),
            ("settings", "Settings"),
        ],
        "settings": _settings(results),
    }


def _labels(metrics: Sequence[str]) -> list[str]:
    return [describe(metric).label for metric in metrics]


def _samples(results: Results) -> str:
    """The word for what the methods draw: pictures, completions."""
    return read_facts(RunDirectory.open(results.methods[results.plan.reference].folders[0])).samples


def _facts(results: Results, analysis: Analysis) -> list[tuple[str, str]]:
    split = analysis.splits[0]
    median = sorted(minutes(method) for method in results.methods.values())
    return [
        ("Methods", str(len(results.methods))),
        ("Seeds", ", ".join(map(str, results.seeds))),
        ("Prompts", fixed(split.prompts, 0)),
        (f"{_samples(results).capitalize()} of a run", fixed(split.images, 0)),
        ("Minutes a run", f"{median[0]:.1f} to {median[-1]:.1f}"),
        ("Primary metric", analysis.title(analysis.primary)),
        ("Reference", results.plan.reference),
    ]


def _split_context(analysis: Analysis, split: SplitAnalysis) -> dict[str, Any]:
    table = results_table(analysis, split)
    return {
        "split": split.split,
        "prompts": split.prompts,
        "images": split.images,
        "legend": legend(table),
        "tables": _fitting(table, table.cell, list(table.rows)),
        "differences": _fitting(table, table.difference, list(split.difference)),
        "kept": _kept(split),
        "primary": analysis.title(analysis.primary),
        "by_category": _by_category(split),
        "trade_offs": [_trade_off(analysis, trade_off, split) for trade_off in split.trade_offs],
    }


def _fitting(
    table: ResultsTable, cell: Callable[[str, Column], Any], names: Sequence[str]
) -> list[dict[str, Any]]:
    """The ``cell`` of each column of ``table`` for the rows of ``names``, in tables that fit the
    page."""
    rows = [(name, [cell(name, column) for column in table.columns]) for name in names]
    labels = [column.label for column in table.columns]
    return [
        {"columns": table.columns[columns], "rows": cells}
        for columns, cells in (parts(labels, rows) if names else ())
    ]


def _kept(split: SplitAnalysis) -> dict[str, Any]:
    metrics = list(dict.fromkeys(metric for row in split.kept.values() for metric in row))
    columns = [
        printed_column([row.get(metric) for row in split.kept.values()]) for metric in metrics
    ]
    return {
        "columns": _labels(metrics),
        "rows": [
            (name, [column[place] for column in columns]) for place, name in enumerate(split.kept)
        ],
    }


def _by_category(split: SplitAnalysis) -> list[tuple[str, dict[str, Any]]]:
    """(what it tells, its columns and rows) of the primary metric within the categories."""
    found = split.by_category
    if found is None:
        return []
    labels = [f"{name} ({count})" for name, count in found.prompts.items()]

    def table(rows: dict[str, dict[str, Estimate]]) -> dict[str, Any]:
        columns = [
            printed_column([row.get(category) for row in rows.values()])
            for category in found.prompts
        ]
        cells = [(name, [column[place] for column in columns]) for place, name in enumerate(rows)]
        return {"columns": labels, "rows": cells}

    tables = [("mean", table({BASE: found.base, **found.final})), ("change", table(found.change))]
    return tables + ([("difference", table(found.difference))] if found.difference else [])


def _trade_off(analysis: Analysis, trade_off: TradeOff, split: SplitAnalysis) -> dict[str, Any]:
    names = list(split.final)
    areas = printed_column([trade_off.hypervolume[name] for name in names])
    columns = [_at_level(matched, names) for matched in trade_off.matched]
    x, y = (f"{value:.4g}".replace("-", "−") for value in trade_off.reference_point)
    return {
        "reward": analysis.title(trade_off.reward),
        "price": describe(trade_off.price).in_sentence,
        "reference_point": f"({x}, {y})",
        "levels": [matched.label for matched in trade_off.matched],
        "rows": [
            (name, areas[place], [column[place] for column in columns])
            for place, name in enumerate(names)
        ],
    }


def _at_level(matched: Matched, names: Sequence[str]) -> list[dict[str, Any]]:
    """Cells of one level: the paired difference, and under it what it is the difference of."""
    found = [matched.methods.get(name) for name in names]
    known = [at for at in found if at is not None]
    differences = printed_column([None if at is None else at.difference for at in found])
    places = decimals(quantity(side) for at in known for side in (at.ours, at.theirs))
    cells: list[dict[str, Any]] = []
    for name, at, difference in zip(names, found, differences, strict=True):
        if at is None:
            cells.append({"text": None, "notes": [matched.reasons.get(name, "–")]})
            continue
        sides = " against ".join(fixed(side.mean, places) for side in (at.ours, at.theirs))
        notes = [f"{sides} at {at.level:.3g}"]
        if any(at.short):
            ours, theirs = at.short
            seeds = len(at.ours.by_seed)
            rule = "never get there: their last evaluations count"
            notes.append(f"{ours} and {theirs} of {seeds} seeds {rule}")
        cells.append({"text": difference, "notes": notes})
    return cells


def _pictures(results: Results) -> list[tuple[str, str, list[list[Any]]]]:
    """(prompt, category, pictures of the base and of each method), from the first seed."""
    folders = [method.folders[0] for method in results.methods.values()]
    listing = read_listing(folders[0])["held_out"][:PICTURED_PROMPTS]
    prompts = [(str(item["prompt"]), str(item["category"])) for item in listing]
    shown = [
        {group.prompt: group for group in held_out_pictures(folder / "samples", prompts)}
        for folder in folders
    ]
    rows = []
    for prompt, category in prompts:
        groups = [by_prompt.get(prompt) for by_prompt in shown]
        if any(group is None for group in groups):
            continue
        found = [group for group in groups if group is not None]
        blocks = [found[0].base, *(group.final for group in found)]
        few = not all(picture.pixelated for block in blocks for picture in block)
        rows.append((prompt, category, [block[:CROWDED] if few else block for block in blocks]))
    return rows


def _settings(results: Results) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """For each method the keys in which it differs from the reference: key, own, reference's."""
    reference = results.methods[results.plan.reference].settings

    def text(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return [
        (
            name,
            [
                (key, text(own), text(theirs))
                for key, (own, theirs) in settings_that_differ(method.settings, reference).items()
            ],
        )
        for name, method in results.methods.items()
        if name != results.plan.reference
    ]
