"""Rewards whose terms are normalised, as TRL is given them: over processes, over a stop, and what
stays the plain sum."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adrpo.config import LanguageTrainingSection
from adrpo.evaluation.values import read_values, values_path
from adrpo.llm.run import LanguageRun
from adrpo.llm.training_reward import TrainingReward
from adrpo.rewards import RewardTerm
from adrpo.runs.directory import RunDirectory
from adrpo.runs.processes import Processes
from support.killed_runs import kill_and_resume
from support.tiny_language_runs import metrics_without_timings, tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS

TERMS = [
    {"name": "support.tiny_language_runs:share_of_a", "weight": 2.0},
    {"name": "length", "weight": -0.25, "options": {"limit": 4}},
]


def lengths(completions: list[str], **_: Any) -> list[float | None]:
    return [None if text == "?" else float(len(text)) for text in completions]


def vowels(completions: list[str], **_: Any) -> list[float | None]:
    return [100.0 * sum(letter in "aeiou" for letter in text) for text in completions]


PAIR = [RewardTerm("lengths", 1.0, lengths), RewardTerm("vowels", -2.0, vowels)]
BATCH = ["a", "bcd", "aeiou", "?", "xyz", "bb", "io", "kkkkk"]
"""Two groups of four, the fourth sample without a score."""


def section(normalization: str) -> LanguageTrainingSection:
    return LanguageTrainingSection.model_validate(
        {"samples_per_prompt": 4, "prompts_per_step": 2, "reward_normalization": normalization}
    )


def by_hand(normalization: str, before: list[str] = []) -> list[float | None]:  # noqa: B006
    sums: list[float | None] = [None] * len(BATCH)
    known = [place for place, text in enumerate(BATCH) if text != "?"]
    for place in known:
        near = [p for p in known if normalization == "running" or p // 4 == place // 4]
        pool = [BATCH[p] for p in near] + before
        total = 0.0
        for term, weight in ((lengths, 1.0), (vowels, -2.0)):
            own = np.array(term(completions=pool))
            total += weight * (term(completions=[BATCH[place]])[0] - own.mean()) / own.std()
        sums[place] = total
    return sums


def ask(reward: TrainingReward, texts: list[str]) -> list[float | None]:
    return reward(prompts=["p"] * len(texts), completions=texts)


def check(found: list[float | None], expected: list[float | None]) -> None:
    assert [value is None for value in found] == [value is None for value in expected]
    # float32.
    np.testing.assert_allclose(np.array(found, float), np.array(expected, float), rtol=1e-5)


@pytest.mark.parametrize("normalization", ["group", "running"])
def test_trl_is_given_normalised_sums_and_none_without_a_score(normalization: str) -> None:
    reward = TrainingReward(PAIR, section(normalization))
    check(ask(reward, BATCH), by_hand(normalization))
    plain = [
        math.nan if n is None else n - 2 * (v or 0)
        for n, v in zip(lengths(BATCH), vowels(BATCH), strict=True)
    ]
    np.testing.assert_array_equal(reward.result().total.numpy(), np.array(plain, dtype="f4"))


def test_running_statistics_go_on_from_batch_to_batch() -> None:
    reward = TrainingReward(PAIR, section("running"))
    before = ["ooo", "zzzzzzzz", "u", "qq"]
    ask(reward, before)
    check(ask(reward, BATCH), by_hand("running", before))


class OneOfTwo(Processes):
    """A process that is told what the other one has scored."""

    def __init__(self, rank: int, others: list[Any]) -> None:
        super().__init__(rank=rank, count=2)
        object.__setattr__(self, "others", others)

    def gather(self, value: Any) -> list[Any]:
        if value is None:  # the end of a block that fails together
            return [None, None]
        parts = [value, *self.others] if self.rank == 0 else [*self.others, value]  # type: ignore[attr-defined]
        return parts


@pytest.mark.parametrize("normalization", ["group", "running"])
@pytest.mark.parametrize("first", [3, 4, 6])
def test_a_group_that_lies_on_two_processes_is_one(normalization: str, first: int) -> None:
    """In the order in which accelerate gathers, which is TRL's."""
    alone = [TrainingReward(PAIR) for _ in range(2)]
    parts = [BATCH[:first], BATCH[first:]]
    results = []
    for reward, part in zip(alone, parts, strict=True):
        ask(reward, part)
        results.append(reward.result())
    found, moments = [], []
    for rank in (0, 1):
        processes = OneOfTwo(rank, [results[1 - rank]])
        reward = TrainingReward(PAIR, section(normalization), processes=processes)
        found += ask(reward, parts[rank])
        moments.append(reward.normalizer.state())
    check(found, by_hand(normalization))
    assert moments[0] == moments[1]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


def config(material: Path, normalization: str = "running", **training: Any) -> Any:
    chosen = {"reward_normalization": normalization, **training}
    return tiny_language_config(material, reward=TERMS, training=chosen)


@pytest.fixture(scope="module")
def run(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "whole"
    return LanguageRun(config(material)).train(folder, progress=False)


def test_a_killed_run_goes_on_with_its_running_statistics(
    material: Path, run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    kill_and_resume(config(material), folder)
    assert metrics_without_timings(folder) == metrics_without_timings(run)
    assert (folder / "evaluations.jsonl").read_text() == (run / "evaluations.jsonl").read_text()
    name = "final/model.safetensors"
    assert (folder / name).read_bytes() == (run / name).read_bytes()
    state = "checkpoints/checkpoint-4/adrpo_state.json"
    kept = [json.loads((each / state).read_text())["reward_moments"] for each in (folder, run)]
    rows = metrics_without_timings(run)
    assert kept[0] == kept[1] and kept[0]["count"] == sum(row["samples"] for row in rows)
    means = [row["reward_share_of_a_mean"] for row in rows]
    assert kept[0]["mean"][0] == pytest.approx(sum(means) / len(means), rel=1e-6)


def test_what_is_logged_and_evaluated_is_the_plain_sum(
    material: Path, run: Path, tmp_path: Path
) -> None:
    plain = LanguageRun(config(material, "none", steps=1)).train(tmp_path / "run", progress=False)
    first, expected = (metrics_without_timings(folder)[0] for folder in (run, plain))
    for column in ("reward_mean", "reward_std", "reward_share_of_a_mean", "reward_length_mean"):
        # TRL's float32 means are taken in another order.
        assert first[column] == pytest.approx(expected[column], rel=1e-5), column
    assert first["grad_norm"] != expected["grad_norm"]
    values = [
        read_values(values_path(RunDirectory.open(each), 0, "unseen")) for each in (run, plain)
    ]
    assert all((values[0][name] == values[1][name]).all() for name in values[0])
