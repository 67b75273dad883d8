"""``make test-gpu``: the tests that are marked gpu, on the versions that are here."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from gpu_proof.device import Device
from gpu_proof.record import Record

ROOT = Path(__file__).parents[2]
NEEDED = ("pytest", "beartype")
"""Packages that the tests need, and training doesn't."""

SHORT = ["-k", "samples_are"]
"""One of them, for a rehearsal."""


def marked() -> list[str]:
    """The files with such tests: looking for them in all would take a minute."""
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path) for path in tests if "mark.gpu" in path.read_text(encoding="utf-8")]


def run(record: Record, device: Device, *, rehearse: bool) -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        record.skip(f"{' and '.join(missing)} can't be imported, which the tests need")
        return
    with record.stage("tests"), tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider"]
        # Other versions than those of our constraints may warn of what is still right.
        command += ["-W", "default", f"--junitxml={report}", f"--rootdir={ROOT}"]
        command += ["-c", str(ROOT / "pyproject.toml"), "-o", "minversion=1", *marked()]
        environment = os.environ | {"ADRPO_TEST_DEVICE": device.name}
        done = subprocess.run(command + SHORT * rehearse, cwd=ROOT, env=environment, check=False)
        cases = read_report(report) if report.exists() else {}
        record.put("tests", exit_code=done.returncode, cases=cases)
        passed = sum(outcome == "passed" for outcome in cases.values())
        holds = done.returncode == 0 and passed == len(cases) > 0
        record.check("all tests that are marked gpu pass", holds, f"{passed} of {len(cases)}")


def read_report(path: Path) -> dict[str, str]:
    """Test -> passed, skipped, or failed with the first line of why."""
    found = {}
    for case in ElementTree.parse(path).iter("testcase"):
        outcome = "passed"
        for child in case:
            if child.tag in ("failure", "error"):
                outcome = f"failed: {(child.get('message') or '').partition(chr(10))[0][:300]}"
            elif child.tag == "skipped":
                outcome = f"skipped: {child.get('message')}"
        found[case.get("name") or "?"] = outcome
    return found


def lines(stages: dict[str, Any]) -> list[str]:
    found = stages.get("tests", {})
    cases = found.get("cases", {})
    return [f"- {name}: {outcome}" for name, outcome in cases.items()]
