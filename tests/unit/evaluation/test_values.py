"""Values of an evaluation on disk: what is computed with again is never rounded."""

from pathlib import Path

import numpy as np

from adrpo.evaluation.values import read_values, summarise, write_values


def test_values_come_back_as_they_were(tmp_path: Path) -> None:
    values = {"reward": np.array([[4e-7, 1 / 3], [np.nan, -1e-12]]), "kl": np.array([2 / 3, 1e9])}
    write_values(tmp_path / "values.json", values)
    read = read_values(tmp_path / "values.json")
    for name, column in values.items():
        np.testing.assert_array_equal(read[name], column)


def test_a_constant_too_small_for_six_decimals_does_not_change(tmp_path: Path) -> None:
    values = {"reward": np.full((4, 2), 4e-7)}
    write_values(tmp_path / "values.json", values)
    row = summarise(values, [""] * 4, read_values(tmp_path / "values.json"), seed=0)
    assert [row[f"reward_change{end}"] for end in ("", "_low", "_high")] == [0.0, 0.0, 0.0]
