"""Reads pictures from files, and says which file holds none."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from adrpo.errors import AdrpoError

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""Errors that Pillow raises for a file that is damaged or no image."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Ends of the names of a folder's pictures, in small letters."""


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """The image in ``file``, whose pixels are read when they are asked for in the block.

    Raises AdrpoError, there too, where the file is damaged or no image.
    """
    try:
        with Image.open(file) as image:
            yield image
    except UNREADABLE as error:
        raise AdrpoError(
            f"{file}: expected an image that can be read; received one that is damaged or of an "
            f"unknown format ({error}); replace it"
        ) from error


def read_picture(file: Path) -> Image.Image:
    """The picture in ``file`` as RGB; raises as ``opened``."""
    with opened(file) as image:
        return image.convert("RGB")


def pictures_in(folder: Path, key: str) -> list[Path]:
    """The files with pictures in ``folder`` and the folders in it, by name; of the setting ``key``.

    Raises AdrpoError where there is no such folder, or it has fewer than two.
    """
    if not folder.is_dir():
        raise AdrpoError(
            f"{key}: expected a folder of pictures; received {folder}, which is not there"
            if not folder.exists()
            else f"{key}: expected a folder of pictures; received {folder}, which is a file"
        )
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
    found = sorted(path for path in found if path.is_file() and not path.name.startswith("."))
    if len(found) < 2:
        raise AdrpoError(
            f"{key}: expected a folder with at least two pictures ({', '.join(SUFFIXES)}); "
            f"received {folder}, which has {len(found)}"
        )
    return found


def digest_of(files: Sequence[Path]) -> str:
    """A checksum of the files' contents, whatever their names and their order."""
    sums = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return hashlib.sha256("".join(sums).encode()).hexdigest()[:16]
