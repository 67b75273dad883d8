"""The policy's adapter: on, off, and what trains."""

import pytest
import torch
from PIL import Image

from adrpo.config import AdapterSection, AdrpoSection, FlowModelSection, SamplingSection
from adrpo.errors import AdrpoError
from adrpo.flow.methods import Weights, build_method
from adrpo.flow.methods.base import no_clip
from adrpo.flow.models.families.stable_diffusion_3 import StableDiffusion3Policy
from adrpo.flow.models.loading import load_policy
from adrpo.flow.path.draws import initial_noise
from adrpo.flow.path.path_samples import sample_path
from adrpo.flow.training.anchors import BaseAnchor
from adrpo.flow.training.stopwatch import Stopwatch
from adrpo.flow.training.update import Batch, accumulate_gradient
from support.tiny_runs import perturb


def gradient(policy: StableDiffusion3Policy, advantage: float, beta: float) -> float:
    x_1 = initial_noise(3, policy.latent_shape, 0, "data")
    a = torch.full((3,), advantage)

    def velocity(rows: Batch) -> torch.Tensor:
        return policy.velocity(rows.path.x_t, rows.path.t, rows.conditioning)

    accumulate_gradient(
        velocity,
        BaseAnchor(policy),
        build_method(AdrpoSection()),
        Batch(
            path=sample_path(x_1, torch.Generator().manual_seed(2)),
            conditioning=policy.encode(["a red circle"] * 3),
            weights=Weights(
                advantages=a,
                clipped=no_clip(a),
                weight=a,
                beta=torch.full((3,), beta),
                taken=torch.ones(3, dtype=torch.bool),
            ),
        ),
        micro_batch=2,
        stopwatch=Stopwatch(policy.device),
    )
    squares = [p.grad.square().sum() for p in policy.adapter_parameters() if p.grad is not None]
    squares.append(torch.zeros(()))
    for parameter in policy.adapter_parameters():
        parameter.grad = None
    return float(torch.stack(squares).sum().sqrt())


def test_a_model_without_an_adapter_is_its_own_reference():
    policy = load_policy(FlowModelSection())
    x_t, t = initial_noise(2, policy.latent_shape, 0), torch.tensor([0.2, 0.9])
    conditioning = policy.encode(["a red circle", "two blue stars"])
    with policy.reference():
        v_ref = policy.velocity(x_t, t, conditioning)
    assert torch.equal(policy.velocity(x_t, t, conditioning), v_ref)


def test_a_new_adapter_changes_nothing(policy: StableDiffusion3Policy):
    x_t, t = initial_noise(2, policy.latent_shape, 0), torch.tensor([0.2, 0.9])
    conditioning = policy.encode(["a red circle", "two blue stars"])
    v = policy.velocity(x_t, t, conditioning)
    with policy.reference():
        v_ref = policy.velocity(x_t, t, conditioning)
    # B is zero, so the adapter adds exact zeros.
    assert torch.equal(v, v_ref)


def test_the_reference_is_the_base_whatever_the_adapter(policy: StableDiffusion3Policy):
    x_t, t = initial_noise(2, policy.latent_shape, 0), torch.tensor([0.2, 0.9])
    conditioning = policy.encode(["a red circle", "two blue stars"])
    base = load_policy(FlowModelSection()).velocity(x_t, t, conditioning)
    perturb(policy)
    before = policy.velocity(x_t, t, conditioning)
    with policy.reference():
        assert torch.equal(policy.velocity(x_t, t, conditioning), base)
    assert torch.equal(policy.velocity(x_t, t, conditioning), before)
    assert not torch.allclose(before, base, atol=1e-3)


def test_the_adapter_is_on_again_after_an_error(policy: StableDiffusion3Policy):
    perturb(policy)
    x_t, t = initial_noise(1, policy.latent_shape, 0), torch.tensor([0.5])
    conditioning = policy.encode(["a red circle"])
    before = policy.velocity(x_t, t, conditioning)
    with pytest.raises(RuntimeError), policy.reference():
        raise RuntimeError
    assert torch.equal(policy.velocity(x_t, t, conditioning), before)
    assert all(p.requires_grad for p in policy.adapter_parameters())


def test_uses_of_the_reference_nest(policy: StableDiffusion3Policy):
    perturb(policy)
    x_t, t = initial_noise(1, policy.latent_shape, 0), torch.tensor([0.5])
    conditioning = policy.encode(["a red circle"])
    before = policy.velocity(x_t, t, conditioning)
    parameters = policy.adapter_parameters()
    with policy.reference():
        base = policy.velocity(x_t, t, conditioning)
        with policy.reference():
            assert torch.equal(policy.velocity(x_t, t, conditioning), base)
        assert torch.equal(policy.velocity(x_t, t, conditioning), base)
        with pytest.raises(RuntimeError), policy.reference():
            raise RuntimeError
        assert torch.equal(policy.velocity(x_t, t, conditioning), base)
        # Whoever asks for the adapter inside gets the one that trains.
        inside = policy.adapter_parameters()
        assert all(a is b for a, b in zip(inside, parameters, strict=True))
    assert torch.equal(policy.velocity(x_t, t, conditioning), before)
    assert not torch.equal(base, before)


def test_only_the_adapter_trains(policy: StableDiffusion3Policy):
    names = [n for n, p in policy.pipeline.transformer.named_parameters() if p.requires_grad]
    assert names and all("lora_" in name for name in names)
    for part in (policy.pipeline.vae, policy.pipeline.text_encoder, policy.pipeline.text_encoder_2):
        assert not any(p.requires_grad for p in part.parameters())


def test_each_term_alone_moves_the_adapter(policy: StableDiffusion3Policy):
    assert gradient(policy, advantage=1.0, beta=0.0) > 0
    # At the reference the divergence has its minimum ...
    assert gradient(policy, advantage=0.0, beta=1.0) == 0
    perturb(policy)
    # ... and away from it, it pulls.
    assert gradient(policy, advantage=0.0, beta=1.0) > 0


def test_rows_without_coefficient_cost_no_reference_call(policy: StableDiffusion3Policy):
    calls = policy.model_calls
    gradient(policy, advantage=1.0, beta=0.0)
    assert policy.model_calls - calls == 3
    gradient(policy, advantage=0.5, beta=0.5)
    assert policy.model_calls - calls == 3 + 6


def test_rows_without_any_weight_cost_nothing(policy: StableDiffusion3Policy):
    calls = policy.model_calls
    assert gradient(policy, advantage=0.0, beta=0.0) == 0
    assert policy.model_calls == calls


def test_images_encode_to_what_they_were_decoded_from(policy: StableDiffusion3Policy):
    texts = ["a red circle", "two blue stars", "a striped green square"]
    x_1 = policy.sample(
        initial_noise(3, policy.latent_shape, 0), policy.encode(texts), SamplingSection(steps=8)
    )
    images = [image for image in policy.decode(x_1) if image is not None]
    again = policy.encode_images(images)
    # What eight bits and the autoencoder lose, against latents of standard deviation about 1.
    assert (again - x_1).square().mean() < 0.05 * x_1.var()


def test_images_of_another_size_are_not_squashed(policy: StableDiffusion3Policy):
    right = Image.new("RGB", (policy.width, policy.height))
    wrong = Image.new("RGB", (2 * policy.width, policy.height))
    size = f"{policy.width}x{policy.height} pixels; received {2 * policy.width}x{policy.height}"
    with pytest.raises(AdrpoError, match=f"expected images of {size}"):
        policy.encode_images([right, wrong])


def test_target_modules_that_match_nothing_are_refused():
    policy = load_policy(FlowModelSection())
    with pytest.raises(AdrpoError, match=r"adapter\.target_modules.*to_query"):
        policy.add_adapter(AdapterSection(target_modules=("to_query",)))
