"""The prompts of a run of the domain ``flow``: texts, from one source each for both parts."""

import warnings
from dataclasses import replace

from adrpo.config import FlowConfig
from adrpo.data import Prompt, load_prompts
from adrpo.data.prompts import folder_of
from adrpo.errors import AdrpoError, AdrpoWarning, of_setting
from adrpo.flow.originals import located
from adrpo.flow.prompt_columns import NEGATIVE, check_columns, negative_prompt_of


def load_train(config: FlowConfig) -> list[Prompt]:
    """The prompts that are trained on.

    Raises AdrpoError for a source that can't be read, or that holds conversations.
    """
    prompts = config.prompts
    with of_setting("prompts.train"):
        found = load_texts(prompts.train, size=prompts.train_size, seed=config.training.seed)
    return _told(config, found)


def load_held_out(config: FlowConfig) -> list[Prompt]:
    """The prompts that training never sees; errors as of :func:`load_train`."""
    prompts, seed = config.prompts, config.evaluation.seed
    with of_setting("prompts.held_out"):
        found = load_texts(prompts.held_out, size=prompts.held_out_size, seed=seed)
    return _told(config, found)


def _told(config: FlowConfig, prompts: list[Prompt]) -> list[Prompt]:
    """``prompts``; a warning says so where they have negative ones, and guidance is off."""
    scales = config.guidance_scales
    if max(scales.values()) == 1 and any(map(negative_prompt_of, prompts)):
        warnings.warn(
            f"prompts: the column {NEGATIVE} has no effect, since guidance is off: "
            f"{', '.join(scales)} are 1",
            AdrpoWarning,
            stacklevel=3,
        )
    return prompts


def load_texts(source: str, *, size: int, seed: int) -> list[Prompt]:
    """:func:`~adrpo.data.load_prompts` as a text-to-image model takes them: texts, without the
    spaces around them, negative prompts that are texts, and originals that are found from
    everywhere."""
    texts: list[Prompt] = []
    for prompt in load_prompts(source, size=size, seed=seed):
        if not isinstance(prompt.content, str):
            raise AdrpoError(
                f"{source}: expected texts, which a text-to-image model takes, received a "
                f"conversation that ends with {prompt.text[:60]!r}; name a source of texts"
            )
        texts.append(replace(prompt, content=prompt.content.strip()))
    check_columns(source, texts)
    return located(texts, folder_of(source))
