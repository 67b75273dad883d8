"""Training by the OCR reward on a pipeline of SD3's layout: the whole way, on weights of no use."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adrpo.config import FlowConfig, RewardTermSection
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.rewards.ocr import OcrAccuracy, ocr_accuracy
from adrpo.runs import RunDirectory
from support.tiny_pipelines import FAMILIES
from support.tiny_runs import tiny_config

FAMILY = FAMILIES["sd3"]
TARGET = "Open Late"
PROMPTS = [f'a shop with a sign that says "{TARGET}"', "a photo of a dog"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> FlowConfig:
    folder = tmp_path_factory.mktemp("pipeline")
    FAMILY.build().save_pretrained(folder / "model")
    (folder / "train.txt").write_text("\n".join(PROMPTS) + "\n")
    (folder / "held_out.txt").write_text('a page with the word "Deep" on it\n')
    return tiny_config(
        model={
            "pretrained": str(folder / "model"),
            "height": FAMILY.height,
            "width": FAMILY.width,
            "max_sequence_length": FAMILY.tokens,
            "device": "cpu",
        },
        prompts={
            "train": str(folder / "train.txt"),
            "held_out": str(folder / "held_out.txt"),
            "train_size": 2,
            "held_out_size": 1,
        },
    ).model_copy(update={"reward": (RewardTermSection(name="ocr_accuracy"),)})


def adapter(trainer: FlowTrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.policy.adapter_parameters()])


def test_a_step_learns_from_what_is_read_and_leaves_other_prompts_alone(
    config: FlowConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("rapidocr", reason="reads with rapidocr: pip install '.[ocr]'")
    pytest.importorskip("onnxruntime", reason="rapidocr's engine: pip install '.[ocr]'")
    look, seen = OcrAccuracy.read, []

    def read(reward: OcrAccuracy, image: Image.Image) -> str:
        """What rapidocr reads, and some letters of the sign, as many as the pixels say: random
        weights draw none."""
        found = look(reward, image)
        assert isinstance(found, str)
        letters = int(np.asarray(image, dtype=int).sum()) % len(TARGET)
        seen.append(found + TARGET[:letters])
        return seen[-1]

    monkeypatch.setattr(OcrAccuracy, "read", read)
    trainer = FlowTrainer(config)
    trainer.prepare(RunDirectory.create(tmp_path / "run", "domain: flow\n"))
    start, seen[:] = adapter(trainer), []
    row: dict[str, Any] = trainer.step(1)
    scores = [ocr_accuracy(text, TARGET) for text in seen]
    # The three pictures of the sign are read, those of the dog are not.
    assert len(scores) == row["samples_excluded"] == config.training.samples_per_prompt
    assert row["reward_ocr_accuracy_mean"] == pytest.approx(np.mean(scores), rel=1e-6)
    assert row["reward_std"] == pytest.approx(np.std(scores), rel=1e-5)
    assert np.std(scores) > 0 and np.isfinite(row["loss"]) and row["grad_norm"] > 0
    assert (adapter(trainer) - start).abs().max() > 0
