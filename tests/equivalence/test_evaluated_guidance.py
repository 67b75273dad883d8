"""An evaluation measures the velocity that was trained: at ``training.guidance_scale``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adrpo.config import FlowConfig, config_to_yaml
from adrpo.core import velocity_divergence
from adrpo.evaluation.evaluator import Evaluator
from adrpo.flow.drawing import DrawnImages
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.path.path_samples import sample_path
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.runs.directory import RunDirectory
from adrpo.runs.seeding import generator
from support.command_line import Command
from support.tiny_pipelines import FAMILIES
from support.tiny_runs import perturb, tiny_config

COLUMNS = ("divergence", "velocity_norm_ratio")
DISTILLED = "flux dev"
FREE = "embedded"
"""Guidance is an input of the first one's network; the second's is free of a classifier."""


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("flux")
    FAMILIES[DISTILLED].build().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def config_of(pretrained: str) -> Callable[..., FlowConfig]:
    family = FAMILIES[DISTILLED]
    sizes = {"height": family.height, "width": family.width, "max_sequence_length": family.tokens}

    def build(model: str, guidance: float) -> FlowConfig:
        sections: dict[str, Any] = {"training": {"guidance_scale": guidance}}
        if model == DISTILLED:
            sections["model"] = {"pretrained": pretrained, **sizes}
        return tiny_config(**sections)

    return build


def expected(
    policy: PipelinePolicy, evaluator: Evaluator[DrawnImages], guidance: float
) -> dict[str, float]:
    """Both measures over all images at once, by their definitions."""
    drawing: Any = evaluator.drawing
    x_1 = drawing.draw().x_1
    path = sample_path(x_1, generator(drawing.settings.seed, "divergence"))
    texts = [prompt.text for prompt in drawing.prompts for _ in range(2)]
    arguments = (path.x_t, path.t, policy.encode(texts))
    with torch.no_grad():
        v = policy.velocity(*arguments, guidance_scale=guidance)
        with policy.reference():
            v_ref = policy.velocity(*arguments, guidance_scale=guidance)
    norms = (part.flatten(1).norm(dim=1) for part in (v, v_ref))
    ratio = torch.div(*norms)
    return {
        "divergence": float(velocity_divergence(v, v_ref).mean()),
        "velocity_norm_ratio": float(ratio.mean()),
    }


@pytest.mark.parametrize("guidance", [1.0, 3.5])
@pytest.mark.parametrize("model", [DISTILLED, FREE])
def test_a_trainer_evaluates_at_the_guidance_that_it_trains_with(
    model: str, guidance: float, config_of: Callable[..., FlowConfig]
) -> None:
    trainer = FlowTrainer(config_of(model, guidance))
    perturb(trainer.policy)  # type: ignore[arg-type]
    values = trainer.evaluator.measure().values
    right, other = (expected(trainer.policy, trainer.evaluator, w) for w in (guidance, 2.0))
    for name in COLUMNS:
        # Rows in batches of another size: the same but for float32's rounding.
        assert values[name].mean() == pytest.approx(right[name], rel=1e-5)
        assert values[name].mean() != pytest.approx(other[name], rel=1e-4)


def test_a_plain_model_is_measured_at_its_recipes_guidance(
    config_of: Callable[..., FlowConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """As the run whose adapter it is given, whose training measured the same images."""
    config = config_of(DISTILLED, 3.5)
    trainer = FlowTrainer(config)
    perturb(trainer.policy)  # type: ignore[arg-type]
    trainer.policy.save_adapter(tmp_path / "adapter")
    theirs = trainer.evaluator.measure().values
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(config_to_yaml(config), encoding="utf-8")
    command = Command(monkeypatch, capsys)
    options = ["--lora", str(tmp_path / "adapter"), "--output-dir", str(tmp_path / "evaluation")]
    model = config.model.pretrained
    assert command("evaluate", model, "--recipe", str(recipe), *options) == 0, command.err
    row = RunDirectory.open(tmp_path / "evaluation").read_evaluations()[-1]
    for name in COLUMNS:
        assert row[name] == pytest.approx(theirs[name].mean(), rel=1e-6)
        right = expected(trainer.policy, trainer.evaluator, 3.5)[name]
        assert row[name] == pytest.approx(right, rel=1e-5)
