"""The last line of ``adrpo doctor``: whether a recipe trains here, and what it downloads first."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from adrpo.errors import AdrpoError

if TYPE_CHECKING:
    from adrpo.runs.findings import Findings

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""Environment variables that keep huggingface_hub off the network."""


def verdict(findings: "Findings") -> tuple[bool, str]:
    """Readiness, and the line that says it: "Ready.", "Ready: the first run downloads 16 GB (...)."
    or "Can't train here: ...".

    The reasons not to train are what is broken, which a download becomes that can't be had, more
    memory than there is, downloads that may not be asked for, and too full a disk. Where the Hub
    does not answer, or nothing tells what memory is taken, "Ready" says so.
    """
    from adrpo.runs.downloads import in_words, sizes

    variable, missing = _offline(), list(dict.fromkeys(each.name for each in findings.downloads))
    found: dict[str, float | None] = {}
    reached = True
    if not findings.broken and not variable:
        try:
            found, reached = sizes(findings.downloads)
        except AdrpoError as error:
            findings.bad("download", str(error))
    words, free = in_words(found), float(shutil.disk_usage(_nearest(_cache())).free)
    reason = ""
    if findings.broken:
        reason = f"{findings.broken} broken"
    elif findings.unfit:
        reason = findings.unfit
    elif missing and variable:
        reason = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not on this "
        reason += f"machine, and {variable} is set"
    elif sum(size for size in found.values() if size is not None) > free:
        reason = f"the first run downloads {words}, and {free / 1e9:.1f} GB are free on the disk "
        reason += f"of {_cache()}"
    if reason:
        return False, f"Can't train here: {reason}."
    ready = "Ready" if reached else "Ready, once the Hub answers"
    if findings.unknown:
        ready += f", but for memory, which is unknown ({findings.unknown})"
    return True, f"{ready}: the first run downloads {words}." if found else f"{ready}."


def _offline() -> str:
    """The variable that keeps huggingface_hub off the network; an empty name where none does."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        return ""
    return next((name for name in OFFLINE if os.environ.get(name)), OFFLINE[0])


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _nearest(folder: Path) -> Path:
    """The folder, or the one that it will lie in."""
    return folder if folder.exists() or folder.parent == folder else _nearest(folder.parent)
