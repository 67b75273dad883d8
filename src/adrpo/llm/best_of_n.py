"""Best of n: what selection alone gives, without any training.

Of n completions of the base that of highest reward is kept: the frontier of Gao et al. (arXiv
2210.10760), beside which the rewards of trained policies stand over sqrt(KL). It costs n times the
sampling.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adrpo.config import LanguageConfig
from adrpo.evaluation.pareto import selection_kl
from adrpo.evaluation.values import Values, plain
from adrpo.llm.evaluator import LanguageEvaluator
from adrpo.llm.run import LanguageRun
from adrpo.runs.durable import write_durably


def best_of_n(evaluator: LanguageEvaluator, sizes: Sequence[int]) -> list[tuple[int, Values]]:
    """For each n of ``sizes`` (increasing), the metrics of the best of n completions in every
    place, and "kl" [prompts, 1], the selection's KL to the base in nats.

    Completion k of prompt p at n = 1 is that of the evaluation itself; a greater n adds completions
    and never takes one away, so the kept rewards rise with n. Unscored completions lose against
    any other. Ties keep the earlier completion; they are counted in the KL
    (:func:`~adrpo.evaluation.pareto.selection_kl`), since a small model says the same thing often.
    """
    draws = [evaluator.values(evaluator.generate(draw)) for draw in range(max(sizes))]
    rewards = np.stack([values["reward"] for values in draws])
    rewards = np.where(np.isfinite(rewards), rewards, -np.inf)
    of_prompts = rewards.transpose(1, 0, 2).reshape(rewards.shape[1], -1)
    found: list[tuple[int, Values]] = []
    for n in sorted(sizes):
        best = rewards[:n].argmax(axis=0)[None]
        kept = {
            name: np.take_along_axis(np.stack([values[name] for values in draws[:n]]), best, 0)[0]
            for name in draws[0]
        }
        kept["kl"] = selection_kl(of_prompts, n)[:, None]
        found.append((n, kept))
    return found


def write_best_of_n(path: Path, config: LanguageConfig, sizes: Sequence[int]) -> None:
    """Measure the base of ``config`` under its own reward and evaluation, and write ``path``:
    "n" and, for each metric, one table [prompts][completions] for each n, as JSON.

    A file that is there stays as it is.
    """
    if path.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        found = best_of_n(LanguageRun(config).base_evaluator(Path(folder)), sizes)
    tables: dict[str, Any] = {"n": [n for n, _ in found]}
    for name in found[0][1]:
        tables[name] = [plain(values[name]) for _, values in found]
    write_durably(path, (json.dumps(tables) + "\n").encode())
