"""``adrpo sample`` and ``adrpo evaluate``: what a trained or pretrained model draws."""

from pathlib import Path
from typing import Annotated, Any

import typer

from adrpo.cli.folders import free_folder
from adrpo.cli.quiet import silence_loading

Name = Annotated[
    str,
    typer.Argument(
        metavar="RUN_OR_MODEL",
        help="Folder of a run, `embedded`, or any text-to-image pipeline of diffusers: a folder "
        "in its layout, or a Hub id.",
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="Whose settings a model takes: prompts, rewards, evaluation. A run has its own.",
        show_default="the defaults",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, as model.dtype=bfloat16."),
]
Lora = Annotated[
    Path | None, typer.Option(help="Folder of a LoRA adapter for a model.", show_default="none")
]
Prompts = Annotated[
    str | None,
    typer.Option(
        help="scenes:held_out, drawbench-style, art-style, a .txt or .jsonl file, or a published "
        "set (docs/prompts.md).",
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


def sample(
    target: Name,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", "-p", help="A prompt; repeat for more. Without: --prompts."),
    ] = None,
    prompts: Prompts = None,
    size: Annotated[int, typer.Option(min=1, help="How many of --prompts.")] = 8,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    seed: Annotated[int, typer.Option(help="Seed of the noises.")] = 0,
    recipe: Recipe = None,
    settings: Settings = None,
    lora: Lora = None,
    output_dir: Annotated[
        Path, typer.Option(help="Folder of the pictures; a used one stays as it is.")
    ] = Path("runs/pictures"),
) -> None:
    """Draw one picture for each prompt."""
    from adrpo.data.prompts import load_prompts
    from adrpo.flow.targets import Target, sample_images

    silence_loading()
    sampling = _sampling(steps, guidance_scale)
    found = Target.resolve(
        target, recipe=recipe, overrides=[*sampling, *(settings or [])], prompts=prompts, lora=lora
    )
    source = found.config.prompts.held_out
    texts = prompt or [item.text for item in load_prompts(source, size=size, seed=seed)[:size]]
    files = sample_images(found, texts, seed=seed, output_dir=free_folder(output_dir))
    for file, text in zip(files, texts, strict=True):
        typer.echo(f"{file}  {text}")


def evaluate(
    target: Name,
    prompts: Prompts = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="How many of the scenes: prompts.", show_default="held_out_size"),
    ] = None,
    samples_per_prompt: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Pictures of each prompt; diversity needs 2.",
            show_default="evaluation's",
        ),
    ] = None,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the noises.", show_default="evaluation's")
    ] = None,
    recipe: Recipe = None,
    settings: Settings = None,
    lora: Lora = None,
    output_dir: Annotated[
        Path, typer.Option(help="Folder of the evaluation; a used one stays as it is.")
    ] = Path("runs/evaluation"),
) -> None:
    """Measure a model on a set of prompts, with 95 % intervals."""
    from adrpo.flow.targets import Target, evaluate_target

    silence_loading()
    overrides = _sampling(steps, guidance_scale) + _given(
        {
            "prompts.held_out_size": size,
            # Pictures of no more prompts than there are.
            "evaluation.strip_prompts": None if size is None else min(size, 6),
            "evaluation.samples_per_prompt": samples_per_prompt,
            "evaluation.seed": seed,
        }
    )
    found = Target.resolve(
        target, recipe=recipe, overrides=[*overrides, *(settings or [])], prompts=prompts, lora=lora
    )
    folder = free_folder(output_dir)
    typer.echo("\n".join(metric_lines(evaluate_target(found, folder))))
    typer.echo(f"Evaluation: {folder}")


def _sampling(steps: int | None, guidance_scale: float | None) -> list[str]:
    return _given(
        {
            "evaluation.sampling.steps": steps,
            "evaluation.sampling.guidance_scale": guidance_scale,
        }
    )


def _given(settings: dict[str, Any]) -> list[str]:
    """Overrides of the settings that are named."""
    return [f"{key}={value}" for key, value in settings.items() if value is not None]


def metric_lines(row: dict[str, Any]) -> list[str]:
    """One line for each metric of an evaluation row, with its change where the row has one."""
    names = [name for name in row if f"{name}_low" in row and not name.endswith("_change")]
    width = max(map(len, names), default=0)
    lines = []
    for name in names:
        change = f"{name}_change"
        against = f"  change against the base {_interval(row, change)}" if change in row else ""
        lines.append(f"{name:<{width}}  {_interval(row, name)}{against}")
    return lines


def _interval(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.4g} [{row[f'{name}_low']:.4g}, {row[f'{name}_high']:.4g}]"
