"""A model's predictions, read from a file and joined with the questions by id."""

from dataclasses import dataclass
from pathlib import Path

from adrpo.audio.benchmarks.questions import QuestionSet, repeated_values
from adrpo.audio.benchmarks.rows import Row, RowFile, id_of, read_rows
from adrpo.errors import AdrpoError


@dataclass(frozen=True)
class Predictions:
    """The predictions of a file, by id of the question."""

    path: Path
    sha256: str
    outputs: dict[str, str]
    """Texts; an id without one is missing, an empty text is an answer."""
    shown: dict[str, tuple[str, ...]]
    """Choices in the order of the file's row, where it has the question's in another order."""
    unknown: list[str]
    """Ids that no question has."""
    other_version: list[str]
    """Ids whose row repeats another question, answer or choices than the data has."""


def read_predictions(path: Path, questions: QuestionSet) -> Predictions:
    """The predictions of ``path`` on ``questions``.

    The file is the published form, a JSON list of rows with "id" and the benchmark's key of
    outputs, or a .jsonl file with such a row in each line, or with an object {id: text}. A row
    without the key is a missing answer.

    Raises:
        AdrpoError: no such file, a row of another form, an output that is no text, two rows of
            one id, no id of a question, or no output at all.
    """
    key = questions.benchmark.output
    file = read_rows(path, "predictions")
    rows = [(where, _with_id(row, key, where)) for where, row in file.rows]
    ids = [row["id"] for _, row in rows]
    if repeated := repeated_values(ids):
        raise AdrpoError(
            f"{path}: expected one prediction of each id; received several of "
            f"{', '.join(repeated[:5])} ({len(repeated)} such ids); keep one row of each"
        )
    outputs = {row["id"]: _output(row, key, where) for where, row in rows if key in row}
    known = {question.id: question for question in questions.questions}
    _refuse_nothing(file, key, outputs, known.keys() & ids)
    shown: dict[str, tuple[str, ...]] = {}
    other = []
    for where, row in rows:
        question = known.get(row["id"])
        if question is None:
            continue
        choices = _choices(row, where) or question.choices
        if choices != question.choices and sorted(choices) == sorted(question.choices):
            shown[question.id] = choices
        same = (question.text, question.answer, sorted(question.choices))
        if same != (
            row.get("question", question.text),
            row.get("answer", question.answer),
            sorted(choices),
        ):
            other.append(question.id)
    return Predictions(
        path=path,
        sha256=file.sha256,
        outputs={name: text for name, text in outputs.items() if name in known},
        shown=shown,
        unknown=[name for name in ids if name not in known],
        other_version=other,
    )


def _with_id(row: Row, key: str, where: str) -> Row:
    """A row with "id"; {id: text} becomes one."""
    if "id" not in row and key not in row and len(row) == 1:
        ((name, text),) = row.items()
        row = {"id": name, key: text}
    id_of(row, where)
    return row


def _output(row: Row, key: str, where: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise AdrpoError(
            f"{where}: expected {key!r} as a text; received {value!r:.60}; leave the key out where "
            f"the model gave no answer"
        )
    return value


def _choices(row: Row, where: str) -> tuple[str, ...] | None:
    choices = row.get("choices")
    if choices is None:
        return None
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise AdrpoError(
            f"{where}: expected 'choices' as a list of texts; received {choices!r:.60}"
        )
    return tuple(choices)


def _refuse_nothing(file: RowFile, key: str, outputs: dict[str, str], known: set[str]) -> None:
    if not known:
        where, row = file.rows[0]
        raise AdrpoError(
            f"{file.path}: expected predictions on the questions of --data; received no id that "
            f"one of them has ({where}: {row!r:.60}); name the file of the same benchmark"
        )
    if not known & outputs.keys():
        raise AdrpoError(
            f"{file.path}: expected predictions under the key {key!r}, which the authors' scorer "
            f"reads; received the keys {', '.join(file.rows[0][1]):.120}; rename the key"
        )
