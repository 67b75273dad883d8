"""A run or a model by its name, to be drawn from or measured."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adrpo.config import config_to_yaml, default_config, load_recipe
from adrpo.config.places import note_place
from adrpo.data.base import Prompt
from adrpo.data.prompts import GENERATED
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.evaluation.door import Door
from adrpo.evaluation.whereabouts import TEXTS, from_home
from adrpo.metrics import SEEN
from adrpo.runs.checkpoints import steps_with_weights, weights_of_step
from adrpo.runs.directory import Row, RunDirectory
from adrpo.runs.facts import write_facts
from adrpo.runs.inputs import (
    check_trained_by_settings,
    read_held_out,
    read_record,
    tell_of_trained,
)
from adrpo.runs.kept_weights import kept_step
from adrpo.runs.manifest import check_weights
from adrpo.runs.model_folder import ADAPTER_CONFIG
from adrpo.runs.record import check_asked
from adrpo.runs.start import START


@dataclass(frozen=True, kw_only=True)
class Target:
    """A model that is asked, and its settings.

    ``name`` as the user gave it; ``config`` is the run's own or a recipe's, around this model;
    ``final``, the folder of trained weights, and the ``step`` at which training left them. ``run``
    is the trained one, ``overrides`` change its settings, and ``held_out`` are the prompts that it
    kept, where it is asked about those.
    """

    name: str
    door: Door
    config: Any
    final: Path | None
    step: int
    held_out: list[Prompt] | None = None
    run: RunDirectory | None = None
    overrides: Sequence[str] = ()

    @classmethod
    def resolve(
        cls,
        name: str,
        door_of: Callable[[Any], Door],
        *,
        recipe: str | None = None,
        overrides: Sequence[str] = (),
        prompts: str | None = None,
        lora: Path | None = None,
        step: int | None = None,
    ) -> "Target":
        """A run's folder with its own settings and weights, or a model with the settings of
        ``recipe`` (the defaults without one) and the adapter ``lora``, if any.

        ``door_of`` finds the door of a configuration. A model that is not the recipe's has its own
        values of the door's ``own_keys``, unless ``overrides`` set them. ``prompts`` takes the
        place of the held-out ones; unlike these it may be what was trained on. ``step`` takes a
        run's weights of an earlier step, which its checkpoints have; 0 is its base.

        Raises AdrpoError where a run is not finished and no ``step`` is named, has no weights of
        the ``step``, or is named beside a recipe or an adapter; where a model has a ``step``;
        where ``lora`` is not there; and as :func:`~adrpo.config.load_recipe` does.
        """
        run, known = Path(name), None
        if (run / "config.yaml").is_file():
            if recipe is not None or lora is not None:
                raise AdrpoError(
                    f"expected --recipe and --lora beside a model only; {name} is a run, which has "
                    f"settings and weights of its own; leave them out"
                )
            known = RunDirectory.open(run)
            check_asked(known)
            config, held_out = _of_run(run, overrides)
            final, step = _weights(run, step)
        else:
            if step is not None:
                raise AdrpoError(
                    f"--step: expected a run, whose checkpoints have steps; received the model "
                    f"{name}; leave --step out"
                )
            if lora is not None and not lora.exists():
                raise AdrpoError(
                    f"--lora: expected the folder or file of a LoRA adapter; received {lora}, "
                    f"which is not there"
                )
            if lora is not None and lora.is_file() and (lora.parent / ADAPTER_CONFIG).is_file():
                # PEFT keeps the scale of the file's tensors there.
                lora = lora.parent
            if lora is not None:
                check_weights(lora)
            config, final = _around(name, door_of, recipe, overrides), lora
            step, held_out = 0 if lora is None else 1, None
        door = door_of(config)
        if prompts is not None:
            config, held_out = door.on_prompts(config, prompts), None
        return cls(
            name=name, door=door, config=config, final=final, step=step,
            held_out=held_out, run=known, overrides=overrides,
        )  # fmt: skip


def _of_run(folder: Path, overrides: Sequence[str]) -> tuple[Any, list[Prompt] | None]:
    """The settings of a run, whose files are found from every folder, and its own held-out prompts,
    unless ``overrides`` name others."""
    config, held_out = _at_home(RunDirectory.open(folder), overrides)
    if (folder / START).is_dir():
        # The one that the run began with, whatever lies in its place now.
        check_weights(folder / START)
        adapter = config.adapter.model_copy(update={"start_from": str(folder / START)})
        config = config.model_copy(update={"adapter": adapter})
    return config, held_out


def _at_home(run: RunDirectory, overrides: Sequence[str]) -> tuple[Any, list[Prompt] | None]:
    """The settings of a run with paths from its folder, and the held-out prompts that it kept."""
    own = load_recipe(run.config)
    record = read_record(run)
    if record is None:
        return load_recipe(run.config, overrides), None
    for place in record.get("places", ()):
        note_place(place)
    changed = load_recipe(run.config, overrides)
    # What the user names is read, also by the name that the run had for it.
    keys = {override.partition("=")[0].strip() for override in overrides}
    named = any(key.startswith("prompts.") for key in keys - {*TEXTS})
    same = not named and (
        changed.evaluation.seed == own.evaluation.seed
        or getattr(own.prompts, "held_out", None) not in GENERATED
    )
    found = load_recipe(run.config, [*from_home(own, Path(record["folder"])), *overrides])
    return found, read_held_out(run) if same else None


def _weights(run: Path, step: int | None) -> tuple[Path | None, int]:
    """The folder with a run's weights of ``step``, None for its base, and the step; without one
    what training kept."""
    if step is not None:
        return (weights_of_step(run, step) if step else None), step
    final = run / "final"
    if not final.is_dir():
        there = ", ".join(map(str, sorted(steps_with_weights(run)))) or "none"
        raise AdrpoError(
            f"expected a finished run with {final}; {run} has none yet; finish it with --resume, "
            f"or name one of the steps that its checkpoints have by --step: {there}"
        )
    if not check_weights(final):
        warnings.warn(
            f"{final} is of an earlier version and has no checksums: whether its files are as "
            f"training wrote them is not checked",
            AdrpoWarning,
            stacklevel=3,
        )
    step = _kept_step(run)
    # Early stopping may have kept the base, which is measured as such.
    return (final if step else None), step


def _kept_step(run: Path) -> int:
    """The step at which training left what it kept in ``final/``."""
    own = load_recipe(run / "config.yaml")
    found = kept_step(RunDirectory.open(run), own.evaluation.early_stopping)
    return own.training.steps if found is None else found


def _around(
    pretrained: str, door_of: Callable[[Any], Door], recipe: str | None, overrides: Sequence[str]
) -> Any:
    """The settings of a recipe, with another model in its place.

    Raises AdrpoError where ``overrides`` name a model, too, and not this one.
    """
    if recipe is None:
        own = default_config()
        config = default_config(overrides)
    else:
        own = load_recipe(recipe)
        keys = door_of(own).own_keys if own.model.pretrained != pretrained else ()
        config = load_recipe(recipe, [*(f"model.{key}=null" for key in keys), *overrides])
    written = config.model.pretrained
    if written not in (own.model.pretrained, pretrained):
        raise AdrpoError(
            f"expected one model; received {pretrained} and model.pretrained={written}; "
            f"name {written} in the place of {pretrained}, or leave it out"
        )
    model = config.model.model_copy(update={"pretrained": pretrained})
    return config.model_copy(update={"model": model})


def evaluate_target(target: Target, output_dir: Path) -> Row:
    """Measure ``target`` on the held-out prompts of its settings, with 95 % intervals.

    ``output_dir`` becomes a run directory in which nothing was trained: config.yaml,
    environment.json, evaluations.jsonl and samples/ as training writes them. A trained model comes
    after its base (step 0), and its row then holds ``<metric>_change``, paired prompt by prompt and
    draw by draw. Returns the last row.
    """
    if target.run is not None:
        check_trained_by_settings(target.run, target.overrides)
    with (
        target.door.subject(target.config, target.held_out) as subject,
        RunDirectory.whole(output_dir, config_to_yaml(target.config)) as run,
    ):
        drawing = subject.evaluator.drawing
        known: dict[str, Any] = {"target": target.name}
        if target.run is not None and tell_of_trained(
            target.run, drawing.prompts, drawing.known_as
        ):
            known["split"] = SEEN
        write_facts(run, target.door.facts)
        if target.final is not None:
            subject.check(target.final)  # before the base is measured, which may take hours
        row = subject.evaluator.evaluate(run, 0, **known)
        if target.final is not None:
            subject.take(target.final)
            row = subject.evaluator.evaluate(run, target.step, **known)
    assert row is not None, "one process evaluates a target"
    return row
