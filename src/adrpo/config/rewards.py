"""Rewards in a configuration, and the names under which their values are written."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from adrpo.config.fields import Number, PositiveNumber, Section, Text, conflict, refuse_empty
from adrpo.config.secrets import refuse_plain_secrets
from adrpo.metrics import MEASURED, PLACES, TOTAL, category, names, without_ending

RESERVED = frozenset(names((*MEASURED, *PLACES)))
"""Columns that an evaluation fills whichever rewards it measures."""


class LogisticSection(Section):
    """sigmoid((r - location) / scale): a score as a probability, in (0, 1)."""

    location: Number = Field(description="Score of probability 1/2, in the score's unit. Ours.")
    scale: PositiveNumber = Field(
        description="Score difference that changes the log-odds by 1. Ours."
    )


class RewardTermSection(Section):
    """One term of the reward; the reward is the weighted sum of its terms."""

    name: Text = Field(
        description="A reward's short name (docs/reference/metrics.md), or "
        "'package.module:callable'."
    )
    weight: Number = Field(default=1.0, description="Factor of the term in the sum; not 0. Ours.")
    logistic: LogisticSection | None = Field(
        default=None, description="Bounds the term before it is weighed; null leaves it as it is."
    )
    timeout: PositiveNumber | None = Field(
        default=None,
        description="Seconds that one call may take, after which the run ends with its last "
        "checkpoint; null: as long as it likes. Ours.",
    )
    options: Annotated[dict[str, JsonValue], AfterValidator(refuse_plain_secrets)] = Field(
        default_factory=dict,
        description="Keyword arguments of the reward; the text env:NAME, or {env:NAME} within a "
        "text, stands for an environment variable, and is read when the reward is made.",
    )

    @model_validator(mode="after")
    def _weighs(self) -> Self:
        if self.weight == 0:
            raise conflict("weight: expected a number other than 0, received 0; remove the term")
        return self


class MeasuredRewardSection(RewardTermSection):
    """One reward, of which evaluations write the raw values."""

    weight: Number = Field(default=1.0, description="1: nothing is summed here.")
    logistic: LogisticSection | None = Field(
        default=None, description="null: nothing is bounded here."
    )

    @model_validator(mode="after")
    def _is_written_as_it_is(self) -> Self:
        if self.weight != 1 or self.logistic is not None:
            raise conflict(
                "weight: expected a reward without weight and logistic, which only terms of the "
                "training reward have: measured ones are written as they are; leave both out"
            )
        return self


RewardTerms = Annotated[tuple[RewardTermSection, ...], AfterValidator(refuse_empty)]
"""Terms of the reward that is trained on: at least one."""


def written_names(names: Iterable[str]) -> list[str]:
    """The name under which the values of each reward are written: the last part of a dotted path;
    a second one of that name gets "_2"."""
    uses: Counter[str] = Counter()
    written = []
    for name in names:
        short = name.replace(":", ".").rpartition(".")[2]
        uses[short] += 1
        written.append(short if uses[short] == 1 else f"{short}_{uses[short]}")
    return written


def taken_name(measured: Sequence[RewardTermSection], trained: Collection[str]) -> str | None:
    """The first name of ``evaluation.rewards`` that is taken, as an error; None where none is.

    Args:
        measured: the rewards that are only measured.
        trained: names under which the values of the training reward's terms are written.
    """
    written = written_names(term.name for term in measured)
    for place, name in enumerate(written):
        if name in trained:
            owner = "those of a term of the training reward, which evaluations measure anyway"
        else:
            owner = _owner(name, {*written, *trained})
        if owner is not None:
            key = f"evaluation.rewards.{place}.name"
            return f"{_taken(key, measured[place], name, owner)}; leave it out, or {_RENAME}"
    return None


def taken_name_of_trained(reward: Sequence[RewardTermSection]) -> str | None:
    """The first name of the training reward's terms that is taken, as an error; None where none is.

    A term that is the whole sum, as it is, may be called "reward" like the sum.
    """
    written = written_names(term.name for term in reward)
    is_sum = len(reward) == 1 and reward[0].weight == 1 and reward[0].logistic is None
    for place, name in enumerate(written):
        owner = _owner(name, written)
        if owner is not None and not (is_sum and name == TOTAL):
            return f"{_taken(f'reward.{place}.name', reward[place], name, owner)}; {_RENAME}"
    return None


_RENAME = "name it as 'package.module:callable' with another last part"


def _owner(name: str, rewards: Collection[str]) -> str | None:
    """The numbers that lie in an evaluation's column ``name`` already, whichever reward has that
    name; None where none do."""
    own = without_ending(name)
    if own in RESERVED or category(own) is not None:
        return "those of a metric of every evaluation"
    if own != name and own in rewards:
        return f"the interval or the change of the reward {own!r}"
    return None


def _taken(key: str, term: RewardTermSection, name: str, owner: str) -> str:
    return (
        f"{key}: expected a reward whose values have a name of their own, received {term.name!r}, "
        f"whose values would be {name!r} like {owner}"
    )


def check_names(measured: Sequence[RewardTermSection], reward: Sequence[RewardTermSection]) -> None:
    """Raise ``conflict`` where an evaluation's values of a reward would lie on others."""
    trained = written_names(term.name for term in reward)
    wrong = taken_name_of_trained(reward) or taken_name(measured, trained)
    if wrong is not None:
        raise conflict(wrong)
