"""FLUX.1-dev at its published size with random weights, those of its linear layers in 8 bits.

``flow/flux-dev-int8-adrpo`` with one prompt of two samples and four steps of sampling: whether it
fits a card, and what a step takes.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

import throughput
from random_weights import random_trainer

from adrpo.config import load_flow_config
from adrpo.flow.memory.architectures import PUBLISHED
from adrpo.memory import OVERHEAD
from gpu_proof.device import Device
from gpu_proof.record import Record

FLUX = "black-forest-labs/FLUX.1-dev"
RECIPE = "flow/flux-dev-int8-adrpo"
SETTINGS = [
    "model.embedding_cache=null",
    "evaluation.clip=embedded",
    *throughput.NO_DOWNLOADS["sd3-medium"],
    "training.prompts_per_step=1",
    "training.samples_per_prompt=2",
    "sampling.steps=4",
]
SMALL = [
    "model.height=64",
    "model.width=64",
    "sampling.steps=2",
]
STEPS = 2


@contextmanager
def small() -> Iterator[None]:
    published = PUBLISHED[FLUX]
    sizes = {
        "num_layers": 1,
        "num_single_layers": 1,
        "num_attention_heads": 1,
        "joint_attention_dim": 32,
    }
    tiny = replace(
        published,
        transformer={**published.transformer, **sizes},
        vae={**published.vae, "block_out_channels": (32, 32, 32, 32)},
    )
    with mock.patch.dict(PUBLISHED, {FLUX: tiny}):
        yield


def run(record: Record, device: Device, *, rehearse: bool) -> None:
    settings = [f"model.device={device.name}", *SETTINGS]
    if importlib.util.find_spec("torchao") is None:
        if not rehearse:
            record.skip("torchao can't be imported, which holds weights in 8 bits")
            return
        record.put("model", note="rehearsed in 16 bits: torchao can't be imported")
        settings.append("model.quantization=null")
    with small() if rehearse else nullcontext():
        config = load_flow_config(RECIPE, settings + SMALL * rehearse)
        trainer: Any = None
        with record.stage("model"):
            device.reset_peak()
            trainer = random_trainer(PUBLISHED[FLUX], config)
            numbers = throughput.count_parameters(trainer)
            record.put("model", parameters=numbers, peak_memory_bytes=device.peak())
        if trainer is None:
            return
        estimated = throughput.estimated_memory(config, sum(map(len, trainer.sets.values())))
        with record.stage("steps"):
            for number in range(1, STEPS + 1):
                device.reset_peak()
                row = trainer.step(number)
                record.put(
                    "steps",
                    peak_memory_bytes=device.peak(),
                    estimated_memory_bytes=estimated,
                    samples=row["samples"],
                    sampling_steps=config.sampling.steps,
                    **{name: row[name] for name in ("loss", "grad_norm", "divergence")},
                    **{name: value for name, value in row.items() if name.startswith("seconds")},
                    done=number,
                )
                if record.left() < 2 * row["seconds_step"]:
                    break
            peak = record.found["stages"]["steps"]["peak_memory_bytes"]
            record.check(
                "the peak of memory is at most doctor's estimate",
                rehearse or peak <= estimated + OVERHEAD,
                f"{peak / 1e9:.2f} GB, estimated {estimated / 1e9:.2f} GB",
            )


def lines(stages: dict[str, Any]) -> list[str]:
    text: list[str] = []
    if "parameters" in (model := stages.get("model", {})):
        text.append(
            f"- {model['parameters']['transformer'] / 1e9:.2f} billion parameters; made within "
            f"{model['peak_memory_bytes'] / 1e9:.2f} GB"
        )
    if "done" in (steps := stages.get("steps", {})):
        text += [
            f"- step {steps['done']}: {steps['seconds_step']:.2f} s for {steps['samples']} images "
            f"in {steps['sampling_steps']} steps of sampling ({steps['seconds_sampling']:.2f} s), "
            f"reference {steps['seconds_reference']:.2f} s, policy {steps['seconds_policy']:.2f} s",
            f"- peak memory {steps['peak_memory_bytes'] / 1e9:.2f} GB, by doctor's estimate "
            f"{steps['estimated_memory_bytes'] / 1e9:.2f} GB of tensors",
        ]
    return [*text, f"- {model['note']}"] if "note" in model else text
