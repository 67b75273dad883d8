"""Trials of a text-to-image model's arithmetic: batches, the reference, pixels, gradients."""

import torch
from torch import Tensor

from adrpo.config import SamplingSection
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.models.prompt_set import PromptSet
from adrpo.flow.path.draws import initial_noise
from adrpo.runs.network_trials import base_alone, finite_trial, gradient_trials
from adrpo.runs.seeding import preserved_generators
from adrpo.runs.trials import Trial

ROWS = 4
"""Images of a trial, at times from noise to data."""

STEPS = 2
"""Steps of the sampler, whose pictures are tried."""

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Most that a velocity may differ by, in its own root mean square: some ten roundings of it in the
16-bit types, thousands in float32, whose kernels sum in another order for another batch."""


def try_arithmetic(
    policy: PipelinePolicy, prompts: PromptSet, *, micro_batch_size: int
) -> list[Trial]:
    """Try what the steps of ``policy``, with an adapter, rest on, on up to four of ``prompts``, all
    in the size of the first; gradients of no more images than ``micro_batch_size``.

    A compiled network is tried uncompiled, which costs no compilation of its own. Generators,
    gradients and ``model_calls`` are afterwards as they were.
    """
    chosen = prompts.conditioning.select(torch.arange(ROWS) % len(prompts))
    calls = policy.model_calls
    try:
        with preserved_generators(), torch.compiler.set_stance("force_eager"):
            return _Trying(policy, chosen, prompts.shapes[0], micro_batch_size).trials()
    finally:
        policy.model_calls = calls


class _Trying:
    """The trials of one model at one batch of points."""

    def __init__(
        self,
        policy: PipelinePolicy,
        conditioning: Conditioning,
        shape: tuple[int, ...],
        micro_batch_size: int,
    ) -> None:
        self.policy = policy
        self.at_once = slice(micro_batch_size)
        self.conditioning = conditioning
        noise = initial_noise(2 * ROWS, shape, 0, "trial").to(policy.device)
        self.x_0, self.u = noise.chunk(2)
        self.t = torch.linspace(0.05, 0.95, ROWS, device=policy.device)
        self.limit = TOLERANCE[policy.pipeline.transformer.dtype]

    def trials(self) -> list[Trial]:
        with torch.no_grad():
            v = self.velocity()
            found = [finite_trial("velocities", v), self.batch(v), self.pixels()]
            # An adapter that training began with may be the reference, in the base's place.
            if self.policy.start is None:
                found.append(self.reference())
        return [*found, *gradient_trials(self.regression, self.policy.adapter_parameters())]

    def velocity(self, rows: slice = slice(None)) -> Tensor:
        """v at the points ``rows``, in a batch of them alone."""
        places = torch.arange(ROWS)[rows]
        given = self.conditioning.select(places)
        return self.policy.velocity(self.x_0[rows], self.t[rows], given)

    def regression(self) -> Tensor:
        """The mean of |v - u|^2 towards other noise."""
        return ((self.velocity(self.at_once) - self.u[self.at_once]) ** 2).mean()

    def batch(self, v: Tensor) -> Trial:
        alone = torch.cat([self.velocity(slice(row, row + 1)) for row in range(ROWS)])
        return self._same(
            "velocity of an image alone, and in a batch",
            v,
            alone,
            "a kernel depends on the batch: try another version of torch or diffusers, or a wider "
            "model.dtype",
        )

    def reference(self) -> Trial:
        with self.policy.reference():
            off = self.velocity()
        with base_alone(self.policy.pipeline.transformer):
            base = self.velocity()
        return self._same(
            "velocity with the adapter off, and of the base",
            base,
            off,
            "the divergence would be to something else than the base: another version of peft or "
            "diffusers",
        )

    def pixels(self) -> Trial:
        sampled = self.policy.sample(self.x_0, self.conditioning, SamplingSection(steps=STEPS))
        missing = sum(image is None for image in self.policy.decode(sampled))
        return Trial(
            what="pictures of a draw whose pixels are not finite",
            value=missing,
            limit=0.0,
            remedy="the autoencoder or the network overflows: use model.dtype=bfloat16 or float32",
        )

    def _same(self, what: str, v: Tensor, other: Tensor, remedy: str) -> Trial:
        """The largest difference, in root mean squares of ``v``."""
        off = (v - other).abs().max() / v.square().mean().sqrt()
        return Trial(what=what, value=float(off), limit=self.limit, remedy=remedy)
