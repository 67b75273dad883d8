"""The parts of the proof, most valuable first, and the seconds that each may take."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process. ``module`` has ``run(record, device, *, rehearse, **options)``, which measures,
    and ``lines(stages)``, which are its lines of the page.

    It is ended after ``limit`` seconds, and isn't begun with less than ``least`` left.
    """

    name: str
    title: str
    module: str
    limit: float
    least: float
    options: dict[str, Any] = field(default_factory=dict)


PARTS = (
    Part(name="machine", title="The machine", module="machine", limit=60, least=5),
    Part(
        name="tests",
        title="`make test-gpu`: a GPU computes what the CPU computes",
        module="device_tests",
        limit=120,
        least=20,
    ),
    Part(
        name="sd3",
        title="SD3 medium at full size, bfloat16",
        module="sd3",
        limit=180,
        least=40,
    ),
    Part(
        name="demo",
        title="The embedded model on the CPU and on the GPU",
        module="demo",
        limit=75,
        least=20,
    ),
    Part(
        name="language",
        title="A language model of Qwen3-0.6B's size, ADRPO beside stock GRPO",
        module="language",
        limit=150,
        least=45,
    ),
    Part(
        name="sd3-compiled",
        title="SD3 medium at full size, bfloat16, compiled",
        module="sd3",
        limit=180,
        least=60,
        options={"compiled": True},
    ),
    Part(
        name="flux",
        title="FLUX.1-dev at full size, frozen weights in 8 bits",
        module="flux",
        limit=120,
        least=45,
    ),
    Part(
        name="vllm",
        title="The language model with vLLM's generation",
        module="language",
        limit=150,
        least=60,
        options={"vllm": True},
    ),
)


def part_named(name: str) -> Part:
    return next(part for part in PARTS if part.name == name)
