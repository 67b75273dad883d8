"""A base in 8 or 4 bits under a LoRA adapter: how far it is from the base, and what training moves.

diffusers refuses 4 bits without a GPU; with that check off, it does here what it does there.
"""

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel

from adrpo.config import AdapterSection, FlowModelSection, load_flow_config
from adrpo.errors import AdrpoError
from adrpo.flow.memory.architectures import PUBLISHED
from adrpo.flow.memory.estimate import estimate
from adrpo.flow.models.loading import load_policy
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.models.quantization import BLOCK_WEIGHTS, quantization_config
from adrpo.runs.quantization import QUANTIZERS, check_quantizer
from support.normal_float import BLOCK, rounded
from support.tiny_pipelines import flux

LAST_BIT = 2**-8
"""Of bfloat16: what a level times its scale is rounded by."""
PROMPTS = ["a red circle", "a blue square"]
RECIPE = "flow/flux-dev-int8-adrpo"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flux")
    flux(distilled=True, heads=4).save_pretrained(folder)
    return folder


def load(folder: Path, quantization: str | None) -> PipelinePolicy:
    settings = {
        "pretrained": str(folder),
        "dtype": "bfloat16",
        "max_sequence_length": 32,
        "height": 16,
        "width": 24,
        "device": "cpu",
        "gradient_checkpointing": True,
        "quantization": quantization,
    }
    return load_policy(FlowModelSection.model_validate(settings))


def needing(form: str) -> Any:
    package = QUANTIZERS[form]
    missing = find_spec(package) is None and "ADRPO_EXPECT_APPS" not in os.environ
    reason = f"{package} is not installed: make test-apps"
    return pytest.param(form, marks=[pytest.mark.apps, pytest.mark.skipif(missing, reason=reason)])


@pytest.fixture(params=[needing("int8"), needing("nf4")])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "nf4":
        from diffusers.quantizers.bitsandbytes.bnb_quantizer import BnB4BitDiffusersQuantizer

        monkeypatch.setattr("adrpo.runs.quantization.GPU_ONLY", ())
        for name, stand_in in {
            "validate_environment": lambda *_, **__: None,
            "update_device_map": lambda *_: {"": "cpu"},
        }.items():
            monkeypatch.setattr(BnB4BitDiffusersQuantizer, name, stand_in)
        # Else drawing has another arithmetic than training, on a CPU that multiplies bfloat16.
        monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    return request.param


@pytest.fixture
def policy(folder: Path, form: str) -> Iterator[PipelinePolicy]:
    policy = load(folder, form)
    torch.manual_seed(0)
    policy.add_adapter(AdapterSection(rank=2, alpha=4.0))
    policy.pipeline.transformer.train()
    yield policy


def frozen(policy: PipelinePolicy) -> dict[str, torch.Tensor]:
    """The frozen weights, as layers multiply by them."""
    plain = {}
    for name, tensor in policy.pipeline.transformer.named_parameters():
        if "lora" not in name:
            plain[name.replace(".base_layer", "")] = unpacked(tensor).detach().clone()
    return plain


def unpacked(tensor: Any) -> torch.Tensor:
    if type(tensor) is torch.nn.Parameter:
        return tensor
    if type(tensor).__name__ == "Int8Tensor":
        return tensor.dequantize()
    from bitsandbytes.functional import (  # pyright: ignore[reportMissingImports]
        dequantize_4bit,
    )

    return dequantize_4bit(tensor.data, tensor.quant_state)


def velocity(policy: PipelinePolicy) -> torch.Tensor:
    x_t = torch.randn(2, *policy.latent_shape, generator=torch.Generator().manual_seed(0))
    conditioning = policy.encode(PROMPTS)
    return policy.velocity(x_t, torch.full((2,), 0.5), conditioning, guidance_scale=3.5)


def test_each_weight_is_within_a_level_of_its_own(
    policy: PipelinePolicy, folder: Path, form: str
) -> None:
    transformer = policy.pipeline.transformer
    quantised = {
        name.replace(".base_layer", "")
        for name, tensor in transformer.named_parameters()
        if type(tensor).__name__ in ("Int8Tensor", "Params4bit")
    }
    ours, theirs = frozen(policy), frozen(load(folder, None))
    assert ours.keys() == theirs.keys()
    assert {name for name in theirs if theirs[name].ndim == 2} == quantised
    for name, weight in theirs.items():
        if name not in quantised:
            assert torch.equal(ours[name], weight), name
            continue
        if form == "nf4":
            if weight.shape[1] % BLOCK == 0:  # bitsandbytes takes it for granted on a CPU
                far = (ours[name].float() - rounded(weight)).abs() > LAST_BIT * weight.abs().max()
                # A number between two levels may go to either by the last bit of its quotient.
                assert far.float().mean() < 0.01, name
            continue
        level = weight.abs().amax(dim=1, keepdim=True).float() / 127
        error = (ours[name].float() - weight.float()).abs() / level
        # Half a level; and both the scale and its product are rounded to bfloat16, by 2^-9 of up
        # to 127 levels.
        assert error.max() <= 0.5 + 2 * 127 / 2**9, name
    assert quantised


def test_a_step_moves_the_adapter_alone_and_lowers_the_loss(policy: PipelinePolicy) -> None:
    before = frozen(policy)
    assert {p.dtype for p in policy.adapter_parameters()} == {torch.float32}
    with torch.no_grad():
        base = velocity(policy)
    target = base + torch.randn(base.shape, generator=torch.Generator().manual_seed(1))
    loss = (velocity(policy) - target).square().mean()
    loss.backward()
    gradients = [p.grad for p in policy.adapter_parameters()]
    steepness = sum(float(g.square().sum()) for g in gradients if g is not None)
    # To first order the loss falls by lr |gradient|^2, here by a twentieth of itself: many times
    # the rounding of bfloat16.
    optimizer = torch.optim.SGD(policy.adapter_parameters(), lr=0.05 * loss.item() / steepness)
    optimizer.step()
    with torch.no_grad():
        assert (velocity(policy) - target).square().mean() < 0.99 * loss.detach()
        with policy.reference():
            assert torch.equal(velocity(policy), base)
    assert all(torch.equal(weight, before[name]) for name, weight in frozen(policy).items())


def test_the_adapter_goes_to_another_copy_and_to_the_base_in_16_bits(
    policy: PipelinePolicy, folder: Path, form: str, tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(2)
    for parameter in policy.adapter_parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    policy.save_adapter(tmp_path)
    again, plain = load(folder, form), load(folder, None)
    again.add_adapter(AdapterSection(rank=2, alpha=4.0))
    with torch.no_grad():
        base, adapted = velocity(plain), velocity(policy)
        again.load_adapter_state(policy.adapter_state())
        assert torch.equal(velocity(again), adapted)
        plain.load_adapter(tmp_path)
        # The bases differ by their rounding, which the adapter's change is more than; that to 16
        # levels is a tenth of a weight and more, in each of the layers on the way.
        share = {"int8": 0.2, "nf4": 0.6}[form]
        assert (velocity(plain) - adapted).norm() < share * (adapted - base).norm()


@pytest.mark.parametrize(("form", "package"), QUANTIZERS.items())
def test_without_its_package_the_error_names_it(
    form: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    model = load_flow_config(RECIPE, [f"model.quantization={form}"]).model
    with pytest.raises(AdrpoError, match=f"pip install {package}"):
        quantization_config(model, {"transformer": []})
    with pytest.raises(AdrpoError, match="no transformer"):
        quantization_config(model, {"_class_name": "StableDiffusionPipeline", "unet": []})


def test_4_bits_ask_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not the package is there, and before another type of numbers is asked for."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for package in (ModuleType("bitsandbytes"), None):
        monkeypatch.setitem(sys.modules, "bitsandbytes", package)
        with pytest.raises(AdrpoError, match="expected a GPU for nf4"):
            check_quantizer("nf4")
    with pytest.raises(AdrpoError, match=r"=nf4, which needs a GPU; .* float32"):
        load_flow_config("flow/adrpo", ["model.quantization=nf4", "model.dtype=float32"])


@pytest.mark.parametrize("setting", ["dtype=float32", "gradient_checkpointing=false"])
def test_what_quantised_weights_need_is_said_before_loading(setting: str) -> None:
    key, _, value = setting.partition("=")
    with pytest.raises(AdrpoError, match=f"model.{key}: expected .*received {value}"):
        load_flow_config(RECIPE, [f"model.{setting}"])


def test_the_estimate_has_a_byte_a_weight_and_a_block_in_16_bits() -> None:
    config = load_flow_config(RECIPE)
    architecture = PUBLISHED[config.model.pretrained]
    model = config.model.model_copy(update={"quantization": None})
    half = estimate(architecture, config.model_copy(update={"model": model}))
    quantised = estimate(architecture, config)
    assert 2 * quantised.resident["transformer"] == half.resident["transformer"]
    with torch.device("meta"):
        (block,) = FluxTransformer2DModel(num_layers=1, num_single_layers=0).transformer_blocks
    largest = sum(p.numel() for p in block.parameters() if p.ndim == 2)
    assert largest == BLOCK_WEIGHTS * architecture.width**2
    assert quantised.working["update"] - half.working["update"] == 2 * largest
    model = config.model.model_copy(update={"quantization": "nf4"})
    quarter = estimate(architecture, config.model_copy(update={"model": model}))
    # 4 bits a weight, and a scale of 32 for every 64.
    assert quarter.resident["transformer"] == half.resident["transformer"] * 4.5 / 16
