"""``python -m tools.faults``: trials on the runs of every domain, a row each, and their summary."""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from adrpo.runs.environment import environment_record
from tools.faults.inputs.bench import InputBench
from tools.faults.runs import DOMAINS
from tools.faults.trials import GOOD, Bench, Row

KILLS = {"image": 100, "language": 50, "audio": 50}


def main() -> int:
    """Run the trials that are asked for, and return 1 where one went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--domains", nargs="+", choices=list(DOMAINS), default=list(DOMAINS))
    parser.add_argument("--kills", type=int, help="for each domain; default 100, 50 and 50")
    parser.add_argument("--damages", type=int, default=0, help="for each domain; 0: every one")
    parser.add_argument("--full-disks", type=int, default=20, help="for each domain")
    parser.add_argument("--inputs", type=int, default=0, help="malformed ones; 0: all; -1: none")
    parser.add_argument("--out", type=Path, default=Path("runs/faults"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    started = time.monotonic()
    with (options.out / "trials.jsonl").open("w", encoding="utf-8") as file:
        for row in trials(options):
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            if row["outcome"] not in GOOD:
                print(json.dumps(row), flush=True)
    text = summary(rows)
    print(text)
    environment = environment_record()
    record = {
        "seed": options.seed,
        "seconds": round(time.monotonic() - started),
        "git": environment["git"],
        "packages": environment["packages"],
        "counts": {" | ".join(key): n for key, n in sorted(counts(rows).items())},
    }
    (options.out / "summary.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (options.out / "summary.md").write_text(text + "\n", encoding="utf-8")
    return int(any(row["outcome"] not in GOOD for row in rows))


def trials(options: argparse.Namespace) -> Iterator[Row]:
    """The rows of all trials, domain after domain, and those of malformed inputs."""
    with tempfile.TemporaryDirectory() as folder:
        for name in options.domains:
            bench = Bench(DOMAINS[name], Path(folder), options.seed)
            yield from bench.kills(KILLS[name] if options.kills is None else options.kills)
            yield from bench.full_disks(options.full_disks)
            if options.damages >= 0:
                yield from bench.damages(options.damages)
        if options.inputs >= 0:
            yield from InputBench(Path(folder), options.seed).inputs(options.inputs)


def counts(rows: list[Row]) -> Counter[tuple[str, str, str]]:
    """(domain, trial, outcome) -> number of rows."""
    return Counter((row["domain"], row["trial"], row["outcome"]) for row in rows)


def summary(rows: list[Row]) -> str:
    """A table in Markdown: how many trials of each kind had which outcome."""
    lines = ["| domain | trial | outcome | trials |", "|---|---|---|---|"]
    for (domain, trial, outcome), number in sorted(counts(rows).items()):
        lines.append(f"| {domain} | {trial} | {outcome} | {number} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
