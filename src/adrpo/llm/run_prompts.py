"""The prompts of a run of the domain ``llm``: texts or conversations, and how TRL is given them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from adrpo.config import LanguageConfig, LanguagePromptsSection
from adrpo.data.base import Prompt, columns_of
from adrpo.data.prompts import load_all, load_both, load_prompts
from adrpo.errors import AdrpoError, of_setting
from adrpo.rewards.scoring import check_takes

if TYPE_CHECKING:
    from datasets import Dataset

    from adrpo.llm.training_reward import TrainingReward

PLACE = "place"
"""The one column beside the prompts in what TRL trains on: where a prompt stands among them."""


def load_train(config: LanguageConfig) -> list[Prompt]:
    """The prompts that are trained on, in a fixed order.

    Raises AdrpoError for a source that can't be read, that is too small to hold anything out, or
    that mixes texts and conversations.
    """
    prompts = config.prompts
    with of_setting("prompts.source"):
        if prompts.held_out is None:
            return _checked(_both(prompts)[0], prompts.source)
        found = load_all(
            prompts.source,
            size=prompts.train_size,
            seed=prompts.split_seed,
            column=prompts.column,
            cut_answers=prompts.cut_answers,
        )
        return _checked(found[: prompts.train_size], prompts.source)


def load_held_out(config: LanguageConfig) -> list[Prompt]:
    """The prompts that training never sees; errors as of :func:`load_train`.

    What is trained on is not looked at where they have a source of their own.
    """
    prompts = config.prompts
    if prompts.held_out is None:
        with of_setting("prompts.source"):
            return _checked(_both(prompts)[1], prompts.source)
    with of_setting("prompts.held_out"):
        found = load_prompts(
            prompts.held_out,
            size=prompts.held_out_size,
            seed=prompts.split_seed,
            column=prompts.column,
            cut_answers=prompts.cut_answers,
        )
        return _checked(found[: prompts.held_out_size], prompts.held_out)


def _both(prompts: LanguagePromptsSection) -> tuple[list[Prompt], list[Prompt]]:
    return load_both(
        prompts.source,
        share=prompts.held_out_share,
        seed=prompts.split_seed,
        train_size=prompts.train_size,
        held_out_size=prompts.held_out_size,
        column=prompts.column,
        cut_answers=prompts.cut_answers,
    )


def _checked(prompts: list[Prompt], source: str) -> list[Prompt]:
    """``prompts``, all in one form: TRL reads the form of a batch from its first prompt."""
    forms = {isinstance(prompt.content, str): prompt for prompt in prompts}
    if len(forms) > 1:
        raise AdrpoError(
            f"{source}: expected texts or conversations, received both: the text that begins "
            f"{forms[True].text[:40]!r} and the conversation that ends with "
            f"{forms[False].text[:40]!r}; write all of them in one form"
        )
    return prompts


def training_set(prompts: Sequence[Prompt]) -> "Dataset":
    """``prompts`` as TRL trains on them, which gives rewards :data:`PLACE` instead of columns.

    Arrow would turn a column's 1 into 1.0 beside a 2.5, fill dictionaries with None, and refuse
    numbers beside texts: rewards would not be given what evaluations give them.
    """
    from datasets import Dataset

    try:
        return Dataset.from_list(
            [{"prompt": prompt.content, PLACE: place} for place, prompt in enumerate(prompts)]
        )
    except (TypeError, ValueError) as error:  # Arrow's
        raise AdrpoError(
            f"prompts: expected messages whose keys beside role and content have values of one "
            f"type each; received several ({' '.join(str(error).split())[:200]}); leave them out"
        ) from error


def with_columns(
    reward: "TrainingReward", prompts: Sequence[Prompt]
) -> Callable[..., list[float | None]]:
    """``reward`` as TRL calls it while it trains on ``training_set(prompts)``: with their columns
    as every evaluation hands them.

    Raises AdrpoError where a term does not take these columns.
    """
    check_takes(reward.terms, {**columns_of(prompts), "completions": [], "completion_ids": []})

    def called(*, completions: list[Any], **named: Any) -> list[float | None]:
        columns = columns_of([prompts[place] for place in named.pop(PLACE)])
        return reward(completions=completions, **(named | columns))

    called.__name__ = reward.__name__
    return called
