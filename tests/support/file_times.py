"""CPU seconds of each test file, those of the processes that it starts among them.

A plugin of the suite's: the summary names the files that take most, so that a slow test is seen
when it is written. CPU seconds and not wall time, since machines are shared.
"""

import os
from collections import defaultdict
from collections.abc import Generator
from typing import Any

import pytest

SHOWN = 15
SECONDS: dict[str, float] = defaultdict(float)


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test with its fixtures; what a file's first test sets up is counted with it."""
    begun = cpu_seconds()
    try:
        return (yield)
    finally:
        SECONDS[item.location[0]] += cpu_seconds() - begun


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist hands over what it counted."""
    for file, seconds in getattr(node, "workeroutput", {}).get("file_times", {}).items():
        SECONDS[file] += seconds


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["file_times"] = dict(SECONDS)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if len(SECONDS) <= 1:
        return
    slowest = sorted(SECONDS.items(), key=lambda pair: -pair[1])
    terminalreporter.section(f"CPU seconds of {len(SECONDS)} files: {sum(SECONDS.values()):.0f}")
    for file, seconds in slowest[:SHOWN]:
        terminalreporter.line(f"{seconds:7.1f}  {file}")
