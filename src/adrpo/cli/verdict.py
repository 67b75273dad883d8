"""The last line of ``adrpo doctor``: whether a recipe trains here, and what it downloads first."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from adrpo.errors import AdrpoError

if TYPE_CHECKING:
    from adrpo.runs.findings import Findings


def verdict(findings: "Findings") -> tuple[bool, str]:
    """Readiness, and the line that says it: "Ready.", "Ready: the first run downloads 16 GB (...)."
    or "Can't train here: ...".

    The reasons not to train are what is broken, which a download becomes that can't be had, more
    memory than there is, and too full a disk.
    """
    from adrpo.runs.downloads import in_words, sizes

    found: dict[str, float | None] = {}
    if not findings.broken:
        try:
            found = sizes(findings.downloads)
        except AdrpoError as error:
            findings.bad("download", str(error))
    words, free = in_words(found), float(shutil.disk_usage(_nearest(_cache())).free)
    reason = ""
    if findings.broken:
        reason = f"{findings.broken} broken"
    elif findings.unfit:
        reason = findings.unfit
    elif sum(size for size in found.values() if size is not None) > free:
        reason = f"the first run downloads {words}, and {free / 1e9:.1f} GB are free on the disk "
        reason += f"of {_cache()}"
    if reason:
        return False, f"Can't train here: {reason}."
    return True, f"Ready: the first run downloads {words}." if found else "Ready."


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _nearest(folder: Path) -> Path:
    """The folder, or the one that it will lie in."""
    return folder if folder.exists() or folder.parent == folder else _nearest(folder.parent)
