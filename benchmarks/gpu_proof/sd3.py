"""Stable Diffusion 3 medium at its published size with random weights, trained by ADRPO.

Its recipe with fewer samples a step: 2 prompts of 8, in micro-batches of 8 as it has them. Random
embeddings stand for its text encoders', and the embedded CLIP for the reward's.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

import throughput
import torch
from loop_efficiency import overhead

from adrpo.flow.memory.architectures import PUBLISHED
from adrpo.flow.models.loading import compile_transformer
from adrpo.memory import OVERHEAD
from gpu_proof import profiled, waits
from gpu_proof.device import Device
from gpu_proof.record import Record

DTYPE = "bfloat16"
FULL = ["training.prompts_per_step=2", "training.samples_per_prompt=8"]
SMALL = [
    "model.height=64",
    "model.width=64",
    "training.prompts_per_step=1",
    "training.samples_per_prompt=3",
    "training.micro_batch_size=2",
    "sampling.steps=2",
]
"""Settings of a rehearsal."""

STEPS = 6
"""Most steps that are timed, each beside its bare model calls."""

NO_FLOPS: dict[str, int] = dict.fromkeys(("forward", "reference", "update", "decode"), 0)


@contextmanager
def small() -> Iterator[None]:
    """While it is open SD3 medium has two narrow layers, a large matrix is small, and nothing is
    compiled: a compiler sees through what makes the CPU behave as a GPU."""
    published = PUBLISHED[throughput.SD3]
    transformer = {
        "num_layers": 2,
        "num_attention_heads": 1,
        "caption_projection_dim": 64,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 32,
    }
    tiny = replace(
        published,
        transformer={**published.transformer, **transformer},
        vae={**published.vae, "block_out_channels": (32, 32, 32, 32)},
    )
    with (
        mock.patch.dict(PUBLISHED, {throughput.SD3: tiny}),
        mock.patch.dict(throughput.MATRIX, {"cuda": 64, "cpu": 64}),
        mock.patch.object(torch.nn.Module, "compile", lambda module: None),
    ):
        yield


def run(record: Record, device: Device, *, rehearse: bool, compiled: bool = False) -> None:
    with small() if rehearse else nullcontext(), device.opened():
        _Measured(record, device, rehearse=rehearse, compiled=compiled).all()


class _Measured:
    def __init__(self, record: Record, device: Device, *, rehearse: bool, compiled: bool) -> None:
        self.record, self.device = record, device
        self.rehearse, self.compiled = rehearse, compiled
        sizes = SMALL if rehearse else FULL
        self.config = throughput.configuration(
            "sd3-medium", DTYPE, [f"model.device={device.name}", *sizes]
        )
        self.trainer: Any = None
        self.flops, self.reached = NO_FLOPS, 1.0
        self.peaks: list[int] = []

    def all(self) -> None:
        with self.record.stage("model"):
            self.build()
        if self.trainer is None:
            return
        with self.record.stage("work"):
            self.count()
        with self.record.stage("speed"):
            self.time()
        if not self.compiled:
            with self.record.stage("waits"):
                self.wait()
            with self.record.stage("profile"):
                self.profile()

    def build(self) -> None:
        trainer = throughput.build_trainer("sd3-medium", self.config)
        training = self.config.training
        self.record.put(
            "model",
            parameters=throughput.count_parameters(trainer),
            height=trainer.policy.height,
            width=trainer.policy.width,
            samples=training.prompts_per_step * training.samples_per_prompt,
            micro_batch_size=training.micro_batch_size,
            sampling_steps=self.config.sampling.steps,
            gradient_checkpointing=self.config.model.gradient_checkpointing,
            compiled=self.compiled,
        )
        self.trainer = trainer

    def count(self) -> None:
        """FLOPs of a row, and what a matrix product reaches."""
        flops = throughput.flops_of_a_row(self.trainer)
        reached = throughput.matmul_flops_per_second(
            self.trainer.device, self.trainer.policy.pipeline.transformer.dtype
        )
        self.flops, self.reached = flops, reached
        self.record.put("work", flops_of_a_row=flops, device_flops_per_second=reached)

    def time(self) -> None:
        if self.compiled:
            compile_transformer(self.trainer.policy.pipeline.transformer, self.trainer.device)
        step = self.trainer.step

        def watched(number: int) -> dict[str, Any]:
            self.device.reset_peak()
            row = step(number)
            self.peaks.append(self.device.peak())
            return row

        with mock.patch.object(self.trainer, "step", watched):
            overhead(self.trainer, 1 if self.rehearse else STEPS, enough=self.keep)
        estimated = throughput.estimated_memory(self.config, _held(self.trainer))
        peak = max(self.peaks)
        # The libraries' own memory is in a process's peak, and not in an allocator's.
        holds = self.rehearse or peak <= estimated + OVERHEAD
        self.record.check(
            "the peak of memory is at most doctor's estimate",
            holds,
            f"{peak / 1e9:.2f} GB, estimated {estimated / 1e9:.2f} GB",
        )

    def keep(self, rows: list[dict[str, Any]], loop: dict[str, Any]) -> bool:
        """Write what the steps so far say; True where the next one would not leave time for what
        follows."""
        estimated = throughput.estimated_memory(self.config, _held(self.trainer))
        self.record.put(
            "speed",
            **throughput.rates(rows, self.flops, self.config, self.reached),
            loop_over_bare_calls=loop,
            peak_memory_bytes=max(self.peaks),
            estimated_memory_bytes=estimated,
            steps=rows,
        )
        following = 0 if self.compiled else 3 * loop["step_seconds_median"] + 30
        return self.record.left() < sum(loop["pairs"][-1]) + following + 5

    def wait(self) -> None:
        with self.device.waits() as found:
            self.trainer.step(STEPS + 2)
        told = waits.summary(found)
        self.record.put("waits", **told)
        beyond = [f"{row['place']} x {row['times']}" for row in told["beyond"]]
        self.record.check(
            "the host waits for the GPU nowhere but where it is named",
            bool(told["total"]) and not beyond,
            ", ".join(beyond) or f"{told['total']} times a step, all named",
        )

    def profile(self) -> None:
        self.record.put(
            "profile", **profiled.profile(self.device, lambda: self.trainer.step(STEPS + 3))
        )


def _held(trainer: Any) -> int:
    """Number of prompts whose embeddings lie on the device."""
    return sum(map(len, trainer.sets.values()))


def lines(stages: dict[str, Any]) -> list[str]:
    text: list[str] = []
    if "parameters" in (model := stages.get("model", {})):
        text += [
            f"{model['parameters']['transformer'] / 1e9:.2f} billion parameters, "
            f"{model['height']} x {model['width']} pixels, {model['samples']} samples a step, "
            f"{model['micro_batch_size']} at a time, {model['sampling_steps']} steps of sampling "
            f"with guidance; random weights and embeddings.",
            "",
        ]
    if "training" in (speed := stages.get("speed", {})):
        text += _speed_lines(speed, stages.get("work", {}))
    if "total" in (told := stages.get("waits", {})):
        text += ["", *waits.lines(told)]
    if "kernels" in (found := stages.get("profile", {})):
        text += ["", *profiled.lines(found)]
    return text


def _speed_lines(speed: dict[str, Any], work: dict[str, Any]) -> list[str]:
    reached = work.get("device_flops_per_second")
    rows = ["| | images/s | seconds | FLOP/s used |", "|---|---|---|---|"]
    for part in ("sampling", "update", "training"):
        row = speed[part]
        used = f"{100 * row['utilisation']:.1f} %" if reached else "not counted"
        rows.append(f"| {part} | {row['images_per_second']:.3f} | {row['seconds']:.2f} | {used} |")
    loop = speed["loop_over_bare_calls"]
    rows += [
        "",
        f"- a step over its bare model calls: {loop['ratio_median']:.3f}, from "
        f"{loop['ratio_min']:.3f} to {loop['ratio_max']:.3f} in {len(loop['pairs'])} pairs",
        f"- peak memory {speed['peak_memory_bytes'] / 1e9:.2f} GB, by doctor's estimate "
        f"{speed['estimated_memory_bytes'] / 1e9:.2f} GB of tensors",
    ]
    if reached:
        rows.append(f"- FLOP/s used are of {reached / 1e12:.1f} TFLOP/s of a large matrix product")
    return rows
