"""GPU memory of a training before anything is loaded: a sum with its assumptions.

Resident are the frozen weights in ``model.dtype``, the adapter in float32 with its gradient,
moments and averages, reward and evaluation models in float32, the prompts' embeddings, and what a
method keeps of a step's trajectories until its last update. On top comes the largest of what an
update, the sampler and the autoencoder need at a time, or the joining of those trajectories:

    update    what autograd keeps of ``micro_batch_size`` rows (``kept_bytes``), and the block at
              work (``AtWork``)
    sampling  the block at work, twice as many rows with classifier-free guidance
    decoding  maps of the decoder's last stage, at the image's full size, and the images

``python benchmarks/memory_count.py`` holds these to torch's own count at the published sizes.

Quantised weights take a byte each, or a little more than half of one in 4 bits; an update holds
those of one block in ``model.dtype`` beside them, since autograd keeps what a layer of 8 bits
multiplied by. A layer of 4 bits keeps none; the block's are counted all the same.

Added on top: ``OVERHEAD`` bytes for the CUDA context and allocator waste. Assumed: attention that
keeps no matrix of scores (torch's fused kernels), adapters on all attention layers, and prompts
as long as ``max_sequence_length``, also where a pipeline reads all of them.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from adrpo.flow.memory.architectures import Architecture
from adrpo.flow.memory.blocks import STACKS, find_at_work
from adrpo.flow.models.quantization import BLOCK_WEIGHTS
from adrpo.flow.training.pairs import BATCH as PAIRS_BATCH
from adrpo.memory import BYTES, QUANTIZED, Estimate, with_settings

if TYPE_CHECKING:
    from adrpo.config import FlowConfig

CLIP_TOKENS = 77
"""Tokens of SD3's CLIP encoders, ahead of T5's."""


SEEN_PIXELS = 28
"""Side of a token of Qwen2.5-VL's pictures in pixels, to whose multiple they are scaled."""


def image_tokens(architecture: Architecture, config: "FlowConfig") -> int:
    """Tokens of an image in the transformer, and of the original that it edits, if any."""
    sizes = [image_size(architecture, config), *original_sizes(architecture, config)]
    side = architecture.pixels_per_token
    return sum((height // side) * (width // side) for height, width in sizes)


def original_sizes(architecture: Architecture, config: "FlowConfig") -> list[tuple[int, int]]:
    """Height and width of the original that an image edits, in pixels; none where it edits none."""
    from adrpo.flow.models.edits import Edits
    from adrpo.flow.models.loading import SUPPORTED

    family = SUPPORTED[architecture.family]
    if not issubclass(family, Edits):
        return []
    return [family.original_size(*image_size(architecture, config))]


def latent_numbers(architecture: Architecture, config: "FlowConfig") -> int:
    """Numbers of an image's latents."""
    height, width = image_size(architecture, config)
    side = architecture.pixels_per_latent
    return (height // side) * (width // side) * architecture.latent_channels


def text_tokens(architecture: Architecture, config: "FlowConfig") -> int:
    """Tokens of a prompt, the longest that the configuration lets through, and those of the
    original where the text encoder sees it."""
    from adrpo.flow.models.loading import SUPPORTED

    if config.model.pretrained == "embedded":
        return 17  # 16 of CLIP and 1 in T5's place
    longest = config.model.max_sequence_length or SUPPORTED[architecture.family].tokens
    if architecture.family == "QwenImageEditPipeline":
        ((height, width),) = original_sizes(architecture, config)
        return longest + round(height / SEEN_PIXELS) * round(width / SEEN_PIXELS)
    return longest + (CLIP_TOKENS if architecture.family == "StableDiffusion3Pipeline" else 0)


def kept_bytes(
    architecture: Architecture,
    image: int,
    text: int,
    *,
    dtype: str,
    rank: int,
    checkpointing: bool = False,
) -> float:
    """Bytes that autograd keeps of one row of ``image`` and ``text`` tokens.

        sum over the parts of blocks of tokens (width (native b + 4 wide) + 4 rank adapted)

    with b the bytes of a half-precision ``dtype``; 4 full in place of the inner sum for float32.
    With ``checkpointing`` the inputs of blocks alone, width b a token, and all of one block: the
    most that there is at a time, as blocks compute again from the last to the first, and a block's
    input goes with it.
    """
    width, size = architecture.width, BYTES[dtype]
    everything, inputs, most = 0.0, 0.0, 0.0
    for stack in STACKS[architecture.family](architecture.transformer, image, text):
        block = 0.0
        for tokens, kept in stack.parts:
            numbers = 4 * kept.full if size == 4 else size * kept.native + 4 * kept.wide
            block += tokens * (width * numbers + 4 * rank * kept.adapted)
        everything += stack.blocks * block
        inputs += stack.blocks * stack.parts[0][0] * width * size
        if stack.blocks:
            most = max(most, inputs + block)
    return most if checkpointing else everything


def adapter_parameters(architecture: Architecture, rank: int, targets: Sequence[str] | None) -> int:
    """Numbers of the LoRA adapter: rank (in + out) for each adapted layer of the attention."""
    from adrpo.flow.models.loading import SUPPORTED

    endings = tuple(
        f".{target}" for target in targets or SUPPORTED[architecture.family].lora_targets
    )
    layers = architecture.attention_layers().items()
    widths = sum(both for name, both in layers if name.endswith(endings))
    return round(widths * rank * architecture.width)


def estimate(
    architecture: Architecture,
    config: "FlowConfig",
    *,
    prompts: int = 0,
    scorers: float = 0.0,
    uncounted: Iterable[str] = (),
) -> Estimate:
    """Memory of training ``config``.

    Args:
        architecture: of ``config.model``.
        prompts: number of prompts whose embeddings are held.
        scorers: parameters of reward and evaluation models.
        uncounted: names of models of unknown size.
    """
    model = config.model
    size, counts = BYTES[model.dtype], architecture.parameters
    return Estimate(
        resident={
            "transformer": _transformer_bytes(architecture, config),
            "text encoders": 0.0
            if model.encoders == "released"
            else size * architecture.encoder_parameters,
            "autoencoder": size * counts["vae"],
            "adapter and optimizer": _adapter_bytes(architecture, config),
            "reward and evaluation models": 4 * scorers,
            "prompt embeddings": size * _prompt_numbers(architecture, config) * prompts,
            "trajectories": trajectory_bytes(architecture, config)[0],
        },
        working=_working(architecture, config),
        uncounted=tuple(uncounted),
    )


def _prompt_numbers(architecture: Architecture, config: "FlowConfig") -> int:
    """Numbers of a prompt's embedding, and of the latents of the original that it edits; where a
    negative prompt is read with it, too, of both embeddings."""
    from adrpo.flow.models.edits import GuidedEdits
    from adrpo.flow.models.loading import SUPPORTED

    context = text_tokens(architecture, config) * architecture.context_width
    read = 2 if issubclass(SUPPORTED[architecture.family], GuidedEdits) else 1
    area, channels = architecture.pixels_per_latent**2, architecture.latent_channels
    pixels = (height * width for height, width in original_sizes(architecture, config))
    return read * context + sum(count // area * channels for count in pixels)


def _transformer_bytes(architecture: Architecture, config: "FlowConfig") -> float:
    """Bytes of the frozen weights; a table of positions is not quantised."""
    size, count = BYTES[config.model.dtype], architecture.parameters["transformer"]
    if config.model.quantization is None:
        return size * count
    quantised = count - architecture.position_table
    return QUANTIZED[config.model.quantization] * quantised + size * architecture.position_table


def _adapter_bytes(architecture: Architecture, config: "FlowConfig") -> float:
    """Weights, gradient, two moments and the other adapters that are kept beside it."""
    adapter, training = config.adapter, config.training
    moments = 2 if training.optimizer == "adamw_8bit" else 8
    algorithm = config.algorithm
    averages = sum(
        (
            training.ema_decay is not None,
            getattr(algorithm, "anchor", "base") in ("ema", "copied"),
            getattr(algorithm, "sampling_policy", None) is not None,
            getattr(algorithm, "old", None) is not None,
        )
    )
    count = adapter_parameters(architecture, adapter.rank, adapter.target_modules)
    return count * (4 + 4 + moments + 4 * averages)


def trajectory_bytes(architecture: Architecture, config: "FlowConfig") -> tuple[float, float]:
    """Bytes that a step's trajectories take, in float32: until the last update, and beside that
    while the parts that were drawn at a time are joined.

    With N samples, S steps and latents of n numbers, Flow-GRPO keeps both ends of its S - 1 noisy
    steps, 2 (S - 1) N n, and joins all S + 1 points, there twice. FDFO keeps S points, the
    velocities found there and each sample's direction, (2 S + 1) N n, and joins them with their
    parts still there, at most three of these S and two of the ends. Other methods keep their
    samples alone, which are not counted.
    """
    training, steps = config.training, config.sampling.steps
    samples = training.prompts_per_step * training.samples_per_prompt
    step = 4 * samples * latent_numbers(architecture, config)
    if config.algorithm.method == "flow_grpo":
        return 2 * (steps - 1) * step, 2 * (steps + 1) * step
    if config.algorithm.method == "fdfo":
        return (2 * steps + 1) * step, (3 * steps + 2) * step
    return 0.0, 0.0


def rows_at_a_time(config: "FlowConfig") -> int:
    """Path points whose loss is computed in one call."""
    training = config.training
    samples = training.prompts_per_step * training.samples_per_prompt
    return min(training.micro_batch_size, samples * training.timesteps_per_sample)


def images_at_a_time(config: "FlowConfig") -> int:
    """Images that are drawn and decoded in one call, the most of training and evaluation."""
    training = config.training
    samples = training.prompts_per_step * training.samples_per_prompt
    images = max(min(training.micro_batch_size, samples), config.evaluation.batch_size)
    return max(images, PAIRS_BATCH) if config.algorithm.method == "dpo" else images


def most_guided(config: "FlowConfig") -> float:
    """The greatest guidance that an image is drawn, measured or held to the reference with."""
    return max(config.guidance_scales.values())


def _working(architecture: Architecture, config: "FlowConfig") -> dict[str, float]:
    model, training = config.model, config.training
    size = BYTES[model.dtype]
    image, text = image_tokens(architecture, config), text_tokens(architecture, config)
    one_width = architecture.width * (image + text) * size
    at_work = find_at_work(architecture.family, architecture.transformer)
    rows, images = rows_at_a_time(config), images_at_a_time(config)
    kept = kept_bytes(
        architecture,
        image,
        text,
        dtype=model.dtype,
        rank=config.adapter.rank,
        checkpointing=model.gradient_checkpointing,
    )
    height, width = tile_height, tile_width = image_size(architecture, config)
    if model.vae_tiling:
        tile = architecture.vae.get("sample_size") or 256
        tile_height, tile_width = min(height, tile), min(width, tile)
    pixels = tile_height * tile_width
    maps = architecture.decoder_maps * architecture.decoder_width * pixels * size
    return {
        "update": rows
        * _doubled(architecture, training.guidance_scale)
        * (kept + at_work.backward * one_width)
        + (size * BLOCK_WEIGHTS * architecture.width**2 if model.quantization else 0),
        "sampling": images
        * _doubled(architecture, most_guided(config))
        * at_work.forward
        * one_width,
        "decoding": (1 if model.vae_slicing else images) * maps
        + images * 3 * height * width * size,
        "joining trajectories": trajectory_bytes(architecture, config)[1],
    }


def _doubled(architecture: Architecture, guidance_scale: float) -> int:
    """Rows of the network for each row asked for."""
    from adrpo.flow.models.loading import SUPPORTED

    return 2 if guidance_scale != 1 and not SUPPORTED[architecture.family].distilled else 1


def image_size(architecture: Architecture, config: "FlowConfig") -> tuple[int, int]:
    """Height and width of an image in pixels."""
    side = architecture.default_side
    return config.model.height or side, config.model.width or side


def cheaper(config: "FlowConfig") -> list[tuple[str, "FlowConfig"]]:
    """Changes that need less memory, what changes the result least first: (key=value, changed)."""
    model, training, evaluation = config.model, config.training, config.evaluation
    changes: list[tuple[str, str, object]] = []
    if model.encoders == "resident":
        changes.append(("model", "encoders", "released"))
    if not model.gradient_checkpointing:
        changes.append(("model", "gradient_checkpointing", True))
    if not model.vae_slicing:
        changes.append(("model", "vae_slicing", True))
    if training.micro_batch_size > 1:
        changes.append(("training", "micro_batch_size", training.micro_batch_size // 2))
    if evaluation.batch_size > 1:
        changes.append(("evaluation", "batch_size", evaluation.batch_size // 2))
    if not model.vae_tiling:
        changes.append(("model", "vae_tiling", True))
    if model.dtype == "float32":
        changes.append(("model", "dtype", "bfloat16"))
    if training.optimizer == "adamw":
        changes.append(("training", "optimizer", "adamw_8bit"))
    forms = sorted(QUANTIZED, key=lambda form: -QUANTIZED[form])
    smaller = forms[forms.index(model.quantization) + 1 :] if model.quantization else forms
    changes += [("model", "quantization", form) for form in smaller]
    return with_settings(config, changes)
