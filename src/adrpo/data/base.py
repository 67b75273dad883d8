"""What every source of prompts gives."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """One prompt. ``category`` groups the metrics; it is empty where the source names none."""

    text: str
    category: str
