"""The evaluation of a model, whatever its domain: draw, score, measure, summarise, write.

What only a domain knows is its :class:`Drawing`: how samples are drawn, what they are measured by
beside rewards, and which of them are shown. Everything else is here, once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from adrpo.data.base import Prompt
from adrpo.errors import AdrpoError
from adrpo.evaluation.values import (
    Values,
    read_values,
    record_prompts,
    summarise,
    values_path,
    write_values,
)
from adrpo.metrics import EXCLUDED, TOTAL, known, names, with_role
from adrpo.rewards.base import RewardResult, RewardTerm
from adrpo.rewards.scoring import require_scores, score
from adrpo.runs.directory import Row, RunDirectory
from adrpo.runs.processes import ALONE, Processes, Share
from adrpo.runs.record import forget_evaluation, note
from adrpo.runs.seeding import preserved_generators

Drawn = TypeVar("Drawn")
Place = tuple[int, int]
"""A prompt, and which of its samples: (prompt, k)."""

TRIED = 4
"""Samples that rewards are tried on before an evaluation of the base."""

FIRST = names(with_role("judge"))[0]
"""The metric that stands before all others where a domain has it: the judge of what is right."""


class Drawing(Protocol[Drawn]):
    """Samples of a model on the prompts of one split, and what a domain says of them.

    A process draws for the prompts of its ``share``, prompt after prompt, ``samples_per_prompt``
    of each. Sample k of prompt p is drawn with the same random numbers at every evaluation of every
    run with the same ``evaluation.seed``, so that two evaluations are compared pair by pair.
    """

    split: str
    share: Share
    samples_per_prompt: int
    categories: list[str]
    """The categories of the prompts of all processes."""

    @property
    def prompts(self) -> Sequence[Prompt]:
        """The prompts of all processes."""
        ...

    def known_as(self, prompt: Prompt) -> str:
        """The :data:`~adrpo.data.identity.Key` by which prompts are the same to the model."""
        ...

    def draw(self, draw: int = 0) -> Drawn:
        """Samples of the share; ``draw`` 0 is the evaluation's, others are independent of it."""
        ...

    def trial(self, count: int) -> dict[str, list[Any]]:
        """Arguments of a reward, as of ``columns``, for the first ``count`` samples of the share
        or one of all that it has, drawn by the way and for nothing else."""
        ...

    def columns(self, drawn: Drawn) -> dict[str, list[Any]]:
        """Arguments of a reward: "prompts", the samples under the domain's name for them, and the
        columns of the prompts' source, each a list of one item per sample."""
        ...

    def measure(self, drawn: Drawn) -> Values:
        """Metrics of the domain, of each sample [prompts, K] or of a prompt's group [prompts]."""
        ...

    def choose(self, theirs: Tensor, drawn: Drawn, others: Drawn) -> Drawn:
        """``drawn`` with the samples of ``others`` where ``theirs`` [samples] is true."""
        ...

    def shown(self, drawn: Drawn) -> dict[Place, Any]:
        """The samples of the share that the report shows."""
        ...

    def show(
        self, run: RunDirectory, step: int, shown: Mapping[Place, Any], values: Values
    ) -> None:
        """Write the shown samples of all processes into ``run.samples``."""
        ...

    def listing(self) -> dict[str, Any]:
        """The part of samples/prompts.json that tells of this split."""
        ...


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The metrics of all prompts, and the samples that are shown."""

    values: Values
    shown: dict[Place, Any]


class Evaluator(Generic[Drawn]):
    """Measures a model by its ``drawing``: the reward, rewards that are only measured, the domain's
    own metrics.

    Whatever an evaluation draws, training goes on as it would without it: the global generators
    are afterwards what they were before.

    Args:
        drawing: the samples of the prompts of one split.
        reward: the terms that training is rewarded by.
        others: rewards that are only measured.
        processes: that share the prompts; what ``measure`` returns is the same on all of them.
    """

    def __init__(
        self,
        drawing: Drawing[Drawn],
        reward: Sequence[RewardTerm],
        *,
        others: Sequence[RewardTerm] = (),
        processes: Processes = ALONE,
    ) -> None:
        self.drawing = drawing
        self.reward = reward
        self.others = others
        self.processes = processes

    @property
    def split(self) -> str:
        return self.drawing.split

    def try_rewards(self) -> None:
        """Ask every reward for a few samples, before all of an evaluation are drawn.

        Raises AdrpoError where one can't be asked, or raises for all of them.
        """
        with preserved_generators():
            samples = self.drawing.trial(TRIED)
            result = score((*self.reward, *self.others), **samples)
        for name, error in result.errors.items():
            if not result.by_term[name].isfinite().any():
                raise AdrpoError(
                    f"{self._key(name)}: expected the reward {name!r} to score one of the "
                    f"{len(result.total)} samples that it is tried on before the evaluation; "
                    f"received {error}; mend the reward, or leave it out"
                )

    def measure(self, *, before_training: bool = False) -> Measured:
        """Draw from the model as it is now, and measure.

        Raises AdrpoError where a reward, trained on or only measured, raised and has a value for no
        sample at all; and ``before_training`` where the reward has none, whether or not it raised.
        """
        with preserved_generators():
            drawn = self.drawing.draw()
            own, raised = self._values(drawn)
            parts = self.processes.gather((own, raised, self.drawing.shown(drawn)))
        values = {name: np.concatenate([part[name] for part, _, _ in parts]) for name in own}
        errors = {name: error for _, own, _ in reversed(parts) for name, error in own.items()}
        if before_training:
            require_scores(values, self.reward, errors)
        self._refuse_broken(values, errors)
        shown = {place: sample for _, _, part in parts for place, sample in part.items()}
        return Measured(values=values, shown=shown)

    def evaluate(
        self, run: RunDirectory, step: int, *, before_training: bool = False, **more: Any
    ) -> Row | None:
        """Measure, write what is drawn from it, and add its row to evaluations.jsonl.

        ``step`` 0 is the base, against which the rows of later steps hold paired changes. ``more``
        are further columns. Returns the row on the main process, None on the others.
        """
        measured = self.measure(before_training=before_training)
        if not self.processes.is_main:
            return None
        forget_evaluation(run, step)
        row = self.record(run, step, measured) | more
        run.append_evaluation(row)
        note(run)
        return row

    def record(self, run: RunDirectory, step: int, measured: Measured) -> Row:
        """Write values and shown samples of an evaluation; its row of evaluations.jsonl."""
        drawing, values = self.drawing, measured.values
        drawing.show(run, step, measured.shown, values)
        record_prompts(run, drawing.listing())
        write_values(values_path(run, step, self.split), values)
        base = None if step == 0 else read_values(values_path(run, 0, self.split))
        prompts = len(drawing.categories)
        row: Row = {
            "step": step,
            "split": self.split,
            "prompts": prompts,
            "samples": prompts * drawing.samples_per_prompt,
            EXCLUDED: self._excluded(values),
        }
        return row | summarise(values, drawing.categories, base)

    def values(self, drawn: Drawn) -> Values:
        """Each metric of the share's samples, [prompts, K], or [prompts] for one of a group."""
        return self._values(drawn)[0]

    def score(self, drawn: Drawn) -> RewardResult:
        """The reward of the share's samples, prompt after prompt."""
        return score(self.reward, **self.drawing.columns(drawn))

    def _values(self, drawn: Drawn) -> tuple[Values, dict[str, str]]:
        """``values``, and the first error of each reward that raised."""
        result = score((*self.reward, *self.others), **self.drawing.columns(drawn))
        measured = self.drawing.measure(drawn)
        shape = (len(self.drawing.share), self.drawing.samples_per_prompt)
        flat = dict(result.by_term)
        if self.reward:
            flat[TOTAL] = torch.stack(
                [term.contribution(flat[term.name]) for term in self.reward]
            ).sum(0)
        values = {
            name: np.asarray(column, dtype=np.float64).reshape(shape)
            for name, column in flat.items()
        }
        values |= measured
        if FIRST in values:
            values = {FIRST: values[FIRST]} | values
        return values, result.errors

    def _excluded(self, values: Values) -> int:
        """Number of samples without a score of a reward, or whose distance from the base is no
        number."""
        scores = [values[term.name] for term in (*self.reward, *self.others)]
        scores += [values[name] for name in _distances(values)]
        return int((~np.isfinite(scores)).any(axis=0).sum()) if scores else 0

    def _key(self, name: str) -> str:
        """The key under which the reward ``name`` stands."""
        trained = any(term.name == name for term in self.reward)
        return "reward" if trained else "evaluation.rewards"

    def _refuse_broken(self, values: Values, errors: Mapping[str, str]) -> None:
        for name in errors:
            if not np.isfinite(values[name]).any():
                raise AdrpoError(
                    f"{self._key(name)}: expected {name} to score at least one of "
                    f"{values[name].size} samples; received no score, and "
                    f"{errors[name]}; mend the reward, or leave it out"
                )
        for name in _distances(values):
            if values[name].size and not np.isfinite(values[name]).any():
                raise AdrpoError(
                    f"evaluation: expected a finite {name} of at least one of {values[name].size} "
                    f"samples, received NaN or infinity; the model, or its base, has no numbers in "
                    f"model.dtype"
                )


def _distances(values: Values) -> list[str]:
    """The metrics of each sample that compare the model with its base."""
    metrics = {name: known(name) for name, own in values.items() if own.ndim == 2}
    return [name for name, metric in metrics.items() if metric is not None and metric.against_base]
