"""Clips of questions: their identity, the files that data sets' clips become, and their check."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from adrpo.audio.data.sifting import sift, tell
from adrpo.audio.sound import key_of, recorded
from adrpo.data.base import Prompt, normalized
from adrpo.data.identity import file_sha256
from adrpo.errors import AdrpoError

ROW = "source_row"
"""Column of a prompt that says where its question stands, for messages."""

SILENCE = 1e-4
"""Largest sample of a silent clip: 80 dB below full scale."""

SHORTEST = 0.03
"""Seconds of which an encoder of Whisper's form makes one token (480 samples at 16 kHz); of less it
makes none, and a model would hear nothing."""

Heard = tuple[float, bool]
"""Seconds of a clip, and whether it is silent."""


def check_clips(
    prompts: Sequence[Prompt],
    *,
    longest: float,
    faulty: str = "refuse",
    progress: bool = True,
) -> list[Prompt]:
    """The prompts whose clips the model can hear; each clip is read whole.

    Clips are read in parallel. What was found of a file is remembered by its sha256, in clips.json
    in :func:`cache_folder`, so that a second check computes the sums alone.

    Args:
        prompts: of :mod:`adrpo.audio.data`.
        longest: seconds that the model hears.
        faulty: "refuse" or "leave_out", as ``prompts.faulty``.
        progress: whether a bar is shown.

    Raises:
        AdrpoError: with "refuse" a clip that is missing, empty, corrupt, too long, too short or
            without a rate, with its row and the number of further ones.

    Warns:
        AdrpoWarning: clips that are silent, with their rows; those that are left out.
    """
    known = _remembered()
    new: dict[str, Heard] = {}

    def silent(prompt: Prompt) -> bool:
        clip = prompt.columns["audio"]
        name = checksum(clip)
        found = known.get(name) or new.get(name) or _hear(clip)
        if name not in known and isinstance(clip, str):
            new[name] = found
        if not SHORTEST <= found[0] <= longest:
            raise AdrpoError(
                f"audio: expected {SHORTEST:g} to {longest:g} s, which the model hears, received "
                f"{found[0]:.3f} s in {_named(clip)}; cut or drop the clip"
            )
        return found[1]

    rows = [(prompt.columns[ROW], prompt) for prompt in prompts]
    shown = f"Checking clips of {len(rows)} questions" if progress else None
    try:
        kept = sift(rows, silent, faulty=faulty, of="clips", parallel=True, shown=shown)
    finally:
        _remember(new)
    if quiet := [_place(where, prompt) for where, prompt, is_silent in kept if is_silent]:
        tell(f"{len(quiet)} of {len(kept)} clips are silent", quiet)
    return [prompt for _, prompt, _ in kept]


def warn_of_shared_clips(train: Sequence[Prompt], held_out: Sequence[Prompt]) -> None:
    """Warn of held-out questions on clips that are trained on: two sources may have some in common.

    Raises:
        AdrpoError: as :func:`checksum`.

    Warns:
        AdrpoWarning: how many there are, and the rows of the first.
    """
    heard = {checksum(prompt.columns["audio"]) for prompt in train}
    rows = [p.columns[ROW] for p in held_out if checksum(p.columns["audio"]) in heard]
    if rows:
        tell(f"{len(rows)} of {len(held_out)} held-out questions are on clips of training", rows)


def by_content(prompt: Prompt) -> Prompt:
    """A question known by its clip's checksum in the clip's place, and not by where it stands.

    Raises AdrpoError as :func:`checksum`.
    """
    columns = {name: value for name, value in prompt.columns.items() if name != ROW}
    return replace(prompt, columns=columns | {"audio": checksum(prompt.columns["audio"])})


def by_clip_and_words(prompt: Prompt) -> str:
    """The :data:`~adrpo.data.identity.Key` of a question: its clip's content and its words, in any
    order, since choices are shuffled.

    Raises AdrpoError as :func:`checksum`.
    """
    clip = prompt.columns.get("audio")
    # A prompt of by_content has the checksum itself.
    known = clip if clip is None or ROW not in prompt.columns else checksum(clip)
    turns = prompt.content
    texts = [turns] if isinstance(turns, str) else [str(turn["content"]) for turn in turns]
    return f"{known} {sorted(normalized(' '.join(texts)).split())}"


def from_anywhere(prompt: Prompt) -> Prompt:
    """A question whose clip is found from every folder, where it is a file."""
    clip = prompt.columns["audio"]
    found = os.path.abspath(clip) if isinstance(clip, str) else clip
    return replace(prompt, columns={**prompt.columns, "audio": found})


def checksum(clip: Any) -> str:
    """The sha256 of a clip's content: of its file, its bytes, or its samples.

    Raises AdrpoError for a file that is missing or empty, and for what is no clip.
    """
    kind, *_, value = key_of(clip)
    if kind != "path":
        return value.hex()
    try:
        found = os.stat(value)
        if not found.st_size:
            raise AdrpoError(f"audio: expected a file of sound, received {value}, which is empty")
        return file_sha256(value, found.st_size, found.st_mtime_ns)
    except (OSError, ValueError) as error:  # a text that can't be a path is a ValueError
        received = " ".join(value.split())[:200]  # a caption, where the wrong column was named
        raise AdrpoError(
            f"audio: expected a file of sound, received {received}: "
            f"{getattr(error, 'strerror', error)}; name the column of the clips in "
            "prompts.columns.audio, or their folder in prompts.audio_folder"
        ) from None


def cache_folder() -> Path:
    """The user's folder for what can be made again: adrpo in $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adrpo"


def kept_clip(encoded: bytes, suffix: str) -> Path:
    """The file in the cache folder that holds an encoded clip, written where it isn't there.

    The clips of a data set would not fit in memory. A file is named by its content's sha256.

    Raises AdrpoError where it can't be written.
    """
    path = cache_folder() / "clips" / f"{hashlib.sha256(encoded).hexdigest()}{suffix}"
    try:
        if not path.is_file() or path.stat().st_size != len(encoded):
            _write(path, encoded)
    except OSError as error:
        raise AdrpoError(
            f"{path}: expected a file that can be written, for a clip of a data set; "
            f"{error.strerror}; set XDG_CACHE_HOME to a folder with room"
        ) from None
    return path


def _hear(clip: Any) -> Heard:
    # As recorded: a clip of a false rate would become hours of samples at the model's.
    samples, rate = recorded(clip)
    return len(samples) / rate, bool(np.abs(samples).max(initial=0) < SILENCE)


def _place(where: str, prompt: Prompt) -> str:
    clip = prompt.columns["audio"]
    return f"{where}, {clip}" if isinstance(clip, str) else where


def _named(clip: Any) -> str:
    return clip if isinstance(clip, str) else "what is no file"


def _remembered() -> dict[str, Heard]:
    try:
        found = json.loads((cache_folder() / "clips.json").read_bytes())
        return {name: (float(seconds), bool(silent)) for name, (seconds, silent) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # not there, or damaged: the clips are read again


def _remember(new: dict[str, Heard]) -> None:
    if not new:
        return
    content = json.dumps(_remembered() | new, indent=0).encode()
    try:
        _write(cache_folder() / "clips.json", content)
    except OSError as error:
        tell("what was heard is not remembered, and is read again next time", [str(error)])


def _write(path: Path, content: bytes) -> None:
    """Write a file all at once; several processes may write the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)
