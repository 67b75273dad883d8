"""Each family's policy against diffusers' own pipeline of that family, with random weights."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from adrpo.config import AdapterSection, SamplingSection
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.flow.models.loading import SUPPORTED, as_policy
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.training.adrpo import FlowTrainer
from support.tiny_editors import ALL
from support.tiny_pipelines import FAMILIES, Family, dynamic_scheduler
from support.tiny_runs import darkness, tiny_config

# Of different numbers of tokens, so that a batch of them needs padding.
PROMPTS = ["a cat", "two blue birds on a wire"]
STEPS, SEED = 3, 7
STEP_DISTILLED = ("flux schnell", "flux2 klein distilled")
DISTILLED = ("flux dev", "flux2 dev", "flux kontext")
"""Models that know no guidance, and those that take it as an input."""

# Both sides run the same float32 network. Where the batch is another one (guidance, padding),
# matrix products round differently in the last bit of values up to 5, and three steps of a random
# network at guidance 4 amplify that to 1e-5.
TOLERANCE = {"rtol": 0.0, "atol": 1e-4}


@pytest.fixture(params=list(ALL), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def family(name: str) -> Iterator[Family]:
    with ALL[name].around():
        yield ALL[name]


@pytest.fixture(scope="module")
def base(family: Family) -> PipelinePolicy:
    """The policy without an adapter; tests leave it as it is."""
    return family.policy()


@pytest.fixture
def adapted(family: Family) -> PipelinePolicy:
    """The policy with an adapter that has moved."""
    policy = family.policy()
    policy.add_adapter(AdapterSection(rank=2, alpha=2.0, target_modules=policy.lora_targets))
    generator = torch.Generator().manual_seed(1)
    for parameter in policy.adapter_parameters():
        parameter.data += 0.5 * torch.randn(parameter.shape, generator=generator)
    return policy


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


def noise(policy: PipelinePolicy, count: int = len(PROMPTS)) -> Tensor:
    """What the pipeline draws from ``generator()``, in the policy's shape."""
    return torch.randn((count, *policy.latent_shape), generator=generator())


def unpacked(policy: PipelinePolicy, latents: Tensor) -> Tensor:
    """The pipeline's latents in the policy's shape, by the pipeline's own unpacking."""
    if "Flux2" in type(policy.pipeline).__name__:
        if latents.ndim == 3:  # between two steps
            return latents.transpose(1, 2).reshape(len(latents), *policy.latent_shape)
        # At the end they are handed out as the autoencoder decodes them.
        return policy.pipeline.vae.bn(policy.pipeline._patchify_latents(latents))
    if latents.ndim == 3:
        latents = policy.pipeline._unpack_latents(
            latents, policy.height, policy.width, policy.pipeline.vae_scale_factor
        )
    return latents.reshape(len(latents), *policy.latent_shape)


def pixels(images: Sequence[Any]) -> np.ndarray:
    return np.stack([np.asarray(image, dtype=np.int32) for image in images])


def assert_same_images(ours: Sequence[Any], theirs: Sequence[Any]) -> None:
    # Rounding to eight bits turns the latents' 1e-5 into one level where a value is just between.
    assert np.abs(pixels(ours) - pixels(theirs)).max() <= 1
    assert pixels(theirs).std() > 5, "images without contrast agree on nothing"


class Calls:
    """The tensors that a transformer is called with, and what it returns, call by call."""

    def __init__(self, transformer: Any) -> None:
        self.signature = inspect.signature(transformer.forward)
        self.inputs: list[dict[str, Any]] = []
        self.outputs: list[list[Tensor]] = []
        self.handle = transformer.register_forward_hook(self._record, with_kwargs=True)

    def __enter__(self) -> "Calls":
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.remove()

    def _record(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        arguments = self.signature.bind(*args, **kwargs).arguments
        self.inputs.append(
            {name: list(_leaves(value)) for name, value in arguments.items() if value is not None}
        )
        self.outputs.append([leaf.clone() for leaf in _leaves(output[0])])


def _leaves(value: Any) -> Iterator[Any]:
    """Tensors and sizes in nested lists; keyword dictionaries of diffusers hold neither here."""
    if isinstance(value, Tensor):
        yield value.detach().clone()
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value


def test_every_supported_class_has_its_pipeline_here():
    built = {type(family.build()).__name__ for family in ALL.values()}
    assert built == set(SUPPORTED)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_sampling_is_the_pipelines_own(family: Family, base: PipelinePolicy, scale: float):
    sampling = SamplingSection(steps=STEPS, guidance_scale=scale)
    ours = base.sample(noise(base), family.encode(base, PROMPTS), sampling)
    theirs = family.call(
        base.pipeline,
        PROMPTS,
        scale,
        num_inference_steps=STEPS,
        generator=generator(),
        output_type="latent",
    )
    torch.testing.assert_close(ours, unpacked(base, theirs), **TOLERANCE)
    # The same from given latents, in the shape in which the pipeline hands them out.
    packed = noise(base)
    if theirs.ndim == 3 and "Flux2" not in type(base.pipeline).__name__:
        packed = base.pipeline._pack_latents(packed, *packed.shape)
    images = family.call(base.pipeline, PROMPTS, scale, num_inference_steps=STEPS, latents=packed)
    assert_same_images(base.decode(ours), images)


@pytest.mark.parametrize("default", [None, "a dog"])
def test_negative_prompts_are_the_pipelines_own(
    name: str, family: Family, base: PipelinePolicy, default: str | None
):
    if name in (*STEP_DISTILLED, *DISTILLED):
        with pytest.raises(AdrpoError, match=r"prompts\.negative_prompt: expected null for \w+, "):
            as_policy(base.pipeline, **family.sizes, negative_prompt="a dog")
        with pytest.warns(AdrpoWarning, match="the column negative_prompt has no effect on Flux"):
            family.encode(base, PROMPTS, ["a dog", None])
        return
    policy = as_policy(base.pipeline, negative_prompt=default, **family.sizes)
    own = ["blurry, and of many words", default or policy.nothing]
    away: dict[str, Any] = {"negative_prompt": own}
    if not family.in_words:
        away = {"negative_prompt_embeds": policy._encode_negative(list(own)).context}
    sampling = SamplingSection(steps=STEPS, guidance_scale=4.0)
    ours = policy.sample(noise(policy), family.encode(policy, PROMPTS, [own[0], None]), sampling)
    call = {"num_inference_steps": STEPS, "generator": generator(), "output_type": "latent"}
    theirs = family.call(base.pipeline, PROMPTS, 4.0, **call, **away)
    torch.testing.assert_close(ours, unpacked(policy, theirs), **TOLERANCE)
    without = base.sample(noise(base), family.encode(base, PROMPTS), sampling)
    differs = (ours - without).abs().flatten(1).amax(1) > 20 * TOLERANCE["atol"]
    assert differs.tolist() == [True, default is not None]


def test_guidance_and_prompt_are_seen(name: str, family: Family, base: PipelinePolicy):
    """What the parity tests compare must depend on both, else they would compare nothing."""
    conditioning = family.encode(base, PROMPTS)
    x_t, t = noise(base, 1).repeat(2, 1, 1, 1), torch.tensor([0.3, 0.3])
    v = base.velocity(x_t, t, conditioning)
    v_guided = base.velocity(x_t, t, conditioning, guidance_scale=4.0)
    # Above the parity's tolerance; the distilled in steps have no guidance at all.
    assert (v[0] - v[1]).abs().max() > 20 * TOLERANCE["atol"]
    different = (v - v_guided).abs().max() > 20 * TOLERANCE["atol"]
    assert different == (name not in STEP_DISTILLED)


def test_the_transformer_is_called_as_the_pipeline_calls_it(family: Family, base: PipelinePolicy):
    latents: list[Tensor] = []

    def keep(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        latents.append(unpacked(base, tensors["latents"]).clone())
        return {}

    with Calls(base.pipeline.transformer) as theirs:
        family.call(
            base.pipeline,
            PROMPTS,
            1.0,
            num_inference_steps=STEPS,
            generator=generator(),
            output_type="latent",
            callback_on_step_end=keep,
        )
    conditioning, times = family.encode(base, PROMPTS), base.time_grid(STEPS)
    points = [noise(base), *latents]
    assert len(theirs.inputs) == STEPS
    for step in range(STEPS):
        t = times[step].expand(len(PROMPTS))
        with Calls(base.pipeline.transformer) as ours:
            v = base.velocity(points[step], t, conditioning, guidance_scale=1.0)
        expected = {key: value for key, value in theirs.inputs[step].items() if value}
        received = {key: value for key, value in ours.inputs[0].items() if value}
        assert received.keys() == expected.keys()
        for key, values in expected.items():
            assert len(received[key]) == len(values), key
            for mine, other in zip(received[key], values, strict=True):
                if isinstance(other, int):
                    assert mine == other, key
                    continue
                # A mask is one whatever its type. 1 - (1 - sigma) has lost 6e-8 of sigma, which
                # is 6e-5 of a time that counts to 1000; originals are encoded one by one.
                atol = {"timestep": 1e-4, "hidden_states": 1e-5}.get(key, 1e-6)
                torch.testing.assert_close(mine.float(), other.float(), rtol=0, atol=atol)
        for mine, other in zip(ours.outputs[0], theirs.outputs[step], strict=True):
            torch.testing.assert_close(mine, other, **TOLERANCE)
        # Sign and scale of v, from the pipeline's own steps: d x / d t. The difference of values up
        # to 5 is exact to 1e-6, and divided by steps of at least 0.02.
        slope = (points[step + 1] - points[step]) / (times[step + 1] - times[step])
        torch.testing.assert_close(v, slope, rtol=0, atol=1e-3)


def test_the_adapter_loads_in_the_pipeline(
    family: Family, base: PipelinePolicy, adapted: PipelinePolicy, tmp_path: Path
):
    sampling = SamplingSection(steps=STEPS, guidance_scale=2.0)
    ours = adapted.sample(noise(adapted), family.encode(adapted, PROMPTS), sampling)
    adapted.save_adapter(tmp_path)
    pipeline = family.build()
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(tmp_path)
    call = {"num_inference_steps": STEPS, "generator": generator()}
    theirs = family.call(pipeline, PROMPTS, 2.0, output_type="latent", **call)
    torch.testing.assert_close(ours, unpacked(adapted, theirs), **TOLERANCE)
    images = family.call(pipeline, PROMPTS, 2.0, **call | {"generator": generator()})
    assert_same_images(adapted.decode(ours), images)
    # The adapter does something.
    without = base.sample(noise(base), family.encode(base, PROMPTS), sampling)
    assert (ours - without).abs().max() > 20 * TOLERANCE["atol"]
    # And it comes back as it was.
    again = family.policy()
    again.load_adapter(tmp_path)
    saved, loaded = adapted.adapter_state(), again.adapter_state()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)


def test_the_reference_is_the_model_without_its_adapter(
    family: Family, base: PipelinePolicy, adapted: PipelinePolicy
):
    conditioning, x_t, t = family.encode(base, PROMPTS), noise(base), torch.tensor([0.2, 0.9])
    v_base = base.velocity(x_t, t, conditioning)
    before = adapted.velocity(x_t, t, conditioning)
    with adapted.reference():
        assert torch.equal(adapted.velocity(x_t, t, conditioning), v_base)
    assert torch.equal(adapted.velocity(x_t, t, conditioning), before)
    assert (before - v_base).abs().max() > 20 * TOLERANCE["atol"]


def test_images_are_encoded_as_the_autoencoder_does(base: PipelinePolicy):
    """Scale, shift and statistics cancel between ``encode_images`` and ``decode``; that ``decode``
    has the pipeline's is what the images of the sampling test show."""
    vae, parts = base.pipeline.vae, vars(base.pipeline)
    processor = parts.get("image_processor") or parts["video_processor"]
    draws = np.random.default_rng(0).integers(0, 256, (2, base.height, base.width, 3))
    images = [Image.fromarray(draw.astype(np.uint8)) for draw in draws]
    values = processor.preprocess(images, height=base.height, width=base.width)
    values = values[:, :, None] if hasattr(vae.config, "temperal_downsample") else values
    with torch.no_grad():
        encoded = vae.encode(values)
        plain = encoded.latent_dist.mode() if "latent_dist" in encoded else encoded.latent
        restored = vae.decode(plain).sample
    restored = restored.reshape(2, 3, base.height, base.width)
    x_1 = base.encode_images(images)
    assert x_1.shape == (2, *base.latent_shape)
    assert x_1.dtype == torch.float32
    theirs = processor.postprocess(restored, output_type="pil")
    assert_same_images(base.decode(x_1), theirs)
    # Normalised latents are others than the autoencoder's own.
    assert (x_1 - plain.reshape(x_1.shape)).abs().max() > 0.01


@pytest.mark.parametrize(("steps", "size"), [(2, 1), (5, 1), (2, 2)])
def test_the_time_grid_is_the_pipelines(
    family: Family, base: PipelinePolicy, steps: int, size: int
):
    sized = replace(family, height=size * family.height, width=size * family.width)
    policy = as_policy(base.pipeline, **sized.sizes)
    times = policy.time_grid(steps)
    sized.call(base.pipeline, PROMPTS[:1], 1.0, num_inference_steps=steps, output_type="latent")
    # The pipeline's call leaves its schedule, shifted by the size, in its scheduler.
    sigmas = base.pipeline.scheduler.sigmas
    # sigma in float32; mu is computed in the same order of operations up to a last bit.
    torch.testing.assert_close(times, 1 - sigmas, rtol=0, atol=1e-6)


def test_sd3_shifts_by_the_resolution_where_its_scheduler_does():
    family = FAMILIES["sd3"]
    policy = family.policy()
    policy.pipeline.scheduler = dynamic_scheduler()
    times = policy.time_grid(4)
    family.call(policy.pipeline, PROMPTS[:1], 1.0, num_inference_steps=4, output_type="latent")
    torch.testing.assert_close(times, 1 - policy.pipeline.scheduler.sigmas, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_prompts_of_any_length_share_a_batch(family: Family, base: PipelinePolicy, scale: float):
    x_t, t = noise(base), torch.tensor([0.2, 0.7])
    together = base.velocity(x_t, t, family.encode(base, PROMPTS), guidance_scale=scale)
    for row, prompt in enumerate(PROMPTS):
        rows = slice(row, row + 1)
        own = family.encode(base, [prompt])
        alone = base.velocity(x_t[rows], t[rows], own, guidance_scale=scale)
        torch.testing.assert_close(together[rows], alone, **TOLERANCE)


def test_a_call_counts_its_rows(name: str, family: Family, base: PipelinePolicy):
    conditioning, x_t, t = family.encode(base, PROMPTS), noise(base), torch.tensor([0.2, 0.7])
    before = base.model_calls
    base.velocity(x_t, t, conditioning)
    assert base.model_calls - before == 2
    base.velocity(x_t, t, conditioning, guidance_scale=3.0)
    # A distilled model has its guidance in the one call, or none.
    assert base.model_calls - before == 2 + (2 if name in (*STEP_DISTILLED, *DISTILLED) else 4)


def test_a_training_step_moves_the_adapter(family: Family, tmp_path: Path):
    pipeline = family.build()
    pipeline.save_pretrained(tmp_path)
    targets = SUPPORTED[type(pipeline).__name__].lora_targets
    config = tiny_config(
        model={"pretrained": str(tmp_path), "device": "cpu", **family.sizes},
        adapter={"rank": 2, "target_modules": targets},
        prompts=family.prompts(tmp_path),
        training={"samples_per_prompt": 2, "micro_batch_size": 2},
    )
    trainer = FlowTrainer(config, reward=darkness)
    # Before training, as in a run: it must leave nothing behind that autograd refuses.
    trainer.evaluator.measure()
    transformer = trainer.policy.pipeline.transformer
    before = {n: p.detach().clone() for n, p in transformer.named_parameters() if p.requires_grad}
    row = trainer.step(1)
    # B = 0 adds exact zeros: the policy is its reference. Of hundreds of tokens the last bits, 1e-7
    # of a velocity, depend on the rows beside them, and not all rows need a reference.
    assert row["divergence"] < 1e-12
    assert row["reward_std"] > 0
    assert row["grad_norm"] > 0
    after = dict(transformer.named_parameters())
    moved = {name for name, value in before.items() if not torch.equal(after[name], value)}
    # Of the update B A only B moves at first, since B = 0 stops the gradient to A; and nothing
    # reads what the last block makes of the text.
    assert all("lora_B" in name for name in moved)
    assert len(moved) > 0.4 * len(before)


def test_a_bfloat16_base_has_a_float32_adapter_and_velocity(family: Family, base: PipelinePolicy):
    policy = family.policy(torch.bfloat16)
    policy.add_adapter(AdapterSection(rank=2, alpha=2.0, target_modules=policy.lora_targets))
    x_t, t = noise(base), torch.tensor([0.2, 0.7])
    v = policy.velocity(x_t, t, family.encode(policy, PROMPTS))
    expected = base.velocity(x_t, t, family.encode(base, PROMPTS))
    assert v.dtype == torch.float32
    # bfloat16 has 8 bits: 0.4 % a value, and some ten layers of it.
    assert (v - expected).norm() < 0.1 * expected.norm()
    v.square().mean().backward()
    gradients = [p.grad for p in policy.adapter_parameters() if p.grad is not None]
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    assert sum(float(gradient.norm()) for gradient in gradients) > 0


def test_layers_that_are_not_there_name_those_that_are(base: PipelinePolicy):
    with pytest.raises(AdrpoError) as caught:
        base.add_adapter(AdapterSection(target_modules=("to_query",)))
    assert all(target in str(caught.value) for target in base.lora_targets)
