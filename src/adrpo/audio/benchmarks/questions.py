"""The questions of a benchmark, read from its authors' file and checked."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from adrpo.audio.benchmarks.benchmarks import Benchmark
from adrpo.audio.benchmarks.rows import Row, id_of, read_rows, text_of
from adrpo.errors import AdrpoError
from adrpo.rewards.multiple_choice import LETTERS

WITHOUT = "(none)"
"""Group of the questions that have no value under a key."""


@dataclass(frozen=True)
class Question:
    """One question; ``groups`` maps each grouping to the groups that the question is in."""

    id: str
    text: str
    choices: tuple[str, ...]
    answer: str
    groups: dict[str, tuple[str, ...]]
    audio: str | None = None
    """Path of the sound as the file has it; needed by what hears it alone."""

    @property
    def answer_is_a_choice(self) -> bool:
        """True where the answer is one of the choices, letter by letter."""
        return self.answer in self.choices

    @property
    def repeats_a_choice(self) -> bool:
        """True where two choices have one text (:func:`same_text`)."""
        return len({same_text(choice) for choice in self.choices}) < len(self.choices)


@dataclass(frozen=True)
class QuestionSet:
    """The questions of a file in their order, and the sha256 that tells its version."""

    benchmark: Benchmark
    path: Path
    sha256: str
    questions: list[Question]

    @property
    def strata(self) -> list[str]:
        """The stratum of each question, for the intervals."""
        key = self.benchmark.stratum
        return [", ".join(question.groups[key]) for question in self.questions]


def same_text(choice: str) -> str:
    """The form of a choice in which repeated ones are equal: no spaces around, no capitals."""
    return choice.strip().casefold()


def read_questions(benchmark: Benchmark, source: Path) -> QuestionSet:
    """The questions of ``source``: the authors' file, or the folder in which it lies.

    An answer that is none of the choices, and choices that repeat, are let through: published
    versions have them, and their scorer counts such rows.

    Raises:
        AdrpoError: no such file, a row that is no question, or two of one id.
    """
    file = read_rows(_file(benchmark, source), "questions")
    questions = [_question(row, benchmark, where) for where, row in file.rows]
    if repeated := repeated_values(question.id for question in questions):
        raise AdrpoError(
            f"{file.path}: expected one question of each id; received {repeated[0]!r:.60} twice "
            f"({len(repeated)} such ids)"
        )
    return QuestionSet(benchmark, file.path, file.sha256, questions)


def repeated_values(values: Iterable[str]) -> list[str]:
    """The values that occur more than once, each once, in the order of the first."""
    return [value for value, count in Counter(values).items() if count > 1]


def _file(benchmark: Benchmark, source: Path) -> Path:
    if not source.is_dir():
        return source
    found = [source / name for name in benchmark.files if (source / name).is_file()]
    if len(found) != 1:
        received = " and ".join(path.name for path in found) or "a folder without it"
        raise AdrpoError(
            f"{source}: expected {' or '.join(benchmark.files)} of {benchmark.title}; received "
            f"{received}; name the file itself"
        )
    return found[0]


def _question(row: Row, benchmark: Benchmark, where: str) -> Question:
    choices = row.get("choices")
    if (
        not isinstance(choices, list)
        or not 2 <= len(choices) <= len(LETTERS)
        or not all(isinstance(choice, str) for choice in choices)
    ):
        raise AdrpoError(
            f"{where}: expected 'choices' as a list of 2 to {len(LETTERS)} texts; received "
            f"{choices!r:.60}"
        )
    if "answer" not in row:
        raise AdrpoError(
            f"{where}: expected 'answer'; received the keys {', '.join(row):.120}; a split whose "
            f"answers are withheld is scored by its authors alone"
        )
    return Question(
        id=id_of(row, where),
        text=text_of(row, "question", where),
        choices=tuple(choices),
        answer=text_of(row, "answer", where),
        groups={key: _groups(row.get(key), key, where) for key in benchmark.groupings},
        audio=text_of(row, benchmark.audio, where)
        if row.get(benchmark.audio) is not None
        else None,
    )


def _groups(value: object, key: str, where: str) -> tuple[str, ...]:
    """The groups under a key: a text is one, a list of texts is several."""
    values = value if isinstance(value, list) else [value]
    found = [one for one in values if isinstance(one, str) and one.isprintable()]
    if len(found) < sum(one is not None for one in values):
        raise AdrpoError(
            f"{where}: expected {key!r} as a printable text or a list of such; received "
            f"{value!r:.60}"
        )
    return tuple(dict.fromkeys(one for one in found if one.strip())) or (WITHOUT,)
