"""``adrpo sample`` and ``adrpo evaluate``: what a trained or pretrained model draws."""

from pathlib import Path
from typing import Annotated, Any

import typer

from adrpo.cli.folders import free_folder
from adrpo.cli.quiet import silence_loading

Target = Annotated[
    str,
    typer.Argument(
        metavar="RUN_OR_MODEL",
        help="Folder of a run, `embedded`, a folder in diffusers' layout, or a Hub id.",
    ),
]
Prompts = Annotated[
    str,
    typer.Option(
        help="scenes:held_out, drawbench-style, art-style, a .txt or .jsonl file, or a published "
        "set (docs/prompts.md)."
    ),
]
Steps = Annotated[int, typer.Option(min=1, help="Euler steps of the sampler.")]
Guidance = Annotated[float, typer.Option(help="Classifier-free guidance; 1 switches it off.")]


def sample(
    target: Target,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", "-p", help="A prompt; repeat for more. Without: --prompts."),
    ] = None,
    prompts: Prompts = "scenes:held_out",
    size: Annotated[int, typer.Option(min=1, help="How many of --prompts.")] = 8,
    steps: Steps = 20,
    guidance_scale: Guidance = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the noises.")] = 0,
    output_dir: Annotated[
        Path, typer.Option(help="Folder of the pictures; a used one stays as it is.")
    ] = Path("runs/pictures"),
) -> None:
    """Draw one picture for each prompt."""
    from adrpo.data.prompts import load_prompts
    from adrpo.flow.targets import sample_images

    silence_loading()
    texts = prompt or [item.text for item in load_prompts(prompts, size=size, seed=seed)[:size]]
    files = sample_images(
        target,
        texts,
        steps=steps,
        guidance_scale=guidance_scale,
        seed=seed,
        output_dir=free_folder(output_dir),
    )
    for file, text in zip(files, texts, strict=True):
        typer.echo(f"{file}  {text}")


def evaluate(
    target: Target,
    prompts: Prompts = "scenes:held_out",
    size: Annotated[int, typer.Option(min=1, help="How many of the scenes: prompts.")] = 102,
    samples_per_prompt: Annotated[
        int, typer.Option(min=2, help="Pictures of each prompt; diversity needs 2.")
    ] = 4,
    steps: Steps = 20,
    guidance_scale: Guidance = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the noises.")] = 1234,
    output: Annotated[
        Path | None, typer.Option(help="JSON file for the result.", show_default="none")
    ] = None,
) -> None:
    """Measure a model on a set of prompts, with 95 % intervals."""
    from adrpo.flow.targets import evaluate_target

    silence_loading()
    row = evaluate_target(
        target,
        prompts=prompts,
        size=size,
        samples_per_prompt=samples_per_prompt,
        steps=steps,
        guidance_scale=guidance_scale,
        seed=seed,
        output=output,
    )
    typer.echo("\n".join(metric_lines(row)))
    if output is not None:
        typer.echo(f"Written to {output}")


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
