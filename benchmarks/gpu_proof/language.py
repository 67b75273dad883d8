"""A language model of Qwen3-0.6B's sizes with random weights, trained on 256 tokens by ADRPOTrainer
and by TRL's own GRPOTrainer, in turn.

``llm/qwen3-0.6b`` with half of its prompts: float32 weights under bfloat16's autocast, all of them
trained, 4 prompts of 8 completions in micro-batches of 8. The embedded model's tokenizer and
questions stand for the real ones; a random model ends no completion early. With ``vllm`` the
completions are drawn by vLLM in the same process.
"""

import importlib.util
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from llm_step_cost import letters, save_random_model, stepped

from adrpo.llm.memory.published import PUBLISHED
from gpu_proof.device import Device
from gpu_proof.record import Record

QWEN3 = {key: own for key, own in PUBLISHED["Qwen/Qwen3-0.6B"].items() if key != "model_type"}
SMALL = {"vocab_size": 1000, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
TOKENS = 256
STEPS = 3
ROUNDS = 4
SETTINGS: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 4,
    "learning_rate": 1e-6,
    "gradient_checkpointing": True,
    "model_init_kwargs": {"dtype": "float32"},
}
VLLM: dict[str, Any] = {
    "use_vllm": True,
    "vllm_mode": "colocate",
    "vllm_gpu_memory_utilization": 0.3,
    "vllm_max_model_length": 1024,
}


def run(record: Record, device: Device, *, rehearse: bool, vllm: bool = False) -> None:
    missing = [
        name
        for name in ("trl", "datasets", *(["vllm"] * vllm))
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        record.skip(f"{' and '.join(missing)} can't be imported")
        return
    warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing", FutureWarning)
    tokens = 8 if rehearse else TOKENS
    settings = SETTINGS | {"use_cpu": rehearse, "bf16": not rehearse} | (VLLM if vllm else {})
    with tempfile.TemporaryDirectory() as temporary:
        folder, model = Path(temporary), None
        with record.stage("model"):
            model = _saved(folder / "model", device, rehearse=rehearse)
            size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
            record.put("model", bytes=size, tokens=tokens, vllm=vllm)
        if model is None:
            return
        with record.stage("speed"):
            _in_turn(record, device, model, folder / "run", tokens, settings, rehearse=rehearse)


def _saved(folder: Path, device: Device, *, rehearse: bool) -> Path:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device.name):
            return save_random_model(folder, **(SMALL if rehearse else QWEN3))
    finally:
        torch.set_default_dtype(before)


def _in_turn(
    record: Record,
    device: Device,
    model: Path,
    folder: Path,
    tokens: int,
    settings: dict[str, Any],
    *,
    rehearse: bool,
) -> None:
    """Rounds of all variants until the time is up; the first one's turn goes round."""

    def clock() -> float:
        device.synchronise()
        return time.perf_counter()

    names = ["adrpo"] if "use_vllm" in settings else ["grpo", "adrpo"]
    medians: dict[str, list[float]] = {name: [] for name in names}
    peaks: dict[str, int] = {}
    for turn in range(1 if rehearse else ROUNDS):
        started = time.monotonic()
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            device.reset_peak()
            seconds, logged = stepped(
                name, model, tokens, letters, folder, steps=STEPS, clock=clock, **settings
            )
            medians[name].append(statistics.median(seconds))
            peaks[name] = device.peak()
            told = {key: value for key, value in logged.items() if isinstance(value, int | float)}
            record.put("speed", medians=medians, peaks=peaks, **{f"logged_{name}": told})
        if record.left() < 1.3 * (time.monotonic() - started):
            break


def lines(stages: dict[str, Any]) -> list[str]:
    speed = stages.get("speed", {})
    text = []
    for name, values in speed.get("medians", {}).items():
        if not values:
            continue
        length = speed[f"logged_{name}"].get("completions/mean_length")
        text.append(
            f"- {name}: {statistics.median(values):.2f} s a step of 32 completions, of "
            f"{length:.0f} tokens in the mean; peak memory {speed['peaks'][name] / 1e9:.2f} GB; "
            f"{len(values)} rounds"
        )
    medians = speed.get("medians", {})
    if all(medians.get(name) for name in ("grpo", "adrpo")):
        pairs = list(zip(medians["adrpo"], medians["grpo"], strict=False))
        ratio = statistics.median(own / stock for own, stock in pairs)
        text.append(f"- ADRPO's step over stock GRPO's: {ratio:.3f}, the median of the rounds")
    return text
