"""Rates, rows and times to an accuracy, of the rows of all runs; and their table."""

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.peer_loops.structures import COUNTERPARTS, OURS, STRUCTURES

GAINS = (0.05, 0.1, 0.15, 0.2)
"""Gains of the gold accuracy over the base to which the seconds are told."""

CLOCKS = ("seconds", "cpu_seconds")

Run = Mapping[str, Any]


def reached(run: Run, gain: float) -> dict[str, float] | None:
    """Seconds of training, by each of ``CLOCKS``, at which a run's accuracy is first ``gain`` above
    its base, on straight lines between its evaluations; None where it never is."""
    told = run["evaluations"]
    goal = told[0]["gold_accuracy"] + gain
    for before, after in pairwise(told):
        if after["gold_accuracy"] >= goal:
            rise = after["gold_accuracy"] - before["gold_accuracy"]
            share = (goal - before["gold_accuracy"]) / rise
            return {c: before[c] + share * (after[c] - before[c]) for c in CLOCKS}
    return None


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
        "base_accuracy": run["evaluations"][0]["gold_accuracy"],
        "end_accuracy": run["evaluations"][-1]["gold_accuracy"],
    }


def of_loop(runs: Sequence[Run]) -> dict[str, Any]:
    """Means over the seeds of one loop, and for each gain the seconds of each seed."""
    costs = [cost(run) for run in runs]
    times = {gain: [reached(run, gain) for run in runs] for gain in GAINS}
    return {
        "recipe": runs[0]["recipe"],
        "seeds": [run["seed"] for run in runs],
        **{key: statistics.mean(own[key] for own in costs) for key in costs[0]},
        "reached": {
            f"+{gain}": {c: [own and own[c] for own in found] for c in CLOCKS}
            for gain, found in times.items()
        },
    }


def mean_of_all(values: Sequence[float | None]) -> float:
    """The mean; infinite where a seed has none."""
    return math.inf if None in values else statistics.mean(v for v in values if v is not None)


def against_the_fastest(loops: Mapping[str, Any], gain: str, clock: str) -> dict[str, Any] | None:
    """The peer that reaches ``gain`` in the least mean time, and how many times the time of each of
    our runs it takes, over all seeds; None where no peer reaches it with all seeds."""
    means = {
        name: mean_of_all(own["reached"][gain][clock])
        for name, own in loops.items()
        if gain in own["reached"]
    }
    peers = {name: means[name] for name in means if name in STRUCTURES}
    fastest = min(peers, key=lambda name: peers[name], default=None)
    if fastest is None or math.isinf(peers[fastest]):
        return None
    ours = {name: means[name] for name in means if name in OURS}
    ratios = {name: peers[fastest] / mean for name, mean in ours.items()}
    return {"fastest": fastest, "seconds": peers[fastest], "times_ours": ratios}


def summarise(runs: Sequence[Run]) -> dict[str, Any]:
    """``loops``: name -> costs and times; ``fastest``: gain -> clock -> the fastest peer against
    ours; ``same_method``: peer -> our images a second over its own."""
    names = dict.fromkeys(run["loop"] for run in runs)
    loops = {name: of_loop([run for run in runs if run["loop"] == name]) for name in names}
    gains = [f"+{gain}" for gain in GAINS]
    return {
        "loops": loops,
        "fastest": {g: {c: against_the_fastest(loops, g, c) for c in CLOCKS} for g in gains},
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
    rows = ["drawing", "constant", "learnt", "backward", "text"]
    heads = ["images/s", "images/CPU s", *rows, "calls a step", "peak MB", "gold accuracy"]
    lines = [f"| loop | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for name, own in summary["loops"].items():
        cells = [f"{own['images_per_second']:.1f}", f"{own['images_per_cpu_second']:.1f}"]
        cells += [f"{own[f'rows_{part}']:.1f}" for part in rows]
        cells += [f"{own['calls_per_step']:.0f}", f"{own['peak_bytes'] / 1e6:.0f}"]
        cells += [f"{own['base_accuracy']:.3f} to {own['end_accuracy']:.3f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    gains = [f"+{gain}" for gain in GAINS]
    heads = [f"{clock} to {gain}" for gain in gains for clock in ("s", "CPU s")]
    lines += ["", f"| loop | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for name, own in summary["loops"].items():
        cells = [told(own["reached"][gain][clock]) for gain in gains for clock in CLOCKS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| gain | clock | fastest peer | its time over ours |", "|---|---|---|---|"]
    for gain, by_clock in summary["fastest"].items():
        for clock, found in by_clock.items():
            if found is not None:
                ratios = ", ".join(f"{n} {r:.2f}" for n, r in found["times_ours"].items())
                lines.append(f"| {gain} | {clock} | {found['fastest']} | {ratios} |")
    return "\n".join(lines) + "\n"
