"""Samples that an evaluation has just left in samples/, as a tracker takes them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adrpo.runs.directory import RunDirectory

PICTURES, COMPLETIONS, CLIPS = "pictures", "completions", "clips"


@dataclass(frozen=True)
class Shown:
    """The samples of one evaluation that are shown, by their kinds; most runs have one kind."""

    pictures: list[tuple[str, Path]] = field(default_factory=list)
    """Prompt and file of each fixed prompt, in the order of every evaluation."""
    completions: list[dict[str, Any]] = field(default_factory=list)
    """One row a completion: prompt, completion, reward, and the answer where the data has one."""
    clips: list[tuple[str, Path]] = field(default_factory=list)
    """Question and file of each clip that the prompts are about."""
    files: list[Path] = field(default_factory=list)
    """The file that ``completions`` were read from, if any."""

    def kinds(self) -> list[str]:
        """The kinds of which there are any."""
        return [kind for kind in (PICTURES, COMPLETIONS, CLIPS) if getattr(self, kind)]


def shown_samples(run: RunDirectory, step: int, *, latest: bool) -> Shown:
    """The samples that the evaluation at ``step`` shows.

    Pictures are kept of every evaluation, completions of the base and of the ``latest`` alone.
    Clips are those that the prompts are about, the same at every evaluation: the base's has them.
    """
    pictures = _pictures(run.samples, step)
    path = run.samples / ("base.jsonl" if step == 0 else "final.jsonl")
    if not path.is_file() or not (latest or step == 0):
        return Shown(pictures=pictures)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    clips = [
        (prompt_text(row["prompt"]), run.samples / name)
        for row in (rows if step == 0 else [])
        for name in row.get("clips", [])
    ]
    completions = [one for row in rows for one in _completions(row)]
    return Shown(pictures=pictures, completions=completions, clips=clips, files=[path])


def prompt_text(prompt: Any) -> str:
    """A text, or the turns of a conversation, a line each; of a lone question the text."""
    if isinstance(prompt, str):
        return prompt
    if [turn["role"] for turn in prompt] == ["user"]:
        return prompt[0]["content"]
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)


def _pictures(samples: Path, step: int) -> list[tuple[str, Path]]:
    files = sorted((samples / f"step-{step:06d}").glob("strip-*.png"))
    if not files:
        return []
    prompts = json.loads((samples / "prompts.json").read_text(encoding="utf-8"))["strip"]
    return list(zip(prompts, files, strict=True))


def _completions(row: dict[str, Any]) -> list[dict[str, Any]]:
    common = {"prompt": prompt_text(row["prompt"])}
    answer = {} if row.get("answer") is None else {"answer": str(row["answer"])}
    pairs = zip(row["completions"], row["rewards"], strict=True)
    return [common | {"completion": text, "reward": reward} | answer for text, reward in pairs]
