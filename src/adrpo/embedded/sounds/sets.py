"""Sets of questions: their split by combination, seeded draws, and rows in MMAU's format.

==============  ======  ===========  ============================================  ===============
sub-category    task    category     question                                      combination
==============  ======  ===========  ============================================  ===============
sound presence  sound   recognition  Which of these sounds is heard?               sounds
sound order     sound   reasoning    Which sound comes first? ... after the buzz?  sounds
sound overlap   sound   reasoning    How do the ring and the hiss lie in time?     sounds
sound count     sound   reasoning    How many times is the click heard?            sounds
loudness        sound   reasoning    Which sound is louder?                        sounds
interval        music   reasoning    What is the interval between the two notes?   instrument, root
chord           music   recognition  What kind of chord is played?                 and answer
melody          music   reasoning    How does the melody move?                     (likewise)
rhythm          music   recognition  Which rhythm ... is played?                   with instrument
instrument      music   recognition  Which instrument is playing? ... first?       and root
word presence   speech  recognition  Which word is said? ... is not said?          words
word order      speech  reasoning    Which word is said first?                     words
voice           speech  recognition  How does the second word compare ...?         words and voices
word count      speech  reasoning    How many times is the word yes said?          words
==============  ======  ===========  ============================================  ===============

Each sub-category has the levels easy, medium and hard.
"""

import hashlib
import json
import wave
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import numpy as np

from adrpo.embedded.sounds import events, music, speech
from adrpo.embedded.sounds.meaning import LEVELS, TASKS, Question, Split, SubCategory
from adrpo.embedded.sounds.rendering import render
from adrpo.embedded.sounds.words import RATE

SUB_CATEGORIES: dict[str, SubCategory] = {
    **events.SUB_CATEGORIES,
    **music.SUB_CATEGORIES,
    **speech.SUB_CATEGORIES,
}

KEPT = 0.2
"""Share of the combinations that training never hears; a half of it is the test split."""

_SALT = 37
"""Number hashed with a combination: that of 0 to 59 whose smallest cells are split most evenly."""

_CLIPS_A_DRAFT = 40
_DRAFTS = 1000

QUESTIONS_FILE, AUDIO_FOLDER = "mmau-test-mini.json", "test-mini-audios"
"""The names of MMAU's own files."""


def split_of(question: Question) -> Split:
    """The split that has the question's combination: "train", "held_out" or "test".

    Sounds, words or instruments that a kept clip has together are never the whole of a training
    clip, in any order, time or number; a kept chord, interval or melody is never heard on that
    root by that instrument.
    """
    return _split(question.combination)


def _split(combination: str) -> Split:
    place = hashlib.sha256(f"{_SALT}|{combination}".encode()).digest()[0] / 256
    if place >= KEPT:
        return "train"
    return "test" if place < KEPT / 2 else "held_out"


def sample_question(
    rng: np.random.Generator,
    sub_category: str,
    difficulty: str,
    split: Split | None = None,
) -> Question:
    """Draw a question of one sub-category and level, and of one split where it is given.

    Raises ValueError for a name that is none, and where the split was not found to have one.
    """
    if sub_category not in SUB_CATEGORIES or difficulty not in LEVELS:
        raise ValueError(
            f"expected a sub-category of {', '.join(SUB_CATEGORIES)} and a level of "
            f"{', '.join(LEVELS)}; received {sub_category!r}, {difficulty!r}"
        )
    kind = SUB_CATEGORIES[sub_category]
    for _ in range(_DRAFTS):
        for draft in islice(kind.draw(rng, difficulty), _CLIPS_A_DRAFT):
            if split in (None, _split(draft.combination)):
                order = rng.permutation(len(draft.choices))
                return Question(
                    clip=draft.clip,
                    seed=int(rng.integers(2**31)),
                    text=draft.text,
                    choices=tuple(draft.choices[place] for place in order),
                    answer=draft.answer,
                    task=kind.task,
                    difficulty=difficulty,
                    category=kind.category,
                    sub_category=sub_category,
                    combination=draft.combination,
                )
    raise ValueError(f"expected a split with {sub_category}, {difficulty}; received {split!r}")


def question_set(size: int, *, split: Split, seed: int) -> list[Question]:
    """``size`` different questions of one split: tasks in turn, and within each its sub-categories
    and levels.

    Each letter is the right one equally often, to within one. Questions differ in text, choices
    or meaning of the clip, not in the rendering alone. A sub-category and level with few
    combinations runs dry; the others of its task then make up the number.

    Raises ValueError where a task has no more questions.
    """
    rng = np.random.default_rng(seed)
    questions: dict[object, Question] = {}
    cells = {
        task: [(n, level) for level, n in product(LEVELS, SUB_CATEGORIES) if _task(n) == task]
        for task in TASKS
    }
    letters: list[int] = []
    for task in islice(cycle(TASKS), size):
        question = None
        while question is None:
            if not cells[task]:
                raise ValueError(f"expected at most {len(questions)} questions; received {size}")
            name, level = cells[task].pop(0)
            question = _unseen(rng, name, level, split, questions)
        cells[task].append((name, level))
        letters = letters or rng.permutation(4).tolist()
        questions[_identity(question)] = _with_answer_at(question, letters.pop())
    return list(questions.values())


def _task(sub_category: str) -> str:
    return SUB_CATEGORIES[sub_category].task


def _identity(question: Question) -> object:
    return question.text, frozenset(question.choices), question.clip


def _unseen(
    rng: np.random.Generator, name: str, level: str, split: Split, seen: dict[object, Question]
) -> Question | None:
    """A question that is not in ``seen``; None where 300 draws found none."""
    for _ in range(300):
        question = sample_question(rng, name, level, split)
        if _identity(question) not in seen:
            return question
    return None


def _with_answer_at(question: Question, place: int) -> Question:
    """The question with the right choice and that of ``place`` exchanged."""
    choices = list(question.choices)
    now = choices.index(question.answer)
    choices[now], choices[place] = choices[place], choices[now]
    return replace(question, choices=tuple(choices))


def rows(questions: Sequence[Question]) -> list[dict[str, Any]]:
    """One row a question, with the fields of MMAU's file; ``id`` tells meaning and seed apart."""
    found = []
    for question in questions:
        name = hashlib.sha256(repr(question).encode()).hexdigest()[:16]
        found.append(
            {
                "id": name,
                "audio_id": f"./{AUDIO_FOLDER}/{name}.wav",
                "question": question.text,
                "choices": list(question.choices),
                "answer": question.answer,
                "dataset": "adrpo sounds world",
                "task": question.task,
                "split": split_of(question),
                "category": question.category,
                "sub-category": question.sub_category,
                "difficulty": question.difficulty,
            }
        )
    return found


def write_set(questions: Sequence[Question], folder: Path) -> None:
    """Write the questions and their clips (WAV, 16 bits) as MMAU's files lie in its folder."""
    written = rows(questions)
    (folder / AUDIO_FOLDER).mkdir(parents=True, exist_ok=True)
    for row, question in zip(written, questions, strict=True):
        samples = np.rint(render(question.clip, question.seed) * 32767).astype("<i2")
        with wave.open(str(folder / row["audio_id"]), "wb") as file:
            file.setparams((1, 2, RATE, len(samples), "NONE", ""))
            file.writeframes(samples.tobytes())
    text = json.dumps(written, indent=1, ensure_ascii=False) + "\n"
    (folder / QUESTIONS_FILE).write_text(text, encoding="utf-8")
