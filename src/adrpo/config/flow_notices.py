"""Settings of text-to-image models that are allowed and hardly meant, and what is said of them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adrpo.config.flow import FlowConfig

TOY = "embedded"
"""Beginning of the names of models that ship with the package and know its world alone."""

TOY_UNLESS_NAMED = ("clip_score", "clip_novelty")
"""Rewards whose model is a toy where ``options`` name none."""


def told_of_guidance(config: "FlowConfig") -> list[str]:
    """A line where a negative prompt has no effect."""
    scales = config.guidance_scales
    if config.prompts.negative_prompt is None or max(scales.values()) != 1:
        return []
    keys = ", ".join(scales)
    return [f"prompts.negative_prompt: has no effect, since guidance is off: {keys} are 1"]


def told_of_toys(config: "FlowConfig") -> list[str]:
    """A line for each toy that judges a real model."""
    if config.model.pretrained.startswith(TOY):
        return []
    toys = {"evaluation.clip": config.evaluation.clip}
    for key, terms in (
        ("reward", config.reward),
        ("evaluation.rewards", config.evaluation.rewards),
    ):
        for place, term in enumerate(terms):
            default = TOY if term.name in TOY_UNLESS_NAMED else ""
            toys[f"{key}.{place}.options.model"] = str(term.options.get("model", default))
    return [
        f"{key}: {name} is a toy that ships with the package and knows pictures of its own "
        f"scenes alone; of {config.model.pretrained} it says nothing: name a real one"
        f"{', or null' if key == 'evaluation.clip' else ''}"
        for key, name in toys.items()
        if name is not None and name.startswith(TOY)
    ]
