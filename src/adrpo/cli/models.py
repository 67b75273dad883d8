"""``adrpo sample`` and ``adrpo evaluate``: what a trained or pretrained model draws."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adrpo.cli import benchmark as benchmarks
from adrpo.cli.completion import recipes_beginning
from adrpo.cli.domains import door_of
from adrpo.cli.folders import free_folder
from adrpo.cli.quiet import silence_loading
from adrpo.cli.settings import Overrides, Set, given
from adrpo.errors import AdrpoError

if TYPE_CHECKING:
    from adrpo.evaluation.targets import Target

NAME = typer.Argument(
    metavar="RUN_OR_MODEL",
    help="Folder of a run, `embedded`, or any text-to-image pipeline of diffusers: a folder "
    "in its layout, or a Hub id. Beside a recipe of the domain llm, a language model; of audio, a "
    "model that hears.",
    show_default=False,
)
Recipe = Annotated[
    str | None,
    typer.Option(
        help="Whose settings a model takes: prompts, rewards, evaluation. A run has its own.",
        autocompletion=recipes_beginning,
        show_default="the defaults",
    ),
]
Lora = Annotated[
    Path | None,
    typer.Option(help="Folder or file of a LoRA adapter for a model.", show_default="none"),
]
Step = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Step of a run whose weights are taken from its checkpoints; 0 is its base.",
        show_default="what training kept",
    ),
]
Prompts = Annotated[
    str | None,
    typer.Option(
        help="scenes:held_out, scenes:test, drawbench-style, art-style, a .txt, .jsonl, .json, "
        ".csv or .parquet file, a data set, or a published one (docs/use/prompts.md); for a model "
        "that hears sounds:test, a .jsonl file or a data set of questions (docs/use/audio.md).",
        show_default="held-out ones",
    ),
]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Steps of the sampler.", show_default="evaluation's")
]
Guidance = Annotated[
    float | None,
    typer.Option(help="Guidance; 1 switches it off.", show_default="evaluation's"),
]

Clips = Annotated[
    list[Path] | None,
    typer.Option(
        help="File of sound that a --prompt is about, for a model that hears; one for all prompts, "
        "or one for each.",
        show_default="none",
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many held-out prompts; of --prompts those of a generated source alone, as "
        "scenes:test.",
        show_default="held_out_size",
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(
        min=2,
        help="Pictures or completions of each prompt; diversity needs 2.",
        show_default="evaluation's",
    ),
]


def sample(
    target: Annotated[str, NAME],
    overrides: Overrides = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", "-p", help="A prompt; repeat for more. Without: held-out ones."),
    ] = None,
    audio: Clips = None,
    prompts: Prompts = None,
    size: Annotated[int, typer.Option(min=1, help="How many of the held-out prompts.")] = 8,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    recipe: Recipe = None,
    settings: Set = None,
    lora: Lora = None,
    step: Step = None,
    output_dir: Annotated[
        Path, typer.Option(help="Folder of the pictures; a used one stays as it is.")
    ] = Path("runs/pictures"),
) -> None:
    """Draw one picture for each prompt into a folder, or print the completion of a model that reads
    or hears."""
    from adrpo.runs.announcer import working

    silence_loading()
    found = _resolve(
        target,
        [*(overrides or []), *(settings or [])],
        recipe=recipe,
        prompts=prompts,
        steps=steps,
        guidance_scale=guidance_scale,
        lora=lora,
        step=step,
        clips=audio,
    )
    if audio and not prompt:
        raise AdrpoError("--audio: expected a --prompt, the question about it; received none")
    heard: dict[str, Any] = {"clips": audio} if audio else {}
    drawn = found.door.sample(
        found.config,
        found.final,
        prompt or [],
        size=size,
        seed=seed,
        output_dir=free_folder(output_dir),
        held_out=found.held_out,
        **heard,
    )
    with working(f"sampling {target}"):
        for line in drawn:
            typer.echo(line)


def evaluate(
    context: typer.Context,
    target: Annotated[str | None, NAME] = None,
    overrides: Overrides = None,
    prompts: Prompts = None,
    size: Size = None,
    samples_per_prompt: Samples = None,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the draws.", show_default="evaluation's")
    ] = None,
    recipe: Recipe = None,
    settings: Set = None,
    lora: Lora = None,
    step: Step = None,
    benchmark: benchmarks.Name = None,
    data: benchmarks.Data = None,
    endpoint: benchmarks.Endpoint = None,
    predictions: benchmarks.Predictions = None,
    against: benchmarks.Against = None,
    shifts: benchmarks.Shifts = False,
    output_dir: Annotated[
        Path, typer.Option(help="Folder of the evaluation; a used one stays as it is.")
    ] = Path("runs/evaluation"),
) -> None:
    """Measure a model on a set of prompts, or its answers to a benchmark, with 95 % intervals."""
    benchmarks.check_options(context)
    if benchmark is not None:
        return benchmarks.evaluate_benchmark(context)
    assert target is not None, "the options were checked"
    silence_loading()
    counts = given(
        {
            "prompts.held_out_size": size,
            "evaluation.samples_per_prompt": samples_per_prompt,
            "evaluation.seed": seed,
        }
    )
    found = _resolve(
        target,
        [*counts, *(overrides or []), *(settings or [])],
        recipe=recipe,
        prompts=prompts,
        steps=steps,
        guidance_scale=guidance_scale,
        lora=lora,
        step=step,
    )
    _measure(found, free_folder(output_dir))


def _measure(found: "Target", folder: Path) -> None:
    """Measure a target into ``folder`` and print what came of it."""
    from adrpo.evaluation.targets import evaluate_target
    from adrpo.report import write_report
    from adrpo.runs.announcer import working

    for line in found.config.notices():
        typer.echo(line)
    with working(f"evaluating {found.name}"):
        row = evaluate_target(found, folder)
    _print_row(found, row)
    typer.echo(f"Evaluation: {folder}")
    typer.echo(f"Report: {write_report(folder)}")


def _print_row(found: "Target", row: dict[str, Any]) -> None:
    from adrpo.report.kept import judges_trained_on
    from adrpo.report.result import metric_lines
    from adrpo.report.summary import leading
    from adrpo.runs.reward_terms import reward_terms

    # Its base is trained on nothing.
    trained = found.run if found.run is not None and found.final else None
    judges = () if trained is None else judges_trained_on(trained)
    first = () if trained is None else leading(reward_terms(trained))
    samples = found.door.facts.samples
    typer.echo("\n".join(metric_lines(row, samples, trained=judges, first=first)))


def _resolve(
    target: str,
    overrides: list[str],
    *,
    recipe: str | None,
    prompts: str | None,
    steps: int | None,
    guidance_scale: float | None,
    lora: Path | None,
    step: int | None,
    clips: list[Path] | None = None,
) -> "Target":
    """The target with the settings of the options.

    Raises AdrpoError for an option that has no meaning in the target's domain.
    """
    from adrpo.evaluation.targets import Target

    found = Target.resolve(
        target, door_of, recipe=recipe, overrides=overrides, prompts=prompts, lora=lora, step=step
    )
    sampling = given(
        {
            "evaluation.sampling.steps": steps,
            "evaluation.sampling.guidance_scale": guidance_scale,
        }
    )
    options = {"--steps": steps, "--guidance-scale": guidance_scale, "--lora": lora}
    options["--audio"] = " ".join(map(str, clips)) if clips else None
    for option, value in options.items():
        if value is not None and option not in found.door.options:
            raise AdrpoError(
                f"expected no {option} for a model of the domain {found.config.domain}, which has "
                f"none; received {value}; leave it out, or name a recipe of another domain by "
                f"--recipe"
            )
    if not sampling:
        return found
    return Target.resolve(
        target,
        door_of,
        recipe=recipe,
        overrides=[*sampling, *overrides],
        prompts=prompts,
        lora=lora,
        step=step,
    )
