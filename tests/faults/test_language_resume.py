"""A language model's run that stops anywhere and is resumed ends as if it had never stopped."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from adrpo.config import LanguageConfig
from adrpo.llm.run import LanguageRun
from support.tiny_language_runs import metrics_without_timings, tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS

EPOCH = 2
"""Steps that see every prompt once."""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


def config(material: Path, steps: int, **sections: dict[str, Any]) -> LanguageConfig:
    """Two steps an epoch, and a checkpoint after each step."""
    settings: dict[str, Any] = {
        "prompts": {"train_size": 8},
        "training": {"steps": steps},
        "checkpoint": {"every": 1, "keep": 20},
        "evaluation": {"every": 2, "samples_per_prompt": 2},
    }
    for name, section in sections.items():
        settings[name] = settings.get(name, {}) | section
    return tiny_language_config(material, **settings)


def train(settings: LanguageConfig, folder: Path, **options: Any) -> Path:
    return LanguageRun(settings).train(folder, progress=False, **options)


def weights(run: Path) -> bytes:
    return (run / "final/model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(config(material, 5), tmp_path_factory.mktemp("whole") / "run")


def assert_same(run: Path, expected: Path) -> None:
    assert metrics_without_timings(run) == metrics_without_timings(expected)
    evaluations = (run / "evaluations.jsonl").read_text(encoding="utf-8")
    assert evaluations == (expected / "evaluations.jsonl").read_text(encoding="utf-8")
    assert weights(run) == weights(expected)


@pytest.mark.parametrize("step", [1, EPOCH, EPOCH + 1, 2 * EPOCH])
def test_prompts_come_in_their_order_in_every_epoch(
    material: Path, whole: Path, tmp_path: Path, step: int
):
    """As after a kill in step ``step`` + 1: within an epoch, at its end, and in a later one."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.rmtree(run / "final")
    for later in range(step + 1, 6):
        shutil.rmtree(run / f"checkpoints/checkpoint-{later}")
    train(config(material, 5), run, resume=True)
    assert_same(run, whole)
