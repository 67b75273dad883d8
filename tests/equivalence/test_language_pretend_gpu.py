"""A language model's trainer on a GPU makes only calls that CUDA takes, and the CPU's numbers: on a
CPU that behaves like a GPU (tools/pretend_cuda.py)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from accelerate import Accelerator
from peft import LoraConfig
from transformers import TrainingArguments

from support.tiny_language_trainers import LANGUAGE_MARKS, build, small_steps
from tools.pretend_cuda import GPU, PretendCuda

pytestmark = LANGUAGE_MARKS


@contextmanager
def on_the_gpu() -> Iterator[PretendCuda]:
    """accelerate and transformers take the GPU, which they look for by themselves."""

    def device(arguments: Any) -> Any:
        assert arguments._setup_devices.type == "cpu"
        return GPU

    with (
        mock.patch.object(Accelerator, "device", GPU),
        mock.patch.object(TrainingArguments, "device", property(device)),
        mock.patch("torch.cuda.get_device_name", lambda *_: "none"),  # TRL counts cards
        PretendCuda() as gpu,
    ):
        yield gpu


@pytest.mark.parametrize("adapter", [None, LoraConfig(r=2, target_modules=["q_proj"])])
def test_a_run_on_a_gpu_is_that_on_the_cpu(model: str, tmp_path: Path, adapter: Any):
    """With the trial before it, rows without a reference, and a reference of its own or under an
    adapter."""

    def trained(expected: str) -> list[dict[str, Any]]:
        trainer = build(model, tmp_path, small_steps, adapter)
        assert {p.device.type for p in trainer.model.parameters()} == {expected}
        trainer.train()
        timed = ("time", "second", "runtime", "profiling")
        return [
            {name: value for name, value in row.items() if not any(t in name for t in timed)}
            for row in trainer.state.log_history
        ]

    expected = trained("cpu")
    with on_the_gpu() as gpu:
        assert trained("cuda") == expected
    assert gpu.waits and len(expected) == 3
