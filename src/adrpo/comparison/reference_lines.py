"""Lines that every front needs: what the untrained base reaches by guidance, and by best of n.

Each point of a line is a row of Table 1: the base measured once, so over prompts and images alone,
neither ranked nor tested. A line passes through the base's own row where it is one of its points.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adrpo.errors import AdrpoError
from adrpo.evaluation import best_of_n, guidance
from adrpo.evaluation.sweeps import Sweep
from adrpo.evaluation.values import Values
from adrpo.metrics import EVALUATIONS

BASE = "base"
"""Name of the untrained model's row."""

BY_GUIDANCE, BY_REWARD, BY_CHANCE = (
    "base, guidance", "best of n by the reward", "best of n by chance",
)  # fmt: skip
"""Names of the lines."""

OF_A_FIELD = frozenset(metric.name for metric in EVALUATIONS if metric.measured_at)
"""Metrics of a velocity field, which a selection among samples does not have."""


@dataclass(frozen=True)
class ReferenceLine:
    """The untrained base over a setting: a line of the figures."""

    name: str
    points: dict[str, str]
    """Text at a point -> its row of Table 1, in order; BASE is the base's own."""


@dataclass(frozen=True)
class Measured:
    """A sweep of a comparison's folder, and how its points are called."""

    file: Path
    sweep: Sweep
    own: float | None
    """The value of the setting that the base's own row has; None where it has none for all of its
    metrics."""
    line: str
    point: str
    row: str
    left_out: Collection[str] = ()


def read_lines(
    folder: Path, own_guidance: float | None, prompts: int
) -> tuple[dict[str, Values], list[ReferenceLine]]:
    """The rows, name -> metric -> [1, prompts, ...], and the lines of a comparison's ``folder``.

    ``own_guidance`` is that of the base's own row, which takes the place of what was measured with
    the same guidance, as it does for the best of one: they are the same images. It is None where
    these images are drawn with another guidance than the velocity of that row is measured with.

    Raises AdrpoError where a file holds something else, or other than ``prompts`` prompts.
    """
    rows: dict[str, Values] = {}
    lines = []
    for measured in _measured(folder, own_guidance):
        if not measured.sweep:
            continue
        _check_prompts(measured, prompts)
        points = {}
        for place in sorted({measured.own, *measured.sweep} - {None}):
            name = BASE if place == measured.own else measured.row.format(place)
            points[measured.point.format(place)] = name
            if name != BASE:
                rows[name] = {
                    metric: table[None]
                    for metric, table in measured.sweep[place].items()
                    if metric not in measured.left_out
                }
        lines.append(ReferenceLine(measured.line, points))
    return rows, lines


def check_measured(folder: Path, sizes: Sequence[int], scales: Sequence[float]) -> None:
    """Raise AdrpoError where a comparison's ``folder`` lacks a best of n or a guidance scale that
    is asked for without measuring."""
    selections = best_of_n.read_selections(folder / best_of_n.FILE)
    for option, asked, known in (
        ("--best-of", sizes, selections.by_reward),
        ("--guidance", scales, guidance.read_guidance(folder / guidance.FILE)),
    ):
        missing = [f"{value:g}" for value in asked if value not in known]
        if missing:
            found = ", ".join(f"{value:g}" for value in known) or "none"
            raise AdrpoError(
                f"--summary-only: expected {option} of what {folder} holds ({found}); received "
                f"{', '.join(missing)}; leave --summary-only out to measure it"
            )


def _measured(folder: Path, own_guidance: float | None) -> list[Measured]:
    guided, selected = folder / guidance.FILE, folder / best_of_n.FILE
    selections = best_of_n.read_selections(selected)
    return [
        Measured(guided, guidance.read_guidance(guided), own_guidance,
                 BY_GUIDANCE, "{:g}", "base, guidance {:g}"),
        Measured(selected, selections.by_reward, 1,
                 BY_REWARD, "n = {:g}", "best of {:g} by the reward", OF_A_FIELD),
        Measured(selected, selections.by_chance, 1,
                 BY_CHANCE, "n = {:g}", "best of {:g} by chance", OF_A_FIELD),
    ]  # fmt: skip


def _check_prompts(measured: Measured, prompts: int) -> None:
    for place, values in measured.sweep.items():
        for metric, table in values.items():
            if np.shape(table)[:1] != (prompts,):
                raise AdrpoError(
                    f"{measured.file}: expected values of the runs' {prompts} prompts; received a "
                    f"table of shape {list(np.shape(table))} for {metric} at {place:g}; remove the "
                    f"file to measure it again"
                )


def line_points(
    line: ReferenceLine, means: Mapping[str, Mapping[str, float]], x: str, y: str
) -> list[tuple[str, float, float]]:
    """(what is written, x, y) of the points of a line whose rows have both metrics; ``means`` is
    row -> metric -> mean. Empty where the base's own row is all there is."""
    known = [
        (label, means[row][x], means[row][y])
        for label, row in line.points.items()
        if x in means[row] and y in means[row]
    ]
    return known if len(known) > 1 else []
