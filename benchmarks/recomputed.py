"""The committed results made again from their rows, by the one form of every interval.

``recomputed(NAME)`` is what the command of ``benchmarks/results/NAME`` says of the rows beside it:
its summary, and the tables that are drawn from it. ``benchmarks/quoted.py`` holds the committed
files and the documents to it.

A comparison is read from ``runs.tar.xz`` as ``adrpo compare --summary-only`` reads its folder, with
the settings that ``comparison.json`` has recorded. The reference is the committed one: it is a
choice, not a number. ``improvement``, ``mixture`` and ``ring_losses`` have a form of their own.
"""

import functools
import json
import math
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import improvement
import mixture
import penalty_pairs
import ring_losses
from improvement import unpacked

from adrpo.cli.domains import all_facts
from adrpo.comparison import Plan, collect
from adrpo.comparison.analysis import analyse, to_json
from adrpo.comparison.page import tables_of
from adrpo.comparison.plan import Entry, without_seed
from adrpo.comparison.primary import Primary
from adrpo.comparison.tables import to_latex, to_markdown
from adrpo.config import resolve_settings
from adrpo.runs.resuming import flatten, unflatten

RESULTS = Path(__file__).parent / "results"
RECORDED = ("comparison.json", "best-of-n.json", "guidance.json")
ROWS = ("runs.tar.xz", "rows.jsonl")
OWN_FORM = ("improvement", "mixture", "ring_losses")
SUMMARY = "summary.json"
CLOSE = 1e-9
"""Difference, relative or absolute, that another build of NumPy makes by adding in another order.
"""


@dataclass(frozen=True)
class Recomputed:
    """The content of a folder's rows: ``summary`` has the keys that depend on them, ``tables`` the
    text of each file that is drawn from it."""

    summary: dict[str, Any]
    tables: dict[str, str] = field(default_factory=dict)


def committed(name: str) -> dict[str, Any]:
    """The summary in the folder ``name``."""
    return json.loads((RESULTS / name / SUMMARY).read_text(encoding="utf-8"))


def has_rows(name: str) -> bool:
    return any((RESULTS / name / rows).exists() for rows in ROWS)


@functools.cache
def recomputed(name: str) -> Recomputed:
    """The folder ``name`` made again from its rows."""
    folder = RESULTS / name
    if name == "improvement":
        summary = improvement.redrawn(folder)
        drawn = {file: improvement.table(summary, of) for of, file in improvement.TABLES.items()}
        return Recomputed(summary, drawn)
    if name == "mixture":
        return _mixture(folder)
    if name == "ring_losses":
        text = (folder / "rows.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines()]
        return Recomputed(*ring_losses.drawn(rows, committed(name)["tilts"]))
    with unpacked(folder / "runs.tar.xz") as whole:
        for file in RECORDED:
            if (folder / file).exists():
                shutil.copy(folder / file, whole)
        results = collect(recorded_plan(whole, committed(name)["reference"]))
        analysis = analyse(results)
        paired = penalty_pairs.losses_of(results)
        tables = {penalty_pairs.FILE: penalty_pairs.table(results)} if paired else {}
    for split in analysis.splits:
        for file, table in tables_of(analysis, split).items():
            tables[f"{file}.md"] = to_markdown(table)
            tables[f"{file}.tex"] = to_latex(table)
    return Recomputed(to_json(analysis), tables)


def recorded_plan(folder: Path, reference: str) -> Plan:
    """The comparison that ``comparison.json`` in ``folder`` has recorded, whatever the recipes of
    its names have become since."""
    record = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    methods = []
    for name, recipe in record["recipes"].items():
        resolved = resolve_settings(unflatten(record["settings"][name]), str(folder))
        methods.append(Entry(name, recipe, without_seed(flatten(resolved))))
    domain = methods[0].settings["domain"]
    (facts,) = (facts for facts in all_facts() if facts.domain == domain)
    return Plan(
        folder,
        tuple(methods),
        tuple(record["overrides"]),
        tuple(record["seeds"]),
        reference,
        Primary.from_json(record),
        facts.machine_keys,
    )


def _mixture(folder: Path) -> Recomputed:
    """The settings' estimates; what is exact there is computed from no row."""
    settings = mixture.settings_of(folder / "rows.jsonl")
    table = mixture.table(settings, committed("mixture")["tilts"])
    return Recomputed({"settings": mixture.rounded(settings)}, {"table.md": table})


def differences(name: str) -> list[str]:
    """The places in which the committed files of the folder ``name`` say something else than its
    rows, a line each."""
    found, known = recomputed(name), committed(name)
    places = _differing({key: known.get(key) for key in found.summary}, found.summary, "")
    problems = [f"{name}/{SUMMARY}: expected {place}" for place in places]
    for file, text in found.tables.items():
        path = RESULTS / name / file
        if path.exists() and path.read_text(encoding="utf-8") != text:
            problems.append(f"{name}/{file}: expected the table that its rows make")
    own = f"{name}.py --redraw" if name in OWN_FORM else f"comparison_tables.py redraw {name}"
    return [f"{problem}; run `python benchmarks/{own}`" for problem in problems]


def _differing(committed: Any, again: Any, path: str) -> list[str]:
    """The first place in which two JSON values differ in more than CLOSE; empty if in none."""
    if isinstance(committed, dict) and isinstance(again, dict):
        if committed.keys() != again.keys():
            odd = sorted(map(str, committed.keys() ^ again.keys()))
            return [f"the same keys in {path or 'its head'}; they differ in {', '.join(odd)}"]
        pairs = [(committed[key], again[key], f"{path} > {key}" if path else key) for key in again]
    elif isinstance(committed, list) and isinstance(again, list) and len(committed) == len(again):
        pairs = [(*pair, f"{path} > {i}") for i, pair in enumerate(zip(committed, again,
                                                                       strict=True))]  # fmt: skip
    else:
        if isinstance(committed, int | float) and isinstance(again, int | float):
            alike = math.isclose(committed, again, rel_tol=CLOSE, abs_tol=CLOSE)
        else:
            alike = committed == again
        return [] if alike else [f"{again} in {path}; received {committed}"]
    return next((found for pair in pairs if (found := _differing(*pair))), [])


@dataclass(frozen=True)
class Provenance:
    """The origin of a folder's numbers; a part that nothing names is empty."""

    command: str
    commits: list[str]
    """The runs' own where they are kept, otherwise that of what wrote the summary."""
    machines: list[str]
    seeds: list[int]


@functools.cache
def provenance(name: str) -> Provenance:
    """The origin of the folder ``name``, as its files name it."""
    summary, folder = committed(name), RESULTS / name
    environments = _environments(folder / "runs.tar.xz")
    if not environments:
        environments = [summary["environment"]] if "environment" in summary else []
    found = [(known.get("git") or {}).get("commit", "") for known in environments]
    # Where a summary was drawn later, it names those of its runs.
    commits = {commit[:7] for commit in summary.get("commits", found)}
    machines = {f"{known['cpu']}, {known['cores']} cores" for known in environments}
    seeds = summary.get("seeds") or []
    if (folder / "rows.jsonl").exists():
        lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
        seeds = sorted({json.loads(line)["seed"] for line in lines})
    return Provenance(summary.get("command", ""), sorted(commits), sorted(machines), seeds)


def _environments(archive: Path) -> list[dict[str, Any]]:
    """The record that each run in the archive has of its machine."""
    if not archive.exists():
        return []
    found = []
    with tarfile.open(archive) as packed:
        for member in packed:
            file = packed.extractfile(member) if member.name.endswith("environment.json") else None
            if file is not None:
                found.append(json.load(file))
    return found
