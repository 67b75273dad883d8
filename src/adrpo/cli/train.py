"""``adrpo train`` and ``adrpo demo``."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adrpo.cli.completion import recipes_beginning
from adrpo.cli.domains import door_of
from adrpo.cli.folders import free_folder
from adrpo.cli.quiet import silence_loading
from adrpo.cli.settings import Overrides
from adrpo.cli.tracebacks import note_run
from adrpo.errors import AdrpoError

if TYPE_CHECKING:
    from adrpo.config import Configuration
    from adrpo.runs.processes import Processes

DEMO_RECIPE = "flow/demo"

Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the latest checkpoint in the output folder.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the resolved configuration and do nothing.")
]


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="Name of a recipe (see `adrpo recipes`) or path of a YAML file.",
            autocompletion=recipes_beginning,
        ),
    ],
    overrides: Overrides = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the run.", show_default="runs/<recipe>"),
    ] = None,
    resume: Resume = False,
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Take the evaluation of the untrained model from this run of the same model, "
            "prompts, reward and evaluation.",
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Fine-tune a model by a recipe and write its report."""
    config = _resolve(recipe, overrides or [])
    if dry_run:
        _print_config(config)
        return
    if not resume:
        _check_has_reward(recipe, overrides or [])
    target = output_dir or Path("runs") / _run_name(recipe)
    with _together(config) as processes:
        if processes.is_main and not resume and free_folder(target) != target:
            raise AdrpoError(
                f"output folder: expected a new or empty folder; received {target}, which holds "
                f"files; choose another --output-dir, or go on with that run by --resume"
            )
        again = ["train", recipe, *(overrides or [])]
        _train(config, target, processes, resume=resume, again=again, base=base)


def demo(
    overrides: Overrides = None,
    output_dir: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/demo"),
    resume: Resume = False,
    dry_run: DryRun = False,
) -> None:
    """Fine-tune the embedded model on this machine: no download, no GPU.

    An output folder that is in use stays as it is; the run takes the next free name.
    """
    config = _resolve(DEMO_RECIPE, overrides or [])
    if dry_run:
        _print_config(config)
        return
    with _together(config) as processes:
        target = output_dir if resume else processes.from_main(lambda: free_folder(output_dir))
        if target != output_dir and processes.is_main:
            typer.echo(f"{output_dir} holds files and stays as it is; this run goes to {target}")
        _train(config, target, processes, resume=resume, again=["demo", *(overrides or [])])


def _resolve(recipe: str, overrides: list[str]) -> "Configuration":
    from adrpo.config import load_recipe

    config = load_recipe(recipe, overrides)
    config.check_trains()
    return config


def _check_has_reward(recipe: str, overrides: list[str]) -> None:
    """Raise AdrpoError where ``recipe`` is the configuration of a run that had another reward."""
    from adrpo.runs.directory import RunDirectory
    from adrpo.runs.inputs import check_trained_by_settings

    run = RunDirectory(Path(recipe).parent)
    if Path(recipe) == run.config:
        check_trained_by_settings(run, overrides)


def _print_config(config: "Configuration") -> None:
    from adrpo.config import config_to_yaml

    typer.echo(config_to_yaml(config), nl=False)


def _run_name(recipe: str) -> str:
    """``flow/adrpo`` -> ``flow-adrpo``; a path -> the file's name without its ending."""
    if recipe.endswith((".yaml", ".yml")):
        return Path(recipe).stem
    return recipe.replace("/", "-")


@contextmanager
def _together(config: "Configuration") -> "Iterator[Processes]":
    """The processes that a launcher started for this command: an error of one ends all of them,
    and the main one tells it."""
    from adrpo.runs.processes import ALONE, join_processes, launched_rank

    processes = ALONE
    try:
        processes = join_processes(config.model.device)
        with processes.failing_together():
            yield processes
        processes.leave()
    except AdrpoError:  # of all, so that none waits for another
        processes.leave()
        if launched_rank() > 0:
            raise typer.Exit(2) from None
        raise


def _train(
    config: "Configuration",
    target: Path,
    processes: "Processes",
    *,
    resume: bool,
    again: list[str],
    base: Path | None = None,
) -> None:
    """Train, write the report, say what came of it; ``again`` are the command's arguments."""
    from adrpo.runs.announcer import working
    from adrpo.runs.start import start_lines

    silence_loading()
    note_run(target)
    if processes.is_main:
        for line in [*start_lines(config.adapter), *config.notices()]:
            typer.echo(line)
    try:
        loading = f"loading {config.model.pretrained} and its prompts"
        with working(loading) if processes.is_main else nullcontext():
            trainer = door_of(config).build(config)
        before = _written(target)
        run = trainer.train(target, resume=resume, progress=True, base=base)
    except KeyboardInterrupt:
        if processes.is_main:
            print(f"\nadrpo: interrupted; {_how_to_resume(target, again)}", file=sys.stderr)
        raise typer.Exit(130) from None
    if not processes.is_main:
        return

    from adrpo.report import write_report
    from adrpo.report.result import result_lines
    from adrpo.runs.directory import RunDirectory

    page = write_report(run)
    if before and before == _written(run):
        last = RunDirectory(run).read_metrics()[-1]["step"]
        typer.echo(
            f"Nothing was trained: {run} is finished, at step {last}; for more steps set "
            f"training.steps"
        )
    typer.echo("\n".join(result_lines(run)))
    typer.echo(f"Report: {page}")


def _written(target: Path) -> int:
    """Bytes of the metrics of the run in ``target``: each step adds some."""
    from adrpo.runs.directory import RunDirectory

    metrics = RunDirectory(target).metrics
    return metrics.stat().st_size if metrics.is_file() else 0


def _how_to_resume(target: Path, again: list[str]) -> str:
    if not (target / "config.yaml").is_file():
        return "nothing had been written, so there is nothing to resume"
    from adrpo.runs.checkpoints import steps_with_weights

    command = shlex.join(["adrpo", *again, "--output-dir", str(target), "--resume"])
    steps = steps_with_weights(target)
    drawn = shlex.join(["adrpo", "sample", str(target), "--step", str(max(steps))]) if steps else ""
    return f"to go on from the last checkpoint: {command}" + (
        f"; to draw with its weights: {drawn}" if steps else ""
    )
