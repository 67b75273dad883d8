"""The completions of a run, ready to stand in the page, grouped by prompt."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adrpo.errors import AdrpoError
from adrpo.report.numbers import compact
from adrpo.runs.shown import prompt_text


@dataclass(frozen=True)
class Completion:
    """A completion and its reward."""

    text: str
    reward: str
    """Formatted; empty where it has none."""


@dataclass(frozen=True)
class Clip:
    """A clip of a prompt: its file in samples/, and the same as a data URI, empty where the file is
    missing."""

    name: str
    uri: str


@dataclass(frozen=True)
class HeldOutTexts:
    """Completions of one prompt; ``base[i]`` and ``final[i]`` were drawn with the same numbers."""

    prompt: str
    category: str
    base: list[Completion]
    final: list[Completion]
    answer: str
    """Right answer; empty where the data has none."""
    clips: list[Clip]
    """Clips that the prompt is about, for a model that hears."""


def held_out_completions(samples: Path) -> list[HeldOutTexts]:
    """The held-out prompts of ``base.jsonl``, with what ``final.jsonl`` has of them."""
    base, final = _read(samples / "base.jsonl"), _read(samples / "final.jsonl")
    return [
        HeldOutTexts(
            prompt=prompt_text(row["prompt"]),
            category=str(row.get("category") or ""),
            base=_completions(row),
            final=_completions(final[index]) if index < len(final) else [],
            answer=str(row.get("answer") or ""),
            clips=[_clip(samples, name) for name in row.get("clips", [])],
        )
        for index, row in enumerate(base)
    ]


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            if not {"prompt", "completions", "rewards"} <= row.keys():
                raise ValueError("a key is missing")
        except (ValueError, AttributeError, RecursionError) as error:
            raise AdrpoError(
                f"{path}, line {number}: expected a prompt with its completions and rewards; "
                f"{error}; delete the file to report without completions"
            ) from None
        rows.append(row)
    return rows


def _clip(samples: Path, name: str) -> Clip:
    path = samples / name
    if not path.is_file():
        return Clip(name, "")
    content = base64.b64encode(path.read_bytes()).decode()
    return Clip(name, f"data:audio/flac;base64,{content}")


def _completions(row: dict[str, Any]) -> list[Completion]:
    pairs = zip(row["completions"], row["rewards"], strict=True)
    return [Completion(text, "" if reward is None else compact(reward)) for text, reward in pairs]
