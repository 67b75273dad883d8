"""Sounds and files of questions that tests write."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16_000


def tone(hertz: float = 440, rate: int = RATE, seconds: float = 0.5) -> np.ndarray:
    times = np.arange(int(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def write_clip(
    path: Path, samples: np.ndarray | None = None, rate: int = RATE, **options: Any
) -> Path:
    """``samples`` (a tone) as a file of the form that its suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone() if samples is None else samples, rate, **options)
    return path


def write_lines(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def question(number: int = 0, **changed: Any) -> dict[str, Any]:
    """A row of a file of questions, whose clip is clips/NUMBER.wav."""
    return {
        "audio": f"clips/{number}.wav",
        "question": f"Which animal is heard in {number}?",
        "choices": ["dog", "cat", "cow", "hen"],
        "answer": "cat",
        **changed,
    }
