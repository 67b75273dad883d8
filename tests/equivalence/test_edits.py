"""Edits: the picture of a prompt's row reaches the network, the cache and the rewards."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from adrpo.config import FlowConfig, FlowModelSection, RewardTermSection, SamplingSection
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.evaluation.playing import Asked
from adrpo.flow.domain import DOOR, build_trainer
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.loading import as_policy, load_policy, load_with_prompts
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.originals import Original
from adrpo.flow.path.draws import initial_noise
from adrpo.flow.run_prompts import load_texts
from adrpo.report import write_report
from adrpo.runs.directory import RunDirectory
from adrpo.runs.findings import Findings
from support.command_line import Command
from support.family import Family, edit_file, original_of
from support.tiny_autoencoders import kl_autoencoder
from support.tiny_editors import EDITORS
from support.tiny_runs import (
    adapter_bytes,
    darkness,
    metrics_without_timings,
    random_sd3,
    tiny_config,
    whole_and_resumed,
)

KONTEXT = "flux kontext"
SEEN, UNSEEN = ("a cat", "two owls", "a cat", "fog"), ("a dog", "snow")
"""Words of prompts; two of the first are the same, of two pictures."""


@pytest.fixture(params=list(EDITORS), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def family(name: str) -> Iterator[Family]:
    with EDITORS[name].around():
        yield EDITORS[name]


@pytest.fixture(scope="module")
def base(family: Family) -> PipelinePolicy:
    """The policy without an adapter; tests leave it as it is."""
    return family.policy()


@pytest.fixture(scope="module")
def model(family: Family, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Section ``model`` of the family's files."""
    folder = tmp_path_factory.mktemp("model")
    family.build().save_pretrained(folder)
    return {"pretrained": str(folder), "device": "cpu", **family.sizes}


def edits(prompts: tuple[str, ...], folder: Path, name: str, **columns: Any) -> str:
    """A file of prompts whose originals differ, also where the words are the same."""
    path = edit_file(folder / f"{name}.jsonl", [f"{p} {n}" for n, p in enumerate(prompts)])
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    for n, (line, prompt) in enumerate(zip(lines, prompts, strict=True)):
        line |= {"prompt": prompt} | {key: values[n] for key, values in columns.items()}
    Path(path).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def edit_config(folder: Path, model: dict[str, Any], **sections: Any) -> FlowConfig:
    prompts = {
        "train": edits(SEEN, folder / "data", "train"),
        "held_out": edits(UNSEEN, folder / "data", "held_out"),
    }
    return tiny_config(
        **{"model": model, "prompts": prompts, "adapter": {"rank": 2, "target_modules": None}}
        | sections
    )


def pixels(image: Any) -> np.ndarray:
    return np.asarray(image, dtype=np.int32)


def velocity(
    policy: PipelinePolicy,
    given: Conditioning,
    scale: float = 1.0,
    shape: tuple[int, ...] | None = None,
) -> Tensor:
    x_t = initial_noise(len(given), shape or policy.latent_shape, 0)
    times = torch.linspace(0.2, 0.7, len(given))
    with torch.no_grad():
        return policy.velocity(x_t, times, given, guidance_scale=scale)


def test_kontext_draws_what_the_pipelines_plain_call_draws_at_a_megapixel() -> None:
    """No argument of the call but the size and the picture as its file has it, of another size."""
    pipeline = EDITORS[KONTEXT].build()
    # As many pixels a token as make a thousand tokens of it, and the schedule for so many.
    parts = pipeline.components | {
        "vae": kl_autoencoder(halvings=4),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    }
    pipeline = FluxKontextPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    picture = original_of("a river", width=61, height=60)
    size = {"height": 1024, "width": 1024, "max_sequence_length": 32}
    policy = as_policy(pipeline, **size)
    x_0 = torch.randn((1, *policy.latent_shape), generator=torch.Generator().manual_seed(7))
    given = policy.encode(["a cat"], originals=[Original(picture, None, None)])
    sampling = SamplingSection(steps=2, guidance_scale=3.5)
    (ours,) = policy.decode(policy.sample(x_0, given, sampling))
    (theirs,) = pipeline(
        image=picture,
        prompt="a cat",
        **size,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(7),
    ).images
    # Eight bits: a level where a value is just between.
    assert np.abs(pixels(ours) - pixels(theirs)).max() <= 1
    assert pixels(theirs).std() > 5


def test_words_and_original_are_both_seen(family: Family, base: PipelinePolicy) -> None:
    def given(words: str, picture: str) -> Tensor:
        original = Original(original_of(picture), None, None)
        return velocity(base, base.encode([words], originals=[original]))

    v = given("a cat", "one")
    assert torch.equal(given("a cat", "one"), v)
    # Above what parity allows (test_families.py): 1e-4.
    assert (given("a cat", "another") - v).abs().max() > 2e-3
    assert (given("two owls", "one") - v).abs().max() > 2e-3


def test_an_edit_is_the_same_beside_another_size(family: Family, base: PipelinePolicy) -> None:
    """Zeros behind the tokens of its original are cut off."""
    asked = [
        ("a cat", Original(original_of("one"), None, None)),
        ("two owls", Original(original_of("another", 24, 32), 2 * family.height, None)),
    ]
    both = base.encode([words for words, _ in asked], originals=[own for _, own in asked])
    alone = [base.encode([words], originals=[own]) for words, own in asked]
    counts = [given.original.shape[1] for given in alone]
    assert min(counts) < max(counts) == both.original.shape[1]
    for row, ((_, own), given) in enumerate(zip(asked, alone, strict=True)):
        rows, shape = torch.tensor([row]), base.shape_of(own.height, own.width)
        for scale in (1.0, 3.0):
            # float32 in a batch of another size, as in test_families.py.
            together = velocity(base, both.select(rows), scale, shape)
            single = velocity(base, given, scale, shape)
            torch.testing.assert_close(together, single, rtol=0, atol=1e-4)


def test_embeddings_are_known_by_the_pictures_content(
    family: Family, model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = {"encoders": "released", "embedding_cache": str(tmp_path / "cache")}
    section = FlowModelSection.model_validate(model | cold)
    loaded: list[type] = []
    kept = PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def counted(kind: type, *args: Any, **kwargs: Any) -> Any:
        loaded.append(kind)
        return kept(kind, *args, **kwargs)

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(counted))

    def encoded(folder: Path, section: FlowModelSection = section) -> tuple[Conditioning, bool]:
        loaded.clear()
        prompts = load_texts(str(folder / "train.jsonl"), size=4, seed=0)
        found = load_with_prompts(section, {"train": prompts})[1]["train"].conditioning
        return found, bool(loaded)

    edits(SEEN, tmp_path / "here", "train")
    first, fresh = encoded(tmp_path / "here")
    assert fresh
    resident = load_policy(FlowModelSection.model_validate(model))
    prompts = load_texts(str(tmp_path / "here" / "train.jsonl"), size=4, seed=0)
    originals = [Original(prompt.columns["image"], None, None) for prompt in prompts]
    expected = resident.encode([prompt.text for prompt in prompts], originals=originals)
    assert vars(first).keys() == vars(expected).keys()
    assert all(torch.equal(vars(first)[key], vars(expected)[key]) for key in vars(first))
    # Elsewhere the pictures are the same.
    shutil.move(tmp_path / "here", tmp_path / "there")
    again, fresh = encoded(tmp_path / "there")
    assert not fresh
    assert all(torch.equal(vars(first)[key], vars(again)[key]) for key in vars(first))
    # Another size of the run, and another picture under the name of one, are not.
    larger = section.model_copy(update={"height": 2 * family.height})
    with pytest.warns(AdrpoWarning, match=r"4 of 4 pictures .* other proportions .* from 30x19 to"):
        assert encoded(tmp_path / "there", larger)[1]
    original_of("another").save(tmp_path / "there" / "train-1.png")
    changed, fresh = encoded(tmp_path / "there")
    assert fresh
    same = [torch.equal(a, b) for a, b in zip(first.original, changed.original, strict=True)]
    assert same == [True, False, True, True]


def test_rewards_are_given_the_picture_of_each_prompts_row(
    model: dict[str, Any], tmp_path: Path
) -> None:
    found: dict[str, set[bytes]] = {}

    def kept(prompts: list[str], images: list[Any], image: list[Any], **_: Any) -> list[Any]:
        for prompt, own in zip(prompts, image, strict=True):
            assert own.mode == "RGB" and own.size == (30, 19)
            found.setdefault(prompt, set()).add(own.tobytes())
            own.paste(0, (0, 0, *own.size))  # what a reward does to its copy is its own affair
        return darkness(prompts, images)

    async def awaited(image: list[Any], **_: Any) -> list[Any]:
        return [float(np.asarray(own).mean()) for own in image]

    config = edit_config(tmp_path, model, training={"steps": 2, "prompts_per_step": 4})
    build_trainer(config, reward=kept).train(tmp_path / "run", progress=False)
    expected: dict[str, set[bytes]] = {}
    for texts in (SEEN, UNSEEN):
        for number, text in enumerate(texts):
            expected.setdefault(text, set()).add(original_of(f"{text} {number}").tobytes())
    assert found == expected
    build_trainer(config, reward=awaited).step(1)
    with DOOR.player(config) as player:  # type: ignore[attr-defined]
        player.reward = build_trainer(config, reward=kept).reward
        found.clear()
        played = player.base(Asked(prompt="a dog", seed=3))
        assert found == {"a dog": expected["a dog"]} and not played.errors
        with pytest.raises(AdrpoError, match=r"a picture in the column image for .* 'of no file'"):
            player.base(Asked(prompt="of no file"))


@pytest.mark.filterwarnings("ignore:prompts. 2 of 4 pictures")  # stretched, as told elsewhere
def test_a_run_goes_on_bit_for_bit(model: dict[str, Any], tmp_path: Path) -> None:
    """Of two sizes, each step of one."""
    config = edit_config(tmp_path, model, training={"prompts_per_step": 1})
    larger = 2 * model["height"]
    edits(SEEN, tmp_path / "data", "train", height=[None, larger, None, larger])
    whole_and_resumed(config, darkness, tmp_path)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    rows = metrics_without_timings(whole)
    assert rows == metrics_without_timings(stopped)
    assert adapter_bytes(whole) == adapter_bytes(stopped)
    assert all(row["grad_norm"] > 0 for row in rows) and rows[-1]["divergence"] > 0
    # The report has the originals beside the edits of the held-out prompts.
    for place, text in enumerate(UNSEEN):
        with Image.open(whole / "samples" / "originals" / f"{place:02d}.png") as kept:
            assert kept.tobytes() == original_of(f"{text} {place}").tobytes()
    page = write_report(whole).read_text()
    assert page.count("<h3>Original</h3>") == len(UNSEEN)
    # Other pictures under the same names are other prompts.
    original_of("another").save(tmp_path / "data" / "train-2.png")
    with pytest.raises(AdrpoError, match="1 of 4 prompts of training differ: number 3"):
        build_trainer(config, reward=darkness).train(whole, resume=True, progress=False)


def test_sample_and_evaluate_draw_what_the_pipelines_call_draws(
    family: Family,
    model: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = edit_config(tmp_path, model)
    config = config.model_copy(update={"reward": (RewardTermSection(name="jpeg_size"),)})
    run = build_trainer(config).train(tmp_path / "run", progress=False)
    monkeypatch.chdir(tmp_path / "data")  # the run's own copy knows where its pictures lie
    command = Command(monkeypatch, capsys)
    assert command("sample", str(run), "--output-dir", "out", "--seed", "3") == 0
    ours = [pixels(Image.open(f"out/{n:03d}.png")) for n in range(len(UNSEEN))]
    pipeline = family.build()
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(run / "final")
    shape = family.policy().latent_shape
    packed = pipeline._pack_latents(noise := initial_noise(2, shape, 3, "sample"), *noise.shape)
    theirs = family.call(
        pipeline, list(UNSEEN), 1.0, num_inference_steps=2, latents=packed,
        originals=[f"{text} {n}" for n, text in enumerate(UNSEEN)],
    )  # fmt: skip
    for mine, other in zip(ours, theirs, strict=True):
        assert np.abs(mine - pixels(other)).max() <= 1
    assert command("evaluate", str(run), "--output-dir", str(tmp_path / "again")) == 0
    last, again = (
        json.loads((folder / "evaluations.jsonl").read_text().splitlines()[-1])
        for folder in (run, tmp_path / "again")
    )
    assert again["reward"] == pytest.approx(last["reward"], rel=1e-3)
    assert command("sample", str(run), "--prompt", "of no file") == 2
    assert "a picture in the column image" in command.err and "Traceback" not in command.err


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({"image": None}, r"expected a picture in the column image for \w+, .* 'a hen'"),
    "blank": ({"image": " "}, r"expected a picture in the column image for \w+, .* 'a hen'"),
    "missing": ({"image": "no.png"}, r"can be read in the column image; received /.*/no\.png \(No"),
    "text": ({"image": "data.jsonl"}, r"can be read in the column image; received .*data\.jsonl"),
    "folder": ({"image": "."}, r"can be read in the column image; received /.* \(Is a dir"),
    "cut": ({"image": "cut.png"}, r"can be read in the column image; received .*cut\.png"),
    "number": ({"image": 3}, r"can be read in the column image; received 3 \(neither a path nor"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_picture_that_cannot_be_edited_is_named_before_a_model_is_loaded(
    mistake: str, model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields, expected = MISTAKES[mistake]
    config = edit_config(tmp_path, model)
    file = Path(config.prompts.train)
    (file.parent / "data.jsonl").write_text("{}")
    (file.parent / "cut.png").write_bytes((file.parent / "train-0.png").read_bytes()[:600])
    file.write_text(json.dumps({"prompt": "a hen"} | fields) + "\n")
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda *_, **__: pytest.fail())
    with pytest.raises(AdrpoError, match=expected) as caught:
        build_trainer(config, reward=darkness)
    assert "\n" not in str(caught.value)
    findings = Findings()
    DOOR.check(findings, config)
    assert findings.broken


def test_what_edits_nothing_gives_pictures_to_rewards_alone(tmp_path: Path) -> None:
    given: list[Any] = []

    def seen(prompts: list[str], images: list[Any], image: list[Any], **_: Any) -> Any:
        given.extend(image)
        return darkness(prompts, images)

    expected = "the column image has no effect on StableDiffusion3Pipeline, which edits no picture"
    config = edit_config(tmp_path, random_sd3())
    with pytest.warns(AdrpoWarning, match=expected):
        trainer = build_trainer(config, reward=seen)
    trainer.prepare(RunDirectory.create(tmp_path / "run", "domain: flow\n"))
    trainer.step(1)
    assert given and all(isinstance(picture, Image.Image) for picture in given)
    findings = Findings()
    with pytest.warns(AdrpoWarning, match=expected):
        DOOR.check(findings, config)
    assert not findings.broken


def test_dpo_edits_nothing(
    model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda *_, **__: pytest.fail())
    dpo = edit_config(tmp_path, model, algorithm={"method": "dpo"})
    with pytest.raises(AdrpoError, match=r"algorithm\.method: .* edits pictures; received dpo"):
        build_trainer(dpo, reward=darkness)


def test_one_instruction_for_two_pictures_is_two_prompts(
    model: dict[str, Any], tmp_path: Path
) -> None:
    config = edit_config(tmp_path, model)
    held_out = edits(("a cat", "snow"), tmp_path / "data", "held_out")
    build_trainer(config, reward=darkness)
    # The same picture under another name, and words that differ in case.
    shutil.copy(tmp_path / "data" / "train-0.png", tmp_path / "data" / "held_out-0.png")
    line = json.dumps({"prompt": "A cat", "image": "held_out-0.png"})
    Path(held_out).write_text(line + "\n")
    with pytest.raises(AdrpoError, match="1 of 1 held-out prompts are trained on, too"):
        build_trainer(config, reward=darkness).train(tmp_path / "run", progress=False)
