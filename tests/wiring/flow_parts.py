"""The keys of the domain flow that the loaded model and the prompts show."""

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from adrpo.config import AdapterSection, FlowModelSection
from adrpo.flow.models.families.stable_diffusion_3 import StableDiffusion3Policy
from adrpo.flow.models.loading import load_policy
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from support.tiny_pipelines import FAMILIES
from wiring.adamw import distance
from wiring.flow_steps import unchanged
from wiring.image_steps import WatchedTrainer, image_config, same
from wiring.table import Elsewhere, Seen, Table

PROMPTS = ["a red circle", "two blue stars", "a green cross"]


def policy(**model: Any) -> PipelinePolicy:
    return load_policy(FlowModelSection.model_validate({"device": "cpu", **model}))


@cache
def own_pipeline(folder: Path) -> Path:
    """A pipeline with a T5 encoder, saved as a user has it."""
    FAMILIES["sd3"].build().save_pretrained(folder / "pipeline")
    return folder / "pipeline"


def of_points(one: PipelinePolicy) -> torch.Tensor:
    """v at three points of the path."""
    x_t = torch.randn((3, *one.latent_shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return one.velocity(x_t, torch.tensor([0.2, 0.5, 0.9]), one.encode(PROMPTS))


# --- the model ---


def loads_this_model(folder: Path, value: str) -> None:
    size = {"height": 16, "width": 24, "max_sequence_length": 32}
    ours = policy(pretrained=str(own_pipeline(folder)), **size)
    assert (folder / value).is_dir()
    torch.testing.assert_close(of_points(ours), of_points(FAMILIES["sd3"].policy()))


def holds_its_weights_in(_: Path, value: str) -> None:
    """The base's weights are rounded to the type; the adapter is float32."""
    small, exact = policy(dtype=value), policy()
    small.add_adapter(AdapterSection(rank=2))
    weights = dict(exact.pipeline.transformer.named_parameters())
    for name, weight in small.pipeline.transformer.named_parameters():
        if "lora" in name:
            assert weight.dtype == torch.float32
        else:
            rounded = weights[name.replace(".base_layer", "")].to(getattr(torch, value))
            assert torch.equal(weight, rounded)
    assert 1e-4 < distance(of_points(small), of_points(exact)) < 0.05


def computes_blocks_twice(_: Path, value: bool) -> None:
    """Once in the forward pass and again in the backward one, with the same gradients."""
    watched = WatchedTrainer(image_config(model={"gradient_checkpointing": value}))
    block = watched.policy.pipeline.transformer.transformer_blocks[0]
    calls: list[None] = []
    block.register_forward_pre_hook(lambda *_: calls.append(None))
    step = watched.step(1)
    plain = unchanged()[1][0]
    evaluations = len(step.calls) + 2 * len(step.drawn)
    assert len(calls) == evaluations + len(step.policy_calls)
    assert distance(step.updates[0].gradient, plain.updates[0].gradient) < 1e-4


def runs_on(_: Path, value: str) -> None:
    """Also where there is a GPU, which "auto" would take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        assert policy(device=value).device == torch.device(value)


def has_so_many_tokens(folder: Path, value: int) -> None:
    """CLIP's 77 tokens stand before those of T5."""
    own = str(own_pipeline(folder))
    short, default = policy(pretrained=own, max_sequence_length=value), policy(pretrained=own)
    tokens = [one.encode(PROMPTS).context.shape[1] for one in (short, default)]
    assert tokens[1] - tokens[0] == default.tokens - value
    assert default.tokens != value


def has_the_size(axis: int) -> Callable[[Path, int], None]:
    def effect(_: Path, value: int) -> None:
        key = ("width", "height")[axis]
        one = policy(**{key: value})
        (image,) = one.decode(torch.randn((1, *one.latent_shape)))
        (default,) = policy().decode(torch.randn((1, *policy().latent_shape)))
        assert image is not None and default is not None
        assert image.size[axis] == value != default.size[axis]
        assert image.size[1 - axis] == default.size[1 - axis]

    return effect


def keeps_embeddings(folder: Path, value: str) -> None:
    """The second time no prompt is encoded."""
    first = policy(embedding_cache=str(folder / value)).encode(PROMPTS)
    assert list((folder / value).rglob("*.safetensors"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(StableDiffusion3Policy, "_encode")
        patch.setattr(StableDiffusion3Policy, "__abstractmethods__", frozenset())
        again = policy(embedding_cache=str(folder / value)).encode(PROMPTS)
    assert same(again, first)


def releases_its_encoders(_: Path, value: str) -> None:
    watched = WatchedTrainer(image_config(model={"encoders": value}))
    plain, made = unchanged()
    assert not watched.policy.encoders and plain.policy.encoders
    assert distance(watched.step(1).x_1, made[0].x_1) < 1e-4


def encodes_so_many_at_once(_: Path, value: int) -> None:
    sizes: list[int] = []
    encode = StableDiffusion3Policy._encode

    def heard(self: StableDiffusion3Policy, prompts: list[str]) -> Any:
        sizes.append(len(prompts))
        return encode(self, prompts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StableDiffusion3Policy, "_encode", heard)
        one = policy(encoder_batch_size=value)
        sizes.clear()  # of the empty prompt
        one.encode(PROMPTS)
        assert sizes == [value, len(PROMPTS) - value]


def decodes_one_by_one(_: Path, value: bool) -> None:
    one = policy(vae_slicing=value)
    sizes: list[int] = []
    decoder = one.pipeline.vae.decoder
    decoder.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    one.decode(torch.randn((3, *one.latent_shape)))
    assert sizes == [1, 1, 1]


# --- prompts ---


def written(folder: Path, name: str, count: int) -> tuple[str, set[str]]:
    texts = [f"{name} picture {number}" for number in range(count)]
    (folder / f"{name}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return str(folder / f"{name}.txt"), set(texts)


def evaluated(watched: WatchedTrainer) -> set[str]:
    """The prompts that an evaluation has images of."""
    drawing = watched.trainer.evaluator.drawing
    return set(drawing.columns(drawing.draw())["prompts"])


def trains_on_this_file(folder: Path, value: str) -> None:
    path, texts = written(folder, value, 4)
    watched = WatchedTrainer(image_config(prompts={"train": path}))
    # Two steps of two prompts are all of them.
    assert set(watched.step(1).prompts) | set(watched.step(2).prompts) == texts
    assert not evaluated(watched) & texts


def is_evaluated_on_this_file(folder: Path, value: str) -> None:
    path, texts = written(folder, value, 3)
    watched = WatchedTrainer(image_config(prompts={"held_out": path}))
    assert evaluated(watched) == texts
    assert not set(watched.step(1).prompts) & texts


def trains_on_so_many(_: Path, value: int) -> None:
    watched = WatchedTrainer(image_config(prompts={"train_size": value}))
    epoch = [text for n in range(1, 1 + value // 2) for text in watched.step(n).prompts]
    assert len(set(epoch)) == value
    assert set(watched.step(1 + value // 2).prompts) <= set(epoch)


def is_evaluated_on_so_many(_: Path, value: int) -> None:
    watched = WatchedTrainer(image_config(prompts={"held_out_size": value}))
    assert len(evaluated(watched)) == value


def leads_away_from(_: Path, value: str) -> None:
    """Guidance by hand, with the velocity at the negative prompt in the place of no prompt."""
    watched = WatchedTrainer(
        image_config(prompts={"negative_prompt": value}, training={"guidance_scale": 3.0})
    )
    step = watched.step(1)
    policy = watched.policy
    for call in step.policy_calls:
        asked = dataclasses.replace(call, conditioning=policy.encode([value] * len(call.t)))
        given, away = (
            watched.velocity(one, step.begin, guidance_scale=1.0) for one in (call, asked)
        )
        assert distance(call.v.detach(), away + 3 * (given - away)) < 1e-4
        nobody = dataclasses.replace(call, conditioning=policy.encode([""] * len(call.t)))
        empty = watched.velocity(nobody, step.begin, guidance_scale=1.0)
        assert distance(empty, away) > 1e-3


PARTS: Table = {
    "model.pretrained": Seen("pipeline", loads_this_model),
    "model.dtype": Seen("bfloat16", holds_its_weights_in),
    "model.gradient_checkpointing": Seen(True, computes_blocks_twice),
    "model.device": Seen("cpu", runs_on),
    "model.max_sequence_length": Seen(64, has_so_many_tokens),
    "model.height": Seen(32, has_the_size(1)),
    "model.width": Seen(32, has_the_size(0)),
    "model.embedding_cache": Seen("cache", keeps_embeddings),
    "model.encoders": Seen("released", releases_its_encoders),
    "model.encoder_batch_size": Seen(2, encodes_so_many_at_once),
    "model.vae_tiling": Elsewhere(
        (
            "tests/equivalence/test_memory_settings.py::"
            "test_the_configuration_switches_each_setting_on",
        )
    ),
    "model.vae_slicing": Seen(True, decodes_one_by_one),
    "model.quantization": Elsewhere(
        ("tests/equivalence/test_quantized_base.py::test_each_weight_is_within_a_level_of_its_own",)
    ),
    "model.compile": Elsewhere(
        ("tests/equivalence/test_compiled.py::test_the_configuration_compiles",)
    ),
    "prompts.train": Seen("train", trains_on_this_file),
    "prompts.held_out": Seen("held_out", is_evaluated_on_this_file),
    "prompts.train_size": Seen(4, trains_on_so_many),
    "prompts.held_out_size": Seen(3, is_evaluated_on_so_many),
    "prompts.negative_prompt": Seen("a blue star", leads_away_from),
}
"""Effects are given a folder of their own."""
