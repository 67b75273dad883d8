"""What trades time for memory leaves the result as it is."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.vae import AutoencoderMixin
from torch import Tensor

from adrpo.config import AdapterSection, FlowModelSection, FlowTrainingSection
from adrpo.errors import AdrpoError
from adrpo.flow.domain import build_trainer
from adrpo.flow.models.loading import load_policy
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.training.optimizers import build_optimizer
from support.tiny_pipelines import FAMILIES
from support.tiny_runs import darkness, perturb, tiny_config

PROMPTS = ["a cat", "two blue birds on a wire"]


def gradients(policy: PipelinePolicy) -> tuple[list[Tensor], int]:
    """Of |v|^2 with guidance, and the bytes that autograd keeps for them."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn((2, *policy.latent_shape), generator=generator)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        v = policy.velocity(
            x_t, torch.tensor([0.2, 0.7]), policy.encode(PROMPTS), guidance_scale=3.0
        )
    v.square().mean().backward()
    parameters = policy.adapter_parameters()
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
    policy.pipeline.transformer.zero_grad()
    return found, sum(kept.values())


@pytest.mark.parametrize("name", list(FAMILIES))
def test_checkpointing_gives_the_same_gradients_from_less(name: str):
    policy = FAMILIES[name].policy()
    policy.add_adapter(AdapterSection(rank=2, alpha=2.0))
    perturb(policy)  # type: ignore[arg-type]
    plain, plain_bytes = gradients(policy)
    policy.pipeline.transformer.enable_gradient_checkpointing()
    checkpointed, bytes_kept = gradients(policy)
    assert sum(float(gradient.norm()) for gradient in plain) > 0
    for ours, theirs in zip(checkpointed, plain, strict=True):
        # The same operations in the same order: float32, and sums that threads may split.
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    assert bytes_kept < plain_bytes


def test_the_configuration_switches_each_setting_on():
    for key, part, flag in (
        ("gradient_checkpointing", "transformer", "gradient_checkpointing"),
        ("vae_tiling", "vae", "use_tiling"),
        ("vae_slicing", "vae", "use_slicing"),
    ):
        for value in (False, True):
            policy = load_policy(FlowModelSection.model_validate({key: value, "device": "cpu"}))
            assert getattr(getattr(policy.pipeline, part), flag) is value, key


def test_slices_are_decoded_to_the_same_images():
    images = []
    for slicing in (False, True):
        policy = load_policy(FlowModelSection(vae_slicing=slicing, device="cpu"))
        x_1 = torch.randn((3, *policy.latent_shape), generator=torch.Generator().manual_seed(0))
        images.append(policy._to_pixels(x_1).detach())
    # Convolutions of one image and of three round differently in the last bits of values up to 1.
    torch.testing.assert_close(images[1], images[0], rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("key", ["vae_tiling", "vae_slicing"])
def test_an_autoencoder_without_parts_is_named(key: str, monkeypatch: pytest.MonkeyPatch):
    def missing(self: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(AutoencoderMixin, f"enable_{key.removeprefix('vae_')}", missing)
    with pytest.raises(AdrpoError, match=f"model.{key}: expected false for AutoencoderKL"):
        load_policy(FlowModelSection.model_validate({key: True, "device": "cpu"}))


def test_the_8_bit_optimizer_asks_for_its_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(AdrpoError, match=r"pip install bitsandbytes.*training\.optimizer=adamw"):
        build_optimizer([], FlowTrainingSection(optimizer="adamw_8bit"))


def test_the_8_bit_optimizer_is_used_and_resumed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    """The seam: a stand-in of bitsandbytes whose optimizer is torch's, so that states match."""
    made = []

    class AdamW8bit(torch.optim.AdamW):
        def __init__(self, parameters: Any, **options: Any) -> None:
            made.append(options)
            super().__init__(parameters, **options)

    package = ModuleType("bitsandbytes.optim")
    package.AdamW8bit = AdamW8bit  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", ModuleType("bitsandbytes"))
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", package)
    training = {"optimizer": "adamw_8bit", "steps": 1, "weight_decay": 0.5}
    config = tiny_config(training=training, checkpoint={"every": 1})
    build_trainer(config, reward=darkness).train(tmp_path / "run", progress=False)
    longer = tiny_config(training=training | {"steps": 2}, checkpoint={"every": 1})
    trainer = build_trainer(longer, reward=darkness)
    trainer.train(tmp_path / "run", resume=True, progress=False)
    assert made == 2 * [{"lr": 1e-3, "weight_decay": 0.5}]
    assert isinstance(trainer.optimizer, AdamW8bit)
    assert {int(state["step"]) for state in trainer.optimizer.state.values()} == {2}
