"""Every key of every method of the domain flow, changed once (wiring/flow_methods.py)."""

from pathlib import Path

import pytest

from wiring.flow_methods import ALGORITHM, PAIRS
from wiring.flow_shared_keys import COPYING, CRD, LAGGING, REFUSED
from wiring.table import Seen


@pytest.mark.parametrize("key", ALGORITHM)
def test_the_gradient_follows_the_key(key: str) -> None:
    row = ALGORITHM[key]
    assert isinstance(row, Seen)
    row.effect(key.partition("[")[2].partition("]")[0], row.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs")


@pytest.mark.parametrize("key", PAIRS)
def test_pairs_follow_the_key(key: str, folder: Path) -> None:
    row = PAIRS[key]
    assert isinstance(row, Seen)
    row.effect(folder, row.value)


@pytest.mark.parametrize("key", [*LAGGING, *COPYING, *CRD])
def test_the_models_beside_the_policy_follow_the_key(key: str) -> None:
    row = {**LAGGING, **COPYING, **CRD}[key]
    assert isinstance(row, Seen)
    row.effect(row.value)


@pytest.mark.parametrize("key", REFUSED)
def test_a_reward_that_is_only_read_is_not_weighed(key: str) -> None:
    row = REFUSED[key]
    assert isinstance(row, Seen)
    row.effect(key, row.value)
