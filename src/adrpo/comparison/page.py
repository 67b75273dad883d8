"""Writes a comparison's results: summary.json, the tables, the figures and comparison.html."""

import base64
import json
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from adrpo.comparison.analysis import (
    DESCRIPTIVE,
    Analysis,
    SplitAnalysis,
    analyse,
    minutes,
    to_json,
)
from adrpo.comparison.collect import BASE, TOTAL, Results, read_listing
from adrpo.comparison.figures import PICTURED_PROMPTS, Drawing, draw_all, in_sentence, label
from adrpo.comparison.plan import settings_that_differ
from adrpo.comparison.trade_offs import LOWER_IS_BETTER, TradeOff
from adrpo.evaluation.across_seeds import SeedEstimate
from adrpo.evaluation.best_of_n import read_best_of_n
from adrpo.evaluation.tables import (
    ALPHA,
    Cell,
    Column,
    ResultsTable,
    decimal_places,
    printed,
    to_csv,
    to_latex,
    to_markdown,
)
from adrpo.report.pictures import held_out_pictures
from adrpo.report.summary import METRICS, SAMPLES, fixed
from adrpo.runs.durable import write_durably
from adrpo.runs.environment import environment_record

PAGE = "comparison.html"
CROWDED = 2
"""Pictures shown of a prompt and method where they are large."""


def write_results(results: Results, command: str) -> Path:
    """Analyse the finished runs, write everything beside them, and return the page's path.

    Writes summary.json, table-<split>.md, .csv and .tex, figures/*.png and comparison.html to
    the comparison's folder. ``command`` is recorded. Raises AdrpoError as
    :func:`~adrpo.comparison.analysis.analyse` does.
    """
    folder = results.plan.folder
    analysis = analyse(results)
    drawings = draw_all(results, analysis, read_best_of_n(folder), folder / "figures")
    summary = {"command": command, **to_json(analysis), "environment": environment_record()}
    _write(folder / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    for split in analysis.splits:
        table = results_table(analysis, split)
        _write(folder / f"table-{split.split}.md", to_markdown(table))
        _write(folder / f"table-{split.split}.csv", to_csv(table))
        _write(folder / f"table-{split.split}.tex", to_latex(table))
    page = folder / PAGE
    _write(page, _render(_context(results, analysis, drawings)))
    return page


def results_table(analysis: Analysis, split: SplitAnalysis) -> ResultsTable:
    """Table 1: the base, other models, and each method, the primary metric first."""
    judged = [metric for metric in split.metrics if metric not in DESCRIPTIVE]
    ordered = sorted(judged, key=lambda metric: _order(metric, analysis.primary))
    columns = [
        Column(metric, label(metric), "lower" if metric in LOWER_IS_BETTER else "higher")
        for metric in ordered
    ]
    rows: dict[str, dict[str, Cell]] = {
        name: {metric: Cell(estimates[metric]) for metric in ordered if metric in estimates}
        for name, estimates in {BASE: split.base, **split.others}.items()
    }
    untrained = frozenset(rows)
    for name, estimates in split.final.items():
        differences, p_holm = split.difference.get(name, {}), split.p_holm.get(name, {})
        rows[name] = {
            metric: Cell(estimates[metric], differences.get(metric), p_holm.get(metric))
            for metric in ordered
            if metric in estimates
        }
    return ResultsTable(columns, rows, analysis.reference, untrained)


def headline(analysis: Analysis) -> list[tuple[str, bool]]:
    """The result of the primary metric in one sentence, as (text, whether it is an interval)."""
    split = analysis.splits[0]
    name, primary = analysis.reference, analysis.primary
    places = decimal_places([split.final[name][primary], split.base[primary]])
    value, interval = printed(split.final[name][primary], places)
    base, _ = printed(split.base[primary], places)
    trained = " (trained on)" if primary in (TOTAL, *analysis.trained_on) else ""
    parts = [
        (f"On {split.prompts} {split.split} prompts, {name} takes {in_sentence(primary)}{trained} "
         f"from {base} to {value} ", False),
        (interval, True),
    ]  # fmt: skip
    tested = [(other, row[primary]) for other, row in split.difference.items() if primary in row]
    if tested:
        below = [o for o, d in tested if split.p_holm[o][primary] < ALPHA and d.mean < 0]
        above = [o for o, d in tested if split.p_holm[o][primary] < ALPHA and d.mean > 0]
        open_ = len(tested) - len(below) - len(above)
        parts.append((f"; of {len(tested)} other methods {len(below)} score lower, {len(above)} "
                      f"higher, and {open_} are not told apart", False))  # fmt: skip
    return [*parts, (".", False)]


def _order(metric: str, primary: str) -> tuple[bool, int, str]:
    known = list(METRICS)
    return metric != primary, known.index(metric) if metric in known else len(known), metric


def _write(path: Path, text: str) -> None:
    write_durably(path, text.encode())


def _render(context: dict[str, Any]) -> str:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files("adrpo.comparison").joinpath("comparison.html.j2")
    return environment.from_string(template.read_text(encoding="utf-8")).render(context)


def _report_style() -> str:
    """The style sheet of the runs' reports, so that both pages look alike."""
    page = resources.files("adrpo.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    return page.partition("<style>")[2].partition("</style>")[0]


def _context(results: Results, analysis: Analysis, drawings: list[Drawing]) -> dict[str, Any]:
    plan = results.plan
    return {
        "style": _report_style(),
        "name": plan.folder.resolve().name,
        "headline": headline(analysis),
        "facts": _facts(results, analysis),
        "missing": [str(seed) for seed in plan.seeds if seed not in results.seeds],
        "not_compared": [label(metric) for metric in analysis.not_compared],
        "reference": plan.reference,
        "primary": in_sentence(analysis.primary),
        "others": list(results.others),
        "trained_on": [label(metric) for metric in analysis.trained_on],
        "splits": [_split_context(analysis, split) for split in analysis.splits],
        "figures": [
            {"title": d.title, "note": d.note, "alt": d.alt, "uri": _data_uri(d.path)}
            for d in drawings
            if d.path.name != "pictures.png"  # the page shows the pictures themselves
        ],
        "methods": list(results.methods),
        "samples": _samples(results),
        "pictures": _pictures(results),
        "settings": _settings(results),
    }


def _samples(results: Results) -> str:
    """What the methods draw: pictures, completions."""
    settings = results.methods[results.plan.reference].settings
    return SAMPLES.get(str(settings.get("domain")), "samples")


def _facts(results: Results, analysis: Analysis) -> list[tuple[str, str]]:
    split = analysis.splits[0]
    median = sorted(minutes(method) for method in results.methods.values())
    return [
        ("Methods", str(len(results.methods))),
        ("Seeds", ", ".join(map(str, results.seeds))),
        ("Prompts", fixed(split.prompts, 0)),
        (f"{_samples(results).capitalize()} of a run", fixed(split.images, 0)),
        ("Minutes a run", f"{median[0]:.1f} to {median[-1]:.1f}"),
        ("Primary metric", label(analysis.primary)),
        ("Reference", results.plan.reference),
    ]


def _split_context(analysis: Analysis, split: SplitAnalysis) -> dict[str, Any]:
    table = results_table(analysis, split)
    return {
        "split": split.split,
        "prompts": split.prompts,
        "images": split.images,
        "columns": [(c.label, METRICS.get(c.key, ("", ""))[1], c.better) for c in table.columns],
        "rows": [
            (name, [_cell(table, name, column) for column in table.columns]) for name in table.rows
        ],
        "differences": [
            (name, [_difference(split, name, column.key) for column in table.columns])
            for name in split.difference
        ],
        "kept": _kept(split),
        "trade_offs": [_trade_off(trade_off, split) for trade_off in split.trade_offs],
    }


def _cell(table: ResultsTable, name: str, column: Column) -> dict[str, Any] | None:
    cell = table.rows[name].get(column.key)
    if cell is None:
        return None
    value, interval = printed(cell.estimate, table.places(column))
    rank = table.rank(name, column)
    return {"value": value, "interval": interval, "best": rank == 1, "differs": cell.differs}


def _difference(split: SplitAnalysis, name: str, metric: str) -> dict[str, Any] | None:
    estimate = split.difference[name].get(metric)
    if estimate is None:
        return None
    p = split.p_holm[name][metric]
    shown = _column([row.get(metric) for row in split.difference.values()])
    cell = shown[list(split.difference).index(name)]
    return cell | {"p": f"{p:.3f}" if p >= 0.001 else "< 0.001", "apart": p < ALPHA}


def _column(estimates: list[SeedEstimate | None]) -> list[dict[str, Any]]:
    """Printed estimates, all with the same decimals."""
    places = decimal_places(estimate for estimate in estimates if estimate is not None)
    cells = []
    for estimate in estimates:
        value, interval = ("–", "") if estimate is None else printed(estimate, places)
        cells.append({"value": value, "interval": interval})
    return cells


def _kept(split: SplitAnalysis) -> dict[str, Any]:
    metrics = list(dict.fromkeys(metric for row in split.kept.values() for metric in row))
    columns = [_column([row.get(metric) for row in split.kept.values()]) for metric in metrics]
    return {
        "columns": [label(metric) for metric in metrics],
        "rows": list(zip(split.kept, zip(*columns, strict=True), strict=True)),
    }


def _trade_off(trade_off: TradeOff, split: SplitAnalysis) -> dict[str, Any]:
    names = list(split.final)
    columns = [_column([trade_off.hypervolume[name] for name in names])]
    reasons: list[dict[str, str]] = [{}]
    for matched in trade_off.matched:
        columns.append(_column([matched.estimates.get(name) for name in names]))
        reasons.append(matched.reasons)
    rows = [
        (
            name,
            [
                column[place] | {"reason": why.get(name, "")}
                for column, why in zip(columns, reasons, strict=True)
            ],
        )
        for place, name in enumerate(names)
    ]
    x, y = (f"{value:.4g}".replace("-", "−") for value in trade_off.reference_point)
    return {
        "reward": label(trade_off.reward),
        "price": in_sentence(trade_off.price),
        "reference_point": f"({x}, {y})",
        "levels": [(matched.label, f"{matched.level:.4g}") for matched in trade_off.matched],
        "rows": rows,
    }


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


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
