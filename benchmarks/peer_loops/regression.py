"""The loops of DiffusionNFT and AWM, each as its authors' code has it and as Flow-Factory has."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from adrpo.core import velocity_divergence
from adrpo.core.preferences import clipped_surrogate
from adrpo.flow.methods import Method, Weights, build_method
from adrpo.flow.path.path_samples import PathSamples
from adrpo.flow.path.samplers import SOLVERS
from adrpo.flow.training.anchors import AdapterCopy, warming_up
from adrpo.flow.training.online import OnlineLoop
from adrpo.flow.training.update import NOTHING
from adrpo.runs.seeding import generator
from benchmarks.peer_loops.adapters import SecondAdapter, adapters_off
from benchmarks.peer_loops.base import Drawn, PeerLoop, Trajectory, path_point
from benchmarks.peer_loops.structures import STRUCTURES


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of each of some samples, as a method's loss reads it
    (:class:`~adrpo.flow.methods.Rows`)."""

    path: PathSamples
    weights: Weights
    v_old: Tensor = NOTHING
    of_group: Tensor = NOTHING


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Samples that are learnt from together, their weights, and the points of a micro-batch:
    ``times`` and ``noises``, one item for each point."""

    drawn: Drawn
    weights: Weights
    times: Sequence[Tensor]
    noises: Sequence[Tensor]

    def point(self, order: int) -> PathSamples:
        """The ``order``-th point of each sample."""
        return path_point(self.drawn.x_1, self.noises[order], self.times[order])


class RegressionLoop(PeerLoop):
    """The loop that all four have: micro-batches in a random order, points of the sampler's own
    times, one update at the end."""

    name: str
    solver = "euler"

    def __init__(self, trainer: OnlineLoop) -> None:
        super().__init__(trainer)
        self.method: Method = build_method(self.settings)
        self.number = STRUCTURES[self.name].points(self.steps)
        """Points of each sample that are trained on."""

    @property
    def learnt_batch(self) -> int:
        """Samples of a micro-batch."""
        return self.batch

    def draw(
        self, velocity: Callable[..., Tensor], x_0: Tensor, step: int, index: int
    ) -> Trajectory:
        """Clean samples by the solver."""
        return Trajectory(x_1=SOLVERS[self.solver](velocity, x_0, self.times))

    @abstractmethod
    def places(self, samples: int, draws: torch.Generator) -> Tensor:
        """Places in the sampler's times of the points of a micro-batch, [points, samples]."""

    @abstractmethod
    def accumulate(self, part: MicroBatch, share: float) -> None:
        """Backpropagate the mean loss of a micro-batch times ``share``."""

    def micro_batches(self, step: int, drawn: Drawn, rewards: Tensor) -> list[MicroBatch]:
        """The micro-batches of a step."""
        weights = self.method.weigh(rewards, drawn.group)
        draws = generator(self.config.training.seed, "peer", step, "order")
        found = []
        order = torch.randperm(len(drawn), generator=draws)
        for index, rows in enumerate(order.split(self.learnt_batch)):
            own = drawn.select(rows)
            places = self.places(len(rows), draws)
            noises = [self.noise(own.x_1, step, index, point) for point in range(self.number)]
            found.append(
                MicroBatch(
                    drawn=own,
                    weights=weights.select(rows),
                    times=list(self.times[places]),
                    noises=noises,
                )
            )
        return found

    def learn(self, step: int, drawn: Drawn, rewards: Tensor) -> None:
        self.kept = len(drawn)
        for part in self.micro_batches(step, drawn, rewards):
            self.accumulate(part, len(part.drawn) / len(drawn))
        self.update()
        self.follow()

    @abstractmethod
    def follow(self) -> None:
        """The averages follow the policy after the step's update."""

    def base_velocity(self, velocity: Callable[..., Tensor], path: PathSamples) -> Tensor:
        """v of the reference, for every row."""
        with torch.no_grad(), adapters_off(self.transformer):
            return velocity(path.x_t, path.t)


class DiffusionNft(RegressionLoop):
    """DiffusionNFT's own: the adapter 'old' draws by a two-step DPM solver; at each of 9 of 10
    times, permuted for each sample, three forwards (old, trained, base) and a backward."""

    name = "diffusion_nft"
    solver = "dpmpp_2m"

    def __init__(self, trainer: OnlineLoop) -> None:
        super().__init__(trainer)
        self.old = SecondAdapter(self.transformer, "old")
        self.average = AdapterCopy(trainer.policy)

    def sampling_policy(self) -> AbstractContextManager[None]:
        return self.old.active()

    def places(self, samples: int, draws: torch.Generator) -> Tensor:
        orders = [torch.randperm(self.steps, generator=draws) for _ in range(samples)]
        return torch.stack(orders, dim=1)[: self.number]

    def accumulate(self, part: MicroBatch, share: float) -> None:
        velocity = self.at(part.drawn.embeds, part.drawn.pooled)
        for order in range(self.number):
            path = part.point(order)
            with self.old.active(), torch.no_grad():
                v_old = velocity(path.x_t, path.t)
            v = velocity(path.x_t, path.t)
            v_ref = self.base_velocity(velocity, path)
            point = Point(path=path, weights=part.weights, v_old=v_old)
            loss = self.method.loss(v, v_ref, point).mean()
            (share * loss / self.number).backward()

    def follow(self) -> None:
        self.average.follow(warming_up(0.9)(self.updates))
        self.old.follow(min(0.001 * self.updates, 0.5))


class FlowFactoryNft(RegressionLoop):
    """Flow-Factory's DiffusionNFT: an average draws and is v_old, computed for all 4 points of a
    micro-batch before its first backward; no reference, known embeddings."""

    name = "flow_factory_nft"
    encodes = False
    asynchronous = False

    def __init__(self, trainer: OnlineLoop) -> None:
        super().__init__(trainer)
        self.average = AdapterCopy(trainer.policy)

    def sampling_policy(self) -> AbstractContextManager[None]:
        return self.average.active()

    def places(self, samples: int, draws: torch.Generator) -> Tensor:
        noisier = [place for place in range(self.steps) if float(self.times[place]) <= 0.5]
        return strata(noisier[0], noisier[-1], self.number, samples, draws)

    def accumulate(self, part: MicroBatch, share: float) -> None:
        velocity = self.at(part.drawn.embeds, part.drawn.pooled)
        paths = [part.point(order) for order in range(self.number)]
        with torch.no_grad(), self.average.active():
            known = [velocity(path.x_t, path.t) for path in paths]
        self.transformer.train()
        for path, v_old in zip(paths, known, strict=True):
            v = velocity(path.x_t, path.t)
            weights = part.weights
            # Without its reference: kl_beta 0, whatever our recipe has.
            free = Weights(**vars(weights) | {"beta": torch.zeros_like(weights.beta)})
            loss = self.method.loss(v, v, Point(path=path, weights=free, v_old=v_old)).mean()
            (share * loss / self.number).backward()

    def follow(self) -> None:
        self.average.follow(min(0.001 * (self.updates - 1), 0.5))


class AwmLoop(RegressionLoop):
    """The loss of both AWM loops, per row:

    -min(r A, clip(r, 0, 2) A) + beta |v - v_ref|^2 + ema_beta |v - v_ema|^2

    with log r = |v_old - u_t|^2 - |v - u_t|^2, which is 0 on policy.
    """

    beta: float
    ema_beta = 1.0

    def places(self, samples: int, draws: torch.Generator) -> Tensor:
        return strata(1, int(0.9 * self.steps), self.number, samples, draws)

    def losses(
        self,
        v: Tensor,
        v_ref: Tensor,
        v_ema: Tensor,
        path: PathSamples,
        advantages: Tensor,
        old_log_prob: Tensor,
    ) -> Tensor:
        """The loss of each row, [rows]."""
        log_prob = -velocity_divergence(v, path.u_t)
        policy = clipped_surrogate(log_prob - old_log_prob, advantages, clip_range=1.0)
        held = self.beta * velocity_divergence(v, v_ref)
        return policy + held + self.ema_beta * velocity_divergence(v, v_ema)


class Awm(AwmLoop):
    """AWM's own: the 6 points of a micro-batch are one batch of rows, so that it has one backward;
    every row of it has a forward of the base and one of the adapter 'ema'."""

    name = "awm"
    solver = "dpmpp_2m"
    beta = 0.001

    def __init__(self, trainer: OnlineLoop) -> None:
        super().__init__(trainer)
        self.ema = SecondAdapter(self.transformer, "ema")
        self.average = AdapterCopy(trainer.policy)

    @property
    def learnt_batch(self) -> int:
        """The greatest divisor of a sampling batch whose points are no more rows than it has: the
        published ones are half a sampling batch, and 3 times its rows."""
        images = self.config.training.prompts_per_step * self.config.training.samples_per_prompt
        drawn = min(self.batch, images)
        fits = [k for k in range(1, drawn + 1) if drawn % k == 0 and k * self.number <= self.batch]
        return max(fits, default=1)

    def accumulate(self, part: MicroBatch, share: float) -> None:
        def repeated(values: Tensor) -> Tensor:
            return torch.cat([values] * self.number)

        drawn = part.drawn
        velocity = self.at(repeated(drawn.embeds), repeated(drawn.pooled))
        times, noises = torch.cat(list(part.times)), torch.cat(list(part.noises))
        path = path_point(repeated(drawn.x_1), noises, times)
        advantages = repeated(part.weights.weight)
        v = velocity(path.x_t, path.t)
        v_ref = self.base_velocity(velocity, path)
        with self.ema.active(), torch.no_grad():
            v_ema = velocity(path.x_t, path.t)
        old = -velocity_divergence(v.detach(), path.u_t)
        loss = self.losses(v, v_ref, v_ema, path, advantages, old).mean()
        (share * loss).backward()

    def follow(self) -> None:
        self.average.follow(warming_up(0.99)(self.updates))
        self.ema.follow(min(0.3, 0.001 * self.updates))


class FlowFactoryAwm(AwmLoop):
    """Flow-Factory's AWM: log-probabilities of all 6 points of a micro-batch once more before its
    first backward, then at each point forwards of policy, base and average, and a backward."""

    name = "flow_factory_awm"
    encodes = False
    asynchronous = False
    beta = 1e-4

    def __init__(self, trainer: OnlineLoop) -> None:
        super().__init__(trainer)
        self.average = AdapterCopy(trainer.policy)

    def accumulate(self, part: MicroBatch, share: float) -> None:
        velocity = self.at(part.drawn.embeds, part.drawn.pooled)
        paths = [part.point(order) for order in range(self.number)]
        with torch.no_grad():
            old = [-velocity_divergence(velocity(path.x_t, path.t), path.u_t) for path in paths]
        self.transformer.train()
        for path, log_prob in zip(paths, old, strict=True):
            v = velocity(path.x_t, path.t)
            v_ref = self.base_velocity(velocity, path)
            with torch.no_grad(), self.average.active():
                v_ema = velocity(path.x_t, path.t)
            advantages = part.weights.weight
            loss = self.losses(v, v_ref, v_ema, path, advantages, log_prob).mean()
            (share * loss / self.number).backward()

    def follow(self) -> None:
        self.average.follow(0.3 * min((self.updates - 1) / 1000, 1.0))


def strata(first: int, last: int, number: int, samples: int, draws: torch.Generator) -> Tensor:
    """Places of ``number`` points, one in each of as many equal parts of ``first`` to ``last``, the
    same for all ``samples``: [number, samples]."""
    bounds = torch.linspace(first, last, number + 1)
    low, high = bounds[:-1].long(), bounds[1:].long()
    chosen = low + (torch.rand(number, generator=draws) * (high - low)).long()
    return chosen[:, None].expand(number, samples)
