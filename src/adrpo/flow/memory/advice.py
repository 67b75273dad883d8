"""The memory that ``adrpo doctor`` expects a recipe to take, beside the memory that is there."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from adrpo.flow.memory.architectures import Architecture, count_parameters, find_architecture
from adrpo.flow.memory.estimate import OVERHEAD, Estimate, cheaper, estimate

if TYPE_CHECKING:
    from adrpo.config import FlowConfig, RewardTermSection

GIGABYTE = 1e9
CARDS = (8, 12, 16, 24, 32, 40, 48, 80, 96, 141)
"""Sizes in which cards are sold, in GB."""

HEADROOM = 0.1
"""Share of a GPU that is left free: estimates err, and a desktop takes some."""

SCORERS = {
    "openai/clip-vit-base-patch32": 151_277_313,
    "openai/clip-vit-large-patch14": 427_616_513,
    "yuvalkirstain/PickScore_v1": 986_109_441,
}
"""Parameters of models that score, where they are not on this machine."""

FROM_WEIGHTS = {
    "aesthetic": 927_969,
    "blip_score": 445_737_984,
    "image_reward": 446_665_953,
}
"""Reward -> parameters of the published file that its option ``weights`` names."""

CLIP_OF = {
    "aesthetic": ("clip", "openai/clip-vit-large-patch14"),
    "pick_score": ("model", "yuvalkirstain/PickScore_v1"),
}
"""Reward -> the option that names its CLIP, and the CLIP of a term that lacks it."""


def memory_lines(config: "FlowConfig", prompts: int, available: float | None) -> list[str]:
    """The estimate in words: the sum beside ``available`` bytes of the GPU (None: there is none),
    its parts, and what to lower first where it does not fit."""
    architecture = find_architecture(config.model.pretrained)
    if architecture is None:
        return [
            f"unknown: {config.model.pretrained} is neither on this machine nor in the table of "
            f"published models (adrpo/flow/memory/architectures.py)"
        ]
    found = estimate_recipe(architecture, config, prompts)
    lines = [_verdict(found.total, available)]
    lines.append("resident " + ", ".join(_parts(found.resident.items())))
    lines.append("one at a time " + ", ".join(_parts(found.working.items())))
    lines.append(f"CUDA itself {_size(OVERHEAD)}; the sum takes the largest of those at a time")
    if found.uncounted:
        lines.append(f"not counted, of unknown size: {', '.join(found.uncounted)}")
    if available is not None and found.total > (1 - HEADROOM) * available:
        lines.append(_advice(architecture, config, prompts, found.total, available))
    return lines


def _verdict(total: float, available: float | None) -> str:
    if available is None:
        card = next((size for size in CARDS if (1 - HEADROOM) * size * GIGABYTE >= total), None)
        needed = f"a card of {card} GB" if card else "more than one card"
        return f"about {_size(total)}; no GPU here: it needs {needed}"
    fits = total <= (1 - HEADROOM) * available
    verdict = "fits" if fits else "does not fit with a tenth of it left free"
    return f"about {_size(total)} of the GPU's {_size(available)}: {verdict}"


def _advice(
    architecture: Architecture,
    config: "FlowConfig",
    prompts: int,
    total: float,
    available: float,
) -> str:
    """The first change that makes it fit, else the one that saves most."""
    totals = {
        change: estimate_recipe(architecture, changed, prompts).total
        for change, changed in cheaper(config)
    }
    enough = [change for change, after in totals.items() if after <= (1 - HEADROOM) * available]
    first = enough[0] if enough else min(totals, key=lambda change: totals[change])
    if totals[first] >= total:
        return "no setting that adrpo knows saves more: take a smaller model or a larger card"
    more = "" if enough else ", which is not enough: ask doctor again with it"
    return f"first set {first}: about {_size(totals[first])}{more}"


def estimate_recipe(architecture: Architecture, config: "FlowConfig", prompts: int) -> Estimate:
    """Memory of training ``config``, whose ``prompts`` are held, and of the models that score."""
    clip = config.evaluation.clip
    scorers = [(f"evaluation.clip {clip}", _scorer_parameters(clip))]
    scorers += [_reward_parameters(term) for term in (*config.reward, *config.evaluation.rewards)]
    return estimate(
        architecture,
        config,
        prompts=prompts,
        scorers=sum(size for _, size in scorers if size),
        uncounted=[what for what, size in scorers if size is None],
    )


def _reward_parameters(term: "RewardTermSection") -> tuple[str, int | None]:
    """A reward with its model in words, and the parameters that it has on the GPU."""
    option, default = CLIP_OF.get(term.name, ("model", None))
    model = term.options.get(option, default)
    what = f"{term.name} {model}" if model else term.name
    if term.options.get("device") == "cpu":
        return what, 0
    of_weights = FROM_WEIGHTS.get(term.name)
    if model is None:
        return what, of_weights
    size = _scorer_parameters(model)
    return what, None if size is None else size + (of_weights or 0)


def _scorer_parameters(model: object) -> int | None:
    """Parameters of a CLIP model by its name or folder; None where nothing tells."""
    from adrpo.embedded.weights import weights_path
    from adrpo.rewards.image import EMBEDDED

    if not isinstance(model, str):
        return None
    if model in EMBEDDED:
        return count_parameters(weights_path(EMBEDDED[model]))
    return SCORERS.get(model) or count_parameters(Path(model)) or None


def _parts(items: Iterable[tuple[str, float]]) -> list[str]:
    return [f"{name} {_size(size)}" for name, size in items if size]


def _size(count: float) -> str:
    return f"{count / GIGABYTE:.2g} GB" if count < 10 * GIGABYTE else f"{count / GIGABYTE:.0f} GB"
