"""The file of best of n: its KL by the formula, or as it was measured; and the choice by chance."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adrpo.errors import AdrpoError
from adrpo.evaluation.best_of_n import (
    best_of_n,
    check_selected_by,
    complete_best_of_n,
    read_best_of_n,
)
from adrpo.evaluation.evaluator import Evaluator
from adrpo.evaluation.intervals import mean_over_seeds
from adrpo.evaluation.sweeps import read_sweeps, write_sweeps
from adrpo.rewards import RewardTerm
from adrpo.runs.processes import ALONE


def test_best_of_n_has_its_exact_kl(tmp_path: Path) -> None:
    assert read_best_of_n(tmp_path, ["", ""]) is None
    path = tmp_path / "best-of-n.json"
    path.write_text('{"n": [1, 4], "gold_accuracy": [[[0], [1]], [[1], [null]]]}')
    found = read_best_of_n(tmp_path, ["", ""])
    assert found is not None
    assert found.kl == pytest.approx([0, np.log(4) - 0.75])
    assert [interval.mean for interval in found.metrics["gold_accuracy"]] == [0.5, 1]


@pytest.mark.parametrize(
    "text",
    [
        '{"k": []}',
        '{"n": [1, 4], "gold_accuracy": [[[0], [1]]]}',
        '{"n": [1], "gold_accuracy": [[[0], ["one"]]]}',
        '{"n": ["one"], "gold_accuracy": [[[0]]]}',
        '{"n": [1], "by_chance": [1]}',
        "[]",
        "{",
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "best-of-n.json").write_text(text)
    with pytest.raises(AdrpoError, match=r"best-of-n.*expected 'n' and, for each metric"):
        read_best_of_n(tmp_path, [""])


@pytest.mark.parametrize("text", ["[]", "{"])
def test_another_file_says_nothing_of_its_reward_but_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "best-of-n.json"
    path.write_text(text)
    with pytest.raises(AdrpoError, match=r"best-of-n.*expected 'n' and, for each metric"):
        check_selected_by(path, [])


def test_its_intervals_are_within_the_categories(tmp_path: Path) -> None:
    """As those of the same numbers in Table 1."""
    values = np.random.default_rng(0).normal(size=(12, 1)) + 9.0 * (np.arange(12) % 2)[:, None]
    (tmp_path / "best-of-n.json").write_text(json.dumps({"n": [4], "reward": [values.tolist()]}))
    categories = ["even", "odd"] * 6
    found = read_best_of_n(tmp_path, categories)
    assert found is not None
    (interval,), expected = found.metrics["reward"], mean_over_seeds(values[None], categories)
    assert (interval.low, interval.high) == (expected.low, expected.high)
    pooled = mean_over_seeds(values[None], [""] * 12)
    assert interval.high - interval.low < (pooled.high - pooled.low) / 2


def test_sweeps_are_written_as_they_are_read(tmp_path: Path) -> None:
    """A prompt without a value, a metric that one value lacks, and a file without the second."""
    path = tmp_path / "guidance.json"
    first = {
        2.0: {"a": np.array([[1.5, np.nan]]), "b": np.array([3.0])},
        1.25: {"a": np.ones((1, 2))},
    }
    other = {1.0: {"a": np.zeros((1, 1))}}
    write_sweeps(path, "guidance", first, other=other)
    assert json.loads(path.read_text())["guidance"] == [1.25, 2.0]
    read, second, none = read_sweeps(path, "guidance", "other", "none")
    assert list(read) == [1.25, 2.0] and none == {}
    for expected, received in ((first, read), (other, second)):
        assert expected.keys() == received.keys()
        for place, values in expected.items():
            assert values.keys() == received[place].keys()
            for name, table in values.items():
                assert np.array_equal(table, received[place][name], equal_nan=True)


class Numbers:
    """A drawing of one number for each of many places."""

    split, samples_per_prompt, categories = "unseen", 1, [""] * 3000
    share = ALONE.share(3000, "places")

    def draw(self, draw: int = 0) -> torch.Tensor:
        return torch.full((3000,), float(draw))

    def columns(self, drawn: torch.Tensor) -> dict[str, list[Any]]:
        return {"prompts": [""] * 3000, "numbers": drawn.tolist()}

    def measure(self, drawn: torch.Tensor) -> dict[str, Any]:
        return {"kept": drawn.double().numpy()[:, None]}

    def choose(
        self, theirs: torch.Tensor, drawn: torch.Tensor, others: torch.Tensor
    ) -> torch.Tensor:
        return torch.where(theirs, others, drawn)


def test_chance_chooses_each_of_n_alike() -> None:
    """The reward prefers the last draw always; chance keeps each in 1/n of the places."""
    drawing: Any = Numbers()
    terms = [RewardTerm("later", 1.0, lambda prompts, numbers, **_: numbers)]
    found = best_of_n(Evaluator(drawing, terms), [2, 5])
    for n in (2, 5):
        assert np.all(found.by_reward[n]["kept"] == n - 1)
        counts = np.bincount(found.by_chance[n]["kept"].astype(int).ravel(), minlength=n)
        # 3000 places: four standard deviations of a binomial count.
        assert np.all(np.abs(counts - 3000 / n) < 4 * np.sqrt(3000 / n * (1 - 1 / n)))


def test_the_file_says_whose_reward_selected_and_takes_no_other(tmp_path: Path) -> None:
    drawing: Any = Numbers()
    terms = [RewardTerm("later", 1.0, lambda prompts, numbers, **_: numbers)]
    path, reward = tmp_path / "best-of-n.json", [{"name": "later", "weight": 1.0}]
    complete_best_of_n(path, Evaluator(drawing, terms), [2], reward)
    assert json.loads(path.read_text())["selected_by"] == {"reward": reward}
    before = path.read_bytes()
    other = [{"name": "later", "weight": -1.0}]
    with pytest.raises(AdrpoError, match="by the reference's reward"):
        complete_best_of_n(path, Evaluator(drawing, terms), [2, 3], other)
    assert path.read_bytes() == before
    complete_best_of_n(path, Evaluator(drawing, terms), [2, 3], reward)
    found = read_best_of_n(tmp_path, drawing.categories)
    assert found is not None and found.n == [2, 3]
    # A file of an earlier version does not say, and is taken.
    table = json.loads(path.read_text())
    del table["selected_by"]
    path.write_text(json.dumps(table))
    complete_best_of_n(path, Evaluator(drawing, terms), [2, 3], other)


def test_what_the_file_has_is_not_drawn_again(tmp_path: Path) -> None:
    draws: list[int] = []

    class Counted(Numbers):
        def draw(self, draw: int = 0) -> torch.Tensor:
            draws.append(draw)
            return super().draw(draw)

    drawing: Any = Counted()
    terms = [RewardTerm("later", 1.0, lambda prompts, numbers, **_: numbers)]
    for sizes, drawn in (([4], [0, 1, 2, 3]), ([2, 4], [0, 1])):
        draws.clear()
        complete_best_of_n(tmp_path / "best-of-n.json", Evaluator(drawing, terms), sizes, [])
        assert draws == drawn


def test_a_measured_kl_of_best_of_n_stands_for_the_formula(tmp_path: Path) -> None:
    table = {"n": [1, 4], "kl": [[[0], [0]], [[0.5], [0.7]]], "reward": [[[0], [1]], [[1], [1]]]}
    (tmp_path / "best-of-n.json").write_text(json.dumps(table))
    found = read_best_of_n(tmp_path, ["", ""])
    assert found is not None
    assert found.kl == pytest.approx([0, 0.6])
    assert set(found.metrics) == {"reward"}
