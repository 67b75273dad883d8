"""Malformed folders of runs: files that are of another type, or are not there."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tools.faults.inputs.cases import Case, Spoil, both, write

KIND = "run folder"

COMMANDS = {
    "report": ["report", "run"],
    "report of two": ["report", "whole", "run", "--output", "new.html"],
    "publish": ["publish", "run", "--repo", "who/what", "--dry-run", "--output-dir", "new"],
    "evaluate": ["evaluate", "run", "--output-dir", "new"],
    "sample": ["sample", "run", "--output-dir", "new"],
    "resume": ["train", "recipe.yaml", "--output-dir", "run", "--resume", "training.steps=2"],
    "compare": ["compare", "recipe.yaml", "--seeds", "1", "--output-dir", "many", "--summary-only"],
    "base": ["train", "recipe.yaml", "--output-dir", "new", "--base", "run"],
    "doctor": ["doctor", "run"],
}
"""``play`` is not among them: with Gradio it serves for good what it does not refuse, without it it
refuses all. What its page asks of a damaged run is tried beside the kills
(:func:`tools.faults.runs.play`)."""

FILES = (
    "config.yaml", "metrics.jsonl", "evaluations.jsonl", "environment.json", "facts.json",
    "inputs.json", "held_out.jsonl", "manifest.json", "final/manifest.json", "samples/prompts.json",
    "report.html", "diverged.json", "samples/step-000000/values.json",
)  # fmt: skip
DRAWN = 60


def cases(random: random.Random) -> list[Case]:
    """A draw of them for each domain."""
    found = list(_spoilt())
    return random.sample(found, min(DRAWN * 2, len(found)))


def _contents(name: str) -> dict[str, Spoil]:
    path = f"run/{name}"
    contents: dict[str, str | bytes] = {
        "a list": "[]", "a number": "7", "null": "null", "a text": '"a"', "a mapping": "{}",
        "a list of lists": "[[1], 2]", "binary": bytes(range(256)), "deep": "[" * 3000 + "]" * 3000,
        "UTF-16": "{}".encode("utf-16"), "a huge number": "9" * 5000, "not a number": "NaN",
        "a mapping of other things": '{"step": "x", "split": 7, "files": 7, "folder": []}',
    }  # fmt: skip
    return {
        **{f"{name}, {what}": write(path, content) for what, content in contents.items()},
        f"{name}, a folder": both(
            lambda: Path(path).unlink(missing_ok=True),
            lambda: Path(path).mkdir(parents=True, exist_ok=True),
        ),
    }


def _spoilt() -> Iterator[Case]:
    for domain in ("flow", "llm", "audio"):
        for name in FILES:
            for what, spoil in _contents(name).items():
                for command, arguments in COMMANDS.items():
                    yield Case(
                        KIND, domain, f"{command}, {what}", arguments,
                        [name, "run", "recipe-seed0", "many"],
                        AROUND.get(command, both)(spoil),
                        valid="a file that the command does not need, or writes anew",
                    )  # fmt: skip


def _in_a_comparison(spoil: Spoil) -> Spoil:
    return both(spoil, _copied("many/runs/recipe-seed0"))


def _beside_a_whole_one(spoil: Spoil) -> Spoil:
    return both(_copied("whole"), spoil)


def _copied(place: str) -> Spoil:
    def act() -> None:
        shutil.copytree("run", place)

    return act


AROUND: dict[str, Callable[[Spoil], Spoil]] = {
    "compare": _in_a_comparison,
    "report of two": _beside_a_whole_one,
}
"""Command -> what else it is given beside the spoilt folder."""
