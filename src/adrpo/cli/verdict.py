"""The last line of ``adrpo doctor``: whether a recipe trains here, and what it downloads first."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from adrpo.errors import AdrpoError

if TYPE_CHECKING:
    from adrpo.runs.findings import Findings


def verdict(findings: "Findings") -> str:
    """One line, "Ready", "Ready: the first run downloads 16 GB (...)" or "Can't train here: ...",
    after ``findings``, which a download that can't be had makes broken.

    The reasons not to train are what is broken, more memory than there is, and too full a disk.
    """
    from adrpo.runs.downloads import in_words, sizes

    if findings.broken:
        return f"Can't train here: {findings.broken} broken."
    try:
        found = sizes(findings.downloads)
    except AdrpoError as error:
        findings.bad("download", str(error))
        return "Can't train here: 1 broken."
    if findings.unfit:
        return f"Can't train here: {findings.unfit}."
    if not found:
        return "Ready."
    needed = sum(size for size in found.values() if size is not None)
    free = float(shutil.disk_usage(_nearest(_cache())).free)
    if needed > free:
        findings.unfit = "the disk is too full"
        return (
            f"Can't train here: the first run downloads {in_words(found)}, and {free / 1e9:.1f} GB "
            f"are free on the disk of {_cache()}."
        )
    return f"Ready: the first run downloads {in_words(found)}."


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _nearest(folder: Path) -> Path:
    """The folder, or the one that it will lie in."""
    return folder if folder.exists() or folder.parent == folder else _nearest(folder.parent)
