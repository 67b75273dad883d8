"""The memory that ``adrpo doctor`` expects a recipe to take, beside the memory that is there."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from adrpo.errors import reading
from adrpo.flow.memory.architectures import Architecture, count_parameters, find_architecture
from adrpo.flow.memory.blocks import STACKS
from adrpo.flow.memory.estimate import cheaper, estimate, image_size
from adrpo.memory import UNKNOWN, Estimate, estimate_lines
from adrpo.runs.published_sizes import FEATURES, SCORERS

if TYPE_CHECKING:
    from collections.abc import Collection

    from adrpo.config import FlowConfig, RewardTermSection
    from adrpo.flow.prompt_columns import Size

FROM_WEIGHTS = {
    "aesthetic": 927_969,
    "blip_score": 445_737_984,
    "image_reward": 446_665_953,
}
"""Reward -> parameters of the published file that its option ``weights`` names."""

WITHOUT_MODEL = ("http_reward", "jpeg_size", "scene_judge", "scene_judge_strict", "vlm_judge")
"""Rewards that are arithmetic, or whose model is on another machine."""

MODEL_OF = {
    "aesthetic": ("clip", "openai/clip-vit-large-patch14"),
    "pick_score": ("model", "yuvalkirstain/PickScore_v1"),
    "unified_reward": ("model", "CodeGoat24/UnifiedReward-qwen-3b"),
}
"""Reward -> the option that names its model, and the model of a term that lacks it."""

IN_16_BITS = ("unified_reward",)
"""Rewards whose weights take half the room of the others', unless they ask for float32."""


def memory_lines(
    config: "FlowConfig",
    prompts: int,
    available: float | None,
    sizes: "Collection[Size]" = (),
) -> list[str]:
    """The estimate in words (``estimate_lines``), for a GPU of ``available`` bytes or for none, of
    the largest of the ``sizes`` of the prompts' images."""
    architecture = find_architecture(config.model.pretrained)
    if architecture is None:
        return [
            f"{UNKNOWN}{config.model.pretrained} is neither on this machine nor in the table of "
            f"published models (adrpo/flow/memory/architectures.py)"
        ]
    if architecture.family not in STACKS:
        return [
            f"{UNKNOWN}no estimate for {architecture.family}, because nothing says yet what "
            f"training keeps of its blocks; known are {', '.join(STACKS)} "
            f"(docs/extend/add-a-model.md)"
        ]
    where = f"model.pretrained: expected the sizes of a pipeline in {config.model.pretrained}"
    with reading(where, "download it again, or name another"):
        config = at_the_largest(architecture, config, sizes)
        totals = {
            change: estimate_recipe(architecture, changed, prompts).total
            for change, changed in cheaper(config)
        }
        return estimate_lines(estimate_recipe(architecture, config, prompts), totals, available)


def at_the_largest(
    architecture: Architecture, config: "FlowConfig", sizes: "Collection[Size]"
) -> "FlowConfig":
    """The configuration with images of the largest of ``sizes``, whose sides are its own where they
    are None."""
    own = image_size(architecture, config)
    found = [(height or own[0], width or own[1]) for height, width in sizes] or [own]
    height, width = max(found, key=math.prod)
    model = config.model.model_copy(update={"height": height, "width": width})
    return config.model_copy(update={"model": model})


def estimate_recipe(architecture: Architecture, config: "FlowConfig", prompts: int) -> Estimate:
    """Memory of training ``config``, whose ``prompts`` are held, and of the models that score."""
    clip = config.evaluation.clip
    scorers = [] if clip is None else [(f"evaluation.clip {clip}", _scorer_parameters(clip))]
    distances = config.evaluation.distances
    if distances is not None:
        features = distances.features
        scorers.append((f"evaluation.distances {features}", _scorer_parameters(features)))
    scorers += [_reward_parameters(term) for term in (*config.reward, *config.evaluation.rewards)]
    return estimate(
        architecture,
        config,
        prompts=prompts,
        scorers=sum(size for _, size in scorers if size),
        uncounted=[what for what, size in scorers if size is None],
    )


def _reward_parameters(term: "RewardTermSection") -> tuple[str, int | None]:
    """A reward with its model in words, and the parameters that it has on the GPU, two in 16 bits
    counted as one."""
    option, default = MODEL_OF.get(term.name, ("model", None))
    model = term.options.get(option, default)
    what = f"{term.name} {model}" if model else term.name
    if term.options.get("device") == "cpu" or term.name in WITHOUT_MODEL:
        return what, 0
    of_weights = FROM_WEIGHTS.get(term.name)
    if model is None:
        return what, of_weights
    size = _scorer_parameters(model)
    if size is None:
        return what, None
    halved = term.name in IN_16_BITS and term.options.get("dtype") != "float32"
    return what, size // 2 if halved else size + (of_weights or 0)


def _scorer_parameters(model: object) -> int | None:
    """Parameters of a CLIP model by its name or folder; None where nothing tells."""
    from adrpo.embedded.weights import weights_path
    from adrpo.rewards.image import EMBEDDED

    if not isinstance(model, str):
        return None
    if model in EMBEDDED:
        return count_parameters(weights_path(EMBEDDED[model]))
    return (SCORERS | FEATURES).get(model) or count_parameters(Path(model)) or None
