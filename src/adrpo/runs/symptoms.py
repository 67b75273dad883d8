"""Symptoms of a training that learns little or nothing though its reward is there: the words and
the keys that mend it, once for all domains.

A run tells a symptom when it has shown in so many steps one after another, and its report tells it
again.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
Settings = Mapping[str, Any]
"""The configuration of a run, its sections nested."""

STEPS = 10
"""Steps one after another after which a symptom is told; all, of a shorter run."""

FAR_BELOW = 0.1
"""Share of the clip below which the spread of advantages is far from it."""

MOST_PAIRS = 0.5
"""Share of informative pairs below which most of what was drawn teaches nothing."""


@dataclass(frozen=True)
class Symptom:
    """A fault that a row of metrics.jsonl ``shows``, told by ``words`` on the rows that do."""

    shows: Callable[[Row, Settings], bool]
    words: Callable[[Sequence[Row], Settings], str]


def _excluded(row: Row, settings: Settings) -> bool:
    return bool(row.get("samples_excluded"))


def _excluded_words(rows: Sequence[Row], settings: Settings) -> str:
    lacking = sum(row["samples_excluded"] for row in rows)
    drawn = sum(row.get("samples") or 0 for row in rows)
    error = next((f" ({row['reward_error']})" for row in rows if row.get("reward_error")), "")
    return (
        f"samples had no score in each of {len(rows)} steps, {lacking} of {drawn}{error}: mend the "
        f"reward, or leave prompts out of prompts that it can't score"
    )


def _constant(row: Row, settings: Settings) -> bool:
    return row.get("advantage_std") == 0 or row.get("degenerate_fraction") == 1


def _constant_words(rows: Sequence[Row], settings: Settings) -> str:
    return (
        f"all samples of a prompt had one reward in each of {len(rows)} steps, so that nothing was "
        f"learned from them: take a reward that tells samples apart, more of "
        f"training.samples_per_prompt, or other prompts"
    )


def _small(row: Row, settings: Settings) -> bool:
    spread, clip = _spread(row, settings), _clip(settings)
    return spread is not None and clip is not None and 0 < spread < FAR_BELOW * clip


def _small_words(rows: Sequence[Row], settings: Settings) -> str:
    found = [spread for row in rows if (spread := _spread(row, settings)) is not None]
    return (
        f"advantages had a spread of {min(found):.2g} to {max(found):.2g} within prompts in "
        f"{len(rows)} steps, far below their clip of {_clip(settings):g}, so that they hardly "
        f"weigh: set algorithm.advantage_scale=group, or raise reward.0.weight"
    )


def _spread(row: Row, settings: Settings) -> float | None:
    """Standard deviation of the step's advantages within prompts."""
    found = row.get("advantage_std")
    # TRL logs that of rewards, the mean over prompts; by any scale advantages have another.
    if found is None and _algorithm(settings).get("advantage_scale") == "none":
        found = row.get("reward_std")
    return found if isinstance(found, int | float) and math.isfinite(found) else None


def _clip(settings: Settings) -> float | None:
    """The greatest advantage that the clip leaves, where there is one; null is beta_0."""
    algorithm = _algorithm(settings)
    if "advantage_clip" not in algorithm:
        return None
    given = algorithm["advantage_clip"]
    given = algorithm.get("beta_0") if given is None else given
    ends = given if isinstance(given, list | tuple) else [given]
    numbers = [abs(end) for end in ends if isinstance(end, int | float)]
    return max(numbers, default=None)


def _algorithm(settings: Settings) -> Mapping[str, Any]:
    found = settings.get("algorithm")
    return found if isinstance(found, Mapping) else {}


def _uninformative(row: Row, settings: Settings) -> bool:
    share = row.get("informative_fraction")
    return isinstance(share, int | float) and share < MOST_PAIRS


def _uninformative_words(rows: Sequence[Row], settings: Settings) -> str:
    shares = [row["informative_fraction"] for row in rows]
    return (
        f"{100 * min(shares):.0f} to {100 * max(shares):.0f} % of pairs had two rewards that "
        f"differ in {len(rows)} steps, and the others taught nothing: take a graded reward in the "
        f"place of one of few values, or raise algorithm.churn, now "
        f"{_algorithm(settings).get('churn')}, so that pairs lie farther apart"
    )


SYMPTOMS = (
    Symptom(_excluded, _excluded_words),
    Symptom(_constant, _constant_words),
    Symptom(_small, _small_words),
    Symptom(_uninformative, _uninformative_words),
)


class Watch:
    """Looks at the rows of a run as they come, and tells each symptom once.

    Args:
        settings: of the run, its sections nested.
        steps: that it makes.
    """

    def __init__(self, settings: Settings, steps: int) -> None:
        self._settings = settings
        self._needed = max(1, min(STEPS, steps))
        self._shown: dict[Symptom, list[Row]] = {symptom: [] for symptom in SYMPTOMS}

    def update(self, row: Row) -> list[str]:
        """The sentences on symptoms that have shown often enough with this ``row``."""
        told = []
        for symptom, rows in list(self._shown.items()):
            if not symptom.shows(row, self._settings):
                rows.clear()
                continue
            rows.append(row)
            if len(rows) >= self._needed:
                told.append(
                    f"steps {rows[0]['step']} to {row['step']}: "
                    f"{symptom.words(rows, self._settings)}"
                )
                del self._shown[symptom]
        return told


def symptoms(rows: Sequence[Row], settings: Settings, steps: int) -> list[str]:
    """The sentences on a run with these ``rows`` of metrics.jsonl, as :class:`Watch` tells them."""
    watch = Watch(settings, steps)
    return [sentence for row in rows for sentence in watch.update(row)]
