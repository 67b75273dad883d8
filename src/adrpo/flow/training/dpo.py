"""Diffusion-DPO on flow matching: offline, from pairs of images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adrpo.config import DpoSection, FlowConfig
from adrpo.core import velocity_divergence
from adrpo.core.placement import sent
from adrpo.core.preferences import flow_dpo_objective
from adrpo.errors import AdrpoError, of_setting
from adrpo.flow.models.loading import family_of
from adrpo.flow.models.prompt_set import PromptSet
from adrpo.flow.path.convention import interpolate, target_velocity
from adrpo.flow.path.draws import prompt_order
from adrpo.flow.path.path_samples import PathSamples, sample_times
from adrpo.flow.prompt_columns import SIDES, negative_prompt_of
from adrpo.flow.training.loop import TrainingLoop
from adrpo.flow.training.pairs import (
    by_content,
    check_images,
    draw_pairs,
    load_latents,
    prompts_of,
    read_pairs,
)
from adrpo.flow.training.section import section_of
from adrpo.flow.training.stopwatch import Stopwatch
from adrpo.rewards.base import Reward, RewardTerm
from adrpo.runs.directory import RunDirectory
from adrpo.runs.inputs import Inputs
from adrpo.runs.seeding import generator

PAIRS = "pairs"
"""Name of the prompts of pairs that are named, among the sets that are encoded."""


class DPOTrainer(TrainingLoop):
    """Diffusion-DPO (Wallace et al., arXiv 2311.12908) with the velocity error of flow matching.

    A step takes ``prompts_per_step`` x ``samples_per_prompt`` / 2 pairs, both images of a pair at
    the same ``timesteps_per_sample`` points (t, x_0), and minimises ``flow_dpo_objective``. The
    pairs are those of ``algorithm.pairs``, or the frozen base's own, drawn once at the start and
    labelled by the reward; nothing is sampled afterwards.
    """

    def __init__(self, config: FlowConfig, *, reward: Reward | None = None) -> None:
        self.settings = section_of(config, DpoSection)
        # Anyone's pairs: their prompts need not be prompts of training.
        folder = self.settings.pairs
        family = family_of(config.model)
        if family is not None and family.edits:
            raise AdrpoError(
                f"algorithm.method: expected one that draws anew at every step for "
                f"{config.model.pretrained}, which edits pictures; received dpo, whose pairs name "
                f"none to be edited"
            )
        with of_setting("algorithm.pairs"):
            named = {} if folder is None else {PAIRS: prompts_of(read_pairs(Path(folder)))}
        super().__init__(config, reward=reward, further=named)
        if any(shape != self.policy.latent_shape for shape in self.prompts.shapes):
            raise AdrpoError(
                f"algorithm.method: expected one that draws anew at every step, for prompts with "
                f"sizes of their own (the columns {' and '.join(SIDES)}); received dpo, whose "
                f"pairs have one size; set model.height and model.width, and leave the columns out"
            )
        training = config.training
        self.pairs_per_step = max(training.prompts_per_step * training.samples_per_prompt // 2, 1)
        points = self.pairs_per_step * training.timesteps_per_sample
        self.share = self.processes.share(points, "points of the pairs of a step")

    def asked_of_prompts(self) -> Sequence[RewardTerm]:
        """None where the pairs are named: no reward puts them in order."""
        return self.reward if self.settings.pairs is None else ()

    def inputs(self) -> Inputs:
        """The prompts, and behind them the pairs that are named and trained on."""
        known = super().inputs()
        if self.settings.pairs is None:
            return known
        pairs = read_pairs(Path(self.settings.pairs))
        return replace(known, train=[*known.train, *map(by_content, pairs)])

    def prepare(self, run: RunDirectory) -> None:
        """Draw the pairs where none are named, and read them."""
        training = self.config.training
        folder = run.path / "pairs" if self.settings.pairs is None else Path(self.settings.pairs)
        if self.settings.pairs is None:
            draw_pairs(
                folder,
                self.policy,
                self.reward,
                self.prompts[: self.settings.pairs_prompts],
                self.settings,
                self.config.sampling,
                seed=training.seed,
                normalization=training.reward_normalization,
                processes=self.processes,
            )
        pairs = read_pairs(folder)
        # All of them in each process: an error in one alone would leave the others waiting.
        check_images(pairs, self.policy)
        prompts = self.sets.get(PAIRS) or PromptSet.encoded(self.policy, prompts_of(pairs))
        self.pair_conditioning = prompts.conditioning
        place = {(p.text, negative_prompt_of(p)): row for row, p in enumerate(prompts)}
        asked = [place[pair.prompt, pair.negative_prompt] for pair in pairs]
        self.pair_prompt = torch.tensor(asked)
        own = self.processes.share(len(pairs), "pairs")
        self.chosen, self.rejected = (
            self.processes.gather_rows(x_1) for x_1 in load_latents(own.of(pairs), self.policy)
        )

    def step(self, step: int) -> dict[str, Any]:
        """One update from stored pairs; see ``TrainingLoop.step``."""
        training = self.config.training
        stopwatch = Stopwatch(self.device)
        calls = self.policy.model_calls
        order = prompt_order(
            step, prompts=len(self.chosen), per_step=self.pairs_per_step, seed=training.seed
        )
        points = training.timesteps_per_sample
        index = torch.tensor(order).repeat_interleave(points)
        draws = generator(training.seed, "path", step)
        t = sample_times(len(index), draws, timesteps=points, sampling=training.timestep_sampling)
        x_0 = torch.randn((len(index), *self.policy.latent_shape), generator=draws)
        sums = torch.zeros(4)
        # A pair is two rows of a micro-batch.
        own = self.share.of(torch.arange(len(index)))
        for rows in own.split(max(training.micro_batch_size // 2, 1)):
            sums += self._backpropagate(index[rows], t[rows], x_0[rows], len(index), stopwatch)
        sums = torch.stack(self.processes.gather(sums)).sum(0)
        loss, margin, right, distance = (sums / len(index)).tolist()
        with stopwatch.part("policy"):
            grad_norm = self.apply_gradient(loss)
            self.follow()
        return {
            "step": step,
            "divergence": distance,
            "loss": loss,
            "margin": margin,
            "pair_accuracy": right,
            "grad_norm": grad_norm,
            "samples": 2 * self.pairs_per_step,
            **self.cost_columns(2 * self.pairs_per_step, calls, stopwatch),
        }

    def _backpropagate(
        self, index: Tensor, t: Tensor, x_0: Tensor, total: int, stopwatch: Stopwatch
    ) -> Tensor:
        """Gradient of the pairs ``index`` at (``t``, ``x_0``); sums of loss, margin, pairs in the
        right order, and |v - v_ref|^2."""
        x_1 = torch.cat([self.chosen[index], self.rejected[index]])
        noise, times = torch.cat([x_0, x_0]), torch.cat([t, t])
        path = PathSamples(
            t=sent(times, self.device),
            x_t=sent(interpolate(noise, x_1, times), self.device),
            u_t=sent(target_velocity(noise, x_1), self.device),
        )
        conditioning = self.pair_conditioning.select(self.pair_prompt[torch.cat([index, index])])
        guidance = self.config.training.guidance_scale

        def velocity() -> Tensor:
            return self.policy.velocity(path.x_t, path.t, conditioning, guidance_scale=guidance)

        with stopwatch.part("reference"), torch.no_grad(), self.policy.reference():
            v_ref = velocity()
        with stopwatch.part("policy"):
            v = velocity()
            errors = velocity_divergence(v, path.u_t).chunk(2)
            ref_errors = velocity_divergence(v_ref, path.u_t).chunk(2)
            loss = flow_dpo_objective(*errors, *ref_errors, beta=self.settings.beta)
            (loss.sum() / total).backward()
        margin = (ref_errors[0] - errors[0] - (ref_errors[1] - errors[1])).detach()
        distance = velocity_divergence(v.detach(), v_ref).view(2, -1).mean(0)
        columns = (loss.detach(), margin, (margin > 0).float(), distance)
        return torch.stack([column.sum() for column in columns]).cpu()
