"""Trainers that learn from the points of the trajectories that they drew, in several updates."""

import torch
from torch import Tensor

from adrpo.config import FlowConfig
from adrpo.core.placement import sent
from adrpo.flow.training.online import OnlineLoop
from adrpo.rewards.base import Reward
from adrpo.runs.seeding import generator


class TrajectoryLoop(OnlineLoop):
    """An online loop whose updates evaluate the policy where the rollout did, and compare it with
    what the rollout found there."""

    def __init__(self, config: FlowConfig, *, reward: Reward | None = None) -> None:
        super().__init__(config, reward=reward)
        self.times = self.policy.time_grid(config.sampling.steps)

    def chosen_prompts(self, step: int) -> tuple[Tensor, Tensor]:
        """``prompt_index`` and ``group_ids`` [batch] of a step, as of ``OnlineLoop``; ``times`` are
        those of its size from now on."""
        self.times = self.policy.time_grid(self.config.sampling.steps, self.shape_of(step))
        return super().chosen_prompts(step)

    @property
    def rows_at_once(self) -> int:
        """Rows of each call of the network."""
        return min(self.config.training.micro_batch_size, len(self.share))

    def velocity(self, prompt: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """v of rows at (``x``, ``t``) with the prompts ``prompt`` [rows], by a call of
        ``rows_at_once`` rows.

        A kernel rounds by the shape that it is called with: in bfloat16 log r of Flow-GRPO was 7e-4
        before the first update, beyond the clip, where rollout and update had calls of other
        shapes. Where rows are missing, the last one fills their places.
        """
        rows = torch.arange(self.rows_at_once).clamp(max=len(x) - 1)
        there = sent(rows, x.device)
        v = self.policy.velocity(
            x[there],
            t[there],
            self.prompts.conditioning.select(prompt[rows]),
            guidance_scale=self.config.sampling.guidance_scale,
        )
        return v[: len(x)]

    def update_parts(self, step: int, updates: int) -> list[tuple[Tensor, int]]:
        """The parts of a batch that the ``updates`` of a step learn from: of each, which of this
        process's ``units`` belong to it, counted from its first, and how many it has in all.

        Whole units, in a random order, so that no update sees one prompt only.
        """
        units, draws = self.units, generator(self.config.training.seed, "updates", step)
        parts = torch.randperm(units.total, generator=draws).chunk(updates)
        mine = [part[(part >= units.start) & (part < units.stop)] - units.start for part in parts]
        return [(own, len(part)) for own, part in zip(mine, parts, strict=True)]

    def fresh_noise(self, count: int, step: int, stream: str) -> Tensor:
        """N(0, 1) draws [count, samples of this process, *shape] of a named stream."""
        shape = (count, self.share.total, *self.shape_of(step))
        draws = torch.randn(shape, generator=generator(self.config.training.seed, stream, step))
        return draws[:, self.share.start : self.share.stop]
