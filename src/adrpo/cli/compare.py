"""``adrpo compare``: methods x seeds, and what their results say."""

import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adrpo.cli.domains import all_facts, door_of
from adrpo.cli.settings import Set
from adrpo.errors import AdrpoError

if TYPE_CHECKING:
    from adrpo.comparison import Plan
    from adrpo.comparison.schedule import Failure


Recipes = Annotated[
    list[str],
    typer.Argument(
        metavar="RECIPE... [KEY=VALUE]...",
        help="Names of recipes (see `adrpo recipes`) or .yaml paths, and settings for all.",
    ),
]
Seeds = Annotated[
    int, typer.Option(min=1, help="Trainings of each recipe, with the seeds 0 to N - 1.")
]
Folder = Annotated[Path, typer.Option(help="Folder of the comparison; a stopped one goes on.")]
Reference = Annotated[
    str | None,
    typer.Option(help="The method that the others are compared with.", show_default="the first"),
]
Parallel = Annotated[int, typer.Option(min=1, help="Trainings at a time.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads of each training.", show_default="cores / parallel"),
]
BestOf = Annotated[
    list[int] | None,
    typer.Option(
        "--best-of", min=1, metavar="N", help="Measure the best of N samples of the base, too."
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


def compare(
    recipes: Recipes,
    seeds: Seeds = 3,
    settings: Set = None,
    output_dir: Folder = Path("runs/compare"),
    reference: Reference = None,
    parallel: Parallel = 1,
    threads: Threads = None,
    best_of: BestOf = None,
    beside: Beside = None,
    summary_only: SummaryOnly = False,
) -> None:
    """Train recipes with several seeds and compare them on the same prompts and noises."""
    from adrpo.comparison import Plan, check_folder, collect, write_results
    from adrpo.config import names_and_overrides

    names, overrides = names_and_overrides(recipes, expected="recipes", most=None)
    overrides += settings or []
    plan = Plan.resolve(output_dir, names, overrides, seeds, reference, all_facts())
    if summary_only and not output_dir.is_dir():
        raise AdrpoError(
            f"--summary-only: expected the folder of a comparison; received {output_dir}, which "
            f"does not exist; leave --summary-only out to train"
        )
    check_folder(plan)
    if not summary_only:
        _complete(plan, parallel=parallel, threads=threads, best_of=best_of or [])
    page = write_results(collect(plan, beside or []), shlex.join(["adrpo", *sys.argv[1:]]))
    typer.echo((output_dir / "table-unseen.md").read_text(encoding="utf-8"))
    typer.echo(f"Comparison: {page}")


def _complete(plan: "Plan", *, parallel: int, threads: int | None, best_of: list[int]) -> None:
    """Train and measure what the comparison's folder lacks, alone in it."""
    from adrpo.comparison import record
    from adrpo.runs import available_cores
    from adrpo.runs.lock import exclusive

    plan.folder.mkdir(parents=True, exist_ok=True)
    with exclusive(plan.folder):
        record(plan)
        share = max(1, available_cores() // parallel)
        _train(plan, parallel=parallel, threads=threads or share)
        if best_of:
            _select(plan, best_of)


def _select(plan: "Plan", sizes: list[int]) -> None:
    """Best of n under the reference's own reward and evaluation, where it is not measured yet."""
    from adrpo.cli.quiet import silence_loading
    from adrpo.config import load_recipe
    from adrpo.evaluation.best_of_n import FILE, write_best_of_n

    if (plan.folder / FILE).exists():
        return
    silence_loading()
    (recipe,) = (method.recipe for method in plan.methods if method.name == plan.reference)
    config = load_recipe(recipe, plan.overrides)
    with door_of(config).subject(config) as subject:
        write_best_of_n(plan.folder / FILE, subject.evaluator, sizes)


def _train(plan: "Plan", *, parallel: int, threads: int) -> None:
    """Run what is not finished yet under one progress bar."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from adrpo.comparison import jobs_of, run_jobs

    jobs = jobs_of(plan)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
        TimeRemainingColumn(compact=True),
    )
    total = sum(job.method.steps for job in jobs)
    task = bar.add_task("compare", total=total, completed=sum(job.steps_done() for job in jobs))

    def show(steps: int, running: int) -> None:
        finished = f"{len(jobs)} runs, {running} at work"
        bar.update(task, completed=steps, description=finished)

    def tell(failure: "Failure") -> None:
        bar.console.print(_failed(failure), markup=False, highlight=False, soft_wrap=True)

    # SIGTERM would end this process alone and leave the trainings behind; as Ctrl-C it stops them.
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with bar:
            failures = run_jobs(
                jobs, plan.overrides, parallel=parallel, threads=threads,
                on_progress=show, on_failure=tell,
            )  # fmt: skip
    except KeyboardInterrupt:
        again = shlex.join(["adrpo", *sys.argv[1:]])
        print(f"\nadrpo: interrupted; all trainings are stopped; to go on: {again}",
              file=sys.stderr)  # fmt: skip
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, former)
    if failures:
        names = ", ".join(failure.job.folder.name for failure in failures)
        raise AdrpoError(
            f"compare: {len(failures)} of {len(jobs)} runs failed: {names}; mend the cause "
            f"({failures[0].job.log}), then give the same command: finished runs are kept"
        )


def _failed(failure: "Failure") -> str:
    return f"{failure.job.folder.name} failed: {failure.reason}"
