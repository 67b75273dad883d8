"""Rows of data sets that the package ``datasets`` reads: from a folder or the Hugging Face Hub."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adrpo.data.base import Row
from adrpo.errors import AdrpoError, reading

TRAIN = "train"


def read_dataset(
    source: str, *, split: str = TRAIN, config: str | None = None, revision: str | None = None
) -> Iterator[tuple[str, Row]]:
    """(where it stands, the row) for each row of a data set.

    Sound stays encoded: {"bytes": ..., "path": ...}, of which one may be None.

    Args:
        source: a folder that ``datasets`` wrote with save_to_disk, or that holds a data set's
            files as the Hub does; or the id of a data set on the Hub, "owner/name".
        split: which split.
        config, revision: of a data set on the Hub.

    Raises:
        AdrpoError: a data set that can't be loaded, or ``datasets`` is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise AdrpoError(
            f"{source}: a data set needs the package datasets ({error}): "
            "pip install '.[llm]' in the folder of adrpo"
        ) from error
    folder = Path(source)
    if folder.is_dir() and folder.resolve() in Path.cwd().resolve().parents:
        raise AdrpoError(
            f"{source}: expected the folder of a data set, received one that the working folder is "
            f"in; name a folder with nothing else in it"
        )
    saved = any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))
    opened = reading(
        f"{source}: expected a data set with the split {split!r}",
        "check its id, split and config, or name a .jsonl file",
    )
    with opened, _no_bars(datasets, silent=folder.is_dir()):
        if saved:
            loaded: Any = datasets.load_from_disk(source)
            loaded = _saved_split(loaded, source, split)
        else:
            loaded = datasets.load_dataset(source, config, split=split, revision=revision)
        for name, feature in loaded.features.items():
            if isinstance(feature, datasets.Audio):  # whose own decoding wants torchcodec
                loaded = loaded.cast_column(name, datasets.Audio(decode=False))
    for number, row in enumerate(loaded):
        yield f"{source}, row {number}", row


@contextmanager
def _no_bars(datasets: Any, *, silent: bool) -> Iterator[None]:
    """A block without the progress bars of the package ``datasets``, if it is to be ``silent``:
    what lies here is read at once."""
    shown = datasets.are_progress_bars_disabled() or not silent
    if not shown:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not shown:
            datasets.enable_progress_bars()


def has_cached(name: str) -> bool:
    """True where a cache on this machine has something of the Hub's data set ``name``, the Hub's
    own or that of the package ``datasets``, which may not be installed."""
    from huggingface_hub import constants

    hub = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}"
    prepared = os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets"
    return hub.is_dir() or (Path(prepared) / name.replace("/", "___")).is_dir()


def _saved_split(loaded: Any, source: str, split: str) -> Any:
    """The rows of ``split`` in what save_to_disk wrote: one split, or a mapping of several."""
    known = list(loaded) if isinstance(loaded, dict) else [str(loaded.split or TRAIN)]
    if split not in known:
        raise AdrpoError(
            f"{source}: expected the split {split!r}, received {', '.join(known)}; name one of them"
        )
    return loaded[split] if isinstance(loaded, dict) else loaded
