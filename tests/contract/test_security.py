"""What SECURITY.md promises: each promise names tests that are there, and what installs asks for
hashes."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = re.compile(r"\[(tests/[^\]]+)\]\((tests/[^)]+)\)")

WITHOUT_HASHES = (
    "install --constraint constraints.txt torch",
    "install --no-deps --no-build-isolation --editable .",
    'install --constraint "$constraints" torch',
    'install --no-deps "$work"/dist/adrpo-*.whl',
)
"""torch, whose build is the machine's, and adrpo itself."""


def promises() -> dict[str, str]:
    """Title -> text of each promise."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## What is promised$(.*?)^## ", text, flags=re.M | re.S)
    parts = re.split(r"^- ", section, flags=re.M)[1:]
    found = {re.findall(r"\*\*(.+?)\*\*", part, flags=re.S)[0]: part for part in parts}
    assert len(found) == len(parts)
    return found


def test_there_are_the_promises_that_are_known():
    """So that one which is written otherwise is not passed over."""
    assert len(promises()) == 6


@pytest.mark.parametrize("title", promises())
def test_a_promise_names_tests_that_are_there(title: str):
    named = TESTS.findall(promises()[title])
    assert named, f"SECURITY.md: {title!r} names no test"
    for shown, path in named:
        assert shown == path
        file = ROOT / path
        assert file.is_file() and file.name.startswith("test_"), path
        assert re.search(r"^def test_", file.read_text(encoding="utf-8"), flags=re.M), path


def test_all_that_installs_asks_for_hashes():
    """A line of make or CI that installs by `pip` has --require-hashes, but for torch and for
    adrpo."""
    lines = [
        (path, line.strip())
        for path in (ROOT / "Makefile", *sorted((ROOT / ".ci").iterdir()))
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"(pip|PIP)\b.* install ", line) and not line.lstrip().startswith("#")
    ]
    hashed = [line for _, line in lines if "--require-hashes" in line]
    # make's definition, and CI's wheel in an empty folder
    assert len(hashed) == 2
    for path, line in lines:
        allowed = line.endswith(WITHOUT_HASHES)
        assert allowed or line in hashed, f"{path.name}: {line}"
