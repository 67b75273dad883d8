"""Best of n: what selection alone gives, without any training.

Of n images of the base that of highest reward is kept. It is the frontier to beat: its divergence
from the base is known exactly, KL = log n - (n - 1) / n nats for a reward without ties (an upper
bound with them; Beirami et al., arXiv 2401.01879), and it costs n times the sampling.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from adrpo.config import FlowConfig
from adrpo.data.prompts import load_prompts
from adrpo.evaluation.values import Values, plain
from adrpo.flow.evaluator import Evaluator
from adrpo.flow.models.loading import load_policy
from adrpo.rewards.loading import build_measured, build_reward
from adrpo.runs.durable import write_durably


def best_of_n(evaluator: Evaluator, sizes: Sequence[int]) -> Iterator[tuple[int, Values]]:
    """For each n of ``sizes`` (increasing), the metrics of the best of n images in every place.

    Image k of prompt p at n = 1 is that of the evaluation itself; a greater n adds images of fresh
    noises and never takes one away, so the kept rewards rise with n. Unscored images lose against
    any other. Ties keep the earlier image.
    """
    images, x_1 = evaluator.generate()
    rewards = _comparable(evaluator.score(images).total)
    drawn = 1
    for n in sorted(sizes):
        while drawn < n:
            others, other_x_1 = evaluator.generate(draw=drawn)
            other_rewards = _comparable(evaluator.score(others).total)
            better = other_rewards > rewards
            images = [
                theirs if wins else ours
                for ours, theirs, wins in zip(images, others, better.tolist(), strict=True)
            ]
            chosen = better.to(x_1.device).reshape(-1, *(1,) * (x_1.ndim - 1))
            x_1 = torch.where(chosen, other_x_1, x_1)
            rewards = torch.maximum(rewards, other_rewards)
            drawn += 1
        yield n, evaluator.values(images, x_1)


def write_best_of_n(path: Path, config: FlowConfig, sizes: Sequence[int]) -> None:
    """Measure the base of ``config`` under its own reward and evaluation, and write ``path``:
    "n" and, for each metric, one table [prompts][images] for each n, as JSON.

    A file that is there stays as it is.
    """
    if path.exists():
        return
    prompts = load_prompts(
        config.prompts.held_out, size=config.prompts.held_out_size, seed=config.evaluation.seed
    )
    policy = load_policy(config.model, prompt_sets=[[prompt.text for prompt in prompts]])
    reward = build_reward(config.reward, policy.device)
    others = build_measured(config.evaluation.rewards, policy.device)
    evaluator = Evaluator(config.evaluation, policy, reward, prompts, others=others)
    found = list(best_of_n(evaluator, sizes))
    tables: dict[str, Any] = {"n": [n for n, _ in found]}
    for name in found[0][1]:
        tables[name] = [plain(values[name]) for _, values in found]
    write_durably(path, (json.dumps(tables) + "\n").encode())


def _comparable(rewards: torch.Tensor) -> torch.Tensor:
    return torch.where(rewards.isfinite(), rewards, -torch.inf)
