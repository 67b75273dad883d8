"""The coverage of the 95 % intervals, simulated on the variances of our own runs.

``python benchmarks/interval_coverage.py``

Reads the values of every image from ``benchmarks/results/*/runs.tar.xz``. For each comparison
there, each of its methods and each metric, it estimates the variances of seeds, prompts (within
their categories) and what depends on both, of the last evaluation's paired difference to the first
method by name and of the mean itself. Each distinct set of variances and strata is a case. A
simulation draws Gaussian effects with these variances and a mean of 0, with 3, 5 and 10 seeds,
2,000 times, and counts how often the interval of :mod:`adrpo.evaluation.intervals` holds 0. It also
compares its median half-width with that of an oracle, which knows the variance of the mean: 1.96 of
its roots.

Written to benchmarks/results/coverage/: ``summary.json`` (every case) and ``table.md``.
"""

import argparse
import json
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from adrpo.comparison.collect import SplitResults, read_method
from adrpo.evaluation.intervals import (
    COVERAGE,
    Array,
    complete_prompts,
    pooled_categories,
    variances_of_means,
)
from adrpo.metrics import UNSEEN
from adrpo.runs.environment import environment_record

RESULTS = Path(__file__).parent / "results"
SEEDS = (3, 5, 10)
DRAWS = 2000
REFERENCE = " - reference "
CHUNK = 200
"""Tables that are drawn at a time."""


@dataclass(frozen=True)
class Case:
    """The variances of one statistic of one comparison, and its prompts' categories."""

    comparison: str
    statistic: str
    seeds: float
    """Standard deviation of the seeds' effects, in that of the cells; as are the prompts'."""
    prompts: float
    cells: float
    strata: tuple[int, ...]


def cases() -> Iterator[Case]:
    """A case for each metric of each method of each comparison whose values are kept."""
    for archive in sorted(RESULTS.glob("*/runs.tar.xz")):
        with tempfile.TemporaryDirectory() as folder, tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
            yield from _cases_of(archive.parent.name, Path(folder) / "runs")


def _cases_of(comparison: str, runs: Path) -> Iterator[Case]:
    folders: dict[str, list[Path]] = {}
    for folder in sorted(path for path in runs.glob("*-seed*") if path.is_dir()):
        name, _, seed = folder.name.rpartition("-seed")
        # Beside the runs may lie what `adrpo evaluate` measured of them.
        if seed.isdigit():
            folders.setdefault(name, []).append(folder)
    found = {
        method: read_method(method, {}, paths).splits[UNSEEN] for method, paths in folders.items()
    }
    if min(len(paths) for paths in folders.values()) < 2:
        return
    reference = next(iter(found.values()))
    for method, part in found.items():
        for metric, table in part.final.items():
            yield from _case(comparison, f"{method} {metric}", (table,), part)
            if part is not reference and metric in reference.final:
                tables = (table, reference.final[metric])
                if tables[0].shape == tables[1].shape:
                    yield from _case(comparison, f"{method}{REFERENCE}{metric}", tables, part)


def _case(
    comparison: str, statistic: str, tables: Sequence[Array], part: SplitResults
) -> Iterator[Case]:
    complete = complete_prompts(tables, part.categories)
    if complete is None:
        return
    (first, *others), categories = complete
    values = first - others[0] if others else first
    values = values.reshape(*values.shape[:2], -1).mean(axis=2)
    spread = components(values, categories)
    if spread is not None:
        sizes = tuple(sorted(Counter(categories).values()))
        yield Case(comparison, statistic, *spread, sizes)


def components(values: Array, categories: Sequence[str]) -> tuple[float, float, float] | None:
    """Standard deviations of seeds, prompts within categories, and cells, of ``values``
    [seeds, prompts], in units of their root sum of squares; None without any spread.

    They are moment estimates, negative ones 0.
    """
    seeds, prompts = values.shape
    residual, freedom, of_prompts, degrees = 0.0, 0, 0.0, 0
    for category in set(categories):
        table = values[:, [name == category for name in categories]]
        count = table.shape[1]
        means = table.mean(axis=0)
        left = table - means - table.mean(axis=1, keepdims=True) + table.mean()
        residual += float((left**2).sum())
        freedom += (seeds - 1) * (count - 1)
        of_prompts += float(((means - means.mean()) ** 2).sum())
        degrees += count - 1
    if freedom == 0:
        return None
    cells = residual / freedom
    own = max(0.0, of_prompts / degrees - cells / seeds)
    of_seeds = max(0.0, float(values.mean(axis=1).var(ddof=1)) - cells / prompts)
    found = np.sqrt([of_seeds, own, cells])
    size = float(np.sqrt((found**2).sum()))
    # What is left of equal values is rounding.
    if size <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return None
    first, second, third = (found / size).tolist()
    return first, second, third


def simulate(case: Case, seeds: int, rng: np.random.Generator) -> tuple[float, float]:
    """Share of DRAWS in which the interval holds the truth, and its median half-width in that of
    the oracle's."""
    categories = [str(place) for place, size in enumerate(case.strata) for _ in range(size)]
    prompts = len(categories)
    truth = case.seeds**2 / seeds + case.prompts**2 / prompts + case.cells**2 / (seeds * prompts)
    hits, widths = 0, []
    for _ in range(DRAWS // CHUNK):
        values = case.seeds * rng.standard_normal((CHUNK, seeds, 1))
        values = values + case.prompts * rng.standard_normal((CHUNK, 1, prompts))
        values += case.cells * rng.standard_normal((CHUNK, seeds, prompts))
        variance, freedom = variances_of_means(values, categories)
        half: NDArray[np.float64] = stdtrit(freedom, (1 + COVERAGE) / 2) * np.sqrt(variance)
        hits += int((np.abs(values.mean(axis=(1, 2))) <= half).sum())
        widths.append(half)
    return hits / DRAWS, float(np.median(widths)) / (1.959964 * truth**0.5)


def distinct(found: Sequence[Case], digits: int = 2) -> list[Case]:
    """The cases whose variances differ when rounded, or whose strata differ."""
    kept: dict[Any, Case] = {}
    for case in found:
        spread = tuple(round(value, digits) for value in (case.seeds, case.prompts, case.cells))
        kept.setdefault((spread, case.strata), case)
    return list(kept.values())


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| statistic | seeds | cases | mean coverage | least | greatest "
        "| median width to the oracle's |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, paired in (("differences between methods", True), ("means of methods", False)):
        for seeds in SEEDS:
            found = [
                row
                for row in rows
                if row["seeds"] == seeds and (REFERENCE in row["statistic"]) == paired
            ]
            covered = [row["coverage"] for row in found]
            width = np.median([row["width"] for row in found])
            cells = [f"{np.mean(covered):.3f}", f"{min(covered):.3f}", f"{max(covered):.3f}"]
            cells = [kind, str(seeds), str(len(found)), *cells, f"{width:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS / "coverage")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    every = list(cases())
    rows = []
    for case in distinct(every):
        categories = [str(place) for place, size in enumerate(case.strata) for _ in range(size)]
        for seeds in SEEDS:
            coverage, width = simulate(case, seeds, rng)
            rows.append(
                {
                    "comparison": case.comparison,
                    "statistic": case.statistic,
                    "seeds": seeds,
                    "spread_seeds": case.seeds,
                    "spread_prompts": case.prompts,
                    "spread_cells": case.cells,
                    "prompts": len(categories),
                    "pooled_categories": len(pooled_categories(categories)),
                    "coverage": coverage,
                    "width": width,
                }
            )
    options.output.mkdir(parents=True, exist_ok=True)
    summary = {
        "command": " ".join(["python", *sys.argv]),
        "draws": DRAWS,
        "statistics": len(every),
        "cases": len(rows) // len(SEEDS),
        "rows": rows,
        "environment": environment_record(),
    }
    (options.output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    (options.output / "table.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
