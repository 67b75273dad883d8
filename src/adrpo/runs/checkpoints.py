"""Checkpoints: complete state, whole or not there at all, and damage found before it is read.

A checkpoint has a manifest of checksums, written once all else of it is on disk. Ours is written
into a temporary folder beside its place and renamed, ``step-N``; that of a language run is
transformers', ``checkpoint-N``, and is one from the moment it has its manifest. What a kill leaves
half-written nothing reads, and the next save or ``--resume`` removes it.
"""

import json
import re
import shutil
import warnings
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from adrpo.errors import AdrpoError, AdrpoWarning, reading
from adrpo.runs import manifest
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import sync_folder

STATE = "state.pt"
TRANSFORMERS_STATE = "adrpo_state.json"
"""Our own file in a checkpoint of transformers', its last one before there were manifests."""

SEALED = "sealed"
"""Key of that file: the checkpoint gets a manifest, and is not whole without."""

_TEMPORARY = ".partial-"
# While a checkpoint is saved a second time, the earlier one stands aside under this suffix: a
# kill between the two renames then loses neither.
_REPLACED = ".replaced"
_NAME = re.compile(rf"(?:step-(?=\d{{6}})|checkpoint-)(\d+)({re.escape(_REPLACED)})?")
_NO_WEIGHTS = (".pt", ".pth")
"""Endings of the files of a checkpoint that whoever wants its weights does not read."""

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
    _clear_temporary(root)
    final = root / f"step-{step:06d}"
    temporary = root / f"{_TEMPORARY}{final.name}"
    temporary.mkdir()
    torch.save(state, temporary / STATE)
    if weights is not None:
        weights(temporary)
    manifest.seal(temporary, step=step)
    replaced = root / f"{final.name}{_REPLACED}"
    if final.exists():
        _remove(replaced)
        final.rename(replaced)
    temporary.rename(final)
    sync_folder(root)
    _remove(replaced)
    keep_latest(root, keep)
    return final


def seal_checkpoint(root: Path, step: int, state: dict[str, Any]) -> None:
    """Write our ``state`` into the checkpoint of ``step`` that transformers wrote into ``root``,
    and its manifest, by which it is one."""
    folder = root / f"checkpoint-{step}"
    text = json.dumps({**state, SEALED: True})
    (folder / TRANSFORMERS_STATE).write_text(text, encoding="utf-8")
    manifest.seal(folder, step=step)
    sync_folder(root)


def keep_latest(root: Path, keep: int) -> None:
    """Remove the oldest checkpoints in ``root`` beyond ``keep``, and those that were out of the
    way."""
    _clear_temporary(root)
    _remove_oldest(root, keep)


def _remove_oldest(root: Path, keep: int) -> None:
    for _, old in checkpoints_in(root)[:-keep]:
        _remove(old)


def clear_after(root: Path, step: int, *, keep: int) -> None:
    """Remove what a kill left in ``root``, half-written or the oldest beyond ``keep``, and put
    checkpoints beyond ``step``, which are damaged, out of the way until the next save removes
    them."""
    _clear_temporary(root)
    for of_step, path in _folders(root):
        if not is_whole(path):
            _remove(path)
        elif of_step > step:
            path.rename(path.with_name(f"{_TEMPORARY}{path.name}"))
    _remove_oldest(root, keep)


def latest_checkpoint(run: RunDirectory) -> Path | None:
    """The checkpoint of the highest step, intact or not, None where there is none; folders that
    were not written to their end are none."""
    found = checkpoints_in(run.checkpoints)
    return found[-1][1] if found else None


def intact_checkpoint(run: RunDirectory) -> Path | None:
    """The latest checkpoint whose files are as they were written; None before the first.

    Each later one that is damaged, or was not written to its end, is warned of.

    Raises:
        AdrpoError: there are checkpoints, and none is intact, or one can't be read.
    """
    faults, damaged = [], False
    for _, path in reversed(_folders(run.checkpoints)):
        if not is_whole(path):
            faults.append(f"{path}: expected a checkpoint, received one that has no end")
            continue
        fault = _damage(path)
        if fault is None:
            for told in faults:
                _warn(f"{told}; going on from {path.name} instead")
            if not (path / manifest.FILE).is_file():
                _warn(
                    f"{path} is of an earlier version and has no checksums: whether its files are "
                    f"as they were written is not checked"
                )
            return path
        damaged = True
        faults.append(f"{fault}: the checkpoint is damaged")
    if damaged:
        raise AdrpoError(
            f"--resume: {faults[0]}, and no other in {run.checkpoints} is intact; restore the "
            f"file, or train again into another --output-dir"
        )
    for told in faults:
        _warn(f"{told}; beginning anew, since there is no other")
    return None


def _warn(text: str) -> None:
    warnings.warn(f"--resume: {text}", AdrpoWarning, stacklevel=3)


def is_whole(path: Path) -> bool:
    """True where the checkpoint in ``path`` was written to its end."""
    if path.name.startswith("step-") or (path / manifest.FILE).is_file():
        return (path / manifest.FILE).is_file()
    try:
        return SEALED not in json.loads((path / TRANSFORMERS_STATE).read_bytes())
    except (OSError, TypeError, ValueError, RecursionError):
        return False


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint by its folder's name; -1 of another folder."""
    found = _NAME.fullmatch(checkpoint.name)
    return int(found[1]) if found else -1


def reading_state(checkpoint: str | None) -> AbstractContextManager[None]:
    """A block in which transformers reads its state of a training from ``checkpoint``; what it
    can't read is an AdrpoError."""
    what = f"--resume: expected the state of a training in {checkpoint}"
    return reading(what, "remove that checkpoint to go on from an older one, or train again")


def processes_of(checkpoint: Path) -> int:
    """The number of processes whose random states transformers kept in ``checkpoint``; 0: none."""
    return len(list(checkpoint.glob("rng_state*.pth")))


def weights_of_step(run: Path, step: int) -> Path:
    """The checkpoint of ``step`` in the run's folder ``run``, from which a model takes its weights
    as from ``final/``.

    Raises AdrpoError where there is none with weights in it, and the line names the steps that
    there are; or where it is damaged.
    """
    found = steps_with_weights(run)
    if step not in found:
        there = ", ".join(map(str, sorted(found))) or "none"
        raise AdrpoError(
            f"--step: expected a step whose weights {run} has; received {step}; there are {there} "
            f"(checkpoint.keep says how many are kept)"
        )
    fault = _damage(found[step], looked_at=lambda name: not name.endswith(_NO_WEIGHTS))
    if fault is not None:
        raise AdrpoError(f"--step: {fault}; the checkpoint is damaged: name another step")
    return found[step]


def steps_with_weights(run: Path) -> dict[int, Path]:
    """Step -> folder of each whole checkpoint in a run's folder, of any domain, that has weights
    beside its state."""
    found = checkpoints_in(run / "checkpoints")
    return {step: path for step, path in found if any(path.glob("*.safetensors"))}


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in the checkpoint ``path``, tensors on the CPU.

    Raises:
        AdrpoError: the checkpoint is damaged. The line names the file, both checksums, and an
            older checkpoint that is intact, if there is one.
    """
    if _NAME.fullmatch(path.name) is None:
        raise AdrpoError(f"{path}: expected a checkpoint, a folder such as step-000010")
    check_intact(path)
    return torch.load(path / STATE, map_location="cpu", weights_only=True)


def check_intact(path: Path) -> None:
    """Raise AdrpoError where the checkpoint ``path`` is damaged; the line names an older one that
    is intact, if there is one. One of an earlier version without checksums is let pass."""
    if (fault := _damage(path)) is not None:
        raise AdrpoError(f"{fault}; the checkpoint is damaged: {_way_out(path)}")


def checkpoints_in(root: Path) -> list[tuple[int, Path]]:
    """Step and folder of every checkpoint that was written to its end, oldest first."""
    return [(step, path) for step, path in _folders(root) if is_whole(path)]


def _folders(root: Path) -> list[tuple[int, Path]]:
    """Step and folder of all that has a checkpoint's name, oldest first."""
    if not root.is_dir():
        return []
    found = [(match, path) for path in root.iterdir() if (match := _NAME.fullmatch(path.name))]
    # At the same step the one that stands aside is the older.
    found.sort(key=lambda item: (int(item[0][1]), item[0][2] is None))
    return [(int(match[1]), path) for match, path in found]


def _clear_temporary(root: Path) -> None:
    for leftover in root.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(leftover)


def _remove(path: Path) -> None:
    """Remove a checkpoint; a kill meanwhile leaves a temporary folder, not half a checkpoint."""
    if path.exists():
        doomed = path.with_name(f"{_TEMPORARY}{path.name}")
        path.rename(doomed)
        shutil.rmtree(doomed)


def _damage(path: Path, looked_at: Callable[[str], bool] = lambda name: True) -> str | None:
    """The fault of the checkpoint ``path``, None where it is intact."""
    if not path.name.startswith("step-") and not (path / manifest.FILE).exists():
        return None  # of an earlier version, or of TRL's own trainer
    step = {"step": step_of(path)} if _NAME.fullmatch(path.name) else {}
    return manifest.damage(path, looked_at=looked_at, **step)


def _way_out(path: Path) -> str:
    """An older checkpoint than the damaged ``path``, in words."""
    for step, other in reversed(checkpoints_in(path.parent)):
        if step < step_of(path) and _damage(other) is None:
            return f"{other.name} is intact, and --resume goes on from there"
    return "no older checkpoint is intact, train again in a new folder"


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
