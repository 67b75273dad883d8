"""The adapter that a run begins with, in the place of a new one."""

from pathlib import Path
from typing import TYPE_CHECKING

from adrpo.errors import AdrpoError
from adrpo.runs.findings import Findings
from adrpo.runs.manifest import check_weights

if TYPE_CHECKING:
    from adrpo.config.shared import AdapterSection

START = "start"
"""Folder of a run with the adapter that it began with, in the form of ``final/``."""


def start_of(adapter: "AdapterSection | None") -> Path | None:
    """The file or folder that ``adapter.start_from`` names; None where a new adapter is drawn.

    Raises AdrpoError where it is not there.
    """
    if adapter is None or adapter.start_from is None:
        return None
    path = Path(adapter.start_from).expanduser()
    if not path.exists():
        raise AdrpoError(
            f"adapter.start_from: expected the file or folder of a LoRA adapter; received {path}, "
            f"which is not there"
        )
    check_weights(path)
    return path


def start_lines(adapter: "AdapterSection | None") -> list[str]:
    """Lines in which a run says what it begins with, and its reference; none of a new adapter."""
    if adapter is None or adapter.start_from is None:
        return []
    return [start_sentence(adapter.start_from, adapter.reference)]


def start_sentence(start_from: str, reference: str) -> str:
    """The beginning of a run, and its reference, by the keys of the section ``adapter``."""
    held = (
        "the policy at step 0, with that adapter"
        if reference == "start"
        else "the bare base, without that adapter"
    )
    return f"Starts from {start_from}; its reference is {held}"


def check_start(findings: Findings, adapter: "AdapterSection | None") -> None:
    """Say whether the adapter that training would begin with is there."""
    try:
        start = start_of(adapter)
    except AdrpoError as error:
        findings.bad("adapter.start_from", str(error))
    else:
        if start is not None:
            findings.ok("adapter.start_from", str(start))


def changed_start(run: Path, source: str | None) -> AdrpoError:
    """The error of a run that is resumed, and whose first adapter is another one now."""
    return AdrpoError(
        f"adapter.start_from: expected the adapter that the run began with, which {run / START} "
        f"keeps; received another one in {source}; put it back, or start another run with "
        f"--output-dir"
    )
