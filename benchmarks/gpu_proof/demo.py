"""The embedded model trained on the CPU and on the device: the same result, to a tolerance.

Prompts, noises and points of the path are drawn on the CPU whatever the device, and so is the
adapter's beginning: the two runs differ by rounding alone. Its way into the numbers: float32 sums
in another order, 1e-6 of a velocity; a pixel that goes to the next of its 256 levels by that; the
score of that picture; and Adam, which divides a gradient by its size, so that the few weights with
hardly any gradient may go either way in a first step.
"""

import time
from typing import Any

import torch
from torch import Tensor

from adrpo.config import FlowConfig, load_flow_config
from adrpo.flow.domain import build_trainer
from adrpo.flow.path.draws import initial_noise
from gpu_proof.device import Device
from gpu_proof.record import Record

RECIPE = "flow/demo"
STEPS = 3
DRAWN = 8
SMALL = [
    "training.prompts_per_step=2",
    "training.samples_per_prompt=2",
    "sampling.steps=2",
    "prompts.train_size=4",
    "prompts.held_out_size=2",
]

LIMITS = {
    "reward_mean": 0.5,
    "divergence": 0.05,
    "loss": 0.05,
    "grad_norm": 0.05,
    "adapter": 0.1,
    "latents": 0.02,
}
"""Most that the two may differ by: points of the reward, and shares of the others."""


def run(record: Record, device: Device, *, rehearse: bool) -> None:
    # The rehearsal's other device is the same one, with sums of other lengths.
    other = ["training.micro_batch_size=1"] if rehearse else []
    configs = {
        "cpu": load_flow_config(RECIPE, ["model.device=cpu", *SMALL * rehearse]),
        "device": load_flow_config(
            RECIPE, [f"model.device={device.name}", *SMALL * rehearse, *other]
        ),
    }
    found: dict[str, dict[str, Any]] = {}
    # Convolutions of a GPU round to ten bits unless they are told not to.
    torch.backends.cudnn.allow_tf32 = False
    for where, config in configs.items():
        with record.stage(where):
            started = time.perf_counter()
            found[where] = trained(config)
            device.synchronise()
            seconds = time.perf_counter() - started
            record.put(where, rows=found[where]["rows"], seconds=seconds)
    if len(found) == 2:
        with record.stage("compared"):
            compare(record, found["cpu"], found["device"])


def trained(config: FlowConfig) -> dict[str, Any]:
    """Rows of ``STEPS`` steps, the adapter at both ends, and latents that it draws after them."""
    trainer = build_trainer(config)
    policy = trainer.policy
    start = _flat(policy.adapter_parameters())
    rows = [trainer.step(step) for step in range(1, STEPS + 1)]  # pyright: ignore
    chosen = trainer.prompts.conditioning.select(torch.arange(DRAWN) % len(trainer.prompts))
    x_0 = initial_noise(DRAWN, policy.latent_shape, 0, "proof")
    latents = policy.sample(x_0, chosen, config.sampling)
    return {
        "rows": rows,
        "start": start,
        "adapter": _flat(policy.adapter_parameters()),
        "latents": latents.flatten().float().cpu(),
    }


def _flat(parameters: list[Any]) -> Tensor:
    return torch.cat([p.detach().flatten().float().cpu() for p in parameters])


def compare(record: Record, cpu: dict[str, Any], other: dict[str, Any]) -> None:
    record.check(
        "the adapter begins with the same numbers",
        torch.equal(cpu["start"], other["start"]),
        f"they differ by up to {(cpu['start'] - other['start']).abs().max():.2g}",
    )
    differences: dict[str, float] = {}
    for name in ("reward_mean", "divergence", "loss", "grad_norm"):
        pairs = [(float(a[name]), float(b[name])) for a, b in zip(cpu["rows"], other["rows"],
                                                                  strict=True)]  # fmt: skip
        size = 1.0 if name == "reward_mean" else max(abs(a) for a, _ in pairs)
        differences[name] = max(abs(a - b) for a, b in pairs) / size
    # What training moved, and what is drawn with it.
    moved = cpu["adapter"] - cpu["start"]
    differences["adapter"] = _share(other["adapter"] - other["start"], moved)
    differences["latents"] = _share(other["latents"], cpu["latents"])
    record.put("compared", differences=differences, limits=LIMITS)
    for name, limit in LIMITS.items():
        unit = "points" if name == "reward_mean" else "of its size"
        record.check(
            f"{name} is that of the CPU to {limit} {unit}",
            differences[name] <= limit,
            f"{differences[name]:.2g}",
        )


def _share(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def lines(stages: dict[str, Any]) -> list[str]:
    text = []
    for where in ("cpu", "device"):
        rows = stages.get(where, {}).get("rows")
        if rows:
            rewards = ", ".join(f"{row['reward_mean']:.3f}" for row in rows)
            text.append(
                f"- {where}: rewards of {len(rows)} steps {rewards}; "
                f"{stages[where]['seconds']:.1f} s with loading"
            )
    if "differences" in (found := stages.get("compared", {})):
        text += ["", "| | difference | limit |", "|---|---|---|"]
        for name, value in found["differences"].items():
            text.append(f"| {name} | {value:.2g} | {found['limits'][name]} |")
    return text
