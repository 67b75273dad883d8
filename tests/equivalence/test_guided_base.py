"""The guidance sweep: at scale 1 it is the evaluation of the base; its divergence is the guided
field's own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adrpo.config import FlowConfig, load_flow_config
from adrpo.core import velocity_divergence
from adrpo.errors import AdrpoError
from adrpo.evaluation.guidance import FILE, complete_guidance
from adrpo.flow.domain import FlowDoor, FlowSubject
from adrpo.flow.path.path_samples import sample_path
from adrpo.runs.seeding import generator
from support.tiny_runs import tiny_config


@pytest.fixture(scope="module")
def config() -> FlowConfig:
    return tiny_config()


@pytest.fixture(scope="module")
def subject(config: FlowConfig) -> FlowSubject:
    return FlowSubject(config)


def test_guidance_1_is_the_base_itself(subject: FlowSubject) -> None:
    base = subject.evaluator.measure().values
    guided = subject.guided(1.0).measure().values
    assert guided.keys() == base.keys()
    for name, column in base.items():
        assert np.array_equal(guided[name], column, equal_nan=True), name
    assert not guided["divergence"].any() and np.all(guided["velocity_norm_ratio"] == 1)


def test_its_images_are_the_guided_ones(subject: FlowSubject, config: FlowConfig) -> None:
    """From the evaluation's own noises, as an evaluation that is configured so draws them."""
    sampling = config.evaluation.sampling.model_copy(update={"guidance_scale": 2.0})
    settings = config.evaluation.model_copy(update={"sampling": sampling})
    other = FlowSubject(config.model_copy(update={"evaluation": settings}))
    x_1 = subject.guided(2.0).drawing.draw().x_1
    assert torch.equal(x_1, other.evaluator.drawing.draw().x_1)
    assert not torch.equal(x_1, subject.evaluator.drawing.draw().x_1)


def test_its_divergence_is_that_of_the_guided_field(
    subject: FlowSubject, config: FlowConfig
) -> None:
    """|v_w - v|² = (w - 1)² |v_cond - v_uncond|², the two fields asked one by one, on the path to
    the guided images."""
    scale, model = 2.5, subject.model
    evaluator = subject.guided(scale)
    drawn = evaluator.drawing.draw()
    path = sample_path(drawn.x_1, generator(config.evaluation.seed, "divergence"))
    texts = [prompt.text for prompt in subject.prompts for _ in range(2)]
    with torch.no_grad():
        v, v_uncond = (
            model.velocity(path.x_t, path.t, model.encode(prompts))  # type: ignore[union-attr]
            for prompts in (texts, [""] * len(texts))
        )
    expected = (scale - 1) ** 2 * velocity_divergence(v, v_uncond)
    received = evaluator.values(drawn)["divergence"].ravel()
    # Rounding of float32 in batches of other sizes.
    assert received == pytest.approx(expected.double().numpy(), rel=1e-4)
    assert expected.min() > 0
    ratio = (v_uncond + scale * (v - v_uncond)).flatten(1).norm(dim=1) / v.flatten(1).norm(dim=1)
    assert evaluator.values(drawn)["velocity_norm_ratio"].ravel() == pytest.approx(
        ratio.double().numpy(), rel=1e-4
    )


def test_scales_that_are_missing_are_added(config: FlowConfig, tmp_path: Path) -> None:
    path = tmp_path / FILE
    complete_guidance(path, FlowDoor(), config, [2.0, 1.0])
    first: dict[str, Any] = json.loads(path.read_text())
    assert first["guidance"] == [1.0, 2.0]
    first["clip_score"][1][0][0] = 1234.5
    path.write_text(json.dumps(first))
    complete_guidance(path, FlowDoor(), config, [1.0, 1.5, 2.0])
    after = json.loads(path.read_text())
    assert after["guidance"] == [1.0, 1.5, 2.0]
    for name in first.keys() - {"guidance"}:
        assert [after[name][0], after[name][2]] == first[name]
    low, middle, high = (np.mean(table) for table in after["divergence"])
    assert 0 == low < middle < high


def test_a_distilled_model_is_refused_by_its_index_alone(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    config = load_flow_config("flow/adrpo", [f"model.pretrained={tmp_path}"])
    with pytest.raises(AdrpoError, match="guidance is distilled into the network; leave") as error:
        FlowDoor().check_guidance(config)
    assert "\n" not in str(error.value)
