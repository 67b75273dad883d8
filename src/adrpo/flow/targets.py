"""``adrpo sample`` and ``adrpo evaluate``: a run, or any pipeline of diffusers, by its name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adrpo.config import (
    FlowConfig,
    config_to_yaml,
    default_config,
    find_recipe,
    load_flow_config,
)
from adrpo.data.prompts import load_prompts
from adrpo.errors import AdrpoError
from adrpo.flow.evaluator import Evaluator
from adrpo.flow.models.pipeline_sampler import PipelineSampler, load_sampler
from adrpo.flow.models.protocol import WEIGHTS_NAME, PipelinePolicy
from adrpo.flow.path.draws import initial_noise
from adrpo.rewards.loading import build_measured, build_reward
from adrpo.runs.directory import RunDirectory

OF_THE_MODEL = ("max_sequence_length", "height", "width")
"""Keys of ``model`` that a recipe sets for its own model, and another one has values of its own."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is drawn from, and under which settings.

    ``name`` as the user gave it; ``config`` is the run's own or a recipe's, around this model;
    ``adapter``, the folder of a LoRA adapter, and the ``step`` at which training left it.
    """

    name: str
    config: FlowConfig
    adapter: Path | None
    step: int

    @classmethod
    def resolve(
        cls,
        name: str,
        *,
        recipe: str | None = None,
        overrides: Sequence[str] = (),
        prompts: str | None = None,
        lora: Path | None = None,
    ) -> "Target":
        """A run's folder with its own settings and adapter, or a model with the settings of
        ``recipe`` (the defaults without one) and the adapter ``lora``, if any.

        A model that is not the recipe's has its own image size and number of tokens, unless
        ``overrides`` set them. ``prompts`` takes the place of the held-out ones; unlike these it
        may be what was trained on.

        Raises AdrpoError where a run is not finished, or is named beside a recipe or an adapter;
        where ``lora`` is no folder; and as :func:`~adrpo.config.load_flow_config` does.
        """
        run = Path(name)
        if not (run / "config.yaml").is_file():
            if lora is not None and not lora.is_dir():
                raise AdrpoError(f"--lora: expected the folder of a LoRA adapter; received {lora}")
            config = _on(prompts, _around(name, recipe, overrides))
            return cls(name=name, config=config, adapter=lora, step=0 if lora is None else 1)
        if recipe is not None or lora is not None:
            raise AdrpoError(
                f"expected --recipe and --lora beside a model only; {name} is a run, which has "
                f"settings and an adapter of its own; leave them out"
            )
        if not (run / "final" / WEIGHTS_NAME).is_file():
            raise AdrpoError(
                f"expected a finished run with {run / 'final' / WEIGHTS_NAME}; {name} has none "
                f"yet; finish it with --resume"
            )
        config = _on(prompts, load_flow_config(run / "config.yaml", overrides))
        return cls(name=name, config=config, adapter=run / "final", step=config.training.steps)

    def load(self, prompt_sets: Sequence[Sequence[str]]) -> PipelinePolicy | PipelineSampler:
        """The model with its adapter; ``prompt_sets`` are all that will be encoded."""
        model = load_sampler(self.config.model, prompt_sets=prompt_sets)
        if self.adapter is not None:
            model.load_adapter(self.adapter)
        return model


def _around(pretrained: str, recipe: str | None, overrides: Sequence[str]) -> FlowConfig:
    """The settings of a recipe, with another model in its place."""
    if recipe is None:
        config = default_config(overrides)
    else:
        file = find_recipe(recipe)
        another = load_flow_config(file).model.pretrained != pretrained
        own = [f"model.{key}=null" for key in OF_THE_MODEL] if another else []
        config = load_flow_config(file, [*own, *overrides])
    model = config.model.model_copy(update={"pretrained": pretrained})
    return config.model_copy(update={"model": model})


def _on(prompts: str | None, config: FlowConfig) -> FlowConfig:
    """``config`` with other held-out prompts."""
    if prompts is None:
        return config
    section = config.prompts.model_copy(update={"held_out": prompts})
    return config.model_copy(update={"prompts": section})


def sample_images(
    target: Target, prompts: Sequence[str], *, seed: int, output_dir: Path
) -> list[Path]:
    """Draw one image for each prompt into ``output_dir``, as the evaluation of ``target`` draws;
    the noise depends on ``seed`` alone."""
    settings = target.config.evaluation
    size = settings.batch_size
    batches = [prompts[start : start + size] for start in range(0, len(prompts), size)]
    model = target.load(batches)
    x_0 = initial_noise(len(prompts), model.latent_shape, seed, "sample")
    output_dir.mkdir(parents=True, exist_ok=True)
    files = []
    for batch, noise in zip(batches, x_0.split(size), strict=True):
        conditioning = model.encode(batch)
        for image in model.decode(model.sample(noise, conditioning, settings.sampling)):
            files.append(output_dir / f"{len(files):03d}.png")
            image.save(files[-1])
    return files


def evaluate_target(target: Target, output_dir: Path) -> dict[str, Any]:
    """Measure ``target`` on the held-out prompts of its settings, with 95 % intervals.

    ``output_dir`` becomes a run directory in which nothing was trained: config.yaml,
    environment.json, evaluations.jsonl and samples/ as training writes them. A model with an
    adapter is evaluated without it first (step 0), and its row then holds ``<metric>_change``,
    paired prompt by prompt and noise by noise. Returns the last row.
    """
    config = target.config
    prompts = load_prompts(
        config.prompts.held_out, size=config.prompts.held_out_size, seed=config.evaluation.seed
    )
    model = target.load([[prompt.text for prompt in prompts]])
    reward = build_reward(config.reward, model.device)
    others = build_measured(config.evaluation.rewards, model.device)
    evaluator = Evaluator(config.evaluation, model, reward, prompts, others=others)
    with RunDirectory.whole(output_dir, config_to_yaml(config)) as run:
        if target.adapter is not None:
            with model.reference():
                run.append_evaluation(evaluator.evaluate(run, 0) | {"target": target.name})
        row = evaluator.evaluate(run, target.step) | {"target": target.name}
        run.append_evaluation(row)
    return row
