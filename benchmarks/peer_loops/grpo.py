"""The loops of Flow-GRPO: that of flow_grpo, and Flow-Factory's with a window of noisy steps."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from adrpo.core.preferences import clipped_surrogate
from adrpo.flow.methods.base import clipped_advantages
from adrpo.flow.path.sde import gaussian_kl, gaussian_log_prob, step_distribution
from adrpo.flow.training.anchors import AdapterCopy, warming_up
from adrpo.flow.training.online import OnlineLoop
from adrpo.runs.seeding import generator
from benchmarks.peer_loops.adapters import adapters_off
from benchmarks.peer_loops.base import Drawn, PeerLoop, Trajectory, run_sampler
from benchmarks.peer_loops.structures import STRUCTURES


class GrpoLoop(PeerLoop):
    """The loop that both have: batches of one size in rollout and update, an update after equal
    shares of them, and a backward for each noisy step of a batch."""

    held: ClassVar[bool]
    """True where each row is held to the base."""

    def __init__(self, trainer: OnlineLoop) -> None:
        super().__init__(trainer)
        self.average = AdapterCopy(trainer.policy)
        self.number = 0
        """Epochs that are done."""

    @property
    def batch(self) -> int:
        training = self.config.training
        images = training.prompts_per_step * training.samples_per_prompt
        own = math.ceil(images / self.settings.updates_per_step)
        return min(own, training.micro_batch_size)

    def noisy(self, step: int) -> Sequence[int]:
        """Places of the noisy steps."""
        raise NotImplementedError(type(self).__name__)

    def draw(
        self, velocity: Callable[..., Tensor], x_0: Tensor, step: int, index: int
    ) -> Trajectory:
        """A run of the SDE, noise at ``noisy``."""
        return run_sampler(
            velocity,
            x_0,
            self.times,
            noisy=self.noisy(step),
            noise_level=self.settings.noise_level,
            noise=lambda place: self.noise(x_0, step, "sde", index, place),
        )

    def point_loss(self, part: Drawn, advantages: Tensor, order: int, place: int) -> Tensor:
        """The mean loss of the ``order``-th noisy step of samples, which is the sampler's step
        ``place``."""
        x, x_next = part.x[:, order], part.x_next[:, order]
        t, t_next = (self.times[i].expand(len(part)) for i in (place, place + 1))
        grid = {"noise_level": self.settings.noise_level, "first": float(self.times[1])}
        velocity = self.at(part.embeds, part.pooled)
        mean, std = step_distribution(x, velocity(x, t), t, t_next, **grid)
        log_ratio = gaussian_log_prob(x_next, mean, std) - part.log_prob[:, order]
        loss = clipped_surrogate(log_ratio, advantages, clip_range=self.settings.clip_range)
        if self.held:
            with torch.no_grad(), adapters_off(self.transformer):
                mean_ref, _ = step_distribution(x, velocity(x, t), t, t_next, **grid)
            loss = loss + self.settings.beta_0 * gaussian_kl(mean, mean_ref, std)
        return loss.mean()

    def accumulate(self, parts: Sequence[tuple[Drawn, Tensor]], step: int) -> None:
        """The gradient of the mean loss over ``parts`` of equal size and their noisy steps, by one
        backward for each."""
        places = self.noisy(step)
        for part, advantages in parts:
            for order, place in enumerate(places):
                loss = self.point_loss(part, advantages, order, place)
                (loss / (len(parts) * len(places))).backward()

    def learn(self, step: int, drawn: Drawn, rewards: Tensor) -> None:
        advantages = clipped_advantages(rewards, drawn.group, self.settings, None).advantages
        rows = self.trained_rows(step, advantages)
        self.kept = len(rows)
        if not len(rows):
            return
        drawn, advantages = drawn.select(rows), advantages[rows]
        batches = [
            (drawn.select(part), advantages[part])
            for part in torch.arange(len(rows)).chunk(self.batches)
        ]
        each = math.ceil(len(batches) / self.settings.updates_per_step)
        for first in range(0, len(batches), each):
            self.accumulate(batches[first : first + each], step)
            self.update()
            self.after_update()
        self.number += 1
        self.after_epoch()

    @property
    def batches(self) -> int:
        """Batches of a step."""
        training = self.config.training
        return math.ceil(training.prompts_per_step * training.samples_per_prompt / self.batch)

    def trained_rows(self, step: int, advantages: Tensor) -> Tensor:
        """The samples that are trained on, in the order of the updates."""
        return torch.randperm(len(advantages), generator=self.order(step))

    def order(self, step: int) -> torch.Generator:
        """The generator of a step's order."""
        return generator(self.config.training.seed, "peer", step, "order")

    def after_update(self) -> None:
        """Called after each update."""

    def after_epoch(self) -> None:
        """Called after all updates of an epoch."""


class FlowGrpo(GrpoLoop):
    """flow_grpo: noise at every step but the last, the base beside every row, samples of
    advantage 0 left out, an average every 8th update."""

    held = True

    def noisy(self, step: int) -> Sequence[int]:
        return range(STRUCTURES["flow_grpo"].points(self.steps))

    def trained_rows(self, step: int, advantages: Tensor) -> Tensor:
        """The samples whose advantage is not 0, and as many others as make equal batches."""
        draws = self.order(step)
        taken = advantages != 0
        others = (~taken).nonzero().flatten()
        missing = -int(taken.sum()) % self.batches
        chosen = others[torch.randperm(len(others), generator=draws)[:missing]]
        taken[chosen] = True
        rows = taken.nonzero().flatten()
        return rows[torch.randperm(len(rows), generator=draws)]

    def after_update(self) -> None:
        if (self.updates + 1) % 8 == 0:
            self.average.follow(warming_up(0.9)(self.updates))


class FlowFactoryGrpo(GrpoLoop):
    """Flow-Factory's GRPO: two noisy steps of the sampler's steps 1 to 5, no reference, known
    embeddings, rewards after all are drawn, an average every 4th epoch."""

    held = False
    encodes = False
    asynchronous = False
    WINDOW = (1, 2, 3, 4, 5)

    def noisy(self, step: int) -> Sequence[int]:
        draws = generator(self.config.training.seed, "peer", step, "window")
        order = torch.randperm(len(self.WINDOW), generator=draws).tolist()
        number = STRUCTURES["flow_factory_grpo"].points(self.steps)
        return sorted(self.WINDOW[place] for place in order[:number])

    def after_epoch(self) -> None:
        if self.number % 4 == 0:
            self.average.follow(warming_up(0.99)(self.number - 1))
