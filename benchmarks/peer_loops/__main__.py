"""``python -m benchmarks.peer_loops [--loops ...] [--seeds 0 1 2] [--steps 140] [--every 10]
[--threads N] [--output benchmarks/results/peer_loops] [--settings key=value ...]``

Trains each peer's loop and our trainer, one process for each run, seed after seed; the loop that
begins is another for each seed. A finished run is kept, and one that was stopped begins anew. Told
are rows, images, and gold accuracy and reward of held-out prompts every --every steps, beside
seconds of the clock and of the processor, which a neighbour hardly changes. Evaluations count for
neither.

Written to --output: ``plan.json`` (command, commit and machine as they were before the first
file), ``rows/<loop>-seed-<seed>.json``, ``summary.json``, ``table.md`` and ``structures.md``.
Settings hold for all loops; a plan with others needs another --output.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adrpo.errors import AdrpoError
from adrpo.runs.durable import write_durably
from adrpo.runs.environment import environment_record
from benchmarks.peer_loops.loops import NAMES
from benchmarks.peer_loops.one_run import configuration
from benchmarks.peer_loops.structures import structures_table
from benchmarks.peer_loops.summary import summarise, to_markdown

ROOT = Path(__file__).parents[2]
SAME = ("steps", "every", "threads", "overrides")
"""Settings that all runs of a folder have in common."""


def row_file(output: Path, name: str, seed: int) -> Path:
    return output / "rows" / f"{name}-seed-{seed}.json"


def agreed_plan(output: Path, command: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The plan of a folder: the one that lies there, or a new one.

    Raises AdrpoError where the one that lies there has other settings.
    """
    file = output / "plan.json"
    if not file.exists():
        # Before the first file is written: afterwards the checkout differs from its commit.
        plan = {"command": command, "environment": environment_record(), **settings}
        (output / "rows").mkdir(parents=True, exist_ok=True)
        write_durably(file, (json.dumps(plan, indent=1) + "\n").encode())
        return plan
    plan = json.loads(file.read_text(encoding="utf-8"))
    for key in SAME:
        if plan[key] != settings[key]:
            raise AdrpoError(
                f"{file}: expected {key} {plan[key]}, as the runs that lie there; received "
                f"{settings[key]}; name another --output"
            )
    return plan


def train(output: Path, name: str, seed: int, settings: dict[str, Any]) -> bool:
    """One run in a process of its own; true where it came to its end."""
    print(f"{name}, seed {seed}", flush=True)
    given = {key: settings[key] for key in ("steps", "every", "overrides")}
    given |= {"name": name, "seed": seed, "output": str(row_file(output, name, seed).resolve())}
    environment = dict(os.environ)
    if settings["threads"] is not None:
        environment["OMP_NUM_THREADS"] = str(settings["threads"])
    command = [sys.executable, "-m", "benchmarks.peer_loops.one_run", json.dumps(given)]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


def write(output: Path, plan: dict[str, Any]) -> None:
    """Summary and tables of all rows that are there."""
    files = [row_file(output, name, seed) for name in NAMES for seed in seeds_of(output, name)]
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    summary = {**plan, **summarise(runs)}
    text = json.dumps(summary, indent=1) + "\n"
    write_durably(output / "summary.json", text.encode())
    write_durably(output / "table.md", to_markdown(summary).encode())
    write_durably(output / "structures.md", structures_table().encode())


def seeds_of(output: Path, name: str) -> list[int]:
    """Seeds of the runs of a loop that are there."""
    files = (output / "rows").glob(f"{name}-seed-*.json")
    return sorted(int(file.stem.rsplit("-", 1)[1]) for file in files)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loops", nargs="+", choices=NAMES, default=list(NAMES), metavar="LOOP")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=140)
    parser.add_argument("--every", type=int, default=10, help="steps between evaluations")
    parser.add_argument("--threads", type=int, default=None, help="of each run; else torch's own")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/peer_loops")
    parser.add_argument("--settings", nargs="*", default=[], metavar="key=value")
    given = parser.parse_args(arguments)
    words = sys.argv[1:] if arguments is None else arguments
    settings = {key: getattr(given, key) for key in ("steps", "every", "threads")}
    settings["overrides"] = given.settings
    command = " ".join(["python -m benchmarks.peer_loops", *words])
    try:
        for name in given.loops:  # before anything is written
            configuration(name, 0, given.steps, given.settings)
        plan = agreed_plan(given.output, command, settings)
    except AdrpoError as error:
        print(f"peer_loops: {error}", file=sys.stderr)
        return 2
    failed = [
        f"{name}, seed {seed}"
        for name, seed in order(given.loops, given.seeds)
        if not row_file(given.output, name, seed).exists()
        and not train(given.output, name, seed, settings)
    ]
    write(given.output, plan)
    print((given.output / "table.md").read_text(encoding="utf-8"))
    for run in failed:
        print(f"peer_loops: {run}: failed, as said above; it is not in the table", file=sys.stderr)
    return int(bool(failed))


def order(loops: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """The runs, seed after seed; the loop that begins is another for each seed."""
    found = []
    for place, seed in enumerate(seeds):
        turn = place % len(loops)
        found += [(name, seed) for name in (*loops[turn:], *loops[:turn])]
    return found


if __name__ == "__main__":
    sys.exit(main())
