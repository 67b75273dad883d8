"""``adrpo sample`` and ``adrpo evaluate``: what a trained or pretrained model draws."""

from pathlib import Path
from typing import Annotated, Any

import typer

from adrpo.cli.folders import free_folder
from adrpo.cli.quiet import silence_loading
from adrpo.errors import AdrpoError

Name = Annotated[
    str,
    typer.Argument(
        metavar="RUN_OR_MODEL",
        help="Folder of a run, `embedded`, or any text-to-image pipeline of diffusers: a folder "
        "in its layout, or a Hub id. Beside a recipe of the domain llm, a language model.",
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
        "set (docs/use/prompts.md).",
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
        typer.Option("--prompt", "-p", help="A prompt; repeat for more. Without: held-out ones."),
    ] = None,
    prompts: Prompts = None,
    size: Annotated[int, typer.Option(min=1, help="How many of the held-out prompts.")] = 8,
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
    """Draw one picture for each prompt into a folder, or print a language model's completions."""
    from adrpo.data.prompts import load_prompts
    from adrpo.flow.targets import Target, sample_images

    silence_loading()
    sampling = _sampling(steps, guidance_scale)
    if _is_language(target, recipe):
        _refuse_for_language(sampling, prompts, lora)
        _complete(target, recipe, settings or [], prompt or [], size=size, seed=seed)
        return
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
    counts = _given(
        {
            "prompts.held_out_size": size,
            "evaluation.samples_per_prompt": samples_per_prompt,
            "evaluation.seed": seed,
        }
    )
    # Pictures of no more prompts than there are.
    strip = _given({"evaluation.strip_prompts": None if size is None else min(size, 6)})
    folder = free_folder(output_dir)
    if _is_language(target, recipe):
        _refuse_for_language(_sampling(steps, guidance_scale), prompts, lora)
        row = _evaluate_language(target, recipe, [*counts, *(settings or [])], folder)
    else:
        settings = [*_sampling(steps, guidance_scale), *counts, *strip, *(settings or [])]
        row = evaluate_target(
            Target.resolve(target, recipe=recipe, overrides=settings, prompts=prompts, lora=lora),
            folder,
        )
    typer.echo("\n".join(metric_lines(row)))
    typer.echo(f"Evaluation: {folder}")


def _is_language(target: str, recipe: str | None) -> bool:
    """Whether ``target`` is a run of the domain llm, or stands beside a recipe of it."""
    from adrpo.config import LanguageConfig, find_recipe, load_recipe

    own = Path(target) / "config.yaml"
    source = own if own.is_file() else None if recipe is None else find_recipe(recipe)
    return source is not None and isinstance(load_recipe(source), LanguageConfig)


def _refuse_for_language(sampling: list[str], prompts: str | None, lora: Path | None) -> None:
    given = {"--steps or --guidance-scale": bool(sampling), "--prompts": prompts, "--lora": lora}
    for option, value in given.items():
        if value:
            raise AdrpoError(
                f"expected no {option} for a language model, which has none; received one; name "
                f"what it is asked with --prompt or --set prompts.source=FILE"
            )


def _complete(
    target: str,
    recipe: str | None,
    overrides: list[str],
    prompts: list[str],
    *,
    size: int,
    seed: int,
) -> None:
    from adrpo.llm.targets import LanguageTarget, sample_completions

    found = LanguageTarget.resolve(target, recipe=recipe, overrides=overrides)
    for prompt, completion in sample_completions(found, prompts, size=size, seed=seed):
        typer.echo(f"{prompt}\n    {completion}")


def _evaluate_language(
    target: str, recipe: str | None, overrides: list[str], folder: Path
) -> dict[str, Any]:
    from adrpo.llm.targets import LanguageTarget, evaluate_target

    return evaluate_target(
        LanguageTarget.resolve(target, recipe=recipe, overrides=overrides), folder
    )


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
