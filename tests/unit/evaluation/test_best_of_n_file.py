"""The file of best of n: its KL by the formula, or as it was measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from adrpo.errors import AdrpoError
from adrpo.evaluation.best_of_n import read_best_of_n


def test_best_of_n_has_its_exact_kl(tmp_path: Path) -> None:
    assert read_best_of_n(tmp_path) is None
    path = tmp_path / "best-of-n.json"
    path.write_text('{"n": [1, 4], "gold_accuracy": [[[0], [1]], [[1], [null]]]}')
    found = read_best_of_n(tmp_path)
    assert found is not None
    assert found.kl == pytest.approx([0, np.log(4) - 0.75])
    assert [interval.mean for interval in found.metrics["gold_accuracy"]] == [0.5, 1]
    path.write_text('{"k": []}')
    with pytest.raises(AdrpoError, match="best-of-n"):
        read_best_of_n(tmp_path)


def test_a_measured_kl_of_best_of_n_stands_for_the_formula(tmp_path: Path) -> None:
    table = {"n": [1, 4], "kl": [[[0], [0]], [[0.5], [0.7]]], "reward": [[[0], [1]], [[1], [1]]]}
    (tmp_path / "best-of-n.json").write_text(json.dumps(table))
    found = read_best_of_n(tmp_path)
    assert found is not None
    assert found.kl == pytest.approx([0, 0.6])
    assert set(found.metrics) == {"reward"}
