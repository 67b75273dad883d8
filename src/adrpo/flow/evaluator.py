"""Evaluates a policy on fixed prompts from fixed noises, and writes what the report shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adrpo.config import FlowEvaluationSection
from adrpo.core import velocity_divergence
from adrpo.data.prompts import Prompt
from adrpo.embedded.gold import gold_scores
from adrpo.embedded.scenes import parse_caption
from adrpo.errors import AdrpoError
from adrpo.evaluation.image_metrics import clip_diversity, clip_score
from adrpo.evaluation.image_statistics import color_entropy, edge_density
from adrpo.evaluation.values import (
    Values,
    read_values,
    record_prompts,
    spread,
    summarise,
    values_path,
    write_values,
)
from adrpo.flow.models.pipeline_sampler import PipelineSampler
from adrpo.flow.models.protocol import FlowPolicy
from adrpo.flow.path.draws import initial_noise
from adrpo.flow.path.path_samples import sample_path
from adrpo.rewards.base import RewardResult, RewardTerm, score
from adrpo.rewards.image import ClipScore
from adrpo.runs.directory import RunDirectory
from adrpo.runs.processes import ALONE, Processes
from adrpo.runs.seeding import generator, restore_rng_state, rng_state

PICTURED_PROMPTS = 12
"""Held-out prompts whose images are kept for the side by side, spread over the categories."""


def _is_scene(prompt: Prompt) -> bool:
    try:
        parse_caption(prompt.text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The metrics of all prompts, [prompts, K], or [prompts] for those of a group of images; and
    the images of the prompts that are pictured, by (prompt, k)."""

    values: Values
    pictures: dict[tuple[int, int], Image.Image]


class Evaluator:
    """Measures a policy on the prompts of one ``split``: "unseen" in training, or "seen".

    A pipeline that is no policy has no velocity, and so no ``divergence``. ``others`` are rewards
    that are only measured: their values stand beside those of ``reward`` and touch nothing else.

    The initial noise of image k of prompt p is the same at every evaluation of every run with
    the same ``evaluation.seed``, so two evaluations are compared pair by pair.

    Several ``processes`` share the prompts: each draws and measures those of its ``share``, with
    all images of a prompt, and what ``measure`` returns is the same on all of them.
    """

    def __init__(
        self,
        settings: FlowEvaluationSection,
        policy: FlowPolicy | PipelineSampler,
        reward: Sequence[RewardTerm],
        prompts: Sequence[Prompt],
        *,
        others: Sequence[RewardTerm] = (),
        split: str = "unseen",
        processes: Processes = ALONE,
    ) -> None:
        self.settings = settings
        self.policy = policy
        self.reward = reward
        self.others = others
        self.prompts = prompts
        self.split = split
        self.categories = [prompt.category for prompt in self.prompts]
        self.processes = processes
        self.share = processes.share(len(prompts), f"prompts that are evaluated ({split})")
        self.rows = self.share.times(settings.samples_per_prompt)
        every = torch.arange(len(prompts)).repeat_interleave(settings.samples_per_prompt)
        self.index = self.rows.of(every)
        self.conditioning = policy.encode([prompt.text for prompt in self.prompts])
        self.clip = ClipScore(settings.clip, policy.device)
        # The gold scorer reads scenes only; other prompts have no gold.
        self.has_gold = all(_is_scene(prompt) for prompt in self.prompts)

    def measure(self) -> Measured:
        """Sample from the policy as it is now, and measure.

        Raises AdrpoError where one of ``others`` raised and has a value for no image at all.
        """
        images, x_1 = self.generate()
        own, errors = self._measure_share(images, x_1)
        parts = self.processes.gather((own, errors, self._pictured(images)))
        values = {name: np.concatenate([part[name] for part, _, _ in parts]) for name in own}
        for _, failed, _ in parts:
            for name, error in failed.items():
                if not np.isfinite(values[name]).any():
                    raise AdrpoError(
                        f"evaluation.rewards: expected {name} to score at least one of "
                        f"{self.rows.total} images; received no score, and {error}; mend the "
                        f"reward, or leave it out"
                    )
        pictures = {place: image for _, _, part in parts for place, image in part.items()}
        return Measured(values=values, pictures=pictures)

    def evaluate(self, run: RunDirectory, step: int) -> dict[str, Any]:
        """Measure, and ``record``."""
        return self.record(run, step, self.measure())

    def record(self, run: RunDirectory, step: int, measured: Measured) -> dict[str, Any]:
        """The row of evaluations.jsonl of ``step`` (0: the base), whose values and pictures are
        written."""
        if self.split == "unseen":
            self._save_pictures(run, step, measured.pictures)
        record_prompts(run, self._listing())
        write_values(values_path(run, step, self.split), measured.values)
        base = None if step == 0 else read_values(values_path(run, 0, self.split))
        row: dict[str, Any] = {
            "step": step,
            "split": self.split,
            "prompts": len(self.prompts),
            "samples": self.rows.total,
        }
        seed = self.settings.seed
        return row | summarise(measured.values, self.categories, base, seed=seed)

    def generate(self, draw: int = 0) -> tuple[list[Image.Image], Tensor]:
        """Images and latents of the share, prompt after prompt, ``samples_per_prompt`` of each;
        ``draw`` 0 is the evaluation's own noise, and each other one a fresh one."""
        settings = self.settings
        shape = self.policy.latent_shape
        # The unseen split keeps the stream's first name: its noises are those of earlier runs.
        stream = ("evaluation",) if self.split == "unseen" else ("evaluation", self.split)
        again = ("draw", draw) if draw else ()
        x_0 = initial_noise(self.rows.total, shape, settings.seed, *stream, *again)
        x_0 = self.rows.of(x_0)
        images, latents = [], []
        for rows in torch.arange(len(x_0)).split(settings.batch_size):
            conditioning = self.conditioning.select(self.index[rows])
            x_1 = self.policy.sample(x_0[rows], conditioning, settings.sampling)
            images += self.policy.decode(x_1)
            latents.append(x_1)
        return images, torch.cat(latents)

    def values(self, images: list[Image.Image], x_1: Tensor) -> Values:
        """Each metric of the share's images and their latents as [prompts, K], or [prompts] for
        those of a group of images."""
        return self._measure_share(images, x_1)[0]

    def _measure_share(
        self, images: list[Image.Image], x_1: Tensor
    ) -> tuple[Values, dict[str, str]]:
        """``values``, and the first error of each of ``others`` that raised."""
        per_prompt = self.settings.samples_per_prompt
        own = self.share.of(self.prompts)
        texts = [prompt.text for prompt in own for _ in range(per_prompt)]
        embeds = self.clip.embed_images(images)
        text_embeds = self.clip.embed_texts([prompt.text for prompt in own])
        scores = clip_score(embeds, text_embeds.repeat_interleave(per_prompt, 0))
        flat: dict[str, Sequence[float] | Tensor] = {}
        if self.has_gold:
            flat["gold_accuracy"] = gold_scores(texts, images)
        flat |= self.score(images).by_term
        others, errors = self._score_others(images)
        flat |= others
        flat["clip_score_evaluation"] = scores
        if not isinstance(self.policy, PipelineSampler):
            both = self._against_the_base(self.policy, x_1)
            flat["divergence"], flat["velocity_norm_ratio"] = both
        flat["edge_density"] = [edge_density(image) for image in images]
        flat["color_entropy"] = [color_entropy(image) for image in images]
        shape = (len(own), per_prompt)
        values: Values = {
            name: np.asarray(column, dtype=np.float64).reshape(shape)
            for name, column in flat.items()
        }
        groups = embeds.reshape(*shape, -1)
        values["clip_diversity"] = clip_diversity(groups).double().numpy()
        values["clip_diversity_l2"] = clip_diversity(groups, kind="l2_unit").double().numpy()
        if self.has_gold:
            right = torch.from_numpy(values["gold_accuracy"] == 1).to(groups.device)
            values["clip_diversity_right"] = clip_diversity(groups, among=right).double().numpy()
        return values, errors

    def score(self, images: list[Image.Image]) -> RewardResult:
        """The reward of the share's images, prompt after prompt."""
        return self._score(self.reward, images)

    def _score_others(self, images: list[Image.Image]) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Values and errors of the rewards that are only measured, by their names."""
        # Whatever they draw, training goes on as it would without them.
        state = rng_state()
        results = {term.name: self._score([term], images) for term in self.others}
        restore_rng_state(state)
        values = {name: result.by_term[name] for name, result in results.items()}
        errors = {name: result.first_error for name, result in results.items()}
        return values, {name: error for name, error in errors.items() if error is not None}

    def _score(self, terms: Sequence[RewardTerm], images: list[Image.Image]) -> RewardResult:
        prompts = [self.prompts[place] for place in self.index.tolist()]
        texts = [prompt.text for prompt in prompts]
        categories = [prompt.category for prompt in prompts]
        return score(terms, texts, images, category=categories)

    @torch.no_grad()
    def _against_the_base(self, policy: FlowPolicy, x_1: Tensor) -> tuple[Tensor, Tensor]:
        """|v - v_ref|^2 and |v| / |v_ref| at one t ~ U(0, 1) per image, on the path to the
        policy's own x_1; v_ref is the frozen base's."""
        settings = self.settings
        path = sample_path(x_1, generator(settings.seed, "divergence"), share=self.rows)
        divergences, ratios = [], []
        for rows in torch.arange(len(x_1)).split(settings.batch_size):
            arguments = (path.x_t[rows], path.t[rows], self.conditioning.select(self.index[rows]))
            v = policy.velocity(*arguments)
            with policy.reference():
                v_ref = policy.velocity(*arguments)
            divergences.append(velocity_divergence(v, v_ref))
            ratios.append(v.flatten(1).norm(dim=1) / v_ref.flatten(1).norm(dim=1))
        return torch.cat(divergences).cpu(), torch.cat(ratios).cpu()

    def _pictured(self, images: list[Image.Image]) -> dict[tuple[int, int], Image.Image]:
        """Those of the share's images that ``_save_pictures`` asks for."""
        if self.split != "unseen":
            return {}
        per_prompt = self.settings.samples_per_prompt
        most = max(self.settings.strip_prompts, PICTURED_PROMPTS)
        shown = set(spread(self.categories, most))
        places = [(prompt, row % per_prompt) for row, prompt in enumerate(self.index.tolist())]
        return {p: image for p, image in zip(places, images, strict=True) if p[0] in shown}

    def _save_pictures(
        self, run: RunDirectory, step: int, images: dict[tuple[int, int], Image.Image]
    ) -> None:
        """The strip of every evaluation, and the side by side of the base and the latest."""
        per_prompt = self.settings.samples_per_prompt
        strip = spread(self.categories, self.settings.strip_prompts)
        shown = spread(self.categories, PICTURED_PROMPTS)
        folder = run.samples / f"step-{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        for place, prompt in enumerate(strip):
            images[prompt, 0].save(folder / f"strip-{place:02d}.png")
        side = run.samples / ("base" if step == 0 else "final")
        side.mkdir(parents=True, exist_ok=True)
        for place, prompt in enumerate(shown):
            for k in range(per_prompt):
                images[prompt, k].save(side / f"{place:02d}-{k}.png")

    def _listing(self) -> dict[str, Any]:
        """What samples/prompts.json tells of this split."""
        if self.split != "unseen":
            return {f"{self.split}_categories": self.categories}
        strip = spread(self.categories, self.settings.strip_prompts)
        shown = spread(self.categories, PICTURED_PROMPTS)
        return {
            "strip": [self.prompts[prompt].text for prompt in strip],
            "held_out": [
                {"prompt": self.prompts[prompt].text, "category": self.prompts[prompt].category}
                for prompt in shown
            ],
            "categories": self.categories,
        }
