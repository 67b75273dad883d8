"""Renders the bank of spoken words with Flite, and writes it into the package.

Needs ``flite`` (Debian: apt install flite; version 2.2 made the committed file).
"""

import shutil
import subprocess
import wave
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import resample_poly

from adrpo.embedded.sounds.words import BANK, RATE, VOICES, WORDS, compress

SPEAKERS = {
    # Voice -> (Flite's voice, stretch of its durations, play it at up / down of its length).
    "kal": ("kal16", 0.85, (1, 1)),
    "awb": ("awb", 0.85, (1, 1)),
    "rms": ("rms", 0.8, (1, 1)),
    "slt": ("slt", 0.85, (1, 1)),
    "child": ("slt", 1.0, (4, 5)),
    "giant": ("rms", 0.65, (6, 5)),
}
LONGEST = 0.58
"""Seconds of the longest word, so that four of them fit into a clip."""

EDGE = 0.01
"""Share of a word's greatest level under which its ends are cut off as silence."""


def build(work: Path) -> dict[str, Any]:
    """Write :data:`adrpo.embedded.sounds.words.BANK`; ``work`` keeps Flite's files.

    Raises SystemExit where Flite is missing or a word is longer than ``LONGEST``.
    """
    if shutil.which("flite") is None:
        raise SystemExit("expected the program flite on the PATH; install it (apt install flite)")
    folder = work / "words"
    folder.mkdir(parents=True, exist_ok=True)
    waves = {f"{word}/{voice}": _said(word, voice, folder) for word in WORDS for voice in VOICES}
    if long := {name: len(w) / RATE for name, w in waves.items() if len(w) > LONGEST * RATE}:
        raise SystemExit(f"expected words of at most {LONGEST} s; received {long}")
    codes = [compress(w) for w in waves.values()]
    np.savez_compressed(
        BANK,
        codes=np.concatenate(codes),
        ends=np.cumsum([len(code) for code in codes]),
        names=np.array(list(waves)),
    )
    seconds = sum(len(code) for code in codes) / RATE
    return {"recordings": len(codes), "seconds": seconds, "bytes": BANK.stat().st_size}


def _said(word: str, voice: str, folder: Path) -> np.ndarray:
    """One word, float32 in [-1, 1], without silence around it."""
    speaker, stretch, (up, down) = SPEAKERS[voice]
    path = folder / f"{word}-{voice}.wav"
    durations = ["--setf", f"duration_stretch={stretch}"]
    subprocess.run(["flite", "-voice", speaker, *durations, "-t", word, "-o", path], check=True)
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (RATE, 2, 1)
        said = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    # The resampled wave is played at the old rate: longer and lower, or shorter and higher.
    played = resample_poly(said, up, down)
    loudness = np.sqrt(np.convolve(played**2, np.ones(160) / 160, mode="same"))
    heard = np.flatnonzero(loudness > EDGE * loudness.max())
    cut = played[heard[0] : heard[-1] + 1]
    ramp = np.minimum(1, np.minimum(np.arange(len(cut)), np.arange(len(cut))[::-1]) / 80)
    return (0.98 * ramp * cut / np.abs(cut).max()).astype(np.float32)
