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
        help="Score answers to a published benchmark, mmau or mmar, with --data and --predictions, "
        "a file that RUN_OR_MODEL or --endpoint fills where one is named "
        "(docs/use/benchmarks.md).",
    ),
]
Data = Annotated[
    Path | None, typer.Option(help="The benchmark's file of questions, or the folder with it.")
]
Endpoint = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Chat completions of a model that hears, whose answers go to the file --predictions; "
        "settings as KEY=VALUE, model=NAME at least.",
    ),
]
Predictions = Annotated[
    Path | None,
    typer.Option(help="A model's answers: the benchmark's own form, or a .jsonl file."),
]
Against = Annotated[
    Path | None,
    typer.Option(help="Folder of another model's result: adds the paired differences."),
]
Shifts = Annotated[
    bool,
    typer.Option(
        "--shifts",
        help="Ask RUN_OR_MODEL with each choice first once, and add the mean over these shifts.",
    ),
]
OPTIONS = ("benchmark", "data", "endpoint", "predictions", "against", "shifts")
"""Options of ``evaluate`` that belong to a benchmark."""
SETTINGS = ("target", "overrides", "settings")
"""Parameters of ``evaluate`` that may hold settings of an endpoint."""
MODEL = (*SETTINGS, "recipe", "lora", "step")
"""Parameters of ``evaluate`` that say which model answers a benchmark, and how."""
RECIPES = {"embedded": "audio/embedded"}
"""Model -> the recipe whose settings it has where none is named."""
RECIPE = "audio/qwen2.5-omni-7b"
"""Recipe of all other models."""


def check_options(context: typer.Context) -> None:
    """Raise AdrpoError where ``evaluate`` was given neither a run or model nor a benchmark, or an
    option that has no meaning beside the one or the other."""
    written: dict[str, str] = {}
    for parameter in context.command.params:
        name = parameter.name or ""
        value = context.params.get(name)
        if value not in (None, [], (), False) and name != "output_dir":
            option = parameter.param_type_name == "option"
            written[name] = parameter.opts[0] if option else str(value)
    if "benchmark" in written:
        # RUN_OR_MODEL takes the first KEY=VALUE.
        local = "target" in written and "endpoint" not in written
        known = {*OPTIONS, *(SETTINGS if "endpoint" in written else MODEL if local else ())}
        if not local:
            known.discard("shifts")
        useless = [text for name, text in written.items() if name not in known]
        rule = "--benchmark with --data, --predictions and what asks a model alone"
    else:
        useless = [text for name, text in written.items() if name in OPTIONS]
        rule = f"{', '.join(f'--{name}' for name in OPTIONS[1:])} beside --benchmark"
    if useless:
        raise AdrpoError(f"evaluate: expected {rule}; received {', '.join(useless)}; leave it out")
    if "benchmark" not in written and "target" not in written:
        raise AdrpoError("evaluate: expected RUN_OR_MODEL, or --benchmark; received neither")


def evaluate_benchmark(context: typer.Context) -> None:
    """Score a file of predictions into a folder, and print the table; with an endpoint ask it for
    what the file lacks before."""
    from adrpo.cli.domains import benchmarks
    from adrpo.report.benchmark import benchmark_lines

    asked = context.params
    for option in ("data", "predictions"):
        if asked[option] is None:
            raise AdrpoError(
                f"--benchmark: expected --data and --predictions; received no --{option}"
            )
    folder = free_folder(asked["output_dir"])
    if asked["endpoint"] is not None:
        if not _ask(context):
            return
    elif asked["target"] is not None:
        _answer(context)
    summary = benchmarks().score_predictions(
        asked["benchmark"],
        asked["data"],
        asked["predictions"],
        folder,
        shifts=asked["shifts"],
        against=asked["against"],
        command=_command(asked["endpoint"] or ""),
    )
    typer.echo("\n".join(benchmark_lines(summary)))
    typer.echo(f"Result: {folder}")


def _answer(context: typer.Context) -> None:
    """Ask a model on this machine."""
    from adrpo.cli.domains import benchmarks, door_of
    from adrpo.cli.quiet import silence_loading
    from adrpo.evaluation.targets import Target

    silence_loading()
    asked = context.params
    name, recipe = asked["target"], asked["recipe"]
    if recipe is None and not (Path(name) / "config.yaml").is_file():
        recipe = RECIPES.get(name, RECIPE)
        typer.echo(f"Settings of {recipe}; --recipe names another")
    overrides = [*(asked["overrides"] or []), *(asked["settings"] or [])]
    target = Target.resolve(
        name, door_of, recipe=recipe, overrides=overrides, lora=asked["lora"], step=asked["step"]
    )
    benchmarks().answer(
        asked["benchmark"],
        asked["data"],
        asked["predictions"],
        name,
        target.config,
        target.final,
        shifts=asked["shifts"],
        against=asked["against"],
        say=typer.echo,
    )


def _command(url: str) -> str:
    """The command for the record; the query of ``url``, which may hold a key, is left out."""
    shown = url.partition("?")[0]
    words = [word.replace(url, shown) if url else word for word in sys.argv[1:]]
    return shlex.join(["adrpo", *words])


def _ask(context: typer.Context) -> bool:
    """Ask the endpoint; False where only the estimate was wanted."""
    from adrpo.cli.domains import benchmarks
    from adrpo.config.overrides import names_and_overrides

    asked = context.params
    words = [asked["target"], *(asked["overrides"] or []), *(asked["settings"] or [])]
    _, written = names_and_overrides([word for word in words if word], least=0, most=0)
    return benchmarks().ask(
        asked["benchmark"],
        asked["data"],
        asked["predictions"],
        asked["endpoint"],
        written,
        against=asked["against"],
        say=typer.echo,
    )
