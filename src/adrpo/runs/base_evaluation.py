"""Takes the evaluation of the untrained model over from another run, where it would be the same.

Runs of one comparison start from one model, and that is measured on the same prompts from the same
noises: what one of them has measured, the others need not draw again.
"""

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from adrpo.errors import AdrpoError, of_setting
from adrpo.runs.directory import Row, RunDirectory
from adrpo.runs.inputs import Inputs, check_inputs
from adrpo.runs.record import PAIRED, check_record
from adrpo.runs.resuming import flatten, settings_of

DECISIVE = ("domain", "model.", "prompts.", "evaluation.", "reward", "generation.")
DECISIVE += ("adapter.start_from", "adapter.reference")
"""Keys and sections on which the evaluation of the untrained model depends."""

SEED_KEY = "training.seed"
"""Key that decides, too, which prompts are the seen ones."""


def open_base(path: Path | str) -> RunDirectory:
    """The run whose evaluation of the base is to be taken over; AdrpoError where it is none."""
    with of_setting("--base"):
        return RunDirectory.open(path)


def check_base_evaluation(
    other: RunDirectory,
    settings: Mapping[str, Any],
    splits: Sequence[str],
    machine_keys: Collection[str],
    inputs: Inputs | None = None,
) -> None:
    """Raise AdrpoError where ``other`` has not evaluated its base, or did it otherwise.

    Args:
        other: the run whose evaluation is to be taken over.
        settings: the resolved configuration of the run that wants it, as JSON values.
        splits: those that it evaluates.
        machine_keys: keys in which the two may differ, since they touch speed and memory only.
        inputs: the prompts of the run that wants it, which must be the other's; None looks at none.
    """
    theirs, ours = settings_of(other), flatten(settings)
    key = where_bases_differ(ours, theirs, machine_keys)
    if key is not None:
        raise AdrpoError(
            f"--base: expected a run whose base is evaluated as this one's; {other.path} has "
            f"{key}={theirs.get(key)!r}, but this call has {ours.get(key)!r}"
        )
    missing = set(splits) - {row["split"] for row in _of_the_base(other)}
    if missing:
        raise AdrpoError(
            f"--base: expected a run that has evaluated its base; received {other.path}, whose "
            f"evaluations.jsonl has no row of step 0 for {', '.join(sorted(missing))} prompts"
        )
    check_record(other, *PAIRED, "samples/base", option="--base")
    if inputs is not None:
        check_inputs(other, inputs, seen=ours.get("evaluation.seen_prompts") or 0)


def where_bases_differ(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], machine_keys: Collection[str]
) -> str | None:
    """The first dotted key by which two configurations evaluate their untrained models otherwise;
    None where they don't. They may differ in ``machine_keys``."""
    seen = (SEED_KEY,) if ours.get("evaluation.seen_prompts") else ()
    differing = (
        key
        for key in sorted((theirs.keys() | ours.keys()) - set(machine_keys))
        if key.startswith((*DECISIVE, *seen)) and theirs.get(key) != ours.get(key)
    )
    return next(differing, None)


def can_be_adopted(folder: Path) -> bool:
    """True where the run in ``folder`` has what ``adopt_base_evaluation`` copies."""
    return any((folder / "samples").glob("base*"))


def adopt_base_evaluation(run: RunDirectory, other: RunDirectory) -> None:
    """Copy the rows, values and samples of step 0 from ``other`` into ``run``, which has none."""
    run.samples.mkdir(exist_ok=True)
    for part in (*other.samples.glob("base*"), other.samples / "step-000000"):
        if part.is_dir():
            shutil.copytree(part, run.samples / part.name, dirs_exist_ok=True)
        else:
            shutil.copyfile(part, run.samples / part.name)
    shutil.copyfile(other.samples / "prompts.json", run.samples / "prompts.json")
    for row in _of_the_base(other):
        run.append_evaluation(row)


def _of_the_base(run: RunDirectory) -> list[Row]:
    return [row for row in run.read_evaluations() if row["step"] == 0]
