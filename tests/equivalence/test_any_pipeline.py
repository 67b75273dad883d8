"""Pipelines of no supported family: their images are those of their own call, and they are
evaluated as runs are."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel

from adrpo.cli.domains import door_of
from adrpo.config import AdapterSection, FlowModelSection, SamplingSection, load_flow_config
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.evaluation.evaluator import Evaluator
from adrpo.evaluation.targets import Target, evaluate_target
from adrpo.flow.models.families.stable_diffusion_3 import StableDiffusion3Policy
from adrpo.flow.models.loading import load_policy
from adrpo.flow.models.pipeline_sampler import PipelineSampler, load_sampler, noise_generator
from adrpo.flow.path.draws import initial_noise
from adrpo.runs.directory import RunDirectory
from support.tiny_encoders import WIDTH, clip_encoder, clip_tokenizer, randomised
from support.tiny_pipelines import kl_autoencoder, lumina_2, stable_diffusion_3

PROMPTS = ["a red circle", "a blue square"]
SAMPLING = SamplingSection(steps=3, guidance_scale=2.0)


def stable_diffusion() -> Any:
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(4, 8),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=2,
        cross_attention_dim=WIDTH,
    )
    return StableDiffusionPipeline(
        unet=randomised(unet),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        vae=kl_autoencoder(),
        text_encoder=clip_encoder(CLIPTextModel, tokenizer),
        tokenizer=tokenizer,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


SIZES = {stable_diffusion: (16, 24), lumina_2: (32, 48)}
"""Height and width, the call's own of 1024 for the second."""


def quiet(build: Callable[[], Any]) -> Any:
    pipeline = build()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pixels(images: Sequence[Image.Image | None]) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images]).astype(int)


def save_lora(folder: Path) -> None:
    """An adapter of ``stable_diffusion`` that changes what is drawn."""
    unet = stable_diffusion().unet
    unet.add_adapter(LoraConfig(r=2, lora_alpha=8, target_modules=["to_q", "to_v"]))
    layers = {
        name: torch.ones_like(tensor) for name, tensor in get_peft_model_state_dict(unet).items()
    }
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)


@pytest.mark.parametrize("build", [stable_diffusion, lumina_2])
def test_images_are_those_of_the_pipelines_own_call(build: Callable[[], Any]) -> None:
    height, width = SIZES[build]
    pipeline = quiet(build)
    sampler = PipelineSampler(pipeline, height=height, width=width)
    x_0 = initial_noise(2, sampler.latent_shape, 0, "test")
    ours = pixels(sampler.decode(sampler.sample(x_0, sampler.encode(PROMPTS), SAMPLING)))
    theirs = pipeline(
        prompt=PROMPTS,
        num_inference_steps=3,
        guidance_scale=2.0,
        height=height,
        width=width,
        generator=[noise_generator(row) for row in x_0],
    ).images
    assert (ours == pixels(theirs)).all()
    assert ours.shape == (2, height, width, 3)

    # The second image alone, of the second prompt and noise: one rounding of 255 for another order
    # of sums in a batch of one.
    alone = sampler.sample(x_0[1:], sampler.encode(PROMPTS[1:]), SAMPLING)
    assert np.abs(pixels(sampler.decode(alone)) - ours[1:]).max() <= 1
    others = {
        "noise": (x_0[:1], PROMPTS[1:], SAMPLING),
        "prompt": (x_0[1:], PROMPTS[:1], SAMPLING),
        "steps": (x_0[1:], PROMPTS[1:], SamplingSection(steps=2, guidance_scale=2.0)),
        "guidance": (x_0[1:], PROMPTS[1:], SamplingSection(steps=3, guidance_scale=9.0)),
    }
    for what, (noise, prompts, sampling) in others.items():
        changed = sampler.decode(sampler.sample(noise, sampler.encode(prompts), sampling))
        assert np.abs(pixels(changed) - ours[1:]).max() > 1, what


@pytest.mark.parametrize("build", [stable_diffusion, lumina_2])
def test_negative_prompts_are_those_of_the_pipelines_own_call(build: Callable[[], Any]) -> None:
    height, width = SIZES[build]
    pipeline = quiet(build)
    sampler = PipelineSampler(pipeline, negative_prompt="a dog", height=height, width=width)
    x_0 = initial_noise(2, sampler.latent_shape, 0, "test")
    given = sampler.encode(PROMPTS, [None, "blurry"])
    ours = pixels(sampler.decode(sampler.sample(x_0, given, SAMPLING)))
    call = {"num_inference_steps": 3, "guidance_scale": 2.0, "height": height, "width": width}
    theirs, without = (
        pipeline(prompt=PROMPTS, generator=[noise_generator(row) for row in x_0], **call | more)
        for more in ({"negative_prompt": ["a dog", "blurry"]}, {})
    )
    assert (ours == pixels(theirs.images)).all()
    assert (ours != pixels(without.images)).any((1, 2, 3)).all()


def test_a_call_that_takes_no_negative_prompt_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(
        self: Any, prompt: Any, num_inference_steps: Any, guidance_scale: Any, generator: Any
    ) -> Any:
        """A call without one."""

    monkeypatch.setattr(StableDiffusionPipeline, "__call__", call)
    with pytest.warns(AdrpoWarning, match="StableDiffusionPipeline, whose call takes no negative"):
        PipelineSampler(quiet(stable_diffusion)).encode(PROMPTS, ["blurry", None])
    stable_diffusion().save_pretrained(tmp_path)
    model = FlowModelSection(pretrained=str(tmp_path))
    with pytest.raises(AdrpoError, match=r"prompts\.negative_prompt: expected null for StableDiff"):
        load_sampler(model, {}, negative_prompt="blurry")


def test_the_reference_is_the_pipeline_without_its_adapter(tmp_path: Path) -> None:
    save_lora(tmp_path)
    sampler = PipelineSampler(quiet(stable_diffusion))

    def draw() -> np.ndarray:
        x_0 = initial_noise(2, sampler.latent_shape, 0, "test")
        return pixels(sampler.decode(sampler.sample(x_0, sampler.encode(PROMPTS), SAMPLING)))

    base = draw()
    with sampler.reference():
        assert (draw() == base).all()
    sampler.load_adapter(tmp_path)
    adapted = draw()
    assert (adapted != base).any()
    with sampler.reference():
        with sampler.reference():
            assert (draw() == base).all()
        assert (draw() == base).all()
    assert (draw() == adapted).all()


def small(pretrained: Path, **arguments: Any) -> Target:
    settings = {
        "evaluation.samples_per_prompt": 2,
        "evaluation.sampling.steps": 2,
        "evaluation.batch_size": 3,
        "prompts.held_out_size": 4,
        "model.device": "cpu",
        "model.height": 32,
        "model.width": 48,
    }
    overrides = [f"{key}={value}" for key, value in settings.items()]
    return Target.resolve(str(pretrained), door_of, overrides=overrides, **arguments)


def load(target: Target) -> None:
    with target.door.subject(target.config):
        pass


def sample_images(target: Target, prompts: list[str], *, seed: int, output_dir: Path) -> list[Path]:
    lines = target.door.sample(
        target.config, target.final, prompts, size=1, seed=seed, output_dir=output_dir
    )
    return [Path(line.partition("  ")[0]) for line in lines]


@pytest.mark.parametrize(
    ("build", "is_policy"),
    [
        (stable_diffusion, False),
        (lumina_2, False),
        (lambda: stable_diffusion_3(with_t5=False), True),
    ],
    ids=["stable diffusion", "lumina 2", "sd3"],
)
def test_an_evaluation_is_a_run_of_no_training(
    build: Callable[[], Any], is_policy: bool, tmp_path: Path
) -> None:
    build().save_pretrained(tmp_path / "model")
    row = evaluate_target(small(tmp_path / "model"), tmp_path / "evaluation")
    run = RunDirectory.open(tmp_path / "evaluation")
    assert run.read_evaluations() == [row] and not run.metrics.exists()
    # The strip has room for six prompts, of which there are four.
    assert len(list((run.samples / "step-000000").glob("strip-*.png"))) == 4
    assert load_flow_config(run.config).model.pretrained == str(tmp_path / "model")
    values = json.loads((run.samples / "step-000000" / "values.json").read_text())
    for metric in ("clip_score", "clip_score_evaluation"):
        assert np.shape(values[metric]) == (4, 2)
        # The mean of the bootstrap is the mean; float64 sums in another order.
        assert row[metric] == pytest.approx(np.mean(values[metric]), rel=1e-12)
        assert row[f"{metric}_low"] <= row[metric] <= row[f"{metric}_high"]
    assert ("divergence" in row) == is_policy
    with Image.open(run.samples / "base" / "00-0.png") as picture:
        assert picture.size == (48, 32)


def test_an_adapter_is_measured_against_its_base(tmp_path: Path) -> None:
    stable_diffusion().save_pretrained(tmp_path / "model")
    save_lora(tmp_path / "lora")
    row = evaluate_target(
        small(tmp_path / "model", lora=tmp_path / "lora"), tmp_path / "evaluation"
    )
    alone = evaluate_target(small(tmp_path / "model"), tmp_path / "alone")
    base, adapted = RunDirectory.open(tmp_path / "evaluation").read_evaluations()
    assert adapted == row
    assert base["clip_score"] == alone["clip_score"] != row["clip_score"]
    change = row["clip_score"] - base["clip_score"]
    assert row["clip_score_change"] == pytest.approx(change, abs=1e-5)


@pytest.mark.parametrize("family", [False, True], ids=["pipeline", "policy"])
def test_an_adapter_is_refused_before_its_base_is_measured(
    family: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stable_diffusion_3(with_t5=False) if family else stable_diffusion()).save_pretrained(
        tmp_path / "model"
    )
    save_lora(tmp_path / "lora")
    file = tmp_path / "lora" / "pytorch_lora_weights.safetensors"
    values = {f"{name}.more": value for name, value in load_file(file).items()}
    save_file(values, file)
    measured: list[int] = []
    monkeypatch.setattr(Evaluator, "evaluate", lambda *_, **__: measured.append(1))
    target = small(tmp_path / "model", lora=tmp_path / "lora")
    with pytest.raises(AdrpoError, match="lora"):
        evaluate_target(target, tmp_path / "out")
    assert not measured and not (tmp_path / "out").exists()


@pytest.mark.parametrize("own", [False, True])
def test_a_policy_is_as_it_was_after_an_adapter_is_looked_at(
    own: bool, policy: StableDiffusion3Policy, tmp_path: Path
) -> None:
    for parameter in policy.adapter_parameters():
        parameter.data += 0.1
    policy.save_adapter(tmp_path)
    fresh = load_policy(FlowModelSection())
    if own:
        torch.manual_seed(1)
        fresh.add_adapter(AdapterSection())
    x_t = initial_noise(2, fresh.latent_shape, 0, "test")
    given = fresh.encode(["a cat", "a dog"])

    def velocity() -> Tensor:
        with torch.no_grad():
            return fresh.velocity(x_t, torch.tensor([0.3, 0.7]), given)

    before = velocity()
    fresh.check_adapter(tmp_path)
    assert torch.equal(velocity(), before)
    fresh.load_adapter(tmp_path)
    assert not torch.equal(velocity(), before)
    assert fresh.same_adapter(tmp_path)


def test_samples_of_a_pipeline_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    stable_diffusion().save_pretrained(tmp_path / "model")
    prompts = [*PROMPTS, "a", "b"]
    files = sample_images(small(tmp_path / "model"), prompts, seed=0, output_dir=tmp_path / "four")
    first = sample_images(
        small(tmp_path / "model"), prompts[:1], seed=0, output_dir=tmp_path / "one"
    )
    drawn = pixels([Image.open(file) for file in files])
    assert np.abs(pixels([Image.open(first[0])]) - drawn[:1]).max() <= 1
    assert np.abs(drawn[0] - drawn[3]).max() > 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("DDPMPipeline", "lacks prompt, guidance_scale"),
        ("NoSuchPipeline", "update diffusers"),
        ("FlowMatchEulerDiscreteScheduler", "update diffusers"),
    ],
)
def test_what_draws_nothing_from_prompts_is_refused_before_its_weights(
    name: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name}))
    with pytest.raises(AdrpoError, match=said):
        load(small(tmp_path))


def test_a_setting_that_the_call_does_not_take_is_named(tmp_path: Path) -> None:
    index = {"_class_name": "StableDiffusionPipeline"}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    target = Target.resolve(str(tmp_path), door_of, overrides=["model.max_sequence_length=8"])
    with pytest.raises(AdrpoError, match="max_sequence_length: expected null"):
        load(target)


def test_another_model_than_the_recipes_has_its_own_size() -> None:
    recipe = "flow/sd3-medium-adrpo"
    own = Target.resolve("stabilityai/stable-diffusion-3-medium-diffusers", door_of, recipe=recipe)
    other = Target.resolve("owner/other", door_of, recipe=recipe)
    asked = Target.resolve("owner/other", door_of, recipe=recipe, overrides=["model.height=768"])
    assert own.config.model.height == 512
    assert other.config.model.height is None and asked.config.model.height == 768
    assert other.config.model.dtype == own.config.model.dtype == "bfloat16"
    assert other.config.reward == own.config.reward
    assert other.config.evaluation == own.config.evaluation


def test_a_run_has_settings_and_an_adapter_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(AdrpoError, match="expected the folder or file of a LoRA adapter"):
        Target.resolve("owner/model", door_of, lora=tmp_path / "missing")
    (tmp_path / "config.yaml").write_text("domain: flow")
    for named in ({"recipe": "flow/adrpo"}, {"lora": tmp_path}):
        with pytest.raises(AdrpoError, match="beside a model only"):
            Target.resolve(str(tmp_path), door_of, **named)  # type: ignore[arg-type]
    with pytest.raises(AdrpoError, match="expected a finished run"):
        Target.resolve(str(tmp_path), door_of)


@pytest.mark.parametrize("recipe", [None, "flow/adrpo", "llm/embedded"])
def test_a_second_model_is_refused(recipe: str | None) -> None:
    # The name took its place without a word.
    other = "model.pretrained=owner/other"
    with pytest.raises(AdrpoError, match=r"received embedded-x and model\.pretrained=owner/other"):
        Target.resolve("embedded-x", door_of, recipe=recipe, overrides=[other])
    same = Target.resolve("owner/other", door_of, recipe=recipe, overrides=[other])
    assert same.config.model.pretrained == "owner/other"


def test_prompts_may_be_those_of_training() -> None:
    target = Target.resolve("embedded", door_of, prompts="scenes:train")
    assert target.config.prompts.held_out == target.config.prompts.train == "scenes:train"
