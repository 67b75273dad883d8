"""Best of n: what selection alone gives, without any training.

Of n samples of the base that of highest reward is kept: the frontier to beat, beside which the
rewards of trained models stand (Gao et al., arXiv 2210.10760). Its divergence from the base is
known, KL = log n - (n - 1) / n nats for a reward without ties (an upper bound with them; Beirami et
al., arXiv 2401.01879), and it costs n times the sampling. One of the same n by chance is the
control: it draws as much and selects nothing, so that it differs from the base by noise alone.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.evaluation.evaluator import Evaluator
from adrpo.evaluation.intervals import Array, Estimate, complete_prompts, mean_over_seeds
from adrpo.evaluation.pareto import best_of_n_kl, selection_kl
from adrpo.evaluation.sweeps import Sweep, read_fact, read_sweeps, write_sweeps
from adrpo.evaluation.values import Values
from adrpo.runs.seeding import generator

Drawn = TypeVar("Drawn")

FILE = "best-of-n.json"
"""The file in which a comparison keeps its best of n."""

SETTING = "n"

BY_CHANCE = "by_chance"
"""The key of the file under which the samples that chance chose have tables of their own."""

SELECTED_BY = "selected_by"
"""The key of the file under which the terms of the reward stand that selected."""

KL = "kl"
"""The metric of a sample's KL to the base, in whose place that of the selection comes."""


SEED = 0
"""Seed of what chance chooses."""


@dataclass(frozen=True)
class BestOfN:
    """Metrics of the samples that a reward selects from n of the base."""

    n: list[int]
    kl: list[float]
    """KL to the base in nats: as measured, ties counted, or else log n - (n - 1)/n."""
    metrics: dict[str, list[Estimate]]
    """Metric -> mean and 95 % interval for each n."""


@dataclass(frozen=True)
class Selections:
    """Metrics of the chosen one of n samples in every place, for each n."""

    by_reward: Sweep
    """n -> metrics of the sample of highest reward."""
    by_chance: Sweep
    """n -> metrics of a sample that is any of the n with the same probability."""


def best_of_n(evaluator: Evaluator[Drawn], sizes: Sequence[int]) -> Selections:
    """The metrics of one of n samples in every place, the best and any, for each n of ``sizes``.

    Sample k of prompt p at n = 1 is that of the evaluation itself; a greater n adds samples and
    never takes one away, so the kept rewards rise with n. Unscored samples lose against any other;
    where all of n have none nothing is chosen: the place has no value, and a warning counts such.
    Ties keep the earlier sample; where a sample's KL is a metric, "kl" [prompts, 1] is that of the
    selection, in which they are counted (:func:`~adrpo.evaluation.pareto.selection_kl`), since a
    small language model says the same thing often.

    Chance chooses from the same samples, by random numbers of its own: the (m + 1)-th sample takes
    the place of the one that was kept with probability 1 / (m + 1), so that each of n is kept with
    1 / n. Its "kl" is the evaluation's.
    """
    drawing = evaluator.drawing
    kept = any_ = drawing.draw()
    rewards = [_comparable(evaluator.score(kept).total)]
    best = rewards[0]
    numbers = generator(SEED, "best of n", "by chance")
    found = Selections({}, {})
    unscored: dict[int, int] = {}
    for n in sorted(sizes):
        while len(rewards) < n:
            others = drawing.draw(len(rewards))
            rewards.append(_comparable(evaluator.score(others).total))
            theirs = rewards[-1] > best
            kept = drawing.choose(theirs, kept, others)
            best = torch.maximum(best, rewards[-1])
            chosen = torch.rand(len(best), generator=numbers) < 1 / len(rewards)
            any_ = drawing.choose(chosen.to(best.device), any_, others)
        chosen_none = ~best.isfinite().view(len(drawing.share), -1).cpu().numpy()
        found.by_reward[n] = _without(evaluator.values(kept), chosen_none)
        unscored[n] = int(chosen_none.sum())
        found.by_chance[n] = evaluator.values(any_)
    of_prompts = torch.stack(rewards).view(len(rewards), len(drawing.share), -1).transpose(0, 1)
    for n, values in found.by_reward.items():
        if KL in values:
            pool = of_prompts.flatten(1).double().numpy()
            values[KL] = selection_kl(pool, int(n))[:, None]
            # Of draws that all lost it would be 0.
            values[KL][~np.isfinite(pool).any(axis=1)] = np.nan
    _tell(unscored, len(best))
    return found


def _without(values: Values, chosen_none: NDArray[np.bool_]) -> Values:
    """``values`` [prompts, K], or [prompts] of a group, with NaN where ``chosen_none`` [prompts, K]
    is true, or is for one of the group."""
    return {
        name: np.where(chosen_none if own.ndim == 2 else chosen_none.any(axis=1), np.nan, own)
        for name, own in values.items()
    }


def _tell(unscored: Mapping[int, int], places: int) -> None:
    if any(unscored.values()):
        counts = ", ".join(f"{count} at n = {n}" for n, count in unscored.items() if count)
        warnings.warn(
            f"best of n: of {places} places, some had no sample with a score, from which none is "
            f"chosen ({counts}); their prompts are left out",
            AdrpoWarning,
            stacklevel=3,
        )


def missing_sizes(path: Path, sizes: Sequence[int]) -> list[int]:
    """The ``sizes`` that the file ``path`` lacks, by the reward or by chance."""
    known = read_selections(path)
    return sorted(set(sizes) - (known.by_reward.keys() & known.by_chance.keys()))


def check_selected_by(path: Path, reward: Sequence[Any]) -> None:
    """Raise AdrpoError where the samples in the file ``path`` were selected by other terms of a
    reward than ``reward``; files of earlier versions do not say."""
    written = read_fact(path, SETTING, SELECTED_BY)
    if written is not None and written != {"reward": list(reward)}:
        names = [term["name"] for term in written["reward"]]
        raise AdrpoError(
            f"{path}: expected the best of n by the reference's reward "
            f"({', '.join(term['name'] for term in reward)}); received one by another "
            f"({', '.join(names)}, or other options); name that --reference, or remove the file to "
            f"measure again"
        )


def complete_best_of_n(
    path: Path, evaluator: Evaluator[Any], sizes: Sequence[int], reward: Sequence[Any]
) -> None:
    """Measure what the file ``path`` lacks of ``sizes`` on ``evaluator``'s model, and add it; what
    the file has stays as it is. ``reward`` are the settings of the terms that select.

    Raises AdrpoError as :func:`check_selected_by` does.
    """
    check_selected_by(path, reward)
    known = read_selections(path)
    found = best_of_n(evaluator, missing_sizes(path, sizes))
    chance = {BY_CHANCE: found.by_chance | known.by_chance}
    facts = {SELECTED_BY: {"reward": list(reward)}}
    write_sweeps(path, SETTING, found.by_reward | known.by_reward, facts=facts, **chance)


def read_selections(path: Path) -> Selections:
    """Every value that ``path`` holds; none where there is no file, and none by chance where it was
    not measured.

    Raises AdrpoError where the file holds something else.
    """
    return Selections(*read_sweeps(path, SETTING, BY_CHANCE))


def read_best_of_n(folder: Path, categories: Sequence[str]) -> BestOfN | None:
    """The best of n that lies in a comparison's folder, whose prompts are of ``categories``; None
    where there is none.

    "kl", where there is one, is the selection's. A prompt without a value (null) leaves that
    metric; a metric without any prompt at some n is left out.
    """
    found = read_selections(folder / FILE).by_reward
    if not found:
        return None
    counts = [int(n) for n in found]
    names = [name for name in found[counts[0]] if all(name in of for of in found.values())]
    intervals = {name: [_interval(found[n][name], categories) for n in counts] for name in names}
    # A metric that no prompt has at some n has no line: diversity of right images, without any.
    metrics = {
        name: [interval for interval in row if interval is not None]
        for name, row in intervals.items()
        if None not in row
    }
    measured = metrics.pop(KL, None)
    if measured is None:
        return BestOfN(counts, [best_of_n_kl(n) for n in counts], metrics)
    return BestOfN(counts, [interval.mean for interval in measured], metrics)


def _interval(table: Array, categories: Sequence[str]) -> Estimate | None:
    complete = complete_prompts([table[None]], categories)
    return None if complete is None else mean_over_seeds(complete[0][0], complete[1])


def _comparable(rewards: torch.Tensor) -> torch.Tensor:
    return torch.where(rewards.isfinite(), rewards, -torch.inf)
