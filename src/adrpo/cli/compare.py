"""``adrpo compare``: methods x seeds, and what their results say."""

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adrpo.cli.completion import words_beginning
from adrpo.cli.domains import all_facts, door_of
from adrpo.cli.settings import Set
from adrpo.errors import AdrpoError

if TYPE_CHECKING:
    from adrpo.comparison import Plan
    from adrpo.comparison.schedule import Failure
    from adrpo.comparison.workers import Workers
    from adrpo.evaluation.door import Guides


Recipes = Annotated[
    list[str],
    typer.Argument(
        metavar="RECIPE... [KEY=VALUE]...",
        help="Names of recipes (see `adrpo recipes`) or .yaml paths, and settings for all.",
        autocompletion=words_beginning,
    ),
]
Seeds = Annotated[
    int,
    typer.Option(min=1, max=10_000, help="Trainings of each recipe, with the seeds 0 to N - 1."),
]
Folder = Annotated[Path, typer.Option(help="Folder of the comparison; a stopped one goes on.")]
Reference = Annotated[
    str | None,
    typer.Option(help="The method that the others are compared with.", show_default="the first"),
]
Declared = Annotated[
    str | None,
    typer.Option(
        "--primary",
        metavar="METRIC=METHOD",
        help="The one comparison that is tested by itself: METHOD against the reference in METRIC; "
        "declared before the first run, and kept.",
        show_default="the first judge, of the first other method",
    ),
]
Parallel = Annotated[
    int | None,
    typer.Option(
        min=1, help="Trainings at a time.", show_default="1, or as many as GPUs or a cluster take"
    ),
]
Processes = Annotated[
    int,
    typer.Option(
        min=1, help="Processes that train each run together, each with a GPU where there are any."
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Train on the machines of a Ray cluster, which see the output folder; 'auto' is the "
        "one that this machine is part of.",
        show_default="this machine",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads of each training.", show_default="cores / parallel"),
]
BestOf = Annotated[
    list[int] | None,
    typer.Option(
        "--best-of",
        min=1,
        metavar="N",
        help="Measure the best of N samples of the base, too; repeatable.",
    ),
]
Guidance = Annotated[
    list[float] | None,
    typer.Option(
        "--guidance", min=1, metavar="W", help="Measure the base with guidance W, too; repeatable."
    ),
]
Beside = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FOLDER",
        help="What `adrpo evaluate` wrote of another model: one more row of Table 1; repeatable.",
    ),
]
SummaryOnly = Annotated[
    bool, typer.Option("--summary-only", help="Train nothing; draw from the finished runs.")
]


FEW_EVALUATIONS = 6


def compare(
    recipes: Recipes,
    seeds: Seeds = 3,
    settings: Set = None,
    output_dir: Folder = Path("runs/compare"),
    reference: Reference = None,
    primary: Declared = None,
    parallel: Parallel = None,
    threads: Threads = None,
    processes: Processes = 1,
    cluster: Cluster = None,
    best_of: BestOf = None,
    guidance: Guidance = None,
    beside: Beside = None,
    summary_only: SummaryOnly = False,
) -> None:
    """Train recipes with several seeds and compare them on the same prompts and noises."""
    from adrpo.comparison import Plan, check_folder, collect, write_results
    from adrpo.comparison.plan import left_out
    from adrpo.comparison.reference_lines import check_measured
    from adrpo.config import names_and_overrides
    from adrpo.evaluation.best_of_n import FILE, check_selected_by

    names, overrides = names_and_overrides(recipes, expected="recipes", most=None)
    overrides += settings or []
    plan = Plan.resolve(output_dir, names, overrides, seeds, reference, all_facts(), primary)
    if summary_only and not output_dir.is_dir():
        raise AdrpoError(
            f"--summary-only: expected the folder of a comparison; received {output_dir}, which "
            f"does not exist; leave --summary-only out to train"
        )
    check_folder(plan)
    check_selected_by(output_dir / FILE, plan.reward)
    domain = str(plan.methods[0].settings.get("domain"))
    typer.echo(plan.primary.sentence(plan.reference, domain))
    if left_out(plan):
        typer.echo(f"Left out, though {output_dir} has it: {', '.join(left_out(plan))}.")
    sizes, scales = best_of or [], guidance or []
    if summary_only:
        check_measured(output_dir, sizes, scales)
    else:
        _check_guidance(plan, scales)
        _advise(plan)
        workers = _workers(cluster, parallel=parallel, threads=threads, processes=processes)
        _complete(plan, sizes, scales, workers)
    results = collect(plan, beside or [])
    for method in results.methods.values():
        for folder, step in method.diverged.items():
            typer.echo(
                f"{folder.name} diverged at step {step}: it counts as the base from there on."
            )
    page = write_results(results, shlex.join(["adrpo", *sys.argv[1:]]))
    typer.echo((output_dir / "table-unseen.md").read_text(encoding="utf-8"))
    typer.echo(f"Comparison: {page}")


def _advise(plan: "Plan") -> None:
    """Say where so few evaluations are planned that much is read between them."""
    steps = min(method.steps for method in plan.methods)
    every = max(1, steps // FEW_EVALUATIONS)
    if plan.evaluations < min(FEW_EVALUATIONS, -(-steps // every)):
        typer.echo(
            f"Rewards at an equal price are read between {plan.evaluations} evaluations of a run; "
            f"--set evaluation.every={every} makes them {-(-steps // every)}."
        )


def _workers(cluster: str | None, **options: Any) -> "Workers":
    """The workers of a comparison, on this machine or a cluster; where is told."""
    from adrpo.comparison.cluster import ClusterWorkers
    from adrpo.comparison.workers import LocalWorkers

    workers = LocalWorkers(**options) if cluster is None else ClusterWorkers(cluster, **options)
    if sentence := workers.sentence():
        typer.echo(sentence)
    return workers


def _complete(plan: "Plan", sizes: list[int], scales: list[float], workers: "Workers") -> None:
    """Train and measure what the comparison's folder lacks, alone in it."""
    from adrpo.comparison import record
    from adrpo.runs.lock import exclusive

    plan.folder.mkdir(parents=True, exist_ok=True)
    with exclusive(plan.folder):
        record(plan)
        _train(plan, workers)
        _measure_base(plan, sizes, scales)


def _check_guidance(plan: "Plan", scales: list[float]) -> None:
    """Raise AdrpoError, before anything is trained or written, for a scale that the base can't be
    drawn with."""
    from adrpo.evaluation.guidance import FILE, missing_scales

    for scale in scales:
        if not math.isfinite(scale):
            raise AdrpoError(f"--guidance: expected a number of 1 or more; received {scale}")
    if missing_scales(plan.folder / FILE, scales):
        config = _base_of(plan)
        _guiding(config).check_guidance(config)


def _measure_base(plan: "Plan", sizes: list[int], scales: list[float]) -> None:
    """Best of n and guidance under the reference's own reward and evaluation, where they are not
    measured yet."""
    from adrpo.cli.quiet import silence_loading
    from adrpo.comparison import jobs_of
    from adrpo.evaluation import best_of_n, guidance
    from adrpo.runs.announcer import working
    from adrpo.runs.directory import RunDirectory
    from adrpo.runs.inputs import read_held_out

    selected, guided = (plan.folder / module.FILE for module in (best_of_n, guidance))
    sizes = best_of_n.missing_sizes(selected, sizes)
    scales = guidance.missing_scales(guided, scales)
    if not sizes and not scales:
        return
    silence_loading()
    config = _base_of(plan)
    # Those that the runs were measured on, though their source may have changed since.
    held_out = read_held_out(RunDirectory(jobs_of(plan)[0].folder))
    if sizes:
        with working("best of n of the base"), door_of(config).subject(config, held_out) as subject:
            best_of_n.complete_best_of_n(selected, subject.evaluator, sizes, plan.reward)
    if scales:
        with working("the base with guidance"):
            guidance.complete_guidance(guided, _guiding(config), config, scales, held_out)


def _base_of(plan: "Plan") -> Any:
    """The configuration of the reference, whose base is that of all methods."""
    from adrpo.config import load_recipe

    (recipe,) = (method.recipe for method in plan.methods if method.name == plan.reference)
    return load_recipe(recipe, plan.overrides)


def _guiding(config: Any) -> "Guides":
    """The door of the configuration's domain, as one that guides.

    Raises AdrpoError where nothing of the domain is guided.
    """
    from adrpo.evaluation.door import Guides

    door = door_of(config)
    if not isinstance(door, Guides):
        raise AdrpoError(
            f"--guidance: expected a model with classifier-free guidance; received one of the "
            f"domain {config.domain}, which has none; leave --guidance out"
        )
    return door


def _train(plan: "Plan", workers: "Workers") -> None:
    """Run what is not finished yet under one progress bar."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from adrpo.comparison import jobs_of, run_jobs
    from adrpo.comparison.pace import Pace
    from adrpo.runs.announcer import Announcer

    jobs = jobs_of(plan)
    pace = Pace(jobs)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
        TimeRemainingColumn(compact=True),
    )
    task = bar.add_task("compare", total=pace.total, completed=pace.done)
    lines = Announcer(pace.line)  # in a log the bar's content is a line now and then
    bar.disable = not bar.console.is_terminal

    def show(steps: int, running: int) -> None:
        pace.update(steps, running)
        bar.update(task, completed=steps, description=pace.runs)

    def tell(line: str) -> None:
        bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    try:
        with lines if bar.disable else bar:
            failures = run_jobs(
                jobs, plan.overrides, workers=workers,
                on_progress=show, on_failure=lambda failure: tell(_failed(failure)),
                on_loss=lambda job: tell(f"{job.folder.name} lost its machine: it goes on anew."),
            )  # fmt: skip
    except KeyboardInterrupt:
        again = shlex.join(["adrpo", *sys.argv[1:]])
        print(f"\nadrpo: interrupted; all trainings are stopped; to go on: {again}",
              file=sys.stderr)  # fmt: skip
        raise typer.Exit(130) from None
    if failures:
        names = ", ".join(failure.job.folder.name for failure in failures)
        raise AdrpoError(
            f"compare: {len(failures)} of {len(jobs)} runs failed: {names}; mend the cause "
            f"({failures[0].job.log}), then give the same command: finished runs are kept"
        )


def _failed(failure: "Failure") -> str:
    return f"{failure.job.folder.name} failed: {failure.reason}"
