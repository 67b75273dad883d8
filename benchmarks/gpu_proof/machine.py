"""The machine: the card, the versions that it has, and what a large matrix product reaches."""

import importlib.metadata
from typing import Any

import torch
from throughput import MATRIX, matmul_flops_per_second

from adrpo.runs.environment import environment_record
from gpu_proof.device import Device
from gpu_proof.record import Record

FURTHER = ("trl", "datasets", "torchao", "triton", "vllm", "bitsandbytes", "pytest")
"""Packages that the parts use beside those that every run names."""

SMALLEST = 23e9
"""Bytes of the smallest card that holds all parts: one that is sold as 24 GB has a little less."""


def run(record: Record, device: Device, *, rehearse: bool) -> None:
    found = environment_record()
    found["packages"] |= {name: _version(name) for name in FURTHER}
    record.put("environment", **found)
    facts = device.facts()
    record.put("device", **facts)
    if not rehearse and facts["memory_bytes"] < SMALLEST:
        record.put("device", note="less than 24 GB: parts may run out of memory")
    if rehearse:
        MATRIX["cpu"] = 64
    for dtype in (torch.bfloat16, torch.float32):
        with record.stage("matrix product"):
            reached = matmul_flops_per_second(torch.device(device.name), dtype)
            record.put("matrix product", **{str(dtype).removeprefix("torch."): reached})


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def lines(stages: dict[str, Any]) -> list[str]:
    card, made = stages.get("device", {}), stages.get("environment", {})
    packages = {name: version for name, version in made.get("packages", {}).items() if version}
    commit = made.get("git") or {}
    rows = [
        f"- {card.get('name')}, {card.get('memory_bytes', 0) / 1e9:.1f} GB, "
        f"capability {card.get('capability') or 'none'}, CUDA {made.get('cuda')}",
        f"- {made.get('cpu')}, {made.get('cores')} cores, {made.get('platform')}",
        f"- adrpo {made.get('adrpo')} at {commit.get('commit')}"
        + (" with changes" if commit.get("dirty") else ""),
        f"- Python {made.get('python')}, "
        + ", ".join(f"{name} {version}" for name, version in sorted(packages.items())),
    ]
    for dtype, reached in stages.get("matrix product", {}).items():
        if dtype != "seconds_of_stage":
            rows.append(f"- a large matrix product in {dtype}: {reached / 1e12:.1f} TFLOP/s")
    return [*rows, f"- {card['note']}"] if "note" in card else rows
