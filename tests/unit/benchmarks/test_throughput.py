"""benchmarks/throughput.py: its sizes are the published ones, its counts have formulas."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from adrpo.config import FlowModelSection
from adrpo.flow.memory.architectures import PUBLISHED
from adrpo.flow.models.loading import load_policy

pytestmark = pytest.mark.slow

SMALL = [
    "training.prompts_per_step=1",
    "training.samples_per_prompt=3",
    "sampling.steps=2",
    "model.device=cpu",
]


@pytest.fixture
def throughput(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "benchmarks")
    import throughput

    return throughput


def run(throughput: Any, folder: Path, *arguments: str) -> dict[str, Any]:
    throughput.main(["--steps", "1", "--output", str(folder), *arguments])
    (file,) = folder.iterdir()
    return json.loads(file.read_text())


def test_the_random_model_has_the_published_size(throughput: Any) -> None:
    import random_weights

    architecture = PUBLISHED[throughput.SD3]
    with torch.device("meta"):
        parts = random_weights.random_parts(architecture, torch.bfloat16)
    for part, module in zip(("transformer", "vae"), parts, strict=True):
        assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.bfloat16}
        count = sum(tensor.numel() for tensor in module.state_dict().values())
        assert count == architecture.parameters[part]


def test_products_and_attention_are_counted_by_their_sizes(throughput: Any) -> None:
    x, weight = torch.randn(5, 7, requires_grad=True), torch.randn(3, 7, requires_grad=True)
    product = 2 * 5 * 7 * 3
    assert throughput.count_flops(lambda: linear(x, weight)) == product
    # Backward has a product for each of the two inputs.
    assert throughput.count_flops(lambda: linear(x, weight).sum().backward()) == 3 * product
    q, k = torch.randn(2, 3, 8, 4), torch.randn(2, 3, 6, 4)
    # q k and the weighted sum of values, of 2 rows and 3 heads.
    attended = throughput.count_flops(lambda: scaled_dot_product_attention(q, k, k))
    assert attended == 2 * (2 * 2 * 3 * 8 * 6 * 4)


def test_the_count_of_a_forward_pass_has_a_formula(throughput: Any) -> None:
    policy = load_policy(FlowModelSection(device="cpu"))
    transformer = policy.pipeline.transformer
    config, w = transformer.config, transformer.inner_dim
    conditioning = policy.encode(["a red circle"])
    channels, height, width = policy.latent_shape
    patch = config.patch_size
    image, text = height * width // patch**2, conditioning.context.shape[1]
    layers = config.num_layers
    # Multiplications. Of a token: q, k, v, output and an MLP of four widths; of the last block's
    # text q, k and v alone, since nothing reads it.
    blocks = layers * image * 12 * w**2 + (layers - 1) * text * 12 * w**2 + text * 3 * w**2
    attention = layers * 2 * (image + text) ** 2 * w
    # Scales, shifts and gates of a row: six each of image and text, two of the last text.
    modulation = ((2 * layers - 1) * 6 + 2) * w**2
    patches = image * channels * patch**2 * w
    prompt = text * config.joint_attention_dim * w + config.pooled_projection_dim * w + w**2
    time = 256 * w + w**2
    end = 2 * w**2 + image * w * patch**2 * config.out_channels
    x_t, t = torch.zeros(1, channels, height, width), torch.full((1,), 0.5)
    counted = throughput.count_flops(lambda: policy.velocity(x_t, t, conditioning))
    assert counted == 2 * (blocks + attention + modulation + patches + prompt + time + end)


def check_identities(result: dict[str, Any], *, guided: int, points: int) -> None:
    """What follows from the raw step, by the definitions of the page's head."""
    (step,) = result["steps"]
    flops, peak = result["flops_of_a_row"], result["device_flops_per_second"]
    assert step["samples"] == result["samples"] == 3
    drawn, learnt = 3 * guided * 2, 3 * points
    assert step["model_calls"] == drawn + step["reference_rows"] + learnt
    work = {
        "sampling": drawn * flops["forward"] + 3 * flops["decode"],
        "update": learnt * flops["update"],
    }
    work["training"] = sum(work.values()) + step["reference_rows"] * flops["reference"]
    seconds = {"sampling": "seconds_sampling", "update": "seconds_policy"}
    for part, expected in work.items():
        row = result[part]
        assert row["seconds"] == step[seconds.get(part, "seconds_step")]
        assert row["images_per_second"] * row["seconds"] == pytest.approx(3)
        assert row["utilisation"] * peak * row["seconds"] == pytest.approx(expected)
    # Frozen weights take no gradient, so that less than twice the forward pass goes back.
    assert flops["forward"] < flops["update"] < 3 * flops["forward"]


def test_the_command_at_the_embedded_size(throughput: Any, tmp_path: Path) -> None:
    result = run(throughput, tmp_path, "--model", "embedded", *SMALL)
    check_identities(result, guided=1, points=4)
    plain = load_policy(FlowModelSection(device="cpu")).pipeline
    for part in ("transformer", "vae"):
        count = sum(parameter.numel() for parameter in getattr(plain, part).parameters())
        assert result["parameters"][part] == count
    assert result["flops_of_a_row"]["reference"] == result["flops_of_a_row"]["forward"]


def test_the_command_at_a_small_sd3(
    throughput: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = PUBLISHED[throughput.SD3]
    transformer = published.transformer | {
        "num_layers": 2,
        "num_attention_heads": 2,
        "caption_projection_dim": 128,
    }
    vae = published.vae | {"block_out_channels": (32, 32, 32, 32)}
    small = replace(published, transformer=transformer, vae=vae)
    monkeypatch.setitem(throughput.PUBLISHED, throughput.SD3, small)
    settings = ["model.height=64", "model.width=64", "training.micro_batch_size=2", *SMALL]
    result = run(throughput, tmp_path, "--model", "sd3-medium", "--dtype", "bfloat16", *settings)
    assert result["gradient_checkpointing"] and result["height"] == 64
    # What checkpointing computes twice is no work of the model.
    check_identities(result, guided=2, points=1)
    flops = result["flops_of_a_row"]
    # The reference is the adapter off, which has rank (in + out) weights for each of its layers:
    # 8 of the image's 16 tokens, and 7 of the text's 333, since nothing reads the last block's.
    assert flops["forward"] - flops["reference"] == 2 * 32 * (128 + 128) * (8 * 16 + 7 * 333)
