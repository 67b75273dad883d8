"""A file of answers that grows while a model is asked, and says what was asked of whom."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from adrpo.audio.benchmarks.questions import Question
from adrpo.audio.benchmarks.rows import read_rows
from adrpo.errors import AdrpoError
from adrpo.runs.durable import write_durably

Keep = Callable[[Mapping[str, Any]], None]
"""Function that adds a row to the file; from any thread."""


class Answers:
    """The answers of one model to a benchmark's questions, as a .jsonl file of predictions.

    Each is added when it arrives, so that a stopped work goes on where it was; beside the file
    ``<file>.settings.json`` says what was asked of whom, and another model's answers are refused.

    Args:
        path: the file; where it is missing, one is begun.
        asked: what was asked of whom, as JSON values.
        questions: to be answered.

    Raises:
        AdrpoError: a file that holds something else than this model's answers.
    """

    def __init__(self, path: Path, asked: Mapping[str, Any], questions: Sequence[Question]) -> None:
        self.path, self.asked = path, dict(asked)
        self._record = path.with_name(f"{path.name}.settings.json")
        self.left = self._unanswered(list(questions))

    @contextmanager
    def growing(self) -> Iterator[Keep]:
        """The file, open for rows with an "id" each.

        Raises AdrpoError where it can't be written.
        """
        lock = Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(self._record, (json.dumps(self.asked, indent=2) + "\n").encode())
            with self.path.open("a", encoding="utf-8") as file:

                def keep(row: Mapping[str, Any]) -> None:
                    with lock:
                        file.write(json.dumps(row) + "\n")
                        file.flush()

                yield keep
        except OSError as error:
            raise AdrpoError(
                f"{self.path}: expected a file that can be written; {error.strerror}"
            ) from None

    def _unanswered(self, asked: list[Question]) -> list[Question]:
        if self.path.suffix != ".jsonl":
            raise AdrpoError(
                f"--predictions: expected a .jsonl file for the answers of a model; received "
                f"{self.path}"
            )
        if not self.path.exists() or not self.path.stat().st_size:
            return asked
        self._refuse_others()
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # a kill cut the last line short
            write_durably(self.path, whole)
        if not whole:
            return asked
        rows = read_rows(self.path, "predictions").rows
        known = {row.get("id") for _, row in rows}
        return [question for question in asked if question.id not in known]

    def _refuse_others(self) -> None:
        try:
            record = json.loads(self._record.read_bytes())
        except (OSError, ValueError):
            record = None
        if not isinstance(record, dict):
            raise AdrpoError(
                f"--predictions: expected a new file, or one that a model's answers began; "
                f"{self.path} has no {self._record.name} beside it; name another file"
            )
        other = [name for name, value in self.asked.items() if record.get(name) != value]
        if other:
            name = other[0]
            raise AdrpoError(
                f"--predictions: expected another file for other settings; {self.path} holds "
                f"answers with {name} {record.get(name)!r:.60}, received {self.asked[name]!r:.60}"
            )
