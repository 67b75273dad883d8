"""What a configuration may say of a reward, and under which names its values are written."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Self

from pydantic import Field, JsonValue, model_validator

from adrpo.config.fields import Number, PositiveNumber, Section, Text, conflict

EVALUATION_METRICS = frozenset(
    {
        "clip_diversity",
        "clip_diversity_l2",
        "clip_diversity_right",
        "clip_score_evaluation",
        "color_entropy",
        "completion_length",
        "divergence",
        "edge_density",
        "entropy",
        "gold_accuracy",
        "kl",
        "reward",
        "velocity_norm_ratio",
    }
)
"""What an evaluation of either domain measures without a reward."""

EVALUATION_COLUMNS = frozenset({"step", "split", "prompts", "samples", "target"})
"""What else a row of evaluations.jsonl says."""


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
    options: dict[str, JsonValue] = Field(
        default_factory=dict, description="Keyword arguments of the reward."
    )

    @model_validator(mode="after")
    def _weighs(self) -> Self:
        if self.weight == 0:
            raise conflict("weight: expected a number other than 0, received 0; remove the term")
        return self


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
    """What is wrong with the names of ``evaluation.rewards``; None where each is one of its own.

    Args:
        measured: the rewards that are only measured.
        trained: names under which the values of the training reward's terms are written.
    """
    for place, name in enumerate(written_names(term.name for term in measured)):
        if name in trained:
            owner = "a term of the training reward, which evaluations measure anyway"
        elif name in EVALUATION_METRICS | EVALUATION_COLUMNS:
            owner = "a metric of every evaluation"
        else:
            continue
        return (
            f"evaluation.rewards.{place}.name: expected a reward whose values have a name of "
            f"their own, received {measured[place].name!r}, whose values would be {name!r} like "
            f"those of {owner}; leave it out, or name it as 'package.module:callable' with "
            f"another last part"
        )
    return None


def check_measured_rewards(
    measured: Sequence[RewardTermSection], reward: Sequence[RewardTermSection]
) -> None:
    """Raise ``conflict`` where values of ``evaluation.rewards`` would lie on others."""
    wrong = taken_name(measured, written_names(term.name for term in reward))
    if wrong is not None:
        raise conflict(wrong)
