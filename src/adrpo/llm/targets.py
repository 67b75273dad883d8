"""``adrpo sample`` and ``adrpo evaluate`` for language models: a run, or a recipe's base."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adrpo.config import LanguageConfig, config_to_yaml, find_recipe, load_recipe
from adrpo.errors import AdrpoError
from adrpo.llm.run import LanguageRun, load_final
from adrpo.runs.directory import RunDirectory


@dataclass(frozen=True, kw_only=True)
class LanguageTarget:
    """What is asked, and under which settings.

    ``name`` as the user gave it; ``config`` is the run's own or a recipe's, around this model;
    ``final``, the folder of the trained weights, and the ``step`` at which training left them.
    """

    name: str
    config: LanguageConfig
    final: Path | None
    step: int

    @classmethod
    def resolve(
        cls, name: str, *, recipe: str | None = None, overrides: Sequence[str] = ()
    ) -> "LanguageTarget":
        """A run's folder with its own settings and weights, or a model with those of ``recipe``.

        Raises AdrpoError where a run is not finished or is named beside a recipe, and as
        :func:`~adrpo.config.load_recipe` does.
        """
        run = Path(name)
        if not (run / "config.yaml").is_file():
            assert recipe is not None, "only a recipe says that a model is a language model"
            config = _language(find_recipe(recipe), overrides)
            model = config.model.model_copy(update={"pretrained": name})
            return cls(
                name=name, config=config.model_copy(update={"model": model}), final=None, step=0
            )
        if recipe is not None:
            raise AdrpoError(
                f"expected --recipe beside a model only; {name} is a run, which has settings of "
                f"its own; leave it out"
            )
        if not (run / "final").is_dir():
            raise AdrpoError(
                f"expected a finished run with {run / 'final'}; {name} has none yet; finish it "
                f"with --resume"
            )
        config = _language(run / "config.yaml", overrides)
        return cls(name=name, config=config, final=run / "final", step=config.training.steps)


def _language(file: Path, overrides: Sequence[str]) -> LanguageConfig:
    config = load_recipe(file, overrides)
    assert isinstance(config, LanguageConfig)
    return config


def sample_completions(
    target: LanguageTarget, prompts: Sequence[str], *, size: int, seed: int
) -> list[tuple[str, str]]:
    """(prompt, completion) for each of ``prompts``, or, without any, for the first ``size``
    held-out ones; drawn as in training, with random numbers of ``seed`` alone.

    A model that is trained on conversations is asked ``prompts`` as their user, after the system
    turns of the first held-out one.
    """
    settings = target.config.evaluation.model_copy(update={"samples_per_prompt": 1, "seed": seed})
    run = LanguageRun(target.config.model_copy(update={"evaluation": settings}))
    first = run.held_out[0]["prompt"]
    if prompts:
        run.held_out = [{"prompt": _asked(prompt, first)} for prompt in prompts]
    else:
        run.held_out = run.held_out[:size]
    with tempfile.TemporaryDirectory() as folder:
        evaluator = run.base_evaluator(Path(folder))
        if target.final is not None:
            load_final(evaluator.trainer, target.config, target.final)
        drawn = evaluator.generate()
    return [
        (_words(row["prompt"]), text) for row, text in zip(run.held_out, drawn.texts, strict=True)
    ]


def evaluate_target(target: LanguageTarget, output_dir: Path) -> dict[str, Any]:
    """Measure ``target`` on the held-out prompts of its settings, with 95 % intervals.

    ``output_dir`` becomes a run directory in which nothing was trained. A trained model comes after
    its base (step 0), and its row holds ``<metric>_change``, paired prompt by prompt and draw by
    draw. Returns the last row.
    """
    run = LanguageRun(target.config)
    with (
        tempfile.TemporaryDirectory() as folder,
        RunDirectory.whole(output_dir, config_to_yaml(target.config)) as directory,
    ):
        evaluator = run.base_evaluator(Path(folder))
        row = evaluator.evaluate(directory, 0) | {"target": target.name}
        directory.append_evaluation(row)
        if target.final is not None:
            load_final(evaluator.trainer, target.config, target.final)
            row = evaluator.evaluate(directory, target.step) | {"target": target.name}
            directory.append_evaluation(row)
    return row


def _asked(text: str, like: Any) -> Any:
    """``text`` in the form of the prompt ``like``."""
    if isinstance(like, str):
        return text
    system = [turn for turn in like if turn["role"] == "system"]
    return [*system, {"role": "user", "content": text}]


def _words(prompt: Any) -> str:
    """The last turn of a conversation, or the prompt itself."""
    return prompt if isinstance(prompt, str) else str(prompt[-1]["content"])
