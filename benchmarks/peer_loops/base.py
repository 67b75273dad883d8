"""The part that the published loops have in common: draw batch by batch, judge, learn."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from adrpo.data.base import Prompt, columns_of
from adrpo.flow.path.convention import (
    interpolate,
    target_velocity,
    timestep_from_time,
    velocity_from_diffusers,
)
from adrpo.flow.path.path_samples import PathSamples
from adrpo.flow.path.sde import gaussian_log_prob, step_distribution
from adrpo.flow.training.online import OnlineLoop
from adrpo.flow.training.optimizers import build_optimizer, build_schedule
from adrpo.flow.training.update import NOTHING
from adrpo.rewards.scoring import score
from adrpo.runs.seeding import generator

WORKERS = 8
"""Threads of the peers' pool for rewards."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Samples of a step, one row each: x_1 [rows, *shape], the text's ``embeds`` and ``pooled``,
    ``group`` [rows], and of a stochastic sampler the states before and after its noisy steps,
    ``x`` and ``x_next`` [rows, noisy, *shape], and their ``log_prob`` [rows, noisy]."""

    x_1: Tensor
    embeds: Tensor
    pooled: Tensor
    group: Tensor
    x: Tensor = NOTHING
    x_next: Tensor = NOTHING
    log_prob: Tensor = NOTHING

    def __len__(self) -> int:
        return len(self.x_1)

    def select(self, rows: Tensor) -> "Drawn":
        """The samples ``rows`` (integers)."""
        return self._each(lambda values: values[rows])

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Drawn":
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return Drawn(**{k: change(v) if len(v) else v for k, v in found.items()})

    @staticmethod
    def joined(parts: Sequence["Drawn"]) -> "Drawn":
        """The samples of all ``parts``, in their order."""
        names = [f.name for f in fields(Drawn)]
        return Drawn(**{name: torch.cat([getattr(p, name) for p in parts]) for name in names})


@dataclass(kw_only=True)
class Trajectory:
    """States of a run of the sampler: of its noisy steps, and the last."""

    x_1: Tensor = NOTHING
    x: list[Tensor] = field(default_factory=list)
    x_next: list[Tensor] = field(default_factory=list)
    log_prob: list[Tensor] = field(default_factory=list)

    def states(self) -> dict[str, Tensor]:
        """The fields of :class:`Drawn` that tell of the noisy steps."""
        kept = {name: getattr(self, name) for name in ("x", "x_next", "log_prob")}
        return {k: torch.stack(v, dim=1) if v else NOTHING for k, v in kept.items()}


class PeerLoop(ABC):
    """A published training loop on the model, prompts, noises and reward of one of our trainers.

    Only the data, the loss and the constants of ``trainer``'s recipe are ours: the transformer of
    its pipeline is called as diffusers calls it, and the adapter on it is trained by this loop in
    ``trainer``'s place. A subclass says how it draws and how it learns.
    """

    encodes: ClassVar[bool] = True
    """True where prompts are encoded batch by batch, a row for each image."""

    asynchronous: ClassVar[bool] = True
    """True where a thread scores a batch while the next one is drawn."""

    def __init__(self, trainer: OnlineLoop) -> None:
        self.trainer = trainer
        self.config = trainer.config
        self.settings: Any = trainer.config.algorithm
        self.pipeline = trainer.policy.pipeline
        self.transformer = self.pipeline.transformer
        self.parameters = trainer.policy.adapter_parameters()
        self.optimizer = build_optimizer(self.parameters, trainer.config.training)
        self.schedule = build_schedule(self.optimizer, trainer.config.training)
        self.steps = trainer.config.sampling.steps
        self.times = trainer.policy.time_grid(self.steps)
        self.executor = ThreadPoolExecutor(max_workers=WORKERS)
        self.updates = 0
        self.kept = 0
        """Samples of the last step that were trained on."""

    @abstractmethod
    def draw(
        self, velocity: Callable[..., Tensor], x_0: Tensor, step: int, index: int
    ) -> Trajectory:
        """The rollout of the ``index``-th batch of a step from ``x_0``."""

    @abstractmethod
    def learn(self, step: int, drawn: Drawn, rewards: Tensor) -> None:
        """All updates of a step, and what follows them."""

    def sampling_policy(self) -> AbstractContextManager[None]:
        """Inside, the policy is the one that draws; the trained one unless a subclass says."""
        return nullcontext()

    @property
    def batch(self) -> int:
        """Rows of a sampling batch, and of a batch that is learnt from."""
        return self.config.training.micro_batch_size

    def step(self, step: int) -> dict[str, Any]:
        """One epoch of the peer: draw, judge, learn."""
        drawn, rewards = self.collect(step)
        self.transformer.train()
        self.learn(step, drawn, rewards)
        self.schedule.step()
        return {"reward_mean": float(rewards.mean())}

    def collect(self, step: int) -> tuple[Drawn, Tensor]:
        """The samples of a step and their rewards [batch], on the prompts and noises of
        ``trainer``'s step."""
        prompt_index, group = self.trainer.chosen_prompts(step)
        x_0 = self.trainer.rollout_noise(step)
        self.transformer.eval()
        parts: list[Drawn] = []
        waiting: list[Callable[[], Tensor]] = []
        for index, rows in enumerate(torch.arange(len(x_0)).split(self.batch)):
            prompts = [self.trainer.prompts[place] for place in prompt_index[rows].tolist()]
            embeds, pooled = self.embeddings(prompts, prompt_index[rows])
            with torch.no_grad(), self.sampling_policy():
                run = self.draw(self.at(embeds, pooled), x_0[rows], step, index)
            images = self.trainer.policy.decode(run.x_1)
            waiting.append(self.judged(prompts, images))
            text = {"embeds": embeds, "pooled": pooled}
            parts.append(Drawn(x_1=run.x_1, group=group[rows], **text, **run.states()))
        return Drawn.joined(parts), torch.cat([result() for result in waiting])

    def embeddings(self, prompts: Sequence[Prompt], index: Tensor) -> tuple[Tensor, Tensor]:
        """The text of a batch as the transformer reads it, a row for each image."""
        if not self.encodes:
            known = self.trainer.prompts.conditioning.select(index)
            return known.context, known.pooled
        with torch.no_grad():
            embeds, _, pooled, _ = self.pipeline.encode_prompt(
                prompt=[prompt.text for prompt in prompts],
                prompt_2=None,
                prompt_3=None,
                do_classifier_free_guidance=False,
                max_sequence_length=self.trainer.policy.max_sequence_length,
                device=self.trainer.device,
            )
        return embeds, pooled

    def judged(
        self, prompts: Sequence[Prompt], images: list[Image.Image | None]
    ) -> Callable[[], Tensor]:
        """A call that gives the rewards of a batch."""

        def judge() -> Tensor:
            return score(self.trainer.reward, images=images, **columns_of(prompts)).total

        if not self.asynchronous:
            return judge
        future: Future[Tensor] = self.executor.submit(judge)
        return future.result

    def at(self, embeds: Tensor, pooled: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """v(x, t) of rows with this text, by the transformer as it is now."""
        steps = self.pipeline.scheduler.config.num_train_timesteps

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            output = self.transformer(
                hidden_states=x,
                timestep=timestep_from_time(t, num_train_timesteps=steps),
                encoder_hidden_states=embeds,
                pooled_projections=pooled,
                return_dict=False,
            )[0]
            return velocity_from_diffusers(output)

        return velocity

    def noise(self, like: Tensor, step: int, *names: str | int) -> Tensor:
        """N(0, 1) draws shaped like ``like``, of a stream of this step."""
        draws = generator(self.config.training.seed, "peer", step, *names)
        return torch.randn(like.shape, generator=draws)

    def update(self) -> None:
        """Clip the gradient and make the optimizer's step."""
        limit = self.config.training.max_grad_norm
        torch.nn.utils.clip_grad_norm_(self.parameters, limit)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.updates += 1


def run_sampler(
    velocity: Callable[[Tensor, Tensor], Tensor],
    x_0: Tensor,
    times: Tensor,
    *,
    noisy: Collection[int],
    noise_level: float,
    noise: Callable[[int], Tensor],
) -> Trajectory:
    """Run the sampler from ``x_0`` along ``times``: Gaussian steps of the SDE at the places
    ``noisy``, whose states and log-probabilities are kept, and Euler's at the others.

    ``noise`` gives the N(0, 1) draws of a place.
    """
    found, x = Trajectory(), x_0
    for place in range(len(times) - 1):
        t, t_next = times[place].expand(len(x)), times[place + 1].expand(len(x))
        v = velocity(x, t)
        if place not in noisy:
            x = x + (times[place + 1] - times[place]) * v
            continue
        mean, std = step_distribution(
            x, v, t, t_next, noise_level=noise_level, first=float(times[1])
        )
        after = mean + std.view(-1, *(1,) * (x.ndim - 1)) * noise(place)
        found.x.append(x)
        found.x_next.append(after)
        found.log_prob.append(gaussian_log_prob(after, mean, std))
        x = after
    found.x_1 = x
    return found


def path_point(x_1: Tensor, x_0: Tensor, t: Tensor) -> PathSamples:
    """The points x_t = (1 - t) x_0 + t x_1 of samples, ``t`` [rows]."""
    return PathSamples(t=t, x_t=interpolate(x_0, x_1, t), u_t=target_velocity(x_0, x_1))
