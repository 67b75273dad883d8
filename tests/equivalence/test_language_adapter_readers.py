"""What a run of an adapter leaves, in the hands of others: plain PEFT, and a reader of tensors."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, Qwen2_5OmniThinkerForConditionalGeneration

from adrpo.audio.run import AudioRun
from adrpo.llm.run import LanguageRun
from support.tiny_audio_runs import tiny_audio_config, write_thinker
from support.tiny_audio_trainers import AUDIO_MARKS
from support.tiny_language_runs import tiny_language_config, write_material

pytestmark = AUDIO_MARKS

LORA = {"rank": 4, "alpha": 12.0}
PREFIX = "base_model.model."
NEAR = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
"""Most that a log-probability may differ by: W + s B A is rounded to the base's type, and W x plus
s B (A x) is not. The adapter itself moves them by more than 0.3."""


@dataclass(frozen=True)
class Kind:
    """A domain: its runs, and the plain class of its models."""

    config: Callable[..., Any]
    run: Any
    plain: Any
    model: Path


@pytest.fixture(scope="module", params=["llm", "audio"])
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kind:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "llm":
        material = write_material(folder)
        return Kind(
            lambda **sections: tiny_language_config(material, **sections),
            LanguageRun,
            AutoModelForCausalLM,
            material / "model",
        )
    model = write_thinker(folder / "model")
    return Kind(
        lambda **sections: tiny_audio_config(model, **sections),
        AudioRun,
        Qwen2_5OmniThinkerForConditionalGeneration,
        model,
    )


@pytest.fixture(scope="module")
def start(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter to go on with, that of a run of its own."""
    config = kind.config(adapter=LORA, training={"steps": 1, "learning_rate": 0.3})
    return (
        kind.run(config).train(tmp_path_factory.mktemp("start") / "run", progress=False) / "final"
    )


def said(model: Any) -> Tensor:
    """log p of every token after a text, by the model's own call."""
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor([[5, 8, 6, 7, 9, 5]])).logits
    return logits.float().log_softmax(-1)


def by_peft(base: Any, folder: Path) -> Tensor:
    return said(PeftModel.from_pretrained(base, str(folder)))


def by_tensors(base: Any, folder: Path) -> Tensor:
    """W + s B A in the base's type, with s = alpha / rank of the configuration beside the file."""
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    scale = settings["lora_alpha"] / settings["r"]
    values = load_file(folder / "adapter_model.safetensors")
    for key, a in values.items():
        if ".lora_A." in key:
            layer = base.get_submodule(key.removeprefix(PREFIX).partition(".lora_A")[0])
            update = scale * values[key.replace("lora_A", "lora_B")].float() @ a.float()
            layer.weight.data = (layer.weight.float() + update).to(layer.weight.dtype)
    return said(base)


@pytest.mark.parametrize("dtype", NEAR)
def test_an_adapter_is_as_strong_in_other_hands(
    dtype: str, kind: Kind, start: Path, tmp_path: Path
) -> None:
    config = kind.config(
        model={"dtype": dtype},
        adapter=LORA | {"start_from": str(start)},
        training={"steps": 2, "learning_rate": 0.1},
        checkpoint={"every": 1, "keep": 2},
    )
    run = kind.run(config).train(tmp_path / "run", progress=False)

    def plain() -> Any:
        return kind.plain.from_pretrained(kind.model, dtype=getattr(torch, dtype))

    base, seen = said(plain()), []
    for folder in (run / "start", run / "checkpoints" / "checkpoint-1", run / "final"):
        values = load_file(folder / "adapter_model.safetensors")
        assert {value.dtype for value in values.values()} == {torch.float32}
        with kind.run(config).subject() as subject:
            subject.take(folder)
            ours = said(subject.trainer.accelerator.unwrap_model(subject.trainer.model))
        assert (ours - base).abs().max() > 0.3
        torch.testing.assert_close(by_peft(plain(), folder), ours, rtol=0, atol=1e-6)
        torch.testing.assert_close(by_tensors(plain(), folder), ours, rtol=0, atol=NEAR[dtype])
        seen.append(ours)
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])
