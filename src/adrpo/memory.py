"""The sum of an estimate of memory, its words, and what they advise, the same in every domain.

Each domain knows what the parts of its models take (adrpo.flow.memory, adrpo.llm.memory).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

OVERHEAD = 1.0e9
"""Bytes of the CUDA context, cuBLAS workspaces and fragments."""

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of one number of a type."""

QUANTIZED = {"int8": 1.0, "nf4": 0.5 + 4 / 64}
"""Bytes of a quantised weight: nf4 has a scale in float32 for every 64."""

GIGABYTE = 1e9
CARDS = (8, 12, 16, 24, 32, 40, 48, 80, 96, 141)
"""Sizes in which cards are sold, in GB."""

HEADROOM = 0.1
"""Share of a GPU that is left free: estimates err, and a desktop takes some."""

UNKNOWN = "unknown: "
"""The beginning of the one line that stands for an estimate which there is none of."""

UNFIT = "does not fit with a tenth of it left free"
"""The words of an estimate's first line where training lacks memory."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Bytes of each part; ``resident`` lies there all the time, ``working`` one at a time."""

    resident: dict[str, float]
    working: dict[str, float]
    uncounted: tuple[str, ...] = field(default=())
    """Models of unknown size."""

    @property
    def total(self) -> float:
        return sum(self.resident.values()) + max(self.working.values()) + OVERHEAD


def estimate_lines(
    found: Estimate, cheaper: Mapping[str, float], available: float | None
) -> list[str]:
    """The estimate in words: the sum beside ``available`` bytes of the GPU (None: there is none),
    its parts, and what to lower first where it does not fit.

    Args:
        found: the estimate of the recipe as it is.
        cheaper: "key=value" -> the sum with this setting, what changes the result least first.
        available: bytes of the GPU.
    """
    lines = [_verdict(found.total, available)]
    lines.append("resident " + ", ".join(_parts(found.resident.items())))
    lines.append("one at a time " + ", ".join(_parts(found.working.items())))
    lines.append(f"CUDA itself {_size(OVERHEAD)}; the sum takes the largest of those at a time")
    if found.uncounted:
        lines.append(f"not counted, of unknown size: {', '.join(found.uncounted)}")
    if available is not None and not _fits(found.total, available):
        lines.append(_advice(cheaper, found.total, available))
    return lines


def with_settings(config: Any, changes: Iterable[tuple[str, str, object]]) -> list[tuple[str, Any]]:
    """("section.key=value", ``config`` with it alone) for each (section, key, value)."""
    return [
        (
            f"{section}.{key}={str(value).lower()}",
            config.model_copy(
                update={section: getattr(config, section).model_copy(update={key: value})}
            ),
        )
        for section, key, value in changes
    ]


def _fits(total: float, available: float) -> bool:
    return total <= (1 - HEADROOM) * available


def _verdict(total: float, available: float | None) -> str:
    if available is None:
        card = next((size for size in CARDS if _fits(total, size * GIGABYTE)), None)
        needed = f"a card of {card} GB" if card else "more than one card"
        return f"about {_size(total)}; no GPU here: it needs {needed}"
    verdict = "fits" if _fits(total, available) else UNFIT
    return f"about {_size(total)} of the GPU's {_size(available)}: {verdict}"


def _advice(cheaper: Mapping[str, float], total: float, available: float) -> str:
    """The first change that makes it fit, else the one that saves most."""
    enough = [change for change, after in cheaper.items() if _fits(after, available)]
    first = enough[0] if enough else min(cheaper, key=lambda change: cheaper[change], default=None)
    if first is None or cheaper[first] >= total:
        return "no setting that adrpo knows saves more: take a smaller model or a larger card"
    more = "" if enough else ", which is not enough: ask doctor again with it"
    return f"first set {first}: about {_size(cheaper[first])}{more}"


def _parts(items: Iterable[tuple[str, float]]) -> list[str]:
    return [f"{name} {_size(size)}" for name, size in items if size]


def _size(count: float) -> str:
    return f"{count / GIGABYTE:.2g} GB" if count < 10 * GIGABYTE else f"{count / GIGABYTE:.0f} GB"
