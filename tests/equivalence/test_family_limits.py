"""What a family computes on its own account, and what it refuses."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from adrpo.config import FlowModelSection, SamplingSection
from adrpo.errors import AdrpoError
from adrpo.flow.models.families.qwen_image import guided_at_constant_norm
from adrpo.flow.models.loading import as_policy, load_policy
from adrpo.flow.path.draws import initial_noise
from support.tiny_pipelines import FAMILIES, wan


def test_qwens_guidance_keeps_each_tokens_length():
    v_cond = initial_noise(2, (3, 4, 6), 0)
    v_uncond = initial_noise(2, (3, 4, 6), 1)
    v = guided_at_constant_norm(v_cond, v_uncond, 4.0)

    def patch(x: Tensor) -> Tensor:
        return x[1, :, 2:4, 4:6]

    # float32 sums of 12 squares.
    torch.testing.assert_close(patch(v).norm(), patch(v_cond).norm(), rtol=1e-6, atol=0)
    plain = patch(v_uncond) + 4 * (patch(v_cond) - patch(v_uncond))
    cosine = torch.nn.functional.cosine_similarity(patch(v).flatten(), plain.flatten(), dim=0)
    torch.testing.assert_close(cosine, torch.tensor(1.0), rtol=0, atol=1e-6)


def test_one_step_to_a_fixed_last_time_is_refused():
    with pytest.raises(AdrpoError, match=r"sampling\.steps: expected at least 2.*shift_terminal"):
        FAMILIES["qwen-image"].policy().time_grid(1)


@pytest.mark.parametrize(
    ("name", "solver"), [("sana", DPMSolverMultistepScheduler), ("wan", UniPCMultistepScheduler)]
)
def test_a_solver_of_a_flow_becomes_the_euler_scheduler_of_the_same_flow(name: str, solver: Any):
    """The solvers are those of the models' files."""
    family = FAMILIES[name]
    pipeline = family.build()
    expected = family.policy().time_grid(4)
    pipeline.scheduler = solver(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
    )
    policy = as_policy(
        pipeline, max_sequence_length=family.tokens, height=family.height, width=family.width
    )
    assert torch.equal(policy.time_grid(4), expected)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers'
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_sampling_by_the_dpm_solver_that_sanas_files_name_is_the_pipelines_own(scale: float):
    family, prompts = FAMILIES["sana"], ["a cat", "two blue birds on a wire"]
    pipeline = family.build()
    pipeline.scheduler = DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
    )
    theirs = family.call(
        pipeline,
        prompts,
        scale,
        num_inference_steps=5,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    )
    policy = as_policy(
        pipeline, max_sequence_length=family.tokens, height=family.height, width=family.width
    )
    noise = torch.randn((2, *policy.latent_shape), generator=torch.Generator().manual_seed(7))

    def ours(solver: Literal["euler", "dpmpp_2m"]) -> torch.Tensor:
        sampling = SamplingSection(steps=5, solver=solver, guidance_scale=scale)
        return policy.sample(noise, policy.encode(prompts), sampling)

    # As in test_families.py: one float32 network, in batches that round differently.
    torch.testing.assert_close(ours("dpmpp_2m"), theirs, rtol=0, atol=1e-4)
    assert (ours("euler") - theirs).abs().max() > 1e-2


def test_a_pipeline_of_another_class_is_refused():
    with pytest.raises(AdrpoError, match=r"FluxPipeline.*names object.*extend/add-a-model\.md"):
        as_policy(object())


def test_a_hub_model_of_another_class_is_refused_before_its_weights_are_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    index = tmp_path / "model_index.json"
    index.write_text('{"_class_name": "StableDiffusionPipeline"}', encoding="utf-8")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repository, file: str(index))
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda *_, **__: pytest.fail())
    with pytest.raises(AdrpoError, match=r"owner/model names StableDiffusionPipeline.*add-a-model"):
        load_policy(FlowModelSection(pretrained="owner/model"))


@pytest.mark.parametrize("name", list(FAMILIES))
def test_sizes_that_the_model_cannot_draw_are_refused(name: str):
    family = FAMILIES[name]
    with pytest.raises(AdrpoError, match=r"model\.width: expected a multiple of \d+ pixels"):
        as_policy(family.build(), height=family.height, width=family.width + 1)


@pytest.mark.parametrize(
    ("settings", "received"),
    [
        ({"transformer_2": True, "boundary_ratio": 0.9}, "received two"),
        ({"expand_timesteps": True}, "received a time for each token"),
    ],
)
def test_a_wan_of_another_make_is_refused(settings: dict[str, Any], received: str):
    if settings.get("transformer_2"):
        settings = settings | {"transformer_2": wan().transformer}
    with pytest.raises(AdrpoError, match=f"expected a WanPipeline of one transformer.*{received}"):
        as_policy(wan(**settings))


@pytest.mark.parametrize("name", ["flux dev", "sana", "qwen-image", "wan", "z-image"])
def test_too_few_tokens_to_hold_a_prompt_are_refused(name: str):
    family = FAMILIES[name]
    with pytest.raises(
        AdrpoError, match=r"max_sequence_length: expected at least 16 .* received 1"
    ):
        as_policy(family.build(), max_sequence_length=1, height=family.height, width=family.width)
