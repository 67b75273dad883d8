"""Two results on the same questions: the paired difference of each group, and McNemar's test."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from adrpo.audio.benchmarks.measuring import Scores, Verdicts, groups_of, told_of
from adrpo.audio.benchmarks.questions import QuestionSet
from adrpo.audio.benchmarks.rows import read_rows
from adrpo.audio.benchmarks.scorers import SCORERS
from adrpo.data.files import utf_8_text
from adrpo.errors import AdrpoError
from adrpo.evaluation.intervals import paired_difference

SUMMARY, ROWS = "summary.json", "rows.jsonl"
"""Files of a result's folder."""


def read_verdicts(folder: Path, questions: QuestionSet) -> list[dict[str, int | None]]:
    """The verdicts of an earlier result, in the order of ``questions``.

    Raises:
        AdrpoError: no result in the folder, one on another benchmark or version of its file, or
            rows that are not those of the questions.
    """
    known = _summary(folder)
    ours = (questions.benchmark.name, questions.sha256)
    theirs = (known.get("benchmark"), _part(known, "data").get("sha256"))
    if theirs != ours:
        raise AdrpoError(
            f"{folder}: expected a result on {ours[0]} with the sha256 {ours[1][:12]}... of "
            f"--data; received one on {theirs[0]} with {str(theirs[1])[:12]}...; score both on one "
            f"file"
        )
    rows = {row.get("id"): (where, row) for where, row in read_rows(folder / ROWS, "rows").rows}
    found = []
    for question in questions.questions:
        where, row = rows.get(question.id, (str(folder / ROWS), {}))
        values = {scorer: row.get(scorer, "nothing") for scorer in SCORERS}
        if not all(value in (0, 1, None) for value in values.values()):
            raise AdrpoError(
                f"{where}: expected 1, 0 or null of each scorer for {question.id}; received "
                f"{values}; score that model again"
            )
        found.append(values)
    return found


def _summary(folder: Path) -> dict[str, Any]:
    path = folder / SUMMARY
    try:
        summary = json.loads(utf_8_text(path))
    except OSError as error:
        raise AdrpoError(
            f"--against: expected the folder of a result, with {SUMMARY}; received {folder} "
            f"({error.strerror})"
        ) from None
    except json.JSONDecodeError as error:
        raise AdrpoError(f"{path}: expected JSON; received text that is not ({error})") from None
    if not isinstance(summary, dict):
        raise AdrpoError(f"{path}: expected a JSON object; received {summary!r:.60}")
    return summary


def _part(summary: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = summary.get(name)
    return part if isinstance(part, dict) else {}


def differences(questions: QuestionSet, ours: Verdicts, theirs: Verdicts) -> Scores:
    """Accuracy of ``ours`` less that of ``theirs`` by scorer and group, over the questions that the
    scorer counts in both: {mean, low, high, n, only_ours, only_theirs, mcnemar_p}.

    ``only_ours`` and ``only_theirs`` are the questions that one alone has right. ``mcnemar_p`` is
    the exact two-sided test of McNemar (1947): that of ``only_ours`` of both against one half; 1
    where there are none. A group that has no pair has nulls. No p-value is adjusted for their
    number.
    """
    strata, groups = questions.strata, groups_of(questions)

    def difference(scorer: str, places: list[int]) -> dict[str, Any]:
        pairs = [(ours[place][scorer], theirs[place][scorer], strata[place]) for place in places]
        kept = [(a, b, task) for a, b, task in pairs if a is not None and b is not None]
        only_ours = sum(a > b for a, b, _ in kept)
        only_theirs = sum(a < b for a, b, _ in kept)
        estimate = None
        if kept:
            first, second, tasks = zip(*kept, strict=True)
            estimate = paired_difference(np.array([first]), np.array([second]), tasks)
        return {
            **told_of(estimate),
            "n": len(kept),
            "only_ours": only_ours,
            "only_theirs": only_theirs,
            "mcnemar_p": mcnemar(only_ours, only_theirs) if kept else None,
        }

    return {
        scorer: {
            grouping: {name: difference(scorer, places) for name, places in named.items()}
            for grouping, named in groups.items()
        }
        for scorer in SCORERS
    }


def mcnemar(first: int, second: int) -> float:
    """The exact two-sided p-value of McNemar's test on the two counts of discordant pairs."""
    both = first + second
    return float(binomtest(first, both, 0.5).pvalue) if both else 1.0
