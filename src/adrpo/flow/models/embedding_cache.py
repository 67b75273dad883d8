"""Text embeddings on disk: what a pipeline's encoders make of a set of prompts, computed once.

One safetensors file a set, since what an encoder returns for a prompt depends, in its last bits, on
the prompts that it is encoded with: the file holds exactly what encoding the set again would give.
"""

import hashlib
import importlib.metadata
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.flow.models.conditioning import Conditioning
from adrpo.runs.durable import sync_file, sync_folder

FORMAT = 1
"""Raised when files of earlier versions can't be read any more."""

HASHED_BYTES = 16 * 2**20
"""Files up to this size are known by their content; larger ones by size and time of change."""


@dataclass(frozen=True)
class Negative:
    """A negative prompt, which stands in a prompt's place in classifier-free guidance."""

    text: str


class Edit(NamedTuple):
    """A prompt to edit a picture: the sha256 of its content, and the size in pixels that it is
    asked for, None the model's."""

    prompt: str
    original: str
    height: int | None
    width: int | None


Asked = str | Edit
"""All that decides what the encoders make of one prompt."""


def words_of(asked: Asked) -> str:
    """The words of a prompt, whatever else is asked with it."""
    return asked.prompt if isinstance(asked, Edit) else asked


Prompts = Sequence[Asked] | Negative | None
"""A set of prompts, in order; or what stands in the place of one in classifier-free guidance, None
for no prompt."""


class EmbeddingCache:
    """A folder of conditioning records, one file for each set of prompts of each model.

    A file is named after the SHA-256 of ``identity`` and the prompts, and holds the SHA-256 of its
    tensors. It is written all at once: several runs may share the folder.

    Args:
        folder: made with the first file where it isn't there.
        identity: what decides the embeddings beside the prompts, as JSON values
            (``encoder_identity`` and the settings of the encoding).

    Raises:
        AdrpoError: the folder can't be made.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        try:
            _try_to_make(folder)
        except OSError as error:
            raise AdrpoError(
                f"model.embedding_cache: expected a folder that is there or can be made; received "
                f"{folder}: {error.strerror}; name another one, or null"
            ) from error
        self.identity = {
            "format": FORMAT,
            "versions": {
                name: importlib.metadata.version(name)
                for name in ("diffusers", "transformers", "torch")
            },
            **identity,
        }

    def path(self, prompts: Prompts) -> Path:
        """The file of a set of prompts."""
        asked = asdict(prompts) if isinstance(prompts, Negative) else prompts and list(prompts)
        text = json.dumps([self.identity, asked], sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.safetensors"

    def load(self, prompts: Prompts) -> Conditioning | None:
        """The record of a set of prompts on the CPU; None, and a warning, where its file is
        damaged, and None where there is no file."""
        from safetensors import SafetensorError, safe_open

        path = self.path(prompts)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                expected = (file.metadata() or {}).get("sha256")
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except SafetensorError as error:
            return _damaged(path, str(error))
        if expected != _digest(path.stem, tensors):
            return _damaged(path, "its checksum is another one")
        return Conditioning(**tensors)

    def store(self, prompts: Prompts, conditioning: Conditioning) -> None:
        """Write the record of a set of prompts; an earlier file is replaced."""
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(prompts)
        tensors = {
            name: tensor.detach().cpu().contiguous() for name, tensor in vars(conditioning).items()
        }
        # Runs that start together encode the same set: each writes a file of its own name.
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial")
        save_file(tensors, temporary, metadata={"sha256": _digest(path.stem, tensors)})
        sync_file(temporary)
        os.replace(temporary, path)
        sync_folder(self.folder)


def _try_to_make(folder: Path) -> None:
    """Raise OSError where ``folder`` can't be made; what is made for that is taken away again, as
    a run that ends before it has embedded anything leaves nothing."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        with suppress(OSError):  # another run has written there meanwhile
            place.rmdir()


class Embeddings:
    """The sets of prompts that are encoded: those kept in memory, and those on disk.

    Args:
        cache: the files; None has none.
        keep: whether ``add`` keeps a record in memory, on the CPU.
    """

    def __init__(self, cache: EmbeddingCache | None = None, *, keep: bool = False) -> None:
        self.cache = cache
        self.keep = keep
        self._kept: dict[tuple[Asked, ...] | Negative | None, Conditioning] = {}

    def find(self, prompts: Prompts) -> Conditioning | None:
        """The record of a set of prompts, None where it has to be encoded."""
        key = _key(prompts)
        if key in self._kept:
            return self._kept[key]
        found = self.cache.load(prompts) if self.cache else None
        if found is not None and self.keep:
            self._kept[key] = found
        return found

    def add(self, prompts: Prompts, conditioning: Conditioning) -> None:
        """Keep and store what was encoded."""
        if self.keep:
            self._kept[_key(prompts)] = conditioning.to(torch.device("cpu"))
        if self.cache:
            self.cache.store(prompts, conditioning)

    def assemble(self, prompts: Sequence[Asked]) -> Conditioning | None:
        """A record of ``prompts`` from the rows of other sets, None where one is in none of them.

        It differs in its last bits from the record of encoding them together.
        """
        rows = {
            asked: (record, row)
            for key, record in self._kept.items()
            if isinstance(key, tuple)
            for row, asked in enumerate(key)
        }
        if not prompts or any(asked not in rows for asked in prompts):
            return None
        chosen = [rows[asked] for asked in prompts]
        return Conditioning.cat([record.select(torch.tensor([row])) for record, row in chosen])


def encoder_identity(folder: Path, parts: Sequence[str]) -> dict[str, Any]:
    """A mark that tells what encodes prompts in a pipeline from others, without reading gigabytes.

    The commit of a snapshot of the Hub's cache; else the files of the folders ``parts``, patterns
    such as ``text_encoder*``: the SHA-256 of the small ones, size and time of change of the large
    ones.
    """
    if folder.parent.name == "snapshots":
        return {"commit": folder.name}
    files = [file for part in parts for file in folder.glob(f"{part}/**/*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): _file_identity(file) for file in sorted(files)}


def _file_identity(file: Path) -> str | list[int]:
    status = file.stat()
    if status.st_size > HASHED_BYTES:
        return [status.st_size, status.st_mtime_ns]
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _key(prompts: Prompts) -> tuple[Asked, ...] | Negative | None:
    return prompts if prompts is None or isinstance(prompts, Negative) else tuple(prompts)


def _damaged(path: Path, reason: str) -> None:
    warnings.warn(
        f"{path} is damaged ({reason}): its prompts are encoded again, and the file is replaced",
        AdrpoWarning,
        stacklevel=4,
    )


def _digest(name: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of a file's name, and of names, types, shapes and bytes of its tensors."""
    digest = hashlib.sha256(name.encode())
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
