"""Accuracies of a set of verdicts: by scorer and group, with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adrpo.audio.benchmarks.predictions import Predictions
from adrpo.audio.benchmarks.questions import QuestionSet
from adrpo.audio.benchmarks.scorers import SCORERS, chosen, verdicts
from adrpo.evaluation.intervals import Estimate, mean_over_seeds, number

Verdicts = Sequence[Mapping[str, float | None]]
"""Each question's verdict by scorer: 1, 0, a share over shifts, or None for one that the scorer
leaves out."""

Scores = dict[str, dict[str, dict[str, Any]]]
"""Scorer -> grouping -> group -> what is told of it."""

ALL = "all"
"""Grouping whose one group is every question."""


def groups_of(questions: QuestionSet) -> dict[str, dict[str, list[int]]]:
    """Grouping -> group -> the numbers of its questions, ``ALL`` first; groups are in the order of
    the alphabet. A question with several values under a key is in each of their groups."""
    found: dict[str, dict[str, list[int]]] = {ALL: {ALL: [*range(len(questions.questions))]}}
    for key in questions.benchmark.groupings:
        groups: dict[str, list[int]] = {}
        for place, question in enumerate(questions.questions):
            for name in question.groups[key]:
                groups.setdefault(name, []).append(place)
        found[key] = dict(sorted(groups.items()))
    return found


def rows_of(questions: QuestionSet, predictions: Predictions) -> list[dict[str, Any]]:
    """One row a question: id, groups, prediction, the choice that it names, and the verdicts."""
    rows = []
    for question in questions.questions:
        output = predictions.outputs.get(question.id)
        shown = predictions.shown.get(question.id, question.choices)
        rows.append(
            {
                "id": question.id,
                **{key: list(groups) for key, groups in question.groups.items()},
                "answer": question.answer,
                "prediction": output,
                "chosen": None if output is None else chosen(output, shown),
                **verdicts(question, output, shown),
            }
        )
    return rows


def first_choice_verdicts(questions: QuestionSet) -> Verdicts:
    """The verdicts on a model that always answers with the text of the first choice."""
    return [verdicts(question, question.choices[0]) for question in questions.questions]


def over_shifts(questions: QuestionSet, shifts: Sequence[Predictions]) -> Verdicts:
    """The mean verdict on each question over the shifts of its choices, which ``shifts`` answer:
    as many as it has choices, each of which stood first once."""
    judged = [rows_of(questions, predictions) for predictions in shifts]
    found: list[dict[str, float | None]] = []
    for place, question in enumerate(questions.questions):
        own = [rows[place] for rows in judged[: len(question.choices)]]
        values = {scorer: [row[scorer] for row in own] for scorer in SCORERS}
        found.append(
            {
                scorer: None if None in each else sum(each) / len(each)
                for scorer, each in values.items()
            }
        )
    return found


def scores_of(questions: QuestionSet, judged: Verdicts) -> Scores:
    """Accuracy by scorer and group: {mean, low, high, n, right}, null where no question counts.

    The questions are the prompts of :mod:`adrpo.evaluation.intervals`, of one seed; their stratum
    is the task. Accuracies are shares, 0 to 1.
    """
    strata, groups = questions.strata, groups_of(questions)

    def accuracy(scorer: str, places: list[int]) -> dict[str, Any]:
        counted = [place for place in places if judged[place][scorer] is not None]
        values = [float(judged[place][scorer] or 0) for place in counted]
        told = told_of(
            mean_over_seeds(np.array([values]), [strata[place] for place in counted])
            if counted
            else None
        )
        return {**told, "n": len(counted), "right": number(sum(values))}

    return {
        scorer: {
            grouping: {name: accuracy(scorer, places) for name, places in named.items()}
            for grouping, named in groups.items()
        }
        for scorer in SCORERS
    }


def told_of(estimate: Estimate | None) -> dict[str, float | None]:
    """Mean and ends of the interval as JSON has them; nulls without an estimate."""
    names = ("mean", "low", "high")
    return {name: number(getattr(estimate, name)) if estimate else None for name in names}
