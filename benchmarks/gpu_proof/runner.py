"""Runs the parts one after the other, each in a process that is ended when its time is up."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adrpo.runs.durable import write_durably
from gpu_proof.page import to_markdown
from gpu_proof.parts import Part

ROOT = Path(__file__).parents[2]
NO_NETWORK = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
PATIENCE = 20
"""Times a part's limit in a rehearsal, whose machine may be busy: a limit is a card's."""
GRACE = 5
"""Seconds of the whole time that are left for the page."""

DONE, SKIPPED, LEFT_OUT = "done", "skipped", "left out"
FAILED, OUT_OF_TIME, STOPPED = "failed", "out of time", "stopped"
"""The fates of a part: finished; had nothing to do; not begun, for want of time; ended with an
error; ended by its time limit; ended with the whole."""


class Proof:
    """The parts and what became of them, written to ``folder`` after each.

    Args:
        folder: gets ``summary.json``, ``page.md`` and the parts' output in ``logs/``.
        seconds: that the whole may take.
        rehearse: on a CPU at small sizes.
        command: as it was called.
    """

    def __init__(self, folder: Path, seconds: float, *, rehearse: bool, command: str) -> None:
        self.folder, self.rehearse = folder, rehearse
        self.end = time.monotonic() + seconds - GRACE
        self.summary: dict[str, Any] = {
            "command": command,
            "minutes": seconds / 60,
            "rehearsed": rehearse,
            "parts": [],
        }
        (folder / "logs").mkdir(parents=True, exist_ok=True)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.summary["parts"]

    def run(self, parts: Sequence[Part], tell: Callable[[str], Any] = print) -> None:
        """All ``parts``, in their order; Ctrl-C ends the one that runs and leaves out the rest."""
        stopped, patience = False, PATIENCE if self.rehearse else 1
        for part in parts:
            limit = patience * part.limit
            row = {**asdict(part), "status": LEFT_OUT, "reason": "", "seconds": 0.0, "found": {}}
            left = self.end - time.monotonic()
            if stopped:
                row["reason"] = "stopped before it"
            elif left < part.least:
                row["reason"] = f"it wants {part.least:.0f} s, and {max(left, 0):.0f} s were left"
            else:
                tell(f"{part.name}: {part.title} (at most {min(limit, left):.0f} s)")
                stopped = self._run(part, row, min(limit, left))
            self.rows.append(row)
            self.write()
            tell(f"  {told(row)}")

    def _run(self, part: Part, row: dict[str, Any], limit: float) -> bool:
        """Run ``part`` for ``limit`` seconds at most and fill its ``row``; True where the whole was
        stopped meanwhile."""
        file = self.folder / "logs" / f"{part.name}.json"
        log = self.folder / "logs" / f"{part.name}.log"
        file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "gpu_proof.one_part", part.name, str(file), f"{limit:.0f}"]
        started, code, interrupted = time.monotonic(), None, False
        with log.open("wb") as output:
            process = subprocess.Popen(
                command + ["--rehearse"] * self.rehearse,
                cwd=ROOT,
                env=environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that all that it starts can be ended with it
            )
            try:
                code = waited(process, limit)
            except KeyboardInterrupt:
                interrupted = True
            finally:
                end_all_of(process)
        row["seconds"] = round(time.monotonic() - started, 1)
        with suppress(FileNotFoundError):
            row["found"] = json.loads(file.read_text(encoding="utf-8"))
            file.unlink()
        if interrupted:
            row["status"], row["reason"] = STOPPED, "by Ctrl-C"
        elif code is None:
            row["status"] = OUT_OF_TIME
            row["reason"] = f"ended after {limit:.0f} s; what it had found is kept"
        else:
            row["status"], row["reason"] = outcome(row["found"], code, log)
        return interrupted

    def write(self) -> None:
        text = json.dumps(self.summary, indent=1) + "\n"
        write_durably(self.folder / "summary.json", text.encode())
        write_durably(self.folder / "page.md", to_markdown(self.summary).encode())


def environment() -> dict[str, str]:
    """That of a part: the sources of this checkout, and no network."""
    found = [str(ROOT / "src"), str(ROOT / "benchmarks"), str(ROOT)]
    if path := os.environ.get("PYTHONPATH"):
        found.append(path)
    return os.environ | NO_NETWORK | {"PYTHONPATH": os.pathsep.join(found)}


def waited(process: "subprocess.Popen[bytes]", limit: float) -> int | None:
    """The code that ``process`` ends with within ``limit`` seconds, None where it does not."""
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        return None


def end_all_of(process: "subprocess.Popen[bytes]") -> None:
    """End ``process`` and all of its session, which may have outlived it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def outcome(found: dict[str, Any], code: int, log: Path) -> tuple[str, str]:
    """Status and reason of a part that ended with ``code``."""
    if code == 0 and "skipped" in found:
        return SKIPPED, found["skipped"]
    if code == 0:
        return DONE, ""
    errors = found.get("errors", {})
    if errors:
        memory = any(error["out_of_memory"] for error in errors.values())
        lines = "; ".join(f"{stage}: {error['line']}" for stage, error in errors.items())
        return FAILED, ("out of the card's memory: " if memory else "") + lines
    if code < 0:
        name = signal.Signals(-code).name
        return FAILED, f"ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    if "skipped" in found:
        return FAILED, found["skipped"]
    text = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return FAILED, f"exit code {code}: {text[-1] if text else 'it said nothing'}"


def told(row: dict[str, Any]) -> str:
    """A part's outcome in a line."""
    checks = row["found"].get("checks", [])
    broken = [check for check in checks if not check["holds"]]
    words = f"{row['status']} in {row['seconds']:.0f} s" + f": {row['reason']}" * bool(
        row["reason"]
    )
    if checks:
        words += f"; {len(checks) - len(broken)} of {len(checks)} claims hold"
    return words + "".join(f"; NOT: {check['what']} ({check['found']})" for check in broken)


def failed(rows: Sequence[dict[str, Any]]) -> bool:
    """True where a part failed, ran out of its own time or was stopped, or a claim doesn't hold."""
    return any(
        row["status"] in (FAILED, OUT_OF_TIME, STOPPED)
        or any(not check["holds"] for check in row["found"].get("checks", []))
        for row in rows
    )
