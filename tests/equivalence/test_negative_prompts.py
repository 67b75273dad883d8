"""Negative prompts reach every guided velocity of a run, each beside its own prompt."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from adrpo.config import FlowConfig, FlowModelSection
from adrpo.data import Prompt
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.evaluation.playing import Asked
from adrpo.flow.domain import DOOR, build_trainer
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.loading import load_policy, load_with_prompts
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.path.draws import initial_noise
from support.tiny_pipelines import FAMILIES
from support.tiny_runs import darkness, tiny_config

OF_THE_RUN = "fog"
NAMES = ("cat", "dog", "owl", "fox")
OWN = {f"a {name}": f"no {name} at all" for name in NAMES[:3]}
"""Negative prompt of each prompt that has one in its row."""
METHODS: dict[str, dict[str, Any]] = {
    "adrpo": {},
    "crd": {"method": "crd"},
    "dpo": {"method": "dpo", "pairs_prompts": 4, "pairs_samples": 2},
    "flow_grpo": {"method": "flow_grpo"},
    "fdfo": {"method": "fdfo"},
}


def rows(kind: str, negative: dict[str, str]) -> str:
    """Prompts of a kind, such as "seen", the last of which has no negative prompt of its own."""
    texts = [f"a {name}" for name in NAMES]
    lines = [{"prompt": f"{text}, {kind}", "negative_prompt": negative.get(text)} for text in texts]
    return "".join(json.dumps(line) + "\n" for line in lines)


def expected_beside(prompt: str) -> str:
    return OWN.get(prompt.partition(",")[0], OF_THE_RUN)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Any]:
    """Section ``prompts`` of files of one's own."""
    found: dict[str, Any] = {"negative_prompt": OF_THE_RUN}
    for key, kind in (("train", "seen"), ("held_out", "unseen")):
        (tmp_path / f"{key}.jsonl").write_text(rows(kind, OWN))
        found[key] = str(tmp_path / f"{key}.jsonl")
    return found


def guided_config(sources: dict[str, Any], method: str = "adrpo", **sections: Any) -> FlowConfig:
    """Three steps of four prompts, with guidance everywhere."""
    return tiny_config(
        algorithm=METHODS[method],
        prompts=sources,
        sampling={"steps": 2, "guidance_scale": 2.0},
        training={
            "steps": 1, "guidance_scale": 2.0, "prompts_per_step": 4, "samples_per_prompt": 2,
        },
        evaluation={"sampling": {"steps": 1, "guidance_scale": 2.0}, "seen_prompts": 4},
        **sections,
    )  # fmt: skip


@contextmanager
def heard(policy: PipelinePolicy) -> Iterator[list[tuple[str, str]]]:
    """(prompt, what stands beside it) of each row that the network is asked for with guidance."""
    texts = [f"a {name}, {kind}" for name in NAMES for kind in ("seen", "unseen")]
    beside = [*OWN.values(), OF_THE_RUN, ""]
    known, away = (torch.cat([_context(policy, t) for t in part]) for part in (texts, beside))
    found: list[tuple[str, str]] = []
    evaluate = policy._evaluate

    def listening(x: Tensor, t: Tensor, given: Conditioning, scale: float) -> Tensor:
        if scale != 1:
            without, with_it = given.context.chunk(2)
            for row, other in zip(with_it, without, strict=True):
                found.append((texts[_nearest(row, known)], beside[_nearest(other, away)]))
        return evaluate(x, t, given, scale)

    policy._evaluate = listening  # type: ignore[method-assign]
    yield found
    policy._evaluate = evaluate  # type: ignore[method-assign]


@torch.no_grad()
def _context(policy: PipelinePolicy, text: str) -> Tensor:
    return policy._encode([text]).context


def _nearest(row: Tensor, known: Tensor) -> int:
    distances = (known - row).flatten(1).norm(dim=1)
    assert distances.min() < 1e-3 * row.norm(), "it is one of them, but for rounding"
    return int(distances.argmin())


@pytest.mark.parametrize("method", METHODS)
def test_each_guided_velocity_of_a_run_has_the_negative_prompt_of_its_row(
    method: str, sources: dict[str, Any], tmp_path: Path
):
    trainer = build_trainer(guided_config(sources, method), reward=darkness)
    with heard(trainer.policy) as found:
        trainer.train(tmp_path / "run", progress=False)
    assert {prompt for prompt, _ in found} == {
        f"a {name}, {kind}" for name in NAMES for kind in ("seen", "unseen")
    }
    assert all(beside == expected_beside(prompt) for prompt, beside in found)


def test_pairs_of_ones_own_have_negative_prompts(sources: dict[str, Any], tmp_path: Path):
    drawn = build_trainer(guided_config(sources, "dpo"), reward=darkness)
    drawn.train(tmp_path / "drawn", progress=False)
    folder = tmp_path / "drawn" / "pairs"
    lines = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    own = {line["prompt"]: line.get("negative_prompt") for line in lines}
    assert own == {f"{text}, seen": OWN.get(text) for text in (f"a {name}" for name in NAMES)}
    method = {"method": "dpo", "pairs": str(folder)}
    config = guided_config(sources).model_dump(mode="json") | {"algorithm": method}
    trainer = build_trainer(FlowConfig.model_validate(config), reward=darkness)
    trainer.train(tmp_path / "named", progress=False)
    with heard(trainer.policy) as found:
        trainer.step(2)
    assert {prompt for prompt, _ in found} <= set(own) and len(found) > 4
    assert all(beside == expected_beside(prompt) for prompt, beside in found)
    # The same pairs with another negative prompt are other inputs.
    before = trainer.inputs().train
    changed = (folder / "pairs.jsonl").read_text().replace("no cat at all", "no cats")
    (folder / "pairs.jsonl").write_text(changed)
    assert trainer.inputs().train != before


def test_a_run_goes_on_with_its_own_negative_prompts_alone(sources: dict[str, Any], tmp_path: Path):
    build_trainer(guided_config(sources), reward=darkness).train(tmp_path / "run", progress=False)
    other = build_trainer(guided_config(sources | {"negative_prompt": "mist"}), reward=darkness)
    with pytest.raises(AdrpoError, match=r"prompts\.negative_prompt='fog', but this call has 'mi"):
        other.train(tmp_path / "run", resume=True, progress=False)
    Path(sources["train"]).write_text(rows("seen", OWN | {"a cat": "no cats"}))
    changed = build_trainer(guided_config(sources), reward=darkness)
    with pytest.raises(AdrpoError, match=r"1 of 4 prompts of training differ: number 1"):
        changed.train(tmp_path / "run", resume=True, progress=False)


def test_sample_and_play_draw_what_the_pipelines_call_draws(
    sources: dict[str, Any], tmp_path: Path
):
    config = guided_config(sources)
    lines = list(DOOR.sample(config, None, [], size=4, seed=3, output_dir=tmp_path / "out"))
    assert len(lines) == 4
    ours = [np.asarray(Image.open(tmp_path / "out" / f"{n:03d}.png")).astype(int) for n in range(4)]
    family = FAMILIES["sd3"]
    prompts = [f"a {name}, unseen" for name in NAMES]
    pipeline = family.build()
    pipeline.set_progress_bar_config(disable=True)
    negative = [expected_beside(prompt) for prompt in prompts]

    def theirs(noise: Tensor, prompts: Sequence[str], **more: Any) -> Any:
        call = {"max_sequence_length": config.model.max_sequence_length, "num_inference_steps": 1}
        size = {"height": family.height, "width": family.width}
        return pipeline(
            prompt=list(prompts), guidance_scale=2.0, latents=noise, **size, **call, **more
        ).images

    shape = family.policy().latent_shape
    images = theirs(initial_noise(4, shape, 3, "sample"), prompts, negative_prompt=negative)
    # Eight bits: a level where a value is just between.
    for mine, image in zip(ours, images, strict=True):
        assert np.abs(mine - np.asarray(image).astype(int)).max() <= 1
    noise = initial_noise(1, shape, 3, "sample")
    with DOOR.player(config) as player:  # type: ignore[attr-defined]
        for prompt in (prompts[0], prompts[-1], "of the user's own"):
            away = expected_beside(prompt)
            drawn = player.base(Asked(prompt=prompt, seed=3)).sample
            (image,) = theirs(noise, [prompt], negative_prompt=[away])
            (empty,) = theirs(noise, [prompt])
            off = [
                np.abs(np.asarray(drawn).astype(int) - np.asarray(i).astype(int)).max()
                for i in (image, empty)
            ]
            assert off[0] <= 1 < off[1]


def test_cached_negative_prompts_are_those_that_were_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    family = FAMILIES["sd3"]
    family.build().save_pretrained(tmp_path / "model")
    model = FlowModelSection(
        pretrained=str(tmp_path / "model"),
        height=family.height,
        width=family.width,
        max_sequence_length=family.tokens,
        device="cpu",
    )
    prompts = [Prompt("a cat", columns={"negative_prompt": "no cat"}), Prompt("a dog")]
    texts, negative = ["a cat", "a dog"], ["no cat", None]
    resident = load_policy(model, negative_prompt=OF_THE_RUN)

    def guided(policy: PipelinePolicy, given: Conditioning) -> Tensor:
        x_t = initial_noise(2, policy.latent_shape, 0)
        with torch.no_grad():
            return policy.velocity(x_t, torch.tensor([0.2, 0.7]), given, guidance_scale=3.0)

    expected = guided(resident, resident.encode(texts, negative))
    cold = {"encoders": "released", "embedding_cache": str(tmp_path / "cache")}
    for _ in range(2):
        changed = model.model_copy(update=cold)
        policy, sets = load_with_prompts(changed, {"a": prompts}, negative_prompt=OF_THE_RUN)
        assert torch.equal(guided(policy, sets["a"].conditioning), expected)
        # The set, no prompt, that of the run, and that of the row.
        assert len(list((tmp_path / "cache").iterdir())) == 4

        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("a text encoder was loaded")

        monkeypatch.setattr(PreTrainedModel, "from_pretrained", refuse)
    with pytest.raises(AdrpoError, match=r"others, such as \['no dog'\]; set model\.encoders=resi"):
        policy.encode(texts, [None, "no dog"])
    # Another negative prompt is another file, so that the encoders are needed.
    with pytest.raises(AdrpoError, match="which can't be loaded"):
        load_with_prompts(changed, {"a": prompts}, negative_prompt="mist")


def test_a_negative_prompt_without_effect_is_told(sources: dict[str, Any]):
    off = tiny_config(prompts=sources)
    told = "prompts.negative_prompt: has no effect, since guidance is off: sampling.guidance_scale,"
    assert any(line.startswith(told) for line in off.notices())
    assert not any("negative" in line for line in guided_config(sources).notices())
    with pytest.warns(AdrpoWarning, match="column negative_prompt has no effect, since guidance"):
        build_trainer(off, reward=darkness)


@pytest.mark.parametrize("value", [3, ["fog"], {"a": "b"}])
def test_a_negative_prompt_that_is_no_text_is_refused(value: Any, sources: dict[str, Any]):
    line = json.dumps({"prompt": "a hen", "negative_prompt": value})
    Path(sources["train"]).write_text(rows("seen", OWN) + line + "\n")
    expected = r"train\.jsonl: expected a text in the column negative_prompt, .* 'a hen'"
    with pytest.raises(AdrpoError, match=expected):
        build_trainer(guided_config(sources), reward=darkness)
