"""Originals: the pictures that prompts ask to be edited, from a column of their rows."""

import hashlib
import io
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, ImageOps

from adrpo.data.base import Prompt
from adrpo.data.identity import by_words, file_sha256
from adrpo.data.pictures import UNREADABLE
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.flow.prompt_columns import size_of

IMAGE = "image"
"""Column of a prompt's original, under the name that it has in the calls of diffusers."""

BYTES = "bytes"
"""Key of a picture's file in a cell of a data set that keeps it whole."""


@dataclass(frozen=True)
class Original:
    """A picture to be edited, as its row has it (``read_original``), and the size of the edit in
    pixels, None the model's own."""

    value: Any
    height: int | None
    width: int | None


def original_of(prompt: Prompt) -> Original | None:
    """The original of a row; None where it has none."""
    value = prompt.columns.get(IMAGE)
    return None if _is_empty(value) else Original(value, *size_of(prompt))


def located(prompts: Iterable[Prompt], folder: Path) -> list[Prompt]:
    """``prompts`` whose originals are found from everywhere: a path is relative to ``folder``."""
    found: list[Prompt] = []
    for prompt in prompts:
        value = prompt.columns.get(IMAGE)
        if isinstance(value, str) and not _is_empty(value):
            path = os.path.abspath(folder / Path(value.strip()).expanduser())
            prompt = replace(prompt, columns={**prompt.columns, IMAGE: path})
        found.append(prompt)
    return found


def check_originals(name: str, prompts: Iterable[Prompt], *, edits: bool) -> None:
    """Raise AdrpoError for the first of ``prompts`` whose original can't be read, or is missing
    where a pipeline of the class ``name`` ``edits`` one; warn where it edits none. Every file is
    read whole."""
    found: list[Any] = []
    for prompt in prompts:
        original = original_of(prompt)
        if original is not None:
            found.append(original.value)
        elif edits:
            raise missing(name, prompt.text)
    if found and not edits:
        tell_unread(name)
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(_is_read, found):
            pass


def missing(name: str, text: str) -> AdrpoError:
    """The error of a prompt without an original, for a pipeline of the class ``name``."""
    return AdrpoError(
        f"prompts: expected a picture in the column {IMAGE} for {name}, which edits one; "
        f"received none beside the prompt {text[:60]!r}; name its file there, from the folder "
        f"of the prompts' file"
    )


def tell_unread(name: str) -> None:
    """Warn that a pipeline of the class ``name`` does not read the originals."""
    warnings.warn(
        f"prompts: the column {IMAGE} has no effect on {name}, which edits no picture; rewards "
        f"alone are given it",
        AdrpoWarning,
        stacklevel=4,
    )


def read_original(value: Any) -> Image.Image:
    """The picture of a row as RGB, the right way up, as diffusers' ``load_image`` reads it.

    Args:
        value: the path of its file, a picture, or a mapping with the file's "bytes".

    Raises AdrpoError for what is none of these, or can't be read.
    """
    try:
        if isinstance(value, Image.Image):
            return _upright(value)
        with Image.open(_file(value)) as image:
            return _upright(image)
    except UNREADABLE as error:
        raise AdrpoError(
            f"prompts: expected a picture that can be read in the column {IMAGE}; received "
            f"{_named(value)} ({getattr(error, 'strerror', None) or error}); replace it, or name "
            f"another, from the folder of the prompts' file"
        ) from None


def size_of_original(value: Any) -> tuple[int, int]:
    """Width and height in pixels of a picture that can be read, from its header alone."""
    with (
        nullcontext(value) if isinstance(value, Image.Image) else Image.open(_file(value)) as image
    ):
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return (image.height, image.width) if turned else image.size


def checksum(value: Any) -> str:
    """The sha256 of a picture's content: of its file, or of its pixels; AdrpoError where there is
    no such file."""
    if isinstance(value, Image.Image):
        digest = hashlib.sha256(f"{value.mode} {value.size} ".encode())
        digest.update(value.tobytes())
        return digest.hexdigest()
    if isinstance(value, str):
        try:
            found = os.stat(value)
            return file_sha256(value, found.st_size, found.st_mtime_ns)
        except OSError:
            read_original(value)  # says what is wrong
            raise
    return hashlib.sha256(_file(value).getvalue()).hexdigest()


def by_content(prompt: Prompt) -> Prompt:
    """A prompt known by the checksum of its original, if any, in the original's place."""
    original = original_of(prompt)
    if original is None or KNOWN in prompt.columns:
        return prompt
    return replace(prompt, columns={**prompt.columns, IMAGE: None, KNOWN: checksum(original.value)})


def by_original_and_words(prompt: Prompt) -> str:
    """The :data:`~adrpo.data.identity.Key` of a prompt: its words, and the content of its original,
    if any; one instruction for two pictures is two prompts."""
    known = by_content(prompt).columns.get(KNOWN)
    return by_words(prompt) if known is None else f"{known} {by_words(prompt)}"


KNOWN = "sha256 of image"
"""Column of a prompt of ``by_content``."""


def opened(columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """The columns that rewards are given, the pictures themselves in the column of originals; each
    is read once."""
    found = {name: list(values) for name, values in columns.items()}
    values = found.get(IMAGE, [])
    # Of one prompt's samples it is one and the same object.
    read: dict[int, Image.Image] = {}
    for value in values:
        if not _is_empty(value) and id(value) not in read:
            read[id(value)] = read_original(value)
    return found | ({IMAGE: [read.get(id(value)) for value in values]} if values else {})


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _is_read(value: Any) -> None:
    read_original(value)


def _file(value: Any) -> Any:
    """The file that Pillow opens; ValueError for another value than a row may have."""
    if isinstance(value, str):
        return value
    content = value.get(BYTES) if isinstance(value, Mapping) else None
    if not isinstance(content, bytes):
        raise ValueError("neither a path nor a picture")
    return io.BytesIO(content)


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image).convert("RGB")


def _named(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "a picture without a file" if isinstance(value, Mapping) else f"{value!r:.60}"
