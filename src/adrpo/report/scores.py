"""The scores of the samples that a page shows, out of the values of an evaluation."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adrpo.errors import AdrpoError
from adrpo.metrics import describe
from adrpo.report.numbers import capital, compact
from adrpo.runs.spread import spread


@dataclass(frozen=True)
class Score:
    """The score under a sample, and what else is known of it, in words; empty where it has none."""

    text: str = ""
    more: str = ""


NO_SCORE = Score()


@dataclass(frozen=True)
class Scores:
    """The values of an evaluation's shown samples.

    ``values`` is metric -> [prompts][samples]; ``places`` are the prompts that are shown, in their
    order; ``wanted`` are the metrics that a score tells, the first of them under the sample.
    """

    values: dict[str, Any]
    places: Sequence[int]
    wanted: Sequence[str]

    def of(self, place: int, sample: int) -> Score:
        """The score of a sample of the prompt that is shown at ``place``."""
        if not 0 <= place < len(self.places):
            return NO_SCORE
        found = {name: self._value(name, self.places[place], sample) for name in self.wanted}
        known = {name: compact(value) for name, value in found.items() if value is not None}
        if not known:
            return NO_SCORE
        more = " · ".join(f"{capital(describe(name).label)} {known[name]}" for name in known)
        return Score(known.get(self.wanted[0], ""), more)

    def _value(self, name: str, prompt: int, sample: int) -> float | None:
        try:
            value = self.values[name][prompt][sample]
        except (KeyError, IndexError, TypeError):  # a metric of a prompt's group, or of another set
            return None
        return float(value) if isinstance(value, int | float) else None


NO_SCORES = Scores({}, (), ())


def read_scores(samples: Path, step: int, wanted: Sequence[str]) -> Scores:
    """The scores of the unseen prompts at ``step``; none of a run that kept no values.

    ``samples`` is the run's folder of that name. Raises AdrpoError where a file holds something
    else.
    """
    path, listing = samples / f"step-{step:06d}" / "values.json", samples / "prompts.json"
    if not path.exists() or not listing.exists() or not wanted:
        return NO_SCORES
    values, listed = (_mapping(file) for file in (path, listing))
    categories = [str(category) for category in listed.get("categories") or ()]
    return Scores(values, spread(categories, len(categories)) if categories else (), wanted)


def _mapping(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"{type(found).__name__} in the place of an object")
    except (ValueError, RecursionError) as error:
        raise AdrpoError(
            f"{path}: expected a JSON object; received {type(error).__name__}: {error}; delete the "
            f"file to report without scores"
        ) from None
    return found
