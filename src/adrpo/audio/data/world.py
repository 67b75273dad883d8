"""Questions of the embedded world of sounds, with their clips."""

import io
from typing import Any

import numpy as np
import soundfile

from adrpo.audio.data.questions import Located
from adrpo.config.audio_prompts import WORLD
from adrpo.data.base import Row
from adrpo.embedded.sounds.meaning import Question
from adrpo.embedded.sounds.rendering import render
from adrpo.embedded.sounds.sets import question_set
from adrpo.embedded.sounds.words import RATE
from adrpo.errors import AdrpoError


def read_world(source: str, *, size: int | None, seed: int) -> list[Located]:
    """(where it stands, the row) for each question of a part of the world.

    "audio" is {"bytes": WAV of 16 bits}; a thousand clips take about 4 s and 60 MB.

    Args:
        source: "sounds:train", "sounds:held_out" or "sounds:test".
        size: how many; the world has no end.
        seed: which.

    Raises:
        AdrpoError: no size, or more questions than the split has.
    """
    if size is None:
        raise AdrpoError(f"{source}: expected a number of questions, received none; set the size")
    split: Any = source.removeprefix(f"{WORLD}:")
    try:
        questions = question_set(size, split=split, seed=seed)
    except ValueError as error:
        raise AdrpoError(f"{source}: {error}; lower the size") from None
    return [(f"{source}, question {number}", _row(q)) for number, q in enumerate(questions)]


def _row(question: Question) -> Row:
    return {
        "audio": {"bytes": _wav(render(question.clip, question.seed))},
        "question": question.text,
        "choices": list(question.choices),
        "answer": question.answer,
        "category": question.task,
        "sub_category": question.sub_category,
        "difficulty": question.difficulty,
    }


def _wav(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()
