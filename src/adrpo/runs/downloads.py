"""Downloads of a recipe's first run from the Hugging Face Hub, and their sizes."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from adrpo.errors import AdrpoError

TIMEOUT = 5.0
"""Seconds that the Hub has for an answer."""

VARIANT = re.compile(r"\.(fp16|bf16|fp32|non_ema|ema)[.-]")
"""The mark, in a file's name, of weights that are loaded only where they are asked for by it."""

SMALL = (".json", ".txt", ".model", ".jinja")
"""Endings of what is fetched beside weights: configurations, vocabularies, templates."""

INDEX = "model_index.json"


@dataclass(frozen=True)
class Download:
    """A repository of the Hub that is not on this machine.

    ``weights``: whether a model's weights are fetched, or a tokenizer alone; ``file``: the one of a
    data set, all where it is empty. ``known`` are the bytes that a table of ours has for it.
    """

    name: str
    kind: Literal["model", "dataset"] = "model"
    weights: bool = True
    file: str = ""
    known: float | None = None


def sizes(downloads: Iterable[Download]) -> tuple[dict[str, float | None], bool]:
    """Name -> bytes, by the Hub's answer, else as known, None where neither tells; and whether the
    Hub could be reached.

    It isn't asked again once it can't be.

    Raises AdrpoError for a repository that the Hub has not, or keeps from this user.
    """
    found: dict[str, float | None] = {}
    reached = True
    for download in downloads:
        size = None
        if reached:
            reached, size = _asked(download)
        found[download.name] = download.known if size is None else size
    return found, reached


def _asked(download: Download) -> tuple[bool, float | None]:
    """The Hub's answer: whether there is one, and the bytes by it."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    api = HfApi()
    ask = api.model_info if download.kind == "model" else api.dataset_info
    try:
        answer = ask(download.name, files_metadata=True, timeout=TIMEOUT)
    except GatedRepoError:
        return True, None
    except RepositoryNotFoundError as error:
        raise AdrpoError(
            f"expected a {download.kind} on this machine or on the Hugging Face Hub; received "
            f"{download.name}, which the Hub has not, or keeps from you: correct the name, or log "
            f"in (hf auth login)"
        ) from error
    except Exception:  # of huggingface_hub's HTTP library, which is another in each release
        return False, None  # is told as an unknown size
    files = {file.rfilename: float(file.size or 0) for file in answer.siblings or ()}
    if download.kind == "dataset":
        return True, files.get(download.file) if download.file else sum(files.values())
    return True, fetched_bytes(files, weights=download.weights)


def fetched_bytes(files: Mapping[str, float], *, weights: bool = True) -> float:
    """Bytes of those ``files`` of a model's repository that a first run fetches.

    In diffusers' layout they lie in folders, one for each part, and what lies beside the index is
    the same model for other programs; in transformers' they lie at the top. Each folder counts its
    safetensors files (pickles only where there are none) without copies of another type, and all
    small files.

    Args:
        files: name -> bytes.
        weights: whether those of the weights count.
    """
    folders: dict[str, dict[str, float]] = defaultdict(dict)
    for name, size in files.items():
        folder, _, file = name.rpartition("/")
        folders[folder][file] = size
    pipeline = INDEX in files
    total = 0.0
    for folder, own in folders.items():
        if folder and not pipeline:
            continue
        total += sum(size for file, size in own.items() if file.endswith(SMALL))
        if weights and (folder or not pipeline):
            total += sum(own[file] for file in _weights(list(own)))
    return total


def _weights(names: list[str]) -> list[str]:
    plain = [name for name in names if not VARIANT.search(name)]
    for beginning, ending in (
        ("model", ".safetensors"), ("", ".safetensors"), ("pytorch_model", ".bin"), ("", ".bin")
    ):  # fmt: skip
        if chosen := [n for n in plain if n.startswith(beginning) and n.endswith(ending)]:
            return chosen
    return []


def in_words(found: Mapping[str, float | None]) -> str:
    """The sum of ``found``, sizes by name, as "4.2 GB (owner/name)"; what is unknown is named."""
    known = {name: size for name, size in found.items() if size is not None}
    unknown = [name for name in found if name not in known]
    said = []
    if known:
        said.append(f"{_size(sum(known.values()))} ({', '.join(known)})")
    if unknown:
        said.append(f"{', '.join(unknown)}, size unknown")
    return " and ".join(said)


def _size(count: float) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return (
                f"{count / unit:.2g} {name}" if count < 10 * unit else f"{count / unit:.0f} {name}"
            )
    return "under 1 MB"
