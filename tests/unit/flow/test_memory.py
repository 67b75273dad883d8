"""The estimate of memory against what torch itself keeps, counts and builds."""

import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from adrpo.cli.doctor import check_recipe
from adrpo.config import AdapterSection, FlowConfig, FlowModelSection, load_flow_config
from adrpo.errors import AdrpoError
from adrpo.flow.domain import UNFETCHED
from adrpo.flow.memory.advice import memory_lines
from adrpo.flow.memory.architectures import (
    PUBLISHED,
    Architecture,
    count_parameters,
    find_architecture,
    read_architecture,
)
from adrpo.flow.memory.blocks import STACKS
from adrpo.flow.memory.estimate import (
    adapter_parameters,
    cheaper,
    estimate,
    image_tokens,
    kept_bytes,
    latent_numbers,
    text_tokens,
)
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.loading import SUPPORTED, as_policy, load_policy
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.runs.findings import Findings
from adrpo.runs.published_sizes import SCORERS
from support.tiny_editors import ALL
from support.tiny_pipelines import lumina_2

NAMES = ["embedded", *ALL]
SD3 = "stabilityai/stable-diffusion-3-medium-diffusers"
RANK = 2

Case = tuple[PipelinePolicy, Architecture, FlowConfig]


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def case(name: str, dtype: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """A policy with an adapter, and its sizes as read from its files."""
    model: dict[str, Any] = {"dtype": dtype, "device": "cpu"}
    around = ExitStack()
    if name != "embedded":
        family = ALL[name]
        folder = tmp_path_factory.mktemp("pipeline")
        pipeline = family.build()
        if type(pipeline).__name__ not in STACKS:
            pytest.skip(f"nothing says yet what {type(pipeline).__name__} keeps of a block")
        around.enter_context(family.around())
        pipeline.save_pretrained(folder)
        model |= {"pretrained": str(folder), **family.sizes}
    config = FlowConfig(
        model=FlowModelSection.model_validate(model), adapter=AdapterSection(rank=RANK, alpha=1.0)
    )
    policy = load_policy(config.model)
    policy.add_adapter(config.adapter)
    architecture = find_architecture(config.model.pretrained)
    assert architecture is not None
    with around:
        yield policy, architecture, config


def encoded(name: str, policy: PipelinePolicy, prompt: str, rows: int) -> Conditioning:
    own = ALL.get(name)
    return policy.encode([prompt] * rows) if own is None else own.encode(policy, [prompt] * rows)


def kept_by_autograd(name: str, policy: PipelinePolicy, rows: int) -> tuple[int, int]:
    """Bytes that autograd keeps of ``rows`` rows but for weights, and tokens of the prompts."""
    parts = [*policy.pipeline.transformer.parameters(), *policy.pipeline.transformer.buffers()]
    fixed = {tensor.untyped_storage().data_ptr() for tensor in parts}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in fixed and (place not in kept or kept[place].nbytes < tensor.nbytes):
            kept[place] = tensor
        return tensor

    conditioning = encoded(name, policy, "two blue birds on a wire", rows)
    x_t = torch.randn((rows, *policy.latent_shape), generator=torch.Generator().manual_seed(0))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        policy.velocity(x_t, torch.full((rows,), 0.5), conditioning)
    context = conditioning.context
    # A view, a half of a gated layer's output, say, keeps all that it is a view of.
    return sum(t.untyped_storage().nbytes() for t in kept.values()), context.shape[1]


def test_kept_bytes_are_what_autograd_keeps(name: str, case: Case):
    policy, architecture, config = case
    measured, text = kept_by_autograd(name, policy, rows=3)
    tokens = image_tokens(architecture, config)
    dtype = config.model.dtype
    expected = 3 * kept_bytes(architecture, tokens, text, dtype=dtype, rank=RANK)
    # Not in the formula: rotary tables, statistics of norms, modulation, the last block's lack of
    # a text stream. Of a real width they are hundredths; of these widths of 8 to 32 up to a fifth.
    factor = 1.05 if name == "embedded" else 1.25
    assert 1 / factor < expected / measured < factor, (expected, measured)


def test_checkpointing_keeps_the_inputs_of_the_blocks(name: str, case: Case):
    policy, architecture, config = case
    transformer = policy.pipeline.transformer
    tokens, dtype = image_tokens(architecture, config), config.model.dtype
    plain, text = kept_by_autograd(name, policy, rows=3)
    transformer.enable_gradient_checkpointing()
    try:
        inputs, _ = kept_by_autograd(name, policy, rows=3)
    finally:
        transformer.disable_gradient_checkpointing()
    arguments: dict[str, Any] = {"dtype": dtype, "rank": RANK}
    whole = kept_bytes(architecture, tokens, text, **arguments)
    estimated = 3 * kept_bytes(architecture, tokens, text, checkpointing=True, **arguments)
    assert inputs < estimated
    if name == "embedded":  # five equal blocks: their inputs, and a fifth of all
        # Half again for what each call is given beside the tokens.
        assert inputs < 1.5 * (estimated - 3 * whole / 5)
        assert inputs > (estimated - 3 * whole / 5) / 1.5
        assert estimated < plain


def test_the_adapter_is_counted_as_peft_makes_it(case: Case):
    policy, architecture, _ = case
    made = sum(parameter.numel() for parameter in policy.adapter_parameters())
    assert adapter_parameters(architecture, RANK, None) == made


def test_a_part_of_the_attention_is_counted_as_such():
    targets = ("attn.add_q_proj", "attn.to_add_out")
    policy = load_policy(FlowModelSection(device="cpu"))
    policy.add_adapter(AdapterSection(rank=3, target_modules=targets))
    architecture = find_architecture("embedded")
    assert architecture is not None
    made = sum(parameter.numel() for parameter in policy.adapter_parameters())
    assert adapter_parameters(architecture, 3, targets) == made


def test_sizes_are_those_of_the_loaded_parts(case: Case, name: str, dtype: str):
    policy, architecture, config = case
    pipeline = policy.pipeline
    for part in ("vae", "text_encoder", "text_encoder_2", "text_encoder_3"):
        module = getattr(pipeline, part, None)
        count = sum(p.numel() for p in module.parameters()) if module else 0
        # Weights that two layers share are stored once; t5's tables are.
        assert architecture.parameters.get(part, 0) == pytest.approx(count, rel=0.02), part
    if name != "z-image":
        default = as_policy(pipeline, max_sequence_length=config.model.max_sequence_length)
        assert architecture.default_side == default.height
    assert latent_numbers(architecture, config) == math.prod(policy.latent_shape)
    tokens = 3 * image_tokens(architecture, config)
    x_t = torch.zeros((3, *policy.latent_shape))
    seen = []
    lists = ("transformer_blocks", "blocks", "noise_refiner")
    transformer = pipeline.transformer
    first = next(getattr(transformer, name)[0] for name in lists if hasattr(transformer, name))
    hook = first.register_forward_pre_hook(
        lambda module, given, named: seen.append((named.get("hidden_states", *given[:1])).shape),
        with_kwargs=True,
    )
    with torch.no_grad():
        policy.velocity(x_t, torch.full((3,), 0.5), encoded(name, policy, "a cat", 3))
    hook.remove()
    assert seen[0].numel() // seen[0][-1] >= tokens
    # Z-Image pads images to a multiple of 32 tokens.
    assert seen[0].numel() // seen[0][-1] <= (tokens if name != "z-image" else 3 * 32)
    if name == "embedded":
        assert text_tokens(architecture, config) == policy.encode(["a cat"]).context.shape[1]


def on_meta(build: Any, **config: Any) -> int:
    """Numbers in its files."""
    with torch.device("meta"):
        module: nn.Module = build(**config)
    return sum(tensor.numel() for tensor in module.state_dict().values())


TRANSFORMERS = {
    "Flux2KleinPipeline": "Flux2Transformer2DModel",
    "StableDiffusion3Pipeline": "SD3Transformer2DModel",
    "FluxKontextPipeline": "FluxTransformer2DModel",
    "FluxPipeline": "FluxTransformer2DModel",
    "SanaPipeline": "SanaTransformer2DModel",
    "QwenImageEditPipeline": "QwenImageTransformer2DModel",
    "QwenImagePipeline": "QwenImageTransformer2DModel",
    "WanPipeline": "WanTransformer3DModel",
    "ZImagePipeline": "ZImageTransformer2DModel",
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_transformers_have_the_stated_size(model: str):
    """diffusers' class at the table's widths and depths, without memory for its weights."""
    architecture = PUBLISHED[model]
    build = getattr(diffusers, TRANSFORMERS[architecture.family])
    assert on_meta(build, **architecture.transformer) == architecture.parameters["transformer"]


def recipe(name: str, **model: Any) -> FlowConfig:
    config = load_flow_config(name)
    return config.model_copy(update={"model": config.model.model_copy(update=model)})


def test_sd3_medium_trains_in_less_than_20_gb():
    """2 billion parameters, 512 pixels, rank 32, a group of 8: the recipe, and without its
    checkpointing at half the micro-batch."""
    config = load_flow_config("flow/sd3-medium-adrpo")
    assert (config.model.height, config.adapter.rank) == (512, 32)
    assert config.training.samples_per_prompt == 8
    clips = [count for name, count in SCORERS.items() if "UnifiedReward" not in name]
    prompts, scorers = 250, float(sum(clips))
    assert estimate(PUBLISHED[SD3], config, prompts=prompts, scorers=scorers).total < 20e9
    training = config.training.model_copy(update={"micro_batch_size": 4})
    faster = recipe("flow/sd3-medium-adrpo", gradient_checkpointing=False)
    faster = faster.model_copy(update={"training": training})
    assert estimate(PUBLISHED[SD3], faster, prompts=prompts, scorers=scorers).total < 20e9


def test_each_advice_needs_less_or_is_not_given_first():
    config = recipe("flow/sd3-medium-adrpo", encoders="resident", gradient_checkpointing=False)
    before = estimate(PUBLISHED[SD3], config).total
    for change, cheap in cheaper(config):
        assert estimate(PUBLISHED[SD3], cheap).total <= before, change
        key, value = change.split("=")
        section, field = key.split(".")
        assert str(getattr(getattr(cheap, section), field)).lower() == value
    lines = memory_lines(config, 200, 32e9)
    assert "does not fit" in lines[0]
    assert lines[-1].startswith("first set model.encoders=released")
    # Then the update is the largest: the first change that is enough is named, not the first.
    smaller = recipe("flow/sd3-medium-adrpo", gradient_checkpointing=False)
    lines = memory_lines(smaller, 200, 22e9)
    assert lines[-1].startswith("first set model.gradient_checkpointing=true")
    assert "not enough" not in lines[-1]
    assert "not enough" in memory_lines(smaller, 200, 5e9)[-1]
    assert "fits" in memory_lines(smaller, 200, 80e9)[0]


@pytest.mark.parametrize("key", ["sampling", "evaluation.sampling", "training"])
def test_guidance_anywhere_doubles_the_rows_without_a_gradient(key: str):
    """Images are drawn with the first two, and what is trained is measured with the third."""

    def sampling(scale: float) -> float:
        config = load_flow_config("flow/adrpo", [f"{key}.guidance_scale={scale}"])
        return estimate(PUBLISHED[SD3], config).working["sampling"]

    assert sampling(2.0) == 2 * sampling(1.0)


def test_without_a_gpu_a_card_is_named():
    lines = memory_lines(load_flow_config("flow/sd3-medium-adrpo"), 200, None)
    assert "no GPU here: it needs a card of 12 GB" in lines[0]
    assert (
        "it needs a card of 40 GB"
        in memory_lines(load_flow_config("flow/flux-dev-adrpo"), 0, None)[0]
    )


@pytest.mark.parametrize(
    ("lines", "package", "finding"),
    [
        (
            "extends: flow/flux-dev-int8-adrpo",
            "torchao",
            "BROKEN  model.quantization: expected an installed torchao for int8; importing it "
            "failed (import of torchao halted; None in sys.modules): pip install torchao, or set "
            "model.quantization=null\n",
        ),
        (
            "training: {optimizer: adamw_8bit}",
            "bitsandbytes",
            "BROKEN  training.optimizer: expected an installed bitsandbytes for adamw_8bit, "
            "received none: pip install bitsandbytes, or set training.optimizer=adamw\n",
        ),
    ],
)
def test_doctor_names_the_package_that_a_setting_needs(
    lines: str,
    package: str,
    finding: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(lines, encoding="utf-8")
    monkeypatch.setitem(sys.modules, package, None)
    findings = Findings()
    check_recipe(findings, str(recipe))
    assert finding in capsys.readouterr().out and findings.broken == 1

    monkeypatch.delitem(sys.modules, package)
    (tmp_path / f"{package}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    findings = Findings()
    check_recipe(findings, str(recipe))
    page = capsys.readouterr().out
    assert f"{package} is installed" in page and findings.broken == 0, page


@pytest.mark.parametrize("name", ["sd3-medium-adrpo", "sd3-medium-dpo", "flux-dev-adrpo"])
def test_doctor_tells_without_a_download(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    findings = Findings()
    check_recipe(findings, f"flow/{name}")
    page = capsys.readouterr().out
    assert findings.broken == 0, page
    assert "drawbench:hub:train is not on this machine" in page
    config = load_flow_config(f"flow/{name}")
    prompts = 2 * UNFETCHED + config.evaluation.seen_prompts
    assert all(f"memory: {line}" in page for line in memory_lines(config, prompts, None))


def test_the_scorers_have_the_stated_sizes():
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    vision |= {"num_attention_heads": 16, "patch_size": 14}
    large = CLIPConfig(text_config=text, vision_config=vision, projection_dim=768)
    # The default is the small one.
    sizes = {"base-patch32": CLIPConfig(), "large-patch14": large}
    for name, config in sizes.items():
        assert on_meta(CLIPModel, config=config) == SCORERS[f"openai/clip-vit-{name}"]


def test_models_of_unknown_size_are_named():
    config = recipe("flow/sd3-medium-adrpo", pretrained="someone/else")
    assert memory_lines(config, 0, None)[0].startswith("unknown: someone/else")
    reward = config.reward[0].model_copy(update={"options": {"model": "someone/clip"}})
    config = load_flow_config("flow/sd3-medium-adrpo").model_copy(update={"reward": (reward,)})
    assert "not counted, of unknown size: clip_score someone/clip" in memory_lines(config, 0, None)
    # A judge that is arithmetic has no size to be unknown.
    assert "not counted" not in "\n".join(memory_lines(recipe("flow/verifiable"), 0, None))


def test_a_family_whose_blocks_are_not_counted_has_no_estimate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """What doctor says after docs/extend/add-a-model.md, whose example this is."""
    lumina_2().save_pretrained(tmp_path / "model")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"model: {{pretrained: {tmp_path / 'model'}}}", encoding="utf-8")
    findings = Findings()
    check_recipe(findings, str(recipe))
    page = capsys.readouterr().out
    line = "memory: unknown: no estimate for Lumina2Pipeline, because nothing says yet what"
    assert line in page and findings.broken == 0, page


def test_every_family_with_sizes_has_its_blocks_counted():
    assert {architecture.family for architecture in PUBLISHED.values()} == set(STACKS)
    assert set(STACKS) <= set(SUPPORTED)


def test_a_folder_without_weights_has_no_size(tmp_path: Path):
    assert read_architecture(tmp_path) is None
    assert find_architecture(str(tmp_path)) is None
    assert count_parameters(tmp_path) == 0
    with pytest.raises(AdrpoError):
        load_policy(FlowModelSection(pretrained=str(tmp_path)))
