"""Rewards that are awaited, wherever samples are scored: each gives what the same function does
that is not awaited, and those of one call run at the same time."""

import ast
import asyncio
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from adrpo.audio.run import AudioRun
from adrpo.evaluation.playing import scores_of
from adrpo.rewards import RewardTerm
from adrpo.runs.directory import RunDirectory
from support.tiny_audio_runs import letters, tiny_audio_config, write_thinker
from support.tiny_language_model import save_tiny_model
from support.tiny_language_trainers import LANGUAGE_MARKS, PROMPTS, config, count_a

SOURCES = Path(__file__).parents[2] / "src/adrpo"
pytestmark = LANGUAGE_MARKS


def test_every_sample_is_scored_through_one_door() -> None:
    """``score`` awaits, for every command; what else touches a term's function wraps it, or serves
    it and awaits it."""
    touching = {
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "function"
    }
    doors = {"rewards/guarding.py", "rewards/scoring.py", "rewards/server.py"}
    assert touching == doors | {"llm/training_reward.py", "llm/turns.py"}


def meeting() -> list[RewardTerm]:
    """Two terms, each of which waits for the other: one after the other they never end."""
    here = [asyncio.Event(), asyncio.Event()]

    def term(own: int) -> RewardTerm:
        async def reward(prompts: list[str], images: list[Any], **_: Any) -> list[float]:
            here[own].set()
            await here[1 - own].wait()
            return [float(own + 1)] * len(prompts)

        return RewardTerm(f"term_{own}", 1.0, reward, timeout=30.0)

    return [term(0), term(1)]


def test_scores_of_a_page_are_awaited_together() -> None:
    columns = {"prompts": ["a"], "images": [Image.new("RGB", (2, 2))]}
    scores, errors = scores_of(meeting(), meeting(), columns)
    assert scores == {"reward": 3.0, "term_0": 1.0, "term_1": 2.0} and not errors


def test_an_audio_run_is_rewarded_by_what_is_awaited(tmp_path: Path) -> None:
    model = write_thinker(tmp_path / "model")
    settings = tiny_audio_config(model, training={"steps": 1}, checkpoint={"every": 1})

    async def judge(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
        await asyncio.sleep(0)
        return letters(prompts, completions, **columns)

    def at_once(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
        return letters(prompts, completions, **columns)

    at_once.__name__ = "judge"
    found = []
    for name, reward in (("awaited", judge), ("at_once", at_once)):
        run = RunDirectory.open(
            AudioRun(settings, reward=reward).train(tmp_path / name, progress=False)
        )
        found.append((run.read_metrics()[0]["reward_mean"], run.read_evaluations()))
    assert found[0] == found[1] and found[0][0] > 0


class Counting:
    """An object whose call is awaited; it reads the form of a turn, as ``format`` does."""

    reads_whole_turns = True
    __name__ = "counting"

    async def __call__(self, completions: list[str], **columns: Any) -> list[float | None]:
        await asyncio.sleep(0)
        return count_a(completions, **columns)


def test_a_trainer_of_a_script_awaits_functions_and_objects(tmp_path: Path) -> None:
    from adrpo.llm import ADRPOTrainer

    async def counted(completions: list[str], **columns: Any) -> list[float | None]:
        await asyncio.sleep(0)
        return count_a(completions, **columns)

    model = save_tiny_model(tmp_path / "model")
    rewards = [count_a, counted, Counting()]
    trainer = ADRPOTrainer(str(model), rewards, config(tmp_path / "run", max_steps=1), PROMPTS)
    trainer.train()
    row = next(row for row in trainer.state.log_history if "reward" in row)
    means = [row[f"rewards/{name}/mean"] for name in ("count_a", "counted", "counting")]
    assert means[0] == means[1] == means[2] and row["reward"] == pytest.approx(3 * means[0])
