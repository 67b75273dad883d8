"""Images of a text-to-image model for its evaluation: drawn, measured, shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
from PIL import ImageDraw
from PIL.Image import Image
from torch import Tensor

from adrpo.config import FlowConfig
from adrpo.core import velocity_divergence
from adrpo.data.base import Prompt, columns_of
from adrpo.embedded.gold import gold_scores
from adrpo.embedded.scenes import parse_caption
from adrpo.evaluation.evaluator import Place
from adrpo.evaluation.image_metrics import clip_diversity, clip_score
from adrpo.evaluation.image_statistics import STATISTICS
from adrpo.evaluation.values import Values
from adrpo.flow.distances import ImageDistances, References, references_of
from adrpo.flow.models.prompt_set import PromptSet
from adrpo.flow.models.protocol import Draws, FlowPolicy
from adrpo.flow.originals import by_original_and_words, opened, original_of, read_original
from adrpo.flow.path.draws import initial_noise
from adrpo.flow.path.path_samples import sample_path
from adrpo.metrics import UNSEEN
from adrpo.rewards.image import ClipScore
from adrpo.runs.counting import counted
from adrpo.runs.directory import RunDirectory
from adrpo.runs.processes import ALONE, Processes
from adrpo.runs.seeding import generator
from adrpo.runs.spread import spread

PICTURED_PROMPTS = 12
"""Held-out prompts whose images are kept for the side by side, spread over the categories."""


@dataclass(frozen=True, kw_only=True)
class DrawnImages:
    """Images and their latents x_1, prompt after prompt; None is an image whose pixels are not
    finite. The latents are a tensor [images, *latent_shape], or a list where sizes differ."""

    images: list[Image | None]
    x_1: Tensor | list[Tensor]

    def measured(self, measure: Callable[[list[int], list[Image]], Tensor]) -> Tensor:
        """The rows that ``measure`` gives of the places of images and of these, [images, ...]; NaN
        where there is no image."""
        known = {place: image for place, image in enumerate(self.images) if image is not None}
        if not known:
            return torch.full((len(self.images), 1), torch.nan)
        rows = measure(list(known), list(known.values()))
        column = torch.full((len(self.images), *rows.shape[1:]), torch.nan, dtype=rows.dtype)
        column[list(known)] = rows.cpu()
        return column


def judge_of(config: FlowConfig, device: torch.device) -> ClipScore | None:
    """The model of ``evaluation.clip``, which embeds images and prompts; None without one."""
    name = config.evaluation.clip
    return None if name is None else ClipScore(name, device)


class ImageDrawing:
    """Draws the images of one ``split`` and measures them; an
    :class:`~adrpo.evaluation.evaluator.Drawing`.

    A pipeline that is no policy has no velocity, and so no ``divergence``. Images are drawn with
    the guidance of ``evaluation.sampling``; the velocity is measured as it is trained, at
    ``training.guidance_scale``. ``guided``, another scale, is that of the policy's velocity alone:
    its divergence is then that of the guided field from the trained one. The initial
    noise of image k of prompt p is the same at every evaluation of every run with the same
    ``evaluation.seed``.

    The judge ``clip`` of ``evaluation.clip`` (``judge_of``) and ``references`` of
    ``evaluation.distances`` may be shared by the splits of a run, and
    ``distances`` are those of another drawing, whose base is drawn with the guidance of that one.
    """

    def __init__(
        self,
        config: FlowConfig,
        policy: Draws,
        prompts: PromptSet,
        *,
        split: str = UNSEEN,
        processes: Processes = ALONE,
        guided: float | None = None,
        clip: ClipScore | None = None,
        references: References | None = None,
        distances: ImageDistances | None = None,
    ) -> None:
        settings = config.evaluation
        self.settings = settings
        self.trained_guidance = config.training.guidance_scale
        self.field_guidance = self.trained_guidance if guided is None else guided
        self.policy = policy
        self.prompts = prompts
        self.split = split
        self.categories = [prompt.category for prompt in prompts]
        self.samples_per_prompt = settings.samples_per_prompt
        self.share = processes.share(len(prompts), f"prompts that are evaluated ({split})")
        self.rows = self.share.times(self.samples_per_prompt)
        every = torch.arange(len(prompts)).repeat_interleave(self.samples_per_prompt)
        self.index = self.rows.of(every)
        sizes = [prompts.shapes[place] for place in self.index.tolist()]
        self.buckets = {
            shape: torch.tensor([row for row, own in enumerate(sizes) if own == shape])
            for shape in dict.fromkeys(sizes)
        }
        """Shape of a latent -> the rows that have it."""
        self.clip = clip or judge_of(config, policy.device)
        if distances is None:
            references = references or references_of(config, policy.device, processes)
            own = self.share.of(prompts)
            distances = references and ImageDistances(
                references, settings, own, self.share, processes, self._draw_of_the_base
            )
        self.distances = distances
        # The gold scorer reads scenes only; other prompts have no gold.
        self.has_gold = all(_is_scene(prompt) for prompt in prompts)

    def known_as(self, prompt: Prompt) -> str:
        return by_original_and_words(prompt)

    def draw(self, draw: int = 0) -> DrawnImages:
        settings = self.settings
        # The unseen split keeps the stream's first name: its noises are those of earlier runs.
        stream = ("evaluation",) if self.split == UNSEEN else ("evaluation", self.split)
        again = ("draw", draw) if draw else ()
        found: dict[int, tuple[Image | None, Tensor]] = {}
        batches = [rows for own in self.buckets.values() for rows in own.split(settings.batch_size)]
        x_0 = torch.empty(0)
        with counted(batches, len(self.index), "images") as parts:
            for rows in parts:
                shape = self.prompts.shapes[int(self.index[rows[0]])]
                if x_0.shape[1:] != shape:
                    # Of all rows: an image's noise does not depend on what size the others have.
                    x_0 = initial_noise(self.rows.total, shape, settings.seed, *stream, *again)
                    x_0 = self.rows.of(x_0)
                conditioning = self.prompts.conditioning.select(self.index[rows])
                x_1 = self.policy.sample(x_0[rows], conditioning, settings.sampling)
                images = self.policy.decode(x_1)
                found |= zip(rows.tolist(), zip(images, x_1, strict=True), strict=True)
        images, latents = zip(*(found[row] for row in sorted(found)), strict=True)
        whole = torch.stack(latents) if len(self.buckets) == 1 else list(latents)
        return DrawnImages(images=list(images), x_1=whole)

    def _draw_of_the_base(self) -> DrawnImages:
        with self.policy.reference():
            return self.draw()

    def trial(self, count: int) -> dict[str, list[Any]]:
        shape, rows = next(iter(self.buckets.items()))
        index = self.index[rows[: min(count, self.settings.batch_size)]]
        x_0 = initial_noise(len(index), shape, self.settings.seed, "trial")
        conditioning = self.prompts.conditioning.select(index)
        x_1 = self.policy.sample(x_0, conditioning, self.settings.sampling)
        own = opened(columns_of([self.prompts[place] for place in index.tolist()]))
        return {"images": self.policy.decode(x_1), **own}

    def columns(self, drawn: DrawnImages) -> dict[str, list[Any]]:
        own = opened(columns_of([self.prompts[place] for place in self.index.tolist()]))
        return {"images": drawn.images, **own}

    def measure(self, drawn: DrawnImages) -> Values:
        own, each = self.share.of(self.prompts), self.samples_per_prompt
        texts = [prompt.text for prompt in own]
        embeds = self._embeds(drawn)
        flat: dict[str, Sequence[float] | Tensor] = {}
        if self.has_gold:
            repeated = [text for text in texts for _ in range(each)]

            def gold(places: list[int], images: list[Image]) -> Tensor:
                scores = gold_scores([repeated[place] for place in places], images)
                return torch.tensor(scores, dtype=torch.float64)

            flat["gold_accuracy"] = drawn.measured(gold)
        if self.clip is not None and embeds is not None:
            text_embeds = self.clip.embed_texts(texts).repeat_interleave(each, 0)
            flat["clip_score_evaluation"] = clip_score(embeds.expand_as(text_embeds), text_embeds)
        if isinstance(self.policy, FlowPolicy):
            both = self._against_the_base(self.policy, drawn.x_1)
            flat["divergence"], flat["velocity_norm_ratio"] = both
        for name, statistic in STATISTICS.items():
            flat[name] = [statistic(i) if i is not None else np.nan for i in drawn.images]
        shape = (len(own), each)
        values: Values = {
            name: np.asarray(column, dtype=np.float64).reshape(shape)
            for name, column in flat.items()
        }
        if embeds is not None:
            values |= self._diversities(embeds.reshape(*shape, -1), values)
        return values | (self.distances.measure(drawn) if self.distances else {})

    def _embeds(self, drawn: DrawnImages) -> Tensor | None:
        """The judge's embeddings of the images; None without a judge."""
        clip = self.clip
        if clip is None:
            return None
        return drawn.measured(lambda _, images: clip.embed_images(images))

    def _diversities(self, groups: Tensor, values: Values) -> Values:
        """The diversity of each prompt's images by ``groups``, embeddings [prompts, K, width]."""
        found = {
            "clip_diversity": clip_diversity(groups).double().numpy(),
            "clip_diversity_l2": clip_diversity(groups, kind="l2_unit").double().numpy(),
        }
        if self.has_gold:
            right = torch.from_numpy(values["gold_accuracy"] == 1).to(groups.device)
            diversity = clip_diversity(groups, among=right)
            # An image that is none is neither right nor wrong.
            known = groups.isfinite().flatten(1).all(1)
            found["clip_diversity_right"] = diversity.where(known, torch.nan).double().numpy()
        return found

    def choose(self, theirs: Tensor, drawn: DrawnImages, others: DrawnImages) -> DrawnImages:
        pairs = zip(drawn.images, others.images, theirs.tolist(), strict=True)
        latents = zip(drawn.x_1, others.x_1, theirs.tolist(), strict=True)
        chosen = [other if wins else own for own, other, wins in latents]
        return DrawnImages(
            images=[other if wins else own for own, other, wins in pairs],
            x_1=torch.stack(chosen) if len(self.buckets) == 1 else chosen,
        )

    def shown(self, drawn: DrawnImages) -> dict[Place, Image | None]:
        if self.split != UNSEEN:
            return {}
        most = max(self.settings.strip_prompts, PICTURED_PROMPTS)
        shown = set(spread(self.categories, most))
        each = self.samples_per_prompt
        places = [(prompt, row % each) for row, prompt in enumerate(self.index.tolist())]
        return {p: image for p, image in zip(places, drawn.images, strict=True) if p[0] in shown}

    def show(
        self, run: RunDirectory, step: int, shown: Mapping[Place, Image | None], values: Values
    ) -> None:
        """Write the strip of every evaluation, and the side by side of the base and the latest."""
        if self.split != UNSEEN:
            return
        folder = run.samples / f"step-{step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        for place, prompt in enumerate(spread(self.categories, self.settings.strip_prompts)):
            _picture(shown, prompt, 0).save(folder / f"strip-{place:02d}.png")
        side = run.samples / ("base" if step == 0 else "final")
        side.mkdir(parents=True, exist_ok=True)
        for place, prompt in enumerate(spread(self.categories, PICTURED_PROMPTS)):
            for k in range(self.samples_per_prompt):
                _picture(shown, prompt, k).save(side / f"{place:02d}-{k}.png")
            if (original := original_of(self.prompts[prompt])) is not None:
                originals = run.samples / "originals"
                originals.mkdir(exist_ok=True)
                read_original(original.value).save(originals / f"{place:02d}.png")

    def listing(self) -> dict[str, Any]:
        if self.split != UNSEEN:
            return {f"{self.split}_categories": self.categories}
        digest = self.distances and self.distances.references.digest
        strip = spread(self.categories, self.settings.strip_prompts)
        pictured = spread(self.categories, PICTURED_PROMPTS)
        return {
            "strip": [self.prompts[prompt].text for prompt in strip],
            "held_out": [
                {"prompt": self.prompts[prompt].text, "category": self.prompts[prompt].category}
                for prompt in pictured
            ],
            "categories": self.categories,
            **({"references": digest} if digest else {}),
        }

    @torch.no_grad()
    def _against_the_base(
        self, policy: FlowPolicy, x_1: Tensor | list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """|v - v_ref|^2 and |v| / |v_ref| at one t ~ U(0, 1) per image, on the path to the
        policy's own x_1, both with the guidance of training; v_ref is the frozen base's."""
        settings = self.settings
        divergences, ratios = torch.empty(2, len(x_1))
        for own in self.buckets.values():
            # Draws for all rows, as in the sampling.
            latents = torch.stack([x_1[row] for row in own.tolist()])
            whole = latents.new_zeros(len(x_1), *latents.shape[1:])
            whole[own] = latents
            path = sample_path(whole, generator(settings.seed, "divergence"), share=self.rows)
            for rows in own.split(settings.batch_size):
                conditioning = self.prompts.conditioning.select(self.index[rows])
                arguments = (path.x_t[rows], path.t[rows], conditioning)
                v = policy.velocity(*arguments, guidance_scale=self.field_guidance)
                with policy.reference():
                    v_ref = policy.velocity(*arguments, guidance_scale=self.trained_guidance)
                divergences[rows] = velocity_divergence(v, v_ref).cpu()
                ratios[rows] = (v.flatten(1).norm(dim=1) / v_ref.flatten(1).norm(dim=1)).cpu()
        return divergences, ratios


def _picture(shown: Mapping[Place, Image | None], prompt: int, sample: int) -> Image:
    """The image of a place; one that isn't there is a picture of the size of the prompt's others,
    if there are any."""
    found = shown[prompt, sample]
    if found is not None:
        return found
    others = [(place[0] != prompt, image.size) for place, image in shown.items() if image]
    return missing_picture(min(others, default=(True, (64, 64)))[1])


def missing_picture(size: tuple[int, int]) -> Image:
    """The picture that the report shows in the place of one that isn't: white, crossed out."""
    image = PIL.Image.new("RGB", size, "white")
    right, low = size[0] - 1, size[1] - 1
    pen = ImageDraw.Draw(image)
    pen.line((0, 0, right, low), fill="red", width=2)
    pen.line((0, low, right, 0), fill="red", width=2)
    return image


def _is_scene(prompt: Prompt) -> bool:
    try:
        parse_caption(prompt.text)
    except ValueError:
        return False
    return True
