"""A profile of one step as tables: where the GPU's time goes, and the host's."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.autograd import DeviceType

from gpu_proof.device import Device

ROWS = 15
WAITING = ("Synchronize", "cudaMemcpyAsync")
"""In the names of what the host does with the driver."""


def profile(device: Device, work: Callable[[], Any]) -> dict[str, Any]:
    """``tables`` of what ``work`` does."""
    with torch.profiler.profile(activities=device.activities()) as found:
        work()
        device.synchronise()
    return tables(found.key_averages())


def tables(events: Iterable[Any]) -> dict[str, Any]:
    """Tables of torch's averages by name: ``kernels`` by their time on the GPU, ``host`` by their
    own time on the CPU, and ``waiting``, the calls in which the host waits for the driver."""
    events = list(events)
    # Annotations span the kernels that are there anyway.
    kernels = [
        event
        for event in events
        if event.device_type != DeviceType.CPU and not event.is_user_annotation
    ]
    host = [event for event in events if event.device_type == DeviceType.CPU]
    return {
        "kernels": _largest(kernels, "self_device_time_total"),
        "kernel_seconds": sum(event.self_device_time_total for event in kernels) / 1e6,
        "host": _largest(host, "self_cpu_time_total"),
        "host_seconds": sum(event.self_cpu_time_total for event in host) / 1e6,
        "waiting": {
            event.key: event.count for event in host if any(word in event.key for word in WAITING)
        },
    }


def _largest(events: list[Any], time: str) -> list[dict[str, Any]]:
    """The ``ROWS`` largest by their ``time``, which torch has in microseconds."""
    whole = sum(getattr(event, time) for event in events)
    chosen = sorted(events, key=lambda event: getattr(event, time), reverse=True)[:ROWS]
    return [
        {
            "name": event.key,
            "calls": event.count,
            "seconds": getattr(event, time) / 1e6,
            "share": getattr(event, time) / whole if whole else 0.0,
        }
        for event in chosen
    ]


def lines(found: dict[str, Any]) -> list[str]:
    text = []
    for part, title in (("kernels", "on the GPU"), ("host", "on the host")):
        if not found[part]:
            continue
        whole = found["kernel_seconds" if part == "kernels" else "host_seconds"]
        text += [f"One step under the profiler, {title}, {whole:.2f} s in all:", ""]
        text += ["| what | calls | seconds | share |", "|---|---|---|---|"]
        for row in found[part]:
            name = row["name"].replace("|", "\\|")[:90]
            text.append(
                f"| `{name}` | {row['calls']} | {row['seconds']:.3f} | {100 * row['share']:.1f} % |"
            )
        text.append("")
    if found["waiting"]:
        calls = ", ".join(f"{name} {count}" for name, count in found["waiting"].items())
        text.append(f"Calls of the driver that may wait: {calls}.")
    return text
