"""LoRA files of others, and our own in other programs: read as diffusers reads them, whole or not
at all, and as strong in a reader of tensors alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_any_pipeline import stable_diffusion
from torch import Tensor, nn

from adrpo.config import AdapterSection
from adrpo.errors import AdrpoError
from adrpo.flow.models.lora import WEIGHTS_NAME
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.models.pipeline_sampler import PipelineSampler
from support.tiny_pipelines import FAMILIES, flux, stable_diffusion_3

RANK, ALPHA = 2, 0.5
NAMES = ("sd3", "flux dev", "sana", "qwen-image", "z-image")
Matrices = dict[str, tuple[Tensor, Tensor]]


def layers(transformer: nn.Module) -> Matrices:
    """lora_A and lora_B of some layers, drawn anew."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: (
            0.3 * torch.randn(RANK, module.in_features, generator=generator),
            0.3 * torch.randn(module.out_features, RANK, generator=generator),
        )
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(("to_q", "to_out.0"))
    }


def named(matrices: Matrices, form: str, *, alpha: bool = True) -> dict[str, Tensor]:
    """The tensors of a file in the names of a program."""
    first, second = ("lora_down", "lora_up") if "lora_" in form else ("lora_A", "lora_B")
    values = {}
    for layer, (a, b) in matrices.items():
        name = form + (layer.replace(".", "_") if form.endswith("_") else layer)
        values |= {f"{name}.{first}.weight": a.clone(), f"{name}.{second}.weight": b.clone()}
        if alpha:
            values[f"{name}.alpha"] = torch.tensor(ALPHA)
    return values


def velocity(policy: PipelinePolicy) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn((2, *policy.latent_shape), generator=generator)
    with torch.no_grad():
        return policy.velocity(x_t, torch.tensor([0.3, 0.7]), policy.encode(["a cat", "a dog"]))


def read_by_diffusers(name: str, file: Path) -> Tensor:
    policy = FAMILIES[name].policy()
    policy.pipeline.load_lora_weights(str(file))
    return velocity(policy)


def read_by_us(name: str, source: Path) -> Tensor:
    policy = FAMILIES[name].policy()
    policy.load_adapter(source)
    return velocity(policy)


def refusal(name: str, source: Path) -> str:
    with pytest.raises(AdrpoError) as caught:
        read_by_us(name, source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "form", "alpha"),
    [
        ("flux dev", "transformer.", True),
        ("flux dev", "lora_transformer_", True),
        ("qwen-image", "diffusion_model.", True),
        ("qwen-image", "lora_unet_", True),
        ("z-image", "diffusion_model.", True),
        ("z-image", "lora_unet_", True),
        *((name, "transformer.", False) for name in NAMES),
    ],
)
def test_a_file_is_what_load_lora_weights_makes_of_it(
    name: str, form: str, alpha: bool, tmp_path: Path
) -> None:
    matrices = layers(FAMILIES[name].build().transformer)
    file = tmp_path / "lora.safetensors"
    save_file(named(matrices, form, alpha=alpha), file)
    theirs, base = read_by_diffusers(name, file), velocity(FAMILIES[name].policy())
    for source in (file, tmp_path):
        torch.testing.assert_close(read_by_us(name, source), theirs, rtol=0, atol=1e-5)
    # And it has the strength that its scale says: by hand, W + alpha / rank B A.
    policy = FAMILIES[name].policy()
    scale = ALPHA / RANK if alpha else 1.0
    for layer, (a, b) in matrices.items():
        policy.pipeline.transformer.get_submodule(layer).weight.data += scale * b @ a
    torch.testing.assert_close(velocity(policy), theirs, rtol=0, atol=1e-4)
    assert (theirs - base).abs().max() > 1e-2


def test_half_an_adapter_and_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    """Of a file whose header says how many layers it has, by what draws and by what is trained."""
    policy = FAMILIES["sd3"].policy()
    policy.add_adapter(AdapterSection(rank=RANK))
    policy.save_adapter(tmp_path)
    file = tmp_path / WEIGHTS_NAME
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    whole = load_file(file)
    names = sorted(whole)
    adapted = sorted({name.partition(".lora_")[0] for name in names})
    kept = adapted[: len(adapted) // 2]
    half = {name: whole[name] for name in names if name.partition(".lora_")[0] in kept}
    damaged = whole | {names[1]: torch.full_like(whole[names[1]], torch.nan)}
    for values, said in ((half, "expected a tensor for each layer"), (damaged, "expected finite")):
        save_file(values, file, metadata)
        sampler = PipelineSampler(FAMILIES["sd3"].build())
        for model in (FAMILIES["sd3"].policy(), sampler):
            with pytest.raises(AdrpoError, match=said):
                model.load_adapter(tmp_path)


def test_kohyas_names_of_the_original_flux_are_read(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    width = flux(distilled=True).transformer.inner_dim
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    values = {
        f"{name}.lora_down.weight": torch.randn(4, width, generator=generator),
        f"{name}.lora_up.weight": torch.randn(3 * width, 4, generator=generator),
        f"{name}.alpha": torch.tensor(1.0),
    }
    file = tmp_path / "lora.safetensors"
    save_file(values, file)
    theirs = read_by_diffusers("flux dev", file)
    torch.testing.assert_close(read_by_us("flux dev", file), theirs, rtol=0, atol=1e-5)
    # Half of a layer's name that diffusers maps to nothing: it would leave the tensors out.
    save_file(values | {f"{name}.dora_scale": torch.ones(3)}, file)
    assert f"1 of 4: {name}.dora_scale" in refusal("flux dev", file)


def test_a_scale_without_matrices_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    whole = named(layers(FAMILIES["flux dev"].build().transformer), "transformer.")
    save_file(whole | {"transformer.proj_out.alpha": torch.tensor(1.0)}, file)
    message = refusal("flux dev", file)
    assert "expected both matrices of each layer" in message and "proj_out" in message


@pytest.mark.parametrize("name", ["sd3", "sana"])
def test_scales_that_diffusers_does_not_read_are_refused(name: str, tmp_path: Path) -> None:
    matrices = layers(FAMILIES[name].build().transformer)
    file = tmp_path / "lora.safetensors"
    save_file(named(matrices, "transformer."), file)
    message = refusal(name, file)
    assert f"{len(matrices)} of {3 * len(matrices)}: " in message
    assert "multiply each lora_B by alpha / rank" in message


@pytest.mark.parametrize("name", NAMES)
def test_tensors_that_fit_no_layer_are_named(name: str, tmp_path: Path) -> None:
    matrices = layers(FAMILIES[name].build().transformer)
    whole = named(matrices, "transformer.", alpha=False)
    first = next(iter(matrices))
    deeper = first.replace(".0.", ".9.", 1)
    part = {
        **whole,
        f"transformer.{deeper}.lora_A.weight": matrices[first][0].clone(),
        f"transformer.{deeper}.lora_B.weight": matrices[first][1].clone(),
    }
    file = tmp_path / "lora.safetensors"
    cases: dict[str, tuple[dict[str, Tensor], str]] = {
        "a part": (part, f"2 of {len(part)}: {deeper}.lora_A.weight, {deeper}.lora_B.weight that"),
        "nothing": (
            {key.replace(".to_", ".of_"): value for key, value in whole.items()},
            f"{len(whole)} of {len(whole)}: ",
        ),
        "wider": (
            whole | {f"transformer.{first}.lora_A.weight": torch.ones(RANK, 999)},
            f"1 of {len(whole)}: {first}.lora_A.weight that do not",
        ),
        "half": (
            {k: v for k, v in whole.items() if k != f"transformer.{first}.lora_B.weight"},
            f"1 of {len(whole) - 1}: {first}.lora_A.weight without the other",
        ),
        "dora": (
            whole | {f"transformer.{first}.dora_scale": torch.ones(3)},
            f"1 of {len(whole) + 1}: transformer.{first}.dora_scale",
        ),
    }
    for values, expected in cases.values():
        save_file(values, file)
        assert expected in refusal(name, file)


@pytest.mark.parametrize("name", NAMES)
def test_names_without_a_converter_are_refused_with_the_way(name: str, tmp_path: Path) -> None:
    matrices = layers(FAMILIES[name].build().transformer)
    file = tmp_path / "lora.safetensors"
    save_file(named(matrices, "base_model.model.", alpha=False), file)
    assert "name the folder in which adapter_config.json" in refusal(name, file)
    foreign = {"sd3": "lora_unet_", "sana": "diffusion_model.", "flux dev": "diffusion_model."}
    save_file(named(matrices, foreign.get(name, "lora_transformer_")), file)
    refusal(name, file)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_pefts_has_the_scale_of_its_configuration(name: str, tmp_path: Path) -> None:
    transformer = FAMILIES[name].build().transformer
    matrices = layers(transformer)
    save_file(
        named(matrices, "base_model.model.", alpha=False), tmp_path / "adapter_model.safetensors"
    )
    LoraConfig(r=RANK, lora_alpha=4, target_modules=list(matrices)).save_pretrained(str(tmp_path))
    by_hand = FAMILIES[name].policy()
    for layer, (a, b) in matrices.items():
        by_hand.pipeline.transformer.get_submodule(layer).weight.data += 4 / RANK * b @ a
    ours = read_by_us(name, tmp_path)
    torch.testing.assert_close(ours, velocity(by_hand), rtol=0, atol=1e-3)
    # More layers in the configuration than in the file.
    LoraConfig(r=RANK, lora_alpha=4, target_modules=["to_q", "to_k"]).save_pretrained(str(tmp_path))
    refusal(name, tmp_path)


def test_a_folder_of_several_files_is_not_guessed_at(tmp_path: Path) -> None:
    values = named(layers(FAMILIES["sd3"].build().transformer), "transformer.", alpha=False)
    for name in ("one", "two"):
        save_file(values, tmp_path / f"{name}.safetensors")
    assert "2: one.safetensors, two.safetensors; name the file" in refusal("sd3", tmp_path)
    read_by_us("sd3", tmp_path / "two.safetensors")
    (tmp_path / "empty").mkdir()
    assert "received none" in refusal("sd3", tmp_path / "empty")
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    refusal("sd3", tmp_path / "broken.safetensors")


def unet_adapter(folder: Path) -> dict[str, Tensor]:
    pipeline = stable_diffusion()
    pipeline.unet.add_adapter(LoraConfig(r=2, lora_alpha=8, target_modules=["to_q", "to_v"]))
    values = get_peft_model_state_dict(pipeline.unet)
    type(pipeline).save_lora_weights(
        folder, unet_lora_layers={name: torch.ones_like(value) for name, value in values.items()}
    )
    return load_file(folder / WEIGHTS_NAME)


@pytest.mark.parametrize(
    ("build", "part"), [(stable_diffusion, "unet"), (lambda: stable_diffusion_3(with_t5=False), "")]
)
def test_pipelines_of_no_family_lose_no_tensor_either(
    build: Callable[[], Any], part: str, tmp_path: Path
) -> None:
    if part:
        whole = unet_adapter(tmp_path)
    else:
        matrices = layers(build().transformer)
        whole = named(matrices, "transformer.", alpha=False)
    file = tmp_path / "lora.safetensors"
    save_file(whole, file)
    PipelineSampler(build()).load_adapter(file)
    first = next(iter(whole))
    layer = first.partition(".lora")[0]
    for extra in (f"{layer}.lora_odd.weight", first.replace("0", "9", 1)):
        save_file(whole | {extra: whole[first].clone()}, file)
        with pytest.raises(AdrpoError, match=r"fit a layer|leaves out|it says"):
            PipelineSampler(build()).load_adapter(file)


def by_tensors_alone(name: str, file: Path) -> Tensor:
    """The velocity of a program that reads no header: W + B A."""
    policy = FAMILIES[name].policy()
    values = load_file(file)
    for key, a in values.items():
        if ".lora_A" in key:
            layer = key.removeprefix("transformer.").partition(".lora_A")[0]
            b = values[key.replace("lora_A", "lora_B")]
            policy.pipeline.transformer.get_submodule(layer).weight.data += b @ a
    return velocity(policy)


@pytest.mark.parametrize("name", NAMES)
def test_what_we_write_is_as_strong_for_those_who_read_no_header(name: str, tmp_path: Path) -> None:
    policy = FAMILIES[name].policy()
    policy.add_adapter(AdapterSection(rank=2, alpha=6.0))
    generator = torch.Generator().manual_seed(1)
    for parameter in policy.adapter_parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    ours, base = velocity(policy), velocity(FAMILIES[name].policy())
    policy.save_adapter(tmp_path)
    file = tmp_path / WEIGHTS_NAME
    bare = tmp_path / "bare" / WEIGHTS_NAME
    bare.parent.mkdir()
    save_file(load_file(file), bare)  # the same tensors, no header
    assert (ours - base).abs().max() > 1e-2
    for theirs in (
        by_tensors_alone(name, file),
        read_by_diffusers(name, file),
        read_by_diffusers(name, bare),
        read_by_us(name, tmp_path),
        read_by_us(name, bare),
    ):
        # Values up to about 10, in another order of float32's sums.
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=2e-4)
