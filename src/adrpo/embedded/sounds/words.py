"""The bank of spoken words: twenty words by six synthetic voices, read from one file."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from adrpo.errors import AdrpoError

RATE = 16_000
"""Samples a second, of the bank and of every clip."""

WORDS = (
    "yes", "no", "stop", "go", "left", "right", "red", "green", "blue", "dog",
    "cat", "bird", "fish", "tree", "house", "moon", "water", "seven", "apple", "music",
)  # fmt: skip
VOICES = ("kal", "awb", "rms", "slt", "child", "giant")
"""Four speakers of Flite; the child is ``slt`` played faster, the giant ``rms`` played slower."""

BANK = Path(__file__).parent / "words.npz"
MU = 255.0


def compress(wave: Float32[np.ndarray, " samples"]) -> UInt8[np.ndarray, " samples"]:
    """``wave`` in [-1, 1] as the 8 bits of the mu-law."""
    curve = np.sign(wave) * np.log1p(MU * np.abs(wave)) / np.log1p(MU)
    return np.rint((curve + 1) * MU / 2).astype(np.uint8)


def expand(codes: UInt8[np.ndarray, " samples"]) -> Float32[np.ndarray, " samples"]:
    """The wave in [-1, 1] that :func:`compress` wrote; off by at most 2.2 % of a sample and
    0.0001."""
    curve = 2 * np.arange(256) / MU - 1
    return (np.sign(curve) * np.expm1(np.abs(curve) * np.log1p(MU)) / MU).astype(np.float32)[codes]


@cache
def word_bank(path: Path = BANK) -> Mapping[tuple[str, str], Float32[np.ndarray, " samples"]]:
    """The recordings by (word, voice), without silence around them, at an RMS of 1.

    Raises AdrpoError where the file is missing, or is of other words or voices.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            codes, ends, names = file["codes"], file["ends"], file["names"]
    except (OSError, KeyError, ValueError) as error:
        raise AdrpoError(
            f"{path}: expected the bank of spoken words; received {error}; install adrpo again, or "
            f"build it with 'python -m tools.embedded words'"
        ) from None
    keys = [tuple(name.split("/")) for name in names.tolist()]
    if keys != [(word, voice) for word in WORDS for voice in VOICES]:
        raise AdrpoError(
            f"{path}: expected {len(WORDS)} words by {len(VOICES)} voices; received "
            f"{', '.join(names.tolist()):.60}; build it with 'python -m tools.embedded words'"
        )
    waves = (expand(part) for part in np.split(codes, ends[:-1]))
    return {key: wave / np.sqrt(np.mean(wave**2)) for key, wave in zip(keys, waves, strict=True)}
