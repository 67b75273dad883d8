"""The door of flow-matching text-to-image models."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adrpo.config import (
    DpoSection,
    FdfoSection,
    FlowConfig,
    FlowGrpoSection,
    FlowModelSection,
)
from adrpo.data.base import Prompt
from adrpo.data.identity import shared_prompts
from adrpo.data.prompts import is_unfetched
from adrpo.errors import AdrpoError, of_setting
from adrpo.evaluation.door import Door
from adrpo.evaluation.evaluator import Evaluator
from adrpo.flow.facts import FACTS
from adrpo.flow.originals import by_original_and_words, check_originals
from adrpo.flow.prompt_columns import SIDES, Size, size_of
from adrpo.flow.run_prompts import load_held_out, load_texts
from adrpo.metrics import UNSEEN
from adrpo.runs.findings import (
    Findings,
    check_device,
    check_memory,
    check_model,
    check_quantization,
    check_setting,
    note_unfetched,
)
from adrpo.runs.model_folder import PIPELINE_INDEX
from adrpo.runs.start import check_start
from adrpo.runs.trials import Trial

if TYPE_CHECKING:
    from adrpo.flow.drawing import DrawnImages
    from adrpo.flow.models.pipeline_policy import PipelinePolicy
    from adrpo.flow.models.pipeline_sampler import PipelineSampler
    from adrpo.flow.playing import ImagePlayer
    from adrpo.flow.training.loop import TrainingLoop
    from adrpo.rewards.base import Reward

UNFETCHED = 200
"""Prompts that a set counts for in the estimate of memory while it isn't here."""


def build_trainer(config: FlowConfig, *, reward: "Reward | None" = None) -> "TrainingLoop":
    """The trainer of ``config``'s method; arguments as for ``FlowTrainer``."""
    from adrpo.flow.training.adrpo import FlowTrainer
    from adrpo.flow.training.dpo import DPOTrainer
    from adrpo.flow.training.finite_differences import FiniteDifferenceTrainer
    from adrpo.flow.training.flow_grpo import FlowGRPOTrainer

    # Methods whose loss is not that of anchored regression.
    trainers = {
        DpoSection: DPOTrainer,
        FdfoSection: FiniteDifferenceTrainer,
        FlowGrpoSection: FlowGRPOTrainer,
    }
    return trainers.get(type(config.algorithm), FlowTrainer)(config, reward=reward)


class FlowSubject:
    """A text-to-image model that is measured on ``held_out``, by default the held-out prompts of
    ``config``."""

    def __init__(self, config: FlowConfig, held_out: Sequence[Prompt] | None = None) -> None:
        from adrpo.flow.drawing import ImageDrawing
        from adrpo.flow.models.pipeline_sampler import load_sampler
        from adrpo.rewards.loading import build_measured, build_reward

        self.config = config
        settings = config.evaluation
        self.model: PipelinePolicy | PipelineSampler
        prompts = load_held_out(config) if held_out is None else held_out
        self.model, sets = load_sampler(
            config.model, {UNSEEN: prompts}, negative_prompt=config.prompts.negative_prompt
        )
        _begin(self.model, config)
        self.prompts = sets[UNSEEN]
        self.drawing = ImageDrawing(config, self.model, self.prompts)
        self.evaluator: Evaluator[DrawnImages] = Evaluator(
            self.drawing,
            build_reward(config.reward, self.model.device),
            others=build_measured(settings.rewards, self.model.device),
        )

    def guided(self, scale: float) -> "Evaluator[DrawnImages]":
        """The evaluator under classifier-free guidance of ``scale``, with the same prompts, noises
        and rewards."""
        from adrpo.flow.drawing import ImageDrawing

        own, evaluation = self.evaluator, self.config.evaluation
        sampling = evaluation.sampling.model_copy(update={"guidance_scale": scale})
        section = evaluation.model_copy(update={"sampling": sampling})
        config = self.config.model_copy(update={"evaluation": section})
        drawing = ImageDrawing(
            config,
            self.model,
            self.prompts,
            guided=scale,
            clip=self.drawing.clip,
            distances=self.drawing.distances,
        )
        return Evaluator(drawing, own.reward, others=own.others)

    def take(self, final: Path) -> None:
        self.model.load_adapter(final)

    def check(self, final: Path) -> None:
        self.model.check_adapter(final)


def _begin(model: "PipelinePolicy | PipelineSampler", config: FlowConfig) -> None:
    """Give an untrained model the adapter that its training begins with, where one is named.

    Raises AdrpoError where the model can't be trained.
    """
    from adrpo.flow.models.pipeline_sampler import PipelineSampler

    if config.adapter.start_from is None:
        return
    if isinstance(model, PipelineSampler):
        raise AdrpoError(
            f"adapter.start_from: expected null for {type(model.pipeline).__name__}, which is of "
            f"no family that is trained; name the adapter by --lora"
        )
    model.add_adapter(config.adapter)


class FlowDoor:
    """The :class:`~adrpo.evaluation.door.Door` of text-to-image models."""

    packages: tuple[str, ...] = ()
    extra = ""
    options = frozenset({"--steps", "--guidance-scale", "--lora"})
    facts = FACTS
    usual: tuple[str, ...] = ("flow/adrpo", "adapter.target_modules=null")
    own_keys: tuple[str, ...] = ("max_sequence_length", "height", "width")

    def build(
        self, config: FlowConfig, *, reward: Callable[..., Any] | None = None
    ) -> "TrainingLoop":
        return build_trainer(config, reward=reward)

    @contextmanager
    def subject(
        self, config: FlowConfig, held_out: Sequence[Prompt] | None = None
    ) -> Iterator[FlowSubject]:
        yield FlowSubject(config, held_out)

    def check_guidance(self, config: FlowConfig) -> None:
        from adrpo.flow.models.loading import family_of

        family = family_of(config.model)
        if family is not None and family.distilled:
            raise AdrpoError(
                f"--guidance: expected a model with classifier-free guidance; received "
                f"{config.model.pretrained}, whose guidance is distilled into the network; leave "
                f"--guidance out"
            )

    def guided(
        self,
        config: FlowConfig,
        scales: Sequence[float],
        held_out: Sequence[Prompt] | None = None,
    ) -> "Iterator[tuple[float, Evaluator[DrawnImages]]]":
        self.check_guidance(config)
        subject = FlowSubject(config, held_out)
        for scale in scales:
            yield scale, subject.guided(scale)

    def on_prompts(self, config: FlowConfig, source: str) -> FlowConfig:
        section = config.prompts.model_copy(update={"held_out": source})
        return config.model_copy(update={"prompts": section})

    def sample(
        self,
        config: FlowConfig,
        final: Path | None,
        prompts: Sequence[str],
        *,
        size: int,
        seed: int,
        output_dir: Path,
        held_out: Sequence[Prompt] | None = None,
    ) -> Iterator[str]:
        """Files with one image for each prompt; the noise depends on ``seed`` alone."""
        from adrpo.evaluation.playing import with_columns
        from adrpo.flow.models.finite import WAY_OUT
        from adrpo.flow.models.pipeline_sampler import load_sampler
        from adrpo.flow.path.draws import initial_noise

        source, settings = config.prompts.held_out, config.evaluation
        chosen = [with_columns(Prompt(text), held_out or ()) for text in prompts]
        if not chosen:
            with of_setting("prompts.held_out"):
                there = load_texts(source, size=size, seed=seed) if held_out is None else held_out
            chosen = list(there[:size])
        batches = _alike(chosen, settings.batch_size)
        negative = config.prompts.negative_prompt
        model, sets = load_sampler(config.model, batches, negative_prompt=negative)
        _begin(model, config)
        if final is not None:
            model.load_adapter(final)
        # Of all prompts: a picture's noise does not depend on what size the others have.
        x_0 = {
            shape: initial_noise(len(chosen), shape, seed, "sample")
            for shape in dict.fromkeys(batch.shapes[0] for batch in sets.values())
        }
        number = drawn = 0
        for batch in sets.values():
            noise = x_0[batch.shapes[0]][number : number + len(batch)]
            x_1 = model.sample(noise, batch.conditioning, settings.sampling)
            for prompt, image in zip(batch, model.decode(x_1), strict=True):
                file = output_dir / f"{number:03d}.png"
                number += 1
                if image is None:
                    yield f"(no picture: its pixels are not finite)  {prompt.text}"
                    continue
                output_dir.mkdir(parents=True, exist_ok=True)
                image.save(file)
                drawn += 1
                yield f"{file}  {prompt.text}"
        if not drawn:
            raise AdrpoError(
                f"sample: expected finite pixels, received NaN or infinity in all {number} "
                f"pictures; {WAY_OUT}"
            )

    @contextmanager
    def player(
        self, config: FlowConfig, held_out: Sequence[Prompt] | None = None
    ) -> "Iterator[ImagePlayer]":
        """The model with its text encoders, whatever ``model.encoders`` says: any prompt may come.
        It is not compiled, since the strength of its adapter changes."""
        from adrpo.flow.models.loading import load_policy
        from adrpo.flow.playing import ImagePlayer

        section = config.model.model_copy(update={"encoders": "resident", "compile": False})
        policy = load_policy(section, negative_prompt=config.prompts.negative_prompt)
        _begin(policy, config)
        yield ImagePlayer(config, policy, load_held_out(config) if held_out is None else held_out)

    def embedded(self) -> Mapping[str, Callable[[], object]]:
        from functools import partial

        from adrpo.flow.models.loading import load_policy
        from adrpo.rewards.image import EMBEDDED, ClipScore

        clips = {folder: partial(ClipScore, name, "cpu") for name, folder in EMBEDDED.items()}
        return {"pipeline": lambda: load_policy(FlowModelSection()), **clips}

    def tried(self, config: FlowConfig) -> list[Trial]:
        return self.build(config).tried()

    def reads(self, described: Mapping[str, Any]) -> bool:
        return PIPELINE_INDEX in described

    def check(self, findings: Findings, config: FlowConfig) -> None:
        from adrpo.flow.memory.advice import memory_lines
        from adrpo.flow.memory.architectures import published_bytes
        from adrpo.flow.models.loading import resolve_device
        from adrpo.rewards.image import EMBEDDED

        pretrained = config.model.pretrained
        check_model(findings, "model", pretrained, known=published_bytes(pretrained))
        check_start(findings, config.adapter)
        if config.evaluation.clip is not None:
            check_model(findings, "evaluation.clip", config.evaluation.clip, embedded=EMBEDDED)
        for notice in config.notices():
            key, _, said = notice.partition(": ")
            findings.note(key, said)
        _check_distances(findings, config)
        check_quantization(findings, config.model.quantization)
        optimizer = None if config.training.optimizer == "adamw" else config.training.optimizer
        check_setting(findings, "training.optimizer", optimizer, "bitsandbytes", "adamw")
        prompts, sizes = _check_prompts(findings, config)
        _check_sizes(findings, config, sizes)
        device = str(resolve_device(config.model.device))
        check_device(findings, device)
        check_memory(findings, device, lambda free: memory_lines(config, prompts, free, sizes))


def _check_sizes(findings: Findings, config: FlowConfig, sizes: set[Size]) -> None:
    """Say which side of an image is too long for the table of positions of an SD3 whose files are
    here; the other families have places for all."""
    from adrpo.flow.memory.architectures import find_architecture
    from adrpo.flow.models.geometry import Geometry

    try:
        architecture = find_architecture(config.model.pretrained)
    except AdrpoError:
        return  # its files are damaged, which the memory's line says
    places = None if architecture is None else architecture.transformer.get("pos_embed_max_size")
    if architecture is None or places is None:
        return
    geometry = Geometry(
        channels=architecture.latent_channels,
        factor=architecture.pixels_per_latent,
        multiple=architecture.pixels_per_token,
        default=architecture.default_side,
        largest=places * architecture.pixels_per_token,
    )
    own = (config.model.height, config.model.width)
    for where, size in (("model.", own), *(("prompts: the column ", size) for size in sizes)):
        sides = {side: pixels for side, pixels in zip(SIDES, size, strict=True) if pixels}
        try:
            geometry.check(architecture.family, where, **sides)
        except AdrpoError as error:
            findings.bad(*str(error).split(": ", 1))


def _check_distances(findings: Findings, config: FlowConfig) -> None:
    """Say whether the network and the pictures of ``evaluation.distances`` are there."""
    from adrpo.data.pictures import pictures_in
    from adrpo.flow.distances import KEY, is_folder
    from adrpo.rewards.image import EMBEDDED

    settings = config.evaluation.distances
    if settings is None:
        return
    check_model(findings, "evaluation.distances.features", settings.features, embedded=EMBEDDED)
    if not is_folder(settings.references):
        return
    try:
        found = pictures_in(Path(settings.references).expanduser(), KEY)
    except AdrpoError as error:
        findings.bad(KEY, str(error))
    else:
        findings.ok(KEY, f"{len(found)} pictures in {settings.references}")


def _alike(prompts: Sequence[Prompt], at_once: int) -> dict[str, list[Prompt]]:
    """The ``prompts`` in batches of one size each, in their order."""
    batches: list[list[Prompt]] = []
    for _, alike in groupby(prompts, size_of):
        group = list(alike)
        batches += [group[start : start + at_once] for start in range(0, len(group), at_once)]
    return {str(number): batch for number, batch in enumerate(batches)}


def _check_prompts(findings: Findings, config: FlowConfig) -> tuple[int, set[Size]]:
    """Number of prompts to encode, and their sizes; a set that is still to be fetched counts as
    UNFETCHED."""
    prompts = config.prompts
    sets = {
        "train": (prompts.train, prompts.train_size, config.training.seed),
        "held_out": (prompts.held_out, prompts.held_out_size, config.evaluation.seed),
    }
    total = config.evaluation.seen_prompts
    found: list[list[Prompt]] = []
    for name, (source, size, seed) in sets.items():
        if is_unfetched(source):
            total += UNFETCHED
            note_unfetched(findings, f"prompts.{name}", source)
            continue
        try:
            chosen = load_texts(source, size=size, seed=seed)
            _check_pictures(config, chosen)
            found.append(chosen)
        except AdrpoError as error:
            findings.bad(f"prompts.{name}", str(error))
        else:
            total += len(found[-1])
            findings.ok(f"prompts.{name}", f"{len(found[-1])} from {source}")
    if len(found) == len(sets):
        train, held_out = found
        if (shared := shared_prompts(train, held_out, by_original_and_words)) is not None:
            findings.bad("prompts", shared)
    return total, {size_of(prompt) for part in found for prompt in part}


def _check_pictures(config: FlowConfig, prompts: Sequence[Prompt]) -> None:
    """Raise AdrpoError where the model edits pictures and ``prompts`` lack them, and warn where it
    edits none and they have them, as far as its family is known without a download."""
    from adrpo.flow.memory.architectures import find_architecture
    from adrpo.flow.models.loading import SUPPORTED

    architecture = find_architecture(config.model.pretrained)
    family = None if architecture is None else SUPPORTED.get(architecture.family)
    if architecture is not None and family is not None:
        check_originals(architecture.family, prompts, edits=family.edits)


DOOR: Door = FlowDoor()
