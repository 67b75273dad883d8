"""Short runs of four recipes by a commit and by this checkout, compared byte by byte.

``python benchmarks/before_and_after.py COMMIT [--output FILE]``

Each recipe is trained twice with the same settings and one thread: by the sources of COMMIT, which
are checked out beside, and by those that stand here. The columns of metrics.jsonl (timings aside)
and evaluations.jsonl that the commit writes, and the weights in final/, are compared; a difference
is printed with its first place, and so is what is written beside them now. Changes against the base
are left out: commits before 0b8f5d2 rounded the base to six decimals. Exit code 1 where anything
differs.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from adrpo.runs.environment import environment_record

ROOT = Path(__file__).parents[1]
FILES = ("metrics.jsonl", "evaluations.jsonl")
TIMINGS = ("wall_seconds", "samples_per_second", "seconds_")
FLOW = [
    "training.steps=3", "training.prompts_per_step=2", "training.samples_per_prompt=4",
    "evaluation.every=2", "evaluation.samples_per_prompt=2", "evaluation.sampling.steps=4",
    "prompts.held_out_size=12", "sampling.steps=4",
]  # fmt: skip
RECIPES = {
    "flow/demo": FLOW,
    "flow/dpo": [*FLOW, "algorithm.pairs_prompts=8"],
    "flow/flow-grpo": FLOW,
    "llm/embedded": [
        "training.steps=3", "evaluation.every=2", "prompts.train_size=64",
        "prompts.held_out_size=21",
    ],
}  # fmt: skip
"""Recipe -> settings that make its run short."""


def train(source: Path, recipe: str, folder: Path) -> None:
    command = [sys.executable, "-m", "adrpo", "train", recipe, *RECIPES[recipe]]
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--output-dir", str(folder)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(
            f"{recipe} by {source}: exit code {done.returncode}\n{done.stderr[-3000:]}"
        )


def rows(file: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(TIMINGS)} for row in found]


def weights(folder: Path) -> dict[str, str]:
    files = sorted((folder / "final").rglob("*.safetensors"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def first_difference(before: Path, after: Path) -> str | None:
    """The first difference of two runs in what the first one wrote; None where there is none."""
    for name in FILES:
        old, new = rows(before / name), rows(after / name)
        if len(old) != len(new):
            return f"{name}: {len(old)} rows before, {len(new)} after"
        for number, (was, now) in enumerate(zip(old, new, strict=True), 1):
            for key in (key for key in was if "_change" not in key):
                if was[key] != now.get(key):
                    there = f"{name}, row {number}, {key}"
                    return f"{there}: {was[key]} before, {now.get(key)} after"
    if weights(before) != weights(after) or not weights(before):
        return f"final/: {weights(before)} before, {weights(after)} after"
    return None


def columns(run: Path) -> set[str]:
    """Columns of the rows that a run wrote."""
    return {key for name in FILES for row in rows(run / name) for key in row}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    found: dict[str, str | None] = {}
    added: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        old = Path(scratch) / "old"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(old), arguments.commit], check=True)
        try:
            for recipe in RECIPES:
                folders = []
                for side, source in (("before", old / "src"), ("after", ROOT / "src")):
                    folders.append(Path(scratch) / side / recipe.replace("/", "-"))
                    train(source, recipe, folders[-1])
                found[recipe] = first_difference(folders[0], folders[1])
                added[recipe] = sorted(columns(folders[1]) - columns(folders[0]))
                more = f"; new columns: {', '.join(added[recipe])}" if added[recipe] else ""
                print(f"{recipe}: {found[recipe] or 'identical'}{more}", flush=True)
        finally:
            subprocess.run([*git, "remove", "--force", str(old)], check=True)
    if arguments.output is not None:
        head = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        record: dict[str, Any] = {"before": arguments.commit, "after": head}
        record |= {"first_difference": found, "new_columns": added}
        record["environment"] = environment_record()
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
