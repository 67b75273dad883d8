"""The prompts of a run of the domain ``flow``: texts, from one source each for both parts."""

from dataclasses import replace

from adrpo.config import FlowConfig
from adrpo.data import Prompt, load_prompts
from adrpo.errors import AdrpoError


def load_train(config: FlowConfig) -> list[Prompt]:
    """The prompts that are trained on.

    Raises AdrpoError for a source that can't be read, or that holds conversations.
    """
    prompts = config.prompts
    return load_texts(prompts.train, size=prompts.train_size, seed=config.training.seed)


def load_held_out(config: FlowConfig) -> list[Prompt]:
    """The prompts that training never sees; errors as of :func:`load_train`."""
    prompts = config.prompts
    return load_texts(prompts.held_out, size=prompts.held_out_size, seed=config.evaluation.seed)


def load_texts(source: str, *, size: int, seed: int) -> list[Prompt]:
    """:func:`~adrpo.data.load_prompts` as a text-to-image model takes them: texts, without the
    spaces around them."""
    texts: list[Prompt] = []
    for prompt in load_prompts(source, size=size, seed=seed):
        if not isinstance(prompt.content, str):
            raise AdrpoError(
                f"{source}: expected texts, which a text-to-image model takes, received a "
                f"conversation that ends with {prompt.text[:60]!r}; name a source of texts"
            )
        texts.append(replace(prompt, content=prompt.content.strip()))
    return texts
