"""Rates, rows and times to an accuracy, of the rows of all runs; and their table."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adrpo.comparison.equal_price import first_reached
from benchmarks.peer_loops.structures import COUNTERPARTS, OURS, STRUCTURES

GAINS = {"gold_accuracy": (0.02, 0.03, 0.05, 0.1), "reward": (0.01, 0.02, 0.03, 0.05)}
"""Gains over the base, of the held-out prompts, to which the seconds are told."""

CLOCKS = ("seconds", "cpu_seconds")

Run = Mapping[str, Any]


def reached(run: Run, measure: str, gain: float) -> dict[str, float] | None:
    """Seconds of training, by each of ``CLOCKS``, at which a run's ``measure`` is first ``gain``
    above its base, on straight lines between its evaluations; None where it never is."""
    evaluations = run["evaluations"]
    course = np.array([own[measure] for own in evaluations])
    place = first_reached(course, course[0] + gain, root=False)
    if place is None:
        return None
    (at, share), clocks = place, {c: [own[c] for own in evaluations] for c in CLOCKS}
    return {c: own[at] + share * (own[at + 1] - own[at]) for c, own in clocks.items()}


def cost(run: Run) -> dict[str, float]:
    """Images a second of each clock after the first step, which warms up; rows of each part for
    each image trained on, calls a step, and the peak of memory."""
    steps = run["steps"]
    timed = steps[1:] or steps
    images = sum(step["images"] for step in steps)
    parts = [key for key in steps[0] if key.startswith("rows_")]
    return {
        "images_per_second": sum(s["images"] for s in timed) / sum(s["seconds"] for s in timed),
        "images_per_cpu_second": sum(s["images"] for s in timed)
        / sum(s["cpu_seconds"] for s in timed),
        **{part: sum(step[part] for step in steps) / images for part in parts},
        "calls_per_step": statistics.mean(step["calls"] for step in steps),
        "peak_bytes": max(step["peak_bytes"] for step in steps),
        **{f"base_{measure}": run["evaluations"][0][measure] for measure in GAINS},
        **{f"end_{measure}": run["evaluations"][-1][measure] for measure in GAINS},
        **{f"whole_{clock}": run["evaluations"][-1][clock] for clock in CLOCKS},
    }


def of_loop(runs: Sequence[Run]) -> dict[str, Any]:
    """Means over the seeds of one loop, and the seconds of each seed to each gain: measure -> gain
    -> clock -> one number, or None, for each seed."""
    costs = [cost(run) for run in runs]
    found: dict[str, Any] = {}
    for measure, gains in GAINS.items():
        found[measure] = {}
        for gain in gains:
            times = [reached(run, measure, gain) for run in runs]
            found[measure][f"+{gain}"] = {c: [own and own[c] for own in times] for c in CLOCKS}
    return {
        "recipe": runs[0]["recipe"],
        "seeds": [run["seed"] for run in runs],
        **{key: statistics.mean(own[key] for own in costs) for key in costs[0]},
        "reached": found,
    }


def mean_of_all(values: Sequence[float | None]) -> float:
    """The mean; infinite where a seed has none."""
    return math.inf if None in values else statistics.mean(v for v in values if v is not None)


def against_the_fastest(
    loops: Mapping[str, Any], measure: str, gain: str, clock: str
) -> dict[str, Any] | None:
    """The peer that reaches ``gain`` in the least mean time, and how many times the time of each of
    our runs it takes.

    A loop reaches it if it does with all of its seeds before its runs end; ours that don't are
    left out. Where no peer does, ``fastest`` is None and ``seconds`` those of the shortest of their
    runs: a peer takes more.
    """
    means = {n: mean_of_all(own["reached"][measure][gain][clock]) for n, own in loops.items()}
    peers = {name: mean for name, mean in means.items() if name in STRUCTURES}
    ours = {n: mean for n, mean in means.items() if n in OURS and math.isfinite(mean)}
    if not peers or not ours:
        return None
    fastest: str | None = min(peers, key=lambda name: peers[name])
    seconds = peers[fastest]
    if math.isinf(seconds):
        fastest, seconds = None, min(loops[name][f"whole_{clock}"] for name in peers)
    ratios = {name: seconds / mean for name, mean in ours.items()}
    return {"fastest": fastest, "seconds": seconds, "times_ours": ratios}


def summarise(runs: Sequence[Run]) -> dict[str, Any]:
    """``loops``: name -> costs and times; ``fastest``: measure -> gain -> clock -> the fastest peer
    against ours; ``same_method``: peer -> our images a second over its own."""
    names = dict.fromkeys(run["loop"] for run in runs)
    loops = {name: of_loop([run for run in runs if run["loop"] == name]) for name in names}
    return {
        "loops": loops,
        "fastest": {
            measure: {
                f"+{gain}": {c: against_the_fastest(loops, measure, f"+{gain}", c) for c in CLOCKS}
                for gain in gains
            }
            for measure, gains in GAINS.items()
        },
        "same_method": {
            peer: {
                rate: loops[ours][rate] / loops[peer][rate]
                for rate in ("images_per_second", "images_per_cpu_second")
            }
            for peer, ours in COUNTERPARTS.items()
            if peer in loops and ours in loops
        },
    }


def told(values: Sequence[float | None]) -> str:
    """Seconds of all seeds in a cell; of some, how many."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{statistics.mean(known):.0f}"
    return mean if len(known) == len(values) else f"{mean} ({len(known)} of {len(values)})"


def to_markdown(summary: Mapping[str, Any]) -> str:
    """The summary's tables."""
    parts = [_costs(summary["loops"])]
    for measure in GAINS:
        parts.append(f"Seconds of training to a gain of {measure.replace('_', ' ')}:")
        parts += [_times(summary["loops"], measure), _fastest(summary["fastest"][measure])]
    return "\n\n".join(parts) + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _costs(loops: Mapping[str, Any]) -> str:
    parts = ["drawing", "constant", "learnt", "backward", "text"]
    heads = ["loop", "images/s", "images/CPU s", *(f"{part}, rows an image" for part in parts)]
    rows = []
    for name, own in loops.items():
        cells = [name, f"{own['images_per_second']:.1f}", f"{own['images_per_cpu_second']:.1f}"]
        cells += [f"{own[f'rows_{part}']:.1f}" for part in parts]
        cells += [f"{own['calls_per_step']:.0f}", f"{own['peak_bytes'] / 1e6:.0f}"]
        cells += [f"{own[f'base_{m}']:.3f} to {own[f'end_{m}']:.3f}" for m in GAINS]
        rows.append(cells)
    return _table([*heads, "calls a step", "peak MB", "gold accuracy", "reward"], rows)


def _times(loops: Mapping[str, Any], measure: str) -> str:
    gains = [f"+{gain}" for gain in GAINS[measure]]
    heads = [f"{clock} to {gain}" for gain in gains for clock in ("s", "CPU s")]
    rows = [
        [name, *(told(own["reached"][measure][gain][c]) for gain in gains for c in CLOCKS)]
        for name, own in loops.items()
    ]
    return _table(["loop", *heads], rows)


def _fastest(found: Mapping[str, Any]) -> str:
    rows = []
    for gain, by_clock in found.items():
        for clock, own in by_clock.items():
            if own is None:
                continue
            least = "" if own["fastest"] else "more than "
            ratios = ", ".join(f"{n} {least}{r:.2f}" for n, r in own["times_ours"].items())
            rows.append([gain, clock.replace("_", " "), own["fastest"] or "none", ratios])
    return _table(["gain", "clock", "fastest peer", "its time over ours"], rows)
