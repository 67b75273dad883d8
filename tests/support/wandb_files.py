"""Files of an offline run of Weights & Biases: records of its own protocol in LevelDB's log format,
of which the package has no reader in Python any more."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32_768
HEAD = 7
"""Bytes of the file's head, and of each chunk's: checksum, length, kind."""
FIRST, MIDDLE = 2, 3
"""Kinds of chunks that another one follows."""


def read_history(folder: Path) -> list[dict[str, Any]]:
    """What was logged, row after row, in the run's folder."""
    return [
        {_name(item): json.loads(item.value_json) for item in record.history.item}
        for record in _records(folder)
        if record.HasField("history")
    ]


def read_start(folder: Path) -> dict[str, Any]:
    """The run's id, name, project and configuration."""
    runs = [record.run for record in _records(folder) if record.HasField("run")]
    updates = [*runs[0].config.update]
    for record in _records(folder):
        updates += record.config.update
    config = {_name(item): json.loads(item.value_json) for item in updates}
    run = runs[0]
    return {
        "id": run.run_id, "name": run.display_name, "project": run.project, "config": config,
    }  # fmt: skip


def _name(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _records(folder: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportMissingImports]

    (file,) = folder.glob("run-*.wandb")
    content = file.read_bytes()
    assert content.startswith(b":W&B")
    place, parts = HEAD, b""
    while place < len(content):
        left = BLOCK - place % BLOCK
        if left < HEAD:  # no room for a head
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + HEAD])
        parts += content[place + HEAD : place + HEAD + length]
        place += HEAD + length
        if kind not in (FIRST, MIDDLE):
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""
