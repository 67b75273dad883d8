"""The inputs of a run beside its settings: prompts, a reward of the caller's own, its folder.

inputs.json     digests of all prompts, in their order, and of the pictures that images are compared
                with; the reward; the folder that paths start from
held_out.jsonl  the held-out prompts with all columns; not there where JSON has no form for them

A name in a configuration says where something lay; these say what it was.
"""

import hashlib
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adrpo.config.places import places
from adrpo.data.base import Prompt
from adrpo.data.identity import Key, by_words, digest, shared_prompts
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import write_durably

FILE = "inputs.json"
COPY = "held_out.jsonl"
BEGINNING = 60
"""Letters of a prompt that are kept to name it."""

WORDS = {"train": "prompts of training", "held_out": "held-out prompts"}
"""Key of the record -> what stands there, in words."""

Mark = list[str]
"""[digest, beginning, digest of its key] of a prompt."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The prompts of a run, as far as they are what they are whatever their files are called.

    ``copy`` are the held-out prompts as they can be read back, where ``held_out`` has something in
    their place; ``key`` tells what is the same to the model. ``reward`` is a callable of the
    caller's own in the place of the configuration's, by :func:`callable_name`; ``references`` the
    digest of pictures that what is drawn is compared with, if any.
    """

    train: Sequence[Prompt] = ()
    held_out: Sequence[Prompt] = ()
    copy: Sequence[Prompt] | None = None
    key: Key = by_words
    reward: str | None = None
    references: str | None = None

    def files(self) -> dict[str, bytes]:
        """Name -> content of the files that keep them."""
        record = {
            "folder": os.getcwd(),
            "places": places(),
            "reward": self.reward,
            "references": self.references,
            "prompts": {
                "train": _marks(self.train, self.key),
                "held_out": _marks(self.held_out, self.key),
            },
        }
        found = {FILE: (json.dumps(record) + "\n").encode()}
        lines = _lines(self.held_out if self.copy is None else self.copy)
        return found if lines is None else found | {COPY: lines.encode()}


def check_inputs(run: RunDirectory, ours: Inputs, *, seen: int | None = None) -> None:
    """Raise AdrpoError, saying how many and naming the first, where ``ours`` are other prompts than
    those of ``run``, or other pictures to compare with. A run that kept none is let pass, with a
    warning.

    Args:
        run: the run to go on with, or to take the base's evaluation from.
        ours: the prompts of this call.
        seen: None where all must be the same; otherwise of the prompts of training the number that
            the base is evaluated on.
    """
    option = "--resume" if seen is None else "--base"
    record = read_record(run)
    if record is None:
        warnings.warn(
            f"{option}: {run.path} is of an earlier version and kept no record of its prompts; "
            f"whether they are the same is not checked",
            AdrpoWarning,
            stacklevel=2,
        )
        return
    if record.get("reward") != ours.reward:
        raise AdrpoError(f"{option}: {_other_reward(run, record.get('reward'), ours.reward)}")
    if record.get("references") != ours.references:
        raise AdrpoError(
            f"{option}: expected the pictures of evaluation.distances.references that {run.path} "
            f"is compared with; received others, or changed ones; restore them, or "
            + ("start another run with --output-dir" if seen is None else "leave --base out")
        )
    for key, own in (("train", ours.train[:seen]), ("held_out", ours.held_out)):
        then = record["prompts"][key]
        now = _marks(own, ours.key)
        fault = _difference(then[:seen] if key == "train" else then, now, WORDS[key])
        if fault is not None:
            raise AdrpoError(
                f"{option}: expected the prompts of {run.path}; {fault}; restore their source, or "
                + ("start another run with --output-dir" if seen is None else "leave --base out")
            )


def callable_name(function: Callable[..., Any] | None) -> str | None:
    """The module and name of a callable, or of its class where it has none itself; None of none."""
    if function is None:
        return None
    inner = getattr(function, "func", function)  # of functools.partial
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{named.__module__}:{named.__qualname__}"


def own_reward(run: RunDirectory) -> str | None:
    """The callable that a run is trained by in the place of its configuration's reward, by module
    and name; None where it is the configuration's, or where an earlier version did not say."""
    record = read_record(run)
    return record.get("reward") if record else None


def reward_line(name: str) -> str:
    """An override that makes the callable ``name`` the reward of a configuration, where it can be
    imported; otherwise the form of one."""
    found = "__main__" not in name and "<" not in name
    return f"reward=[{{name: {name if found else 'package.module:callable'}}}]"


def check_trained_by_settings(run: RunDirectory, overrides: Sequence[str]) -> None:
    """Raise AdrpoError where the configuration of ``run`` does not have the reward that it was
    trained by, and ``overrides`` name none."""
    name = own_reward(run)
    keys = [part.partition("=")[0].strip() for part in overrides]
    chosen = any(key == "reward" or re.fullmatch(r"reward\.\d+\.name", key) for key in keys)
    if name is not None and not chosen:
        raise AdrpoError(
            f"{run.config}: expected the reward that the run was trained by; received that of a "
            f"recipe, in whose place Python gave {name}; name the reward: '{reward_line(name)}'"
        )


def check_unseen(inputs: Inputs, *, resume: bool) -> None:
    """Raise AdrpoError where held-out prompts are trained on, too; a run that began so, with
    ``resume``, is warned of instead."""
    fault = shared_prompts(inputs.train, inputs.held_out, inputs.key)
    if fault is None:
        return
    if resume:
        warnings.warn(f"{fault}; they are no unseen ones", AdrpoWarning, stacklevel=2)
        return
    raise AdrpoError(
        f"{fault}; expected prompts that training never sees: take them out of one of the sources, "
        f"or hold a part of one out (docs/use/prompts.md)"
    )


def tell_of_trained(run: RunDirectory, prompts: Sequence[Prompt], key: Key) -> bool:
    """Tell whether some of ``prompts``, which a run is measured on, are those that it was trained
    on, and warn of them."""
    record = read_record(run)
    trained = {mark[2] for mark in record["prompts"]["train"]} if record else set[str]()
    found = sum(_short(key(prompt)) in trained for prompt in prompts)
    if found:
        warnings.warn(
            f"{found} of {len(prompts)} prompts are among those that {run.path} was trained on: "
            f"what is measured on them is not of unseen ones",
            AdrpoWarning,
            stacklevel=2,
        )
    return found > 0


def keep_inputs(run: RunDirectory, inputs: Inputs) -> None:
    """Write the files of ``inputs`` into a run that has none."""
    if read_record(run) is None:
        for name, content in inputs.files().items():
            write_durably(run.path / name, content)


def read_record(run: RunDirectory) -> dict[str, Any] | None:
    """The content of inputs.json; None where a run has none.

    Raises AdrpoError where the file holds something else.
    """
    path = run.path / FILE
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        marks = [mark for key in WORDS for mark in record["prompts"][key]]
        if not all(isinstance(text, str) for mark in marks for text in mark):
            raise TypeError("a prompt without its digest")
        Path(record["folder"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdrpoError(
            f"{path}: expected the record of a run's prompts, received {type(error).__name__}: "
            f"{error}; restore it, or delete it to go on without it"
        ) from None
    return record


def read_held_out(run: RunDirectory) -> list[Prompt] | None:
    """The held-out prompts of a run; None where it kept no copy of them.

    Raises AdrpoError where the file is damaged.
    """
    path = run.path / COPY
    if not path.exists():
        return None
    try:
        return [
            Prompt(**json.loads(line))
            for line in path.read_text(encoding="utf-8").split("\n")
            if line
        ]
    except (ValueError, TypeError, RecursionError) as error:
        raise AdrpoError(
            f"{path}: expected a run's held-out prompts, received {type(error).__name__}: {error}; "
            f"restore it, or delete it to read them from their source"
        ) from None


def _other_reward(run: RunDirectory, then: str | None, now: str | None) -> str:
    received = f"the callable {now}" if now else "that of config.yaml"
    if then is None:
        return (
            f"expected the reward of {run.config}, which the run is trained by; received "
            f"{received}; leave it out, or start another run"
        )
    return (
        f"expected the reward that {run.path} is trained by, the callable {then}, which Python "
        f"gave and config.yaml does not have; received {received}; go on in Python, with this "
        f"reward and .train({str(run.path)!r}, resume=True), or train another run with "
        f"'{reward_line(then)}'"
    )


def _marks(prompts: Sequence[Prompt], key: Key) -> list[Mark]:
    return [
        [digest(prompt), " ".join(prompt.text.split())[:BEGINNING], _short(key(prompt))]
        for prompt in prompts
    ]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _lines(prompts: Sequence[Prompt]) -> str | None:
    """JSON Lines of the prompts; None where reading them back would give others."""
    text = ""
    for prompt in prompts:
        fields = {
            "content": prompt.content,
            "category": prompt.category,
            "columns": dict(prompt.columns),
        }
        try:
            line = json.dumps(fields, allow_nan=False)
            if json.loads(line) != fields:
                return None
        except (TypeError, ValueError, RecursionError):
            return None
        text += line + "\n"
    return text


def _difference(then: Sequence[Mark], now: Sequence[Mark], words: str) -> str | None:
    """The difference of two lists of prompts, in words; None without any."""
    # A record that was read has lists, and only digests decide.
    before, after = ([mark[0] for mark in marks] for marks in (then, now))
    if before == after:
        return None
    pairs = zip(before, after, strict=False)
    place = next((p for p, (a, b) in enumerate(pairs) if a != b), min(len(then), len(now)))
    others = Counter(after) - Counter(before)
    lost = Counter(before) - Counter(after)
    if not others and not lost:
        return f"received the {len(then)} {words} not in their order, from number {place + 1} on"
    was, received = (
        f"{marks[place][1]!r}" if place < len(marks) else "none" for marks in (then, now)
    )
    if was == received:
        received = "one of the same beginning with another end or other columns"
    count = max(others.total(), lost.total())
    return (
        f"{count} of {len(then)} {words} differ: number {place + 1} was {was}, and is {received} "
        f"now"
    )
