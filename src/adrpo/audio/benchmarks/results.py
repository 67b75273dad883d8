"""A result's folder: the rows and the summary of one model's predictions."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adrpo.audio.benchmarks.benchmarks import benchmark_named
from adrpo.audio.benchmarks.local import shift_file, shifts_of
from adrpo.audio.benchmarks.measuring import first_choice_verdicts, over_shifts, rows_of, scores_of
from adrpo.audio.benchmarks.pairing import ROWS, SUMMARY, differences, read_verdicts
from adrpo.audio.benchmarks.predictions import Predictions, read_predictions
from adrpo.audio.benchmarks.questions import QuestionSet, read_questions
from adrpo.errors import AdrpoError
from adrpo.runs.durable import replace_folder, write_durably
from adrpo.runs.environment import environment_record


def score_predictions(
    benchmark: str,
    data: Path,
    predictions: Path,
    folder: Path,
    *,
    shifts: bool = False,
    against: Path | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Score a file of predictions and write rows.jsonl and summary.json.

    Args:
        benchmark: a name of ``BENCHMARKS``.
        data: the authors' file of questions, or its folder.
        predictions: as :func:`~adrpo.audio.benchmarks.predictions.read_predictions` reads them.
        folder: of the result, new or empty; written at once, after all is measured.
        shifts: whether the files beside it answer each shift of the choices, too
            (:func:`~adrpo.audio.benchmarks.local.shift_file`).
        against: the folder of another result on the same file, for the paired differences.
        command: that asked for it, for the record.

    Returns what summary.json holds.

    Raises:
        AdrpoError: as the functions that read the files do, or a folder that can't be written.
    """
    questions = read_questions(benchmark_named(benchmark), data)
    read = read_predictions(predictions, questions)
    rows = rows_of(questions, read)
    summary: dict[str, Any] = {
        "benchmark": benchmark,
        "title": questions.benchmark.title,
        "command": command,
        "data": _source(questions.path, questions.sha256) | {"questions": len(rows)},
        "predictions": _source(read.path, read.sha256) | {"answered": len(read.outputs)},
        "noticed": _noticed(questions, read),
        "scores": scores_of(questions, rows),
        "first_choice": scores_of(questions, first_choice_verdicts(questions)),
    }
    if shifts:
        files = [shift_file(predictions, shift) for shift in range(shifts_of(questions))]
        moved = [read_predictions(file, questions) for file in files]
        summary["shifts"] = scores_of(questions, over_shifts(questions, moved))
    if against is not None:
        theirs = read_verdicts(against, questions)
        summary["against"] = {
            "folder": str(against),
            "differences": differences(questions, rows, theirs),
        }
    summary["environment"] = environment_record()
    _write(folder, rows, summary)
    return summary


def _source(path: Path, sha256: str) -> dict[str, Any]:
    return {"file": str(path), "sha256": sha256}


def _noticed(questions: QuestionSet, read: Predictions) -> dict[str, list[str]]:
    """The ids of what a reader of the numbers should know, by its kind."""
    asked = questions.questions
    return {
        "missing": [question.id for question in asked if question.id not in read.outputs],
        "unknown": read.unknown,
        "other_version": read.other_version,
        "answer_is_no_choice": [one.id for one in asked if not one.answer_is_a_choice],
        "repeated_choices": [one.id for one in asked if one.repeats_a_choice],
    }


def _write(folder: Path, rows: list[dict[str, Any]], summary: Mapping[str, Any]) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    # JSON texts may hold half of a surrogate pair, which UTF-8 has no bytes for.
    content = {
        ROWS: lines.encode("utf-8", "backslashreplace"),
        SUMMARY: (json.dumps(summary, indent=2) + "\n").encode(),
    }
    try:
        with replace_folder(folder) as partial:
            for name, data in content.items():
                write_durably(partial / name, data)
    except OSError as error:
        raise AdrpoError(
            f"{folder}: expected a folder that can be written; {error.strerror}"
        ) from None
