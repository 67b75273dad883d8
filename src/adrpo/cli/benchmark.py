"""``adrpo evaluate --benchmark``: a published set of questions, scored as its authors do."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from adrpo.cli.folders import free_folder
from adrpo.errors import AdrpoError

Name = Annotated[
    str | None,
    typer.Option(
        "--benchmark",
        metavar="NAME",
        help="Score predictions on a published benchmark, mmau or mmar, with --data and "
        "--predictions, in the place of RUN_OR_MODEL (docs/use/benchmarks.md).",
    ),
]
Data = Annotated[
    Path | None, typer.Option(help="The benchmark's file of questions, or the folder with it.")
]
Predictions = Annotated[
    Path | None,
    typer.Option(help="A model's answers: the benchmark's own form, or a .jsonl file."),
]
Against = Annotated[
    Path | None,
    typer.Option(help="Folder of another model's result: adds the paired differences."),
]
OPTIONS = ("benchmark", "data", "predictions", "against")
"""Options of ``evaluate`` that belong to a benchmark."""


def check_options(context: typer.Context) -> None:
    """Raise AdrpoError where ``evaluate`` was given neither a run or model nor a benchmark, or an
    option that has no meaning beside the one or the other."""
    written: dict[str, str] = {}
    for parameter in context.command.params:
        name = parameter.name or ""
        value = context.params.get(name)
        if value not in (None, [], ()) and name != "output_dir":
            option = parameter.param_type_name == "option"
            written[name] = parameter.opts[0] if option else str(value)
    if "benchmark" in written:
        useless = [text for name, text in written.items() if name not in OPTIONS]
        rule = "--benchmark with --data and --predictions alone"
    else:
        useless = [text for name, text in written.items() if name in OPTIONS]
        rule = "--data, --predictions and --against beside --benchmark"
    if useless:
        raise AdrpoError(f"evaluate: expected {rule}; received {', '.join(useless)}; leave it out")
    if "benchmark" not in written and "target" not in written:
        raise AdrpoError("evaluate: expected RUN_OR_MODEL, or --benchmark; received neither")


def evaluate_benchmark(
    name: str,
    *,
    data: Path | None,
    predictions: Path | None,
    against: Path | None,
    output_dir: Path,
) -> None:
    """Score a file of predictions into a folder, and print the table."""
    from adrpo.audio.benchmarks.results import score_predictions
    from adrpo.report.benchmark import benchmark_lines

    if data is None or predictions is None:
        missing = "--data" if data is None else "--predictions"
        raise AdrpoError(f"--benchmark: expected --data and --predictions; received no {missing}")
    folder = free_folder(output_dir)
    command = shlex.join(["adrpo", *sys.argv[1:]])
    summary = score_predictions(name, data, predictions, folder, against=against, command=command)
    typer.echo("\n".join(benchmark_lines(summary)))
    typer.echo(f"Result: {folder}")
