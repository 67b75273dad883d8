"""The terms of the reward that a run is trained by, under the names of their columns."""

from typing import Any

from adrpo.config import written_names
from adrpo.runs.directory import RunDirectory
from adrpo.runs.inputs import own_reward


def reward_terms(run: RunDirectory) -> dict[str, str]:
    """Name -> what weighs the term in the reward, in words; of one that is taken as it is, nothing.

    A term's name is its column in evaluations.jsonl. Raises AdrpoError where the run's
    configuration or its record of inputs can't be read.
    """
    own = own_reward(run)
    if own is not None:
        return {name: "" for name in written_names([own])}
    section = run.read_settings().get("reward")
    found = (
        [term for term in section if isinstance(term, dict)] if isinstance(section, list) else []
    )
    names = written_names(str(term.get("name")) for term in found)
    return {name: _weighed(term) for name, term in zip(names, found, strict=True)}


def _weighed(term: dict[str, Any]) -> str:
    parts = []
    if term.get("logistic") is not None:
        parts.append("its logistic")
    if term.get("weight", 1.0) != 1:
        parts.append(f"its weight of {term['weight']:g}")
    return " and ".join(parts)
