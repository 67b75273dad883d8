"""A row of a table of keys: the value that a key is changed to, and what shows it.

The tables are complete by construction: tests/wiring/test_every_key.py takes the keys from the
settings page. An effect asserts on what a user observes (numbers and weights of a step, values of
an evaluation, files of a run, what is refused), against an expectation of its own where it can.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Seen:
    """A key that is changed to ``value``, and the ``effect`` that must show, given the value last
    and before it what its table says."""

    value: Any
    effect: Callable[..., None]


@dataclass(frozen=True)
class Elsewhere:
    """A key whose effect ``tests`` ("path::function") show: it needs a process, a package or a
    model of its own."""

    tests: tuple[str, ...]

    def missing(self, key: str) -> list[str]:
        """What is wrong with the reference: a test that is gone, or one that never names ``key``,
        its module's fixtures and constants included."""
        wrong = []
        for node in self.tests:
            path, _, name = node.partition("::")
            if not (ROOT / path).is_file():
                wrong.append(f"{node}: no such file")
                continue
            source = (ROOT / path).read_text(encoding="utf-8")
            functions = [d for d in ast.parse(source).body if isinstance(d, ast.FunctionDef)]
            if name not in {function.name for function in functions}:
                wrong.append(f"{node}: no such test")
            if key.rpartition(".")[2] not in source:
                wrong.append(f"{node}: never names the key")
        return wrong


@dataclass(frozen=True)
class AsAt:
    """A key that another method shares, field, trainer and all: what ``key`` shows, it shows."""

    key: str


Table = dict[str, Seen | Elsewhere | AsAt]
