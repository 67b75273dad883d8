"""Best of n: what selection alone gives, without any training.

Of n samples of the base that of highest reward is kept: the frontier to beat, beside which the
rewards of trained models stand (Gao et al., arXiv 2210.10760). Its divergence from the base is
known, KL = log n - (n - 1) / n nats for a reward without ties (an upper bound with them; Beirami et
al., arXiv 2401.01879), and it costs n times the sampling.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from adrpo.errors import AdrpoError
from adrpo.evaluation.evaluator import Evaluator
from adrpo.evaluation.pareto import best_of_n_kl, selection_kl
from adrpo.evaluation.statistics import Interval, bootstrap_mean
from adrpo.evaluation.values import Values, plain
from adrpo.runs.durable import write_durably

Drawn = TypeVar("Drawn")

FILE = "best-of-n.json"
"""The file in which a comparison keeps its best of n."""

KL = "kl"
"""The metric of a sample's KL to the base, in whose place that of the selection comes."""

SEED = 0


@dataclass(frozen=True)
class BestOfN:
    """Metrics of the samples that a reward selects from n of the base."""

    n: list[int]
    kl: list[float]
    """KL to the base in nats: as measured, ties counted, or else log n - (n - 1)/n."""
    metrics: dict[str, list[Interval]]
    """Metric -> mean and 95 % interval for each n."""


def best_of_n(evaluator: Evaluator[Drawn], sizes: Sequence[int]) -> list[tuple[int, Values]]:
    """The metrics of the best of n samples in every place, for each n of ``sizes``, increasing.

    Sample k of prompt p at n = 1 is that of the evaluation itself; a greater n adds samples and
    never takes one away, so the kept rewards rise with n. Unscored samples lose against any other.
    Ties keep the earlier sample; where a sample's KL is a metric, "kl" [prompts, 1] is that of the
    selection, in which they are counted (:func:`~adrpo.evaluation.pareto.selection_kl`), since a
    small language model says the same thing often.
    """
    drawing = evaluator.drawing
    kept = drawing.draw()
    rewards = [_comparable(evaluator.score(kept).total)]
    best = rewards[0]
    found: list[tuple[int, Values]] = []
    for n in sorted(sizes):
        while len(rewards) < n:
            others = drawing.draw(len(rewards))
            rewards.append(_comparable(evaluator.score(others).total))
            theirs = rewards[-1] > best
            kept = drawing.choose(theirs, kept, others)
            best = torch.maximum(best, rewards[-1])
        found.append((n, evaluator.values(kept)))
    of_prompts = torch.stack(rewards).view(len(rewards), len(drawing.share), -1).transpose(0, 1)
    for n, values in found:
        if KL in values:
            values[KL] = selection_kl(of_prompts.flatten(1).double().numpy(), n)[:, None]
    return found


def write_best_of_n(path: Path, evaluator: Evaluator[Any], sizes: Sequence[int]) -> None:
    """Measure the best of n of ``evaluator``'s model, and write ``path``: "n" and, for each metric,
    one table [prompts][samples] for each n, as JSON."""
    found = best_of_n(evaluator, sizes)
    tables: dict[str, Any] = {"n": [n for n, _ in found]}
    for name in found[0][1]:
        tables[name] = [plain(values[name]) for _, values in found]
    write_durably(path, (json.dumps(tables) + "\n").encode())


def read_best_of_n(folder: Path) -> BestOfN | None:
    """The best of n that lies in a comparison's folder; None where there is none.

    The file maps "n" to a list, and each metric to one table [prompts][selected samples] for each
    n; "kl", where there is one, is the selection's. A prompt without a value (null) leaves that
    metric; a metric without any prompt is left out.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        counts = [int(n) for n in found["n"]]
        intervals = {
            name: [_interval(table) for table in tables]
            for name, tables in found.items()
            if name != "n" and isinstance(tables, list) and len(tables) == len(counts)
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdrpoError(
            f"{path}: expected 'n' and, for each metric, a table [prompts][samples] for each n; "
            f"received {type(error).__name__}: {error}; remove the file to compare without it"
        ) from None
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


def _interval(table: list[list[float | None]]) -> Interval | None:
    values = np.asarray(table, dtype=np.float64)
    values = values.reshape(len(values), -1)
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        return None
    return bootstrap_mean(values, [""] * len(values), seed=SEED)


def _comparable(rewards: torch.Tensor) -> torch.Tensor:
    return torch.where(rewards.isfinite(), rewards, -torch.inf)
