"""The growth of a step's cost with images, resolution, rank, prompts and processes.

``python benchmarks/growth.py [--axes images resolution ...] [--steps 5] [--output FOLDER]``

Each value of an axis is a process of its own on one thread: the embedded model as
``flow/adrpo`` trains it, but for one key. ``resolution`` has random weights of the embedded
model's widths with a larger table of positions, and no evaluation. A value's costs are

    step        the processor's seconds of a step, median after the first; summed over processes
    start       the processor's seconds until the first step, without Python's own imports
    calls       network calls of a step
    memory      the process's peak after the steps, less its size after the start, in MB

and an axis's exponent is the slope of log(step) over log(value), by least squares, with its
standard error: 1 is linear, 0 is flat. The processor's seconds are told since neighbours on a
shared machine slow the clock's more. Written to benchmarks/results/growth/: ``summary.json`` and
``table.md``.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from results_folder import markdown, write_results

from adrpo.runs.environment import environment_record

OUTPUT = Path("benchmarks/results/growth")
SMALL = ("prompts.held_out_size=6", "training.micro_batch_size=16", "training.steps=100")


class Axis(NamedTuple):
    """A key whose values are tried, with what the cost of a step should be in it."""

    key: str
    values: tuple[int, ...]
    expected: str
    beside: tuple[str, ...] = ()


AXES = {
    "images": Axis("training.prompts_per_step", (2, 4, 8, 16), "linear"),
    "group size": Axis(
        "training.samples_per_prompt", (4, 8, 16, 32), "linear", ("training.prompts_per_step=4",)
    ),
    "points of a sample": Axis("training.timesteps_per_sample", (1, 2, 4, 8), "below linear"),
    "steps of sampling": Axis("sampling.steps", (5, 10, 20, 40), "below linear"),
    "resolution": Axis(
        "model.height", (64, 96, 128, 192), "2 to 4", ("training.prompts_per_step=2",)
    ),
    "rank": Axis("adapter.rank", (4, 8, 16, 32), "flat"),
    "prompts": Axis("prompts.train_size", (100, 200, 400, 800), "flat"),
    "processes": Axis("", (1, 2), "flat"),
}


def cell(axis: str, value: int, steps: int) -> None:
    """Print what a value costs as a line of JSON; a process of its own."""
    import torch
    from random_weights import random_trainer

    from adrpo.config import load_flow_config
    from adrpo.flow.memory.architectures import find_architecture
    from adrpo.flow.training.adrpo import FlowTrainer

    torch.set_num_threads(1)
    chosen = AXES[axis]
    own = [f"{chosen.key}={value}"] if chosen.key else []
    if axis == "resolution":
        own.append(f"model.width={value}")
    config = load_flow_config("flow/adrpo", [*SMALL, *chosen.beside, *own])
    started = time.process_time()
    if axis == "resolution":
        architecture = find_architecture("embedded")
        assert architecture is not None
        wider = {**architecture.transformer, "pos_embed_max_size": 32}
        trainer = random_trainer(replace(architecture, transformer=wider), config)
    else:
        trainer = FlowTrainer(config)
    start, before = time.process_time() - started, resident()
    spent, row = [], {}
    for step in range(1, steps + 2):
        begun = time.process_time()
        row = trainer.step(step)
        spent.append(time.process_time() - begun)
    found = {
        "step": statistics.median(spent[1:]),
        "start": start,
        "calls": row["model_calls"],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before,
    }
    print(json.dumps(found), flush=True)


def resident() -> float:
    """Size of this process in MB."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line
    )
    return int(line.split()[1]) / 1024


def measure(axis: str, value: int, steps: int) -> dict[str, Any]:
    processes = value if axis == "processes" else 1
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*launcher, __file__, "--cell", axis, str(value), "--steps", str(steps)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(rows) == processes, done.stdout
    found = {key: sum(row[key] for row in rows) for key in ("step", "start", "memory")}
    return {"value": value, **found, "calls": rows[0]["calls"]}


def exponent(cells: Sequence[dict[str, Any]], cost: str) -> dict[str, float]:
    """Slope of log(cost) over log(value) and its standard error; NaN of two values."""
    x, y = (np.log([own[key] for own in cells]) for key in ("value", cost))
    design = np.stack([x, np.ones_like(x)], axis=1)
    (slope, height), *_ = np.linalg.lstsq(design, y, rcond=None)
    freedom = len(x) - 2
    left, apart = y - slope * x - height, x - x.mean()
    error = np.sqrt(left @ left / freedom / (apart @ apart)) if freedom else np.nan
    return {"exponent": float(slope), "standard_error": float(error)}


COLUMNS = {
    "value": ("values", "d"),
    "step": ("seconds of a step", ".2f"),
    "calls": ("network calls", "d"),
    "memory": ("MB of the steps", ".0f"),
    "start": ("seconds to start", ".1f"),
}
"""Key of a cell -> its words and form in the table."""


def table(found: dict[str, dict[str, Any]]) -> str:
    heads = ["axis", *(words for words, _ in COLUMNS.values()), "exponent", "expected"]
    rows = []
    for axis, own in found.items():
        shown = [axis]
        for key, (_, form) in COLUMNS.items():
            shown.append(", ".join(f"{cell[key]:{form}}" for cell in own["cells"]))
        slope, error = own["step"].values()
        shown += [f"{slope:.2f}" + ("" if np.isnan(error) else f" ± {error:.2f}")]
        rows.append([*shown, AXES[axis].expected])
    return markdown(heads, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        axis, value = arguments.cell
        cell(axis, int(value), arguments.steps)
        return
    environment = environment_record()
    found = {}
    for axis in arguments.axes:
        cells = [measure(axis, value, arguments.steps) for value in AXES[axis].values]
        found[axis] = {"key": AXES[axis].key, "cells": cells, "step": exponent(cells, "step")}
        print(f"{axis}: {[cell['step'] for cell in cells]}", flush=True)
    write_results(arguments.output, {"axes": found}, table(found), environment)


if __name__ == "__main__":
    main()
