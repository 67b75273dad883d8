"""Steps of the trainers of images, with all that goes in and out of the network kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adrpo.config import FlowConfig, SamplingSection
from adrpo.flow.domain import build_trainer
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.lora import standing_in
from support.tiny_runs import embedded_config, perturb
from wiring.adamw import Update
from wiring.rewards import CALLS

REWARD = [{"name": "wiring.rewards:ink"}]


@dataclass
class Call:
    """One evaluation of the network outside a sampler: v [rows, ...], with its gradient after the
    backward pass where it is the policy's, and the number of updates before it."""

    x_t: Tensor
    t: Tensor
    conditioning: Conditioning
    guidance_scale: float
    v: Tensor
    update: int

    @property
    def is_policy(self) -> bool:
        return self.v.requires_grad

    @property
    def gradient(self) -> Tensor:
        """dL/dv."""
        assert self.v.grad is not None
        return self.v.grad


@dataclass
class Drawn:
    """One call of the sampler, and the adapter that it drew with."""

    x_0: Tensor
    conditioning: Conditioning
    sampling: SamplingSection
    x_1: Tensor
    is_reference: bool


@dataclass
class Step:
    """All that a step did. ``prompts``, ``images`` and ``rewards`` are those of its one call of the
    reward; ``begin`` is the adapter at its beginning, ``left`` are gradients that it leaves."""

    begin: list[Tensor]
    row: dict[str, Any] = field(default_factory=dict)
    drawn: list[Drawn] = field(default_factory=list)
    rollout: list[Call] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    scored: list[tuple[list[str], list[Image.Image], float]] = field(default_factory=list)
    rewards: Tensor = field(default_factory=lambda: torch.empty(0))
    decoded: list[Tensor] = field(default_factory=list)
    left: list[Tensor] = field(default_factory=list)

    @property
    def prompts(self) -> list[str]:
        return self.scored[0][0]

    @property
    def x_0(self) -> Tensor:
        return torch.cat([drawn.x_0 for drawn in self.drawn])

    @property
    def x_1(self) -> Tensor:
        """The latents of the images that were scored, in their order."""
        return torch.cat(self.decoded)

    @property
    def policy_calls(self) -> list[Call]:
        return [call for call in self.calls if call.is_policy]

    @property
    def reference_calls(self) -> list[Call]:
        return [call for call in self.calls if not call.is_policy]

    @property
    def x_t(self) -> Tensor:
        return torch.cat([call.x_t for call in self.policy_calls])

    @property
    def t(self) -> Tensor:
        return torch.cat([call.t for call in self.policy_calls])

    @property
    def gradient(self) -> Tensor:
        """dL/dv of the rows that the policy was asked for."""
        return torch.cat([call.gradient for call in self.policy_calls])


def image_config(**sections: Any) -> FlowConfig:
    """Two prompts of three images of 32 x 32 pixels a step, each used at two times."""
    small = {"device": "cpu", "height": 32, "width": 32}
    twice = {"timesteps_per_sample": 2, "micro_batch_size": 12}
    sections["model"] = small | sections.get("model", {})
    sections["training"] = twice | sections.get("training", {})
    return embedded_config(**({"reward": REWARD} | sections))


class WatchedTrainer:
    """A trainer of images whose network, sampler, reward and optimizer are listened to."""

    def __init__(self, config: FlowConfig, *, moved: bool = True) -> None:
        self.config: Any = config
        self.trainer: Any = build_trainer(config)
        self.policy = self.trainer.policy
        self.start = self.adapter()
        if moved:
            perturb(self.policy)
        self._sampling = False
        self._now = Step(self.adapter())
        self._listen()

    def adapter(self) -> list[Tensor]:
        """The adapter's values, copied."""
        return [value.detach().clone() for value in self.policy.adapter_parameters()]

    def step(self, number: int) -> Step:
        """Make the step ``number``."""
        self._now = step = Step(self.adapter())
        CALLS.clear()
        step.row = self.trainer.step(number)
        step.scored = list(CALLS)
        gradients = [value.grad for value in self.policy.adapter_parameters()]
        step.left = [gradient for gradient in gradients if gradient is not None]
        return step

    @contextmanager
    def listening(self) -> Iterator[Step]:
        """What happens inside goes into a step of its own."""
        self._now = Step(self.adapter())
        CALLS.clear()
        yield self._now
        self._now.scored = list(CALLS)

    def _listen(self) -> None:
        policy, trainer = self.policy, self.trainer
        velocity, sample, decode = policy.velocity, policy.sample, policy.decode
        apply = trainer.apply_gradient

        def heard_velocity(x_t: Tensor, t: Tensor, given: Conditioning, **named: Any) -> Tensor:
            v = velocity(x_t, t, given, **named)
            if self._sampling:
                return v
            if v.requires_grad:
                v.retain_grad()
            scale = named.get("guidance_scale", 1.0)
            call = Call(x_t.detach(), t, given, scale, v, len(self._now.updates))
            # Flow-GRPO draws by the network itself, without a sampler.
            draws = hasattr(trainer, "scored") and not self._now.decoded
            (self._now.rollout if draws else self._now.calls).append(call)
            return v

        def heard_sample(x_0: Tensor, given: Conditioning, sampling: SamplingSection) -> Tensor:
            self._sampling = True
            try:
                x_1 = sample(x_0, given, sampling)
            finally:
                self._sampling = False
            off = not policy._adapter_on
            self._now.drawn.append(Drawn(x_0, given, sampling, x_1.clone(), off))
            return x_1

        def heard_decode(x_1: Tensor) -> list[Any]:
            self._now.decoded.append(x_1.clone())
            return decode(x_1)

        def heard_apply(loss: float) -> float:
            parameters = policy.adapter_parameters()
            gradient = [value.grad.clone() for value in parameters]
            before = self.adapter()
            norm = apply(loss)
            self._now.updates.append(Update(gradient, before, self.adapter()))
            return norm

        policy.velocity, policy.sample, policy.decode = heard_velocity, heard_sample, heard_decode
        trainer.apply_gradient = heard_apply
        if hasattr(trainer, "scored"):
            scored = trainer.scored

            def heard_scored(images: list[Any], prompt_index: Tensor) -> Any:
                result = scored(images, prompt_index)
                self._now.rewards = result.total.double()
                return result

            trainer.scored = heard_scored

    @torch.no_grad()
    def velocity(
        self, call: Call, adapter: list[Tensor] | None, *, guidance_scale: float | None = None
    ) -> Tensor:
        """v at the points of ``call`` by the adapter with the values ``adapter``, or by the base
        alone."""
        scale = call.guidance_scale if guidance_scale is None else guidance_scale
        with self.listening():
            asked = (call.x_t, call.t, call.conditioning)
            if adapter is None:
                with self.policy.reference():
                    return self.policy.velocity(*asked, guidance_scale=scale)
            with standing_in(self.policy.adapter_parameters(), adapter):
                return self.policy.velocity(*asked, guidance_scale=scale)


def same(given: Conditioning, expected: Conditioning) -> bool:
    """Whether two records hold the same prompts; encoders round by the batch they are given."""
    return all(
        torch.allclose(tensor, getattr(expected, name), rtol=1e-3, atol=1e-4)
        for name, tensor in vars(given).items()
    )
