"""Checkpoints: complete state, whole or not there at all.

A checkpoint is written into a temporary folder beside its place, with a manifest of checksums,
and renamed into place once all of it is on disk. A kill leaves a temporary folder, which
nothing reads and the next save removes.
"""

import hashlib
import json
import re
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from adrpo.errors import AdrpoError
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import sync_file, sync_folder

STATE = "state.pt"
MANIFEST = "manifest.json"
_TEMPORARY = ".partial-"
# While a checkpoint is saved a second time, the earlier one stands aside under this suffix: a
# kill between the two renames then loses neither.
_REPLACED = ".replaced"
_NAME = re.compile(rf"step-(\d{{6,}})({re.escape(_REPLACED)})?")
# Ours, and that of transformers.
_ANY_NAME = re.compile(r"(?:step|checkpoint)-(\d+)")
COMPLETE = (MANIFEST, "adrpo_state.json")
"""Files that are written last: a checkpoint with one of them is whole."""
_PLAIN_TYPES = (torch.Tensor, torch.nn.Parameter, str, bool, int, float, type(None))


def save_checkpoint(
    run: RunDirectory,
    step: int,
    state: dict[str, Any],
    *,
    keep: int,
    weights: Callable[[Path], None] | None = None,
) -> Path:
    """Write ``state`` as the checkpoint of ``step`` and remove the oldest beyond ``keep``.

    Args:
        run: whose checkpoint.
        step: number of updates that the state has behind it.
        state: nested dicts, lists and tuples of tensors, numbers, text and None.
        keep: number of checkpoints to keep, at least 1, this one included.
        weights: writes the weights alone into a folder, as ``final/`` holds them; None: none.

    Returns:
        The checkpoint's folder, ``checkpoints/step-<step, six digits>``.

    Raises:
        ValueError: ``keep`` < 1 or ``step`` < 0.
        TypeError: a value in ``state`` that loading with ``weights_only=True`` would refuse.
    """
    if keep < 1 or step < 0:
        raise ValueError(f"expected keep >= 1 and step >= 0, received keep={keep}, step={step}")
    _check_loadable(state, "state")
    root = run.checkpoints
    root.mkdir(exist_ok=True)
    for leftover in root.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(leftover)
    final = root / f"step-{step:06d}"
    temporary = root / f"{_TEMPORARY}{final.name}"
    temporary.mkdir()
    torch.save(state, temporary / STATE)
    if weights is not None:
        weights(temporary)
    sums = {}
    for file in sorted(temporary.iterdir()):
        sync_file(file)
        sums[file.name] = _checksum(file)
    manifest = {"step": step, "sha256": sums}
    (temporary / MANIFEST).write_text(json.dumps(manifest) + "\n", encoding="utf-8")
    sync_file(temporary / MANIFEST)
    sync_folder(temporary)
    replaced = root / f"{final.name}{_REPLACED}"
    if final.exists():
        _remove(replaced)
        final.rename(replaced)
    temporary.rename(final)
    sync_folder(root)
    _remove(replaced)
    for _, old in _checkpoints(root)[:-keep]:
        _remove(old)
    return final


def latest_checkpoint(run: RunDirectory) -> Path | None:
    """The checkpoint of the highest step, None where there is none; temporary folders are not."""
    found = _checkpoints(run.checkpoints)
    return found[-1][1] if found else None


def weights_of_step(run: Path, step: int) -> Path:
    """The checkpoint of ``step`` in the run's folder ``run``, from which a model takes its weights
    as from ``final/``.

    Raises AdrpoError where there is none with weights in it; the line names the steps that there
    are.
    """
    found = steps_with_weights(run)
    if step not in found:
        there = ", ".join(map(str, sorted(found))) or "none"
        raise AdrpoError(
            f"--step: expected a step whose weights {run} has; received {step}; there are {there} "
            f"(checkpoint.keep says how many are kept)"
        )
    return found[step]


def steps_with_weights(run: Path) -> dict[int, Path]:
    """Step -> folder of each whole checkpoint in a run's folder, of any domain, that has weights
    beside its state."""
    found = {}
    for path in (run / "checkpoints").glob("*"):
        match = _ANY_NAME.fullmatch(path.name)
        whole = any((path / name).is_file() for name in COMPLETE)
        if match and whole and any(path.glob("*.safetensors")):
            found[int(match[1])] = path
    return found


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in the checkpoint ``path``, tensors on the CPU.

    Raises:
        AdrpoError: the checkpoint is damaged. The line names the file, both checksums, and an
            older checkpoint that is intact, if there is one.
    """
    damage = _damage(path)
    if damage is not None:
        raise AdrpoError(f"{damage}; the checkpoint is damaged: {_way_out(path)}")
    return torch.load(path / STATE, map_location="cpu", weights_only=True)


def _checkpoints(root: Path) -> list[tuple[int, Path]]:
    """Step and folder of every checkpoint, oldest first."""
    if not root.is_dir():
        return []
    found = [(match, path) for path in root.iterdir() if (match := _NAME.fullmatch(path.name))]
    # At the same step the one that stands aside is the older.
    found.sort(key=lambda item: (int(item[0][1]), item[0][2] is None))
    return [(int(match[1]), path) for match, path in found]


def _remove(path: Path) -> None:
    """Remove a checkpoint; a kill meanwhile leaves a temporary folder, not half a checkpoint."""
    if path.exists():
        doomed = path.with_name(f"{_TEMPORARY}{path.name}")
        path.rename(doomed)
        shutil.rmtree(doomed)


def _damage(path: Path) -> str | None:
    """The fault of the checkpoint ``path``, None where it is intact."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return f"{path}: expected a checkpoint, a folder such as step-000010"
    manifest_path, state_path = path / MANIFEST, path / STATE
    for file in (manifest_path, state_path):
        if not file.is_file():
            return f"{file}: expected a file of the checkpoint, received none"
    try:
        manifest = json.loads(manifest_path.read_bytes())
    except ValueError:
        return f"{manifest_path}: expected JSON, received something else"
    sums = manifest.get("sha256") if isinstance(manifest, dict) else None
    # Of the weights beside it, which an earlier version did not write, too.
    if not isinstance(sums, dict) or STATE not in sums:
        return f"{manifest_path}: expected the sha256 of {STATE}, received {manifest}"
    if manifest.get("step") != int(match[1]):
        return f"{manifest_path}: expected step {int(match[1])}, received {manifest.get('step')}"
    for name, expected in sums.items():
        actual = _checksum(path / name) if (path / name).is_file() else "no file"
        if expected != actual:
            return f"{path / name}: expected sha256 {expected}, received {actual}"
    return None


def _way_out(path: Path) -> str:
    """Advice about the damaged checkpoint ``path``; damaged ones between are deleted too."""
    names = [other for _, other in _checkpoints(path.parent)]
    later: list[str] = [str(path)]
    for other in reversed(names[: names.index(path)] if path in names else []):
        if _damage(other) is None:
            return f"delete {' and '.join(later)} to resume from {other.name}"
        later.append(str(other))
    return "no older checkpoint is intact, train again in a new folder"


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_loadable(value: Any, where: str) -> None:
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():
            if type(key) not in (str, int):
                raise TypeError(f"expected text or a whole number as a key of {where}: {key!r}")
            _check_loadable(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            _check_loadable(item, f"{where}[{index}]")
    elif type(value) not in _PLAIN_TYPES:
        raise TypeError(
            f"expected tensors, numbers, text, None, dicts, lists and tuples in {where}, "
            f"received {type(value).__module__}.{type(value).__qualname__}"
        )
