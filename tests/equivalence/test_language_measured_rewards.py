"""A reward that is only measured leaves the training of a language model as it is."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adrpo.config import LanguageConfig
from adrpo.llm.run import LanguageRun
from adrpo.runs.directory import RunDirectory
from support.tiny_language_runs import (
    metrics_without_timings,
    tiny_language_config,
    write_material,
)
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS


def moody(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    """Draws from every global generator that training may draw from."""
    return [random.random() + np.random.rand() + float(torch.rand(())) for _ in completions]


def train(folder: Path, material: Path, **sections: Any) -> Path:
    settings = tiny_language_config(material).model_dump()
    for name, section in sections.items():
        settings[name] = section if isinstance(section, list) else settings[name] | section
    config = LanguageConfig.model_validate(settings)
    return LanguageRun(config).train(folder, progress=False)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


def test_a_measured_reward_that_draws_at_random_changes_no_step(
    material: Path, tmp_path: Path
) -> None:
    without = train(tmp_path / "without", material)
    measured = [{"name": f"{__name__}:moody"}]
    with_it = train(tmp_path / "with", material, evaluation={"rewards": measured})
    assert metrics_without_timings(with_it) == metrics_without_timings(without)
    files = sorted(file.name for file in (without / "final").glob("*.safetensors"))
    assert files
    for file in files:
        assert (with_it / "final" / file).read_bytes() == (without / "final" / file).read_bytes()
    rows = RunDirectory.open(with_it).read_evaluations()
    assert all(0 < row["moody"] < 3 for row in rows)


def test_an_evaluation_changes_no_step_whatever_is_trained_on(
    material: Path, tmp_path: Path
) -> None:
    """The trained reward draws at random, too: more evaluations, the same training."""
    reward = [{"name": f"{__name__}:moody"}]
    seldom = train(tmp_path / "seldom", material, reward=reward, evaluation={"every": 4})
    often = train(tmp_path / "often", material, reward=reward, evaluation={"every": 1})
    assert metrics_without_timings(often) == metrics_without_timings(seldom)
    assert len(RunDirectory.open(often).read_evaluations()) == 5
