"""What is no number never becomes a valid value: such a sample has no score, and is counted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from adrpo.data.base import Prompt
from adrpo.errors import AdrpoError
from adrpo.evaluation.evaluator import Evaluator
from adrpo.flow.domain import build_trainer
from adrpo.flow.drawing import ImageDrawing
from adrpo.flow.models.families.stable_diffusion_3 import StableDiffusion3Policy
from adrpo.flow.models.pipeline_sampler import PipelineSampler
from adrpo.flow.training import adrpo
from adrpo.flow.training.loop import TrainingLoop
from adrpo.rewards import RewardTerm
from adrpo.rewards.scoring import NO_IMAGE, score
from adrpo.runs.directory import RunDirectory
from support.command_line import Command
from support.tiny_runs import darkness, tiny_config

NAN, INF = float("nan"), float("inf")
METHODS = ["adrpo", "diffusion_nft", "flow_grpo", "fdfo"]


def trainer_of(method: str = "adrpo", **training: Any) -> TrainingLoop:
    # Six samples a step; FDFO draws pairs.
    shape = {"prompts_per_step": 3, "samples_per_prompt": 2} if method == "fdfo" else {}
    config = tiny_config(
        model={"device": "cpu"},
        algorithm={"method": method},
        training={"micro_batch_size": 2, **shape, **training},
    )
    return build_trainer(config, reward=darkness)


def spoil(
    monkeypatch: pytest.MonkeyPatch, which: Callable[[int], bool], value: float = NAN
) -> None:
    """Put ``value`` into one pixel of the images ``which``, counted from the first decoded one."""
    own, drawn = StableDiffusion3Policy._to_pixels, 0

    def spoiled(policy: StableDiffusion3Policy, x_1: Tensor) -> Tensor:
        nonlocal drawn
        pixels = own(policy, x_1).clone()
        for row in range(len(pixels)):
            if which(drawn + row):
                pixels[row, 1, 2, 3] = value
        drawn += len(pixels)
        return pixels

    monkeypatch.setattr(StableDiffusion3Policy, "_to_pixels", spoiled)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_pixels_that_are_not_finite_are_no_image(
    monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    policy: Any = trainer_of().policy
    x_1 = torch.randn((3, *policy.latent_shape), generator=torch.Generator().manual_seed(0))
    expected = policy.decode(x_1)
    spoil(monkeypatch, lambda image: image == 1, value)
    first, none, last = policy.decode(x_1)
    assert none is None
    assert (first.tobytes(), last.tobytes()) == (expected[0].tobytes(), expected[2].tobytes())
    # An autoencoder that bounds its pixels gives some for latents that are none.
    monkeypatch.setattr(StableDiffusion3Policy, "_to_pixels", lambda self, x_1: x_1[:, :3] * 0)
    x_1[:, :3], x_1[2, 3] = 0, value
    assert [image is None for image in policy.decode(x_1)] == [False, False, True]


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_without_an_image_has_no_score(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    trainer = trainer_of(method)
    whole = trainer.step(1)
    asked: list[int] = []

    def counted(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
        asked.append(len(images))
        return darkness(prompts, images)

    trainer.reward = [RewardTerm("reward", 1.0, counted)]
    spoil(monkeypatch, lambda image: image in (0, 4))
    row = trainer.step(2)
    assert (whole["samples_excluded"], row["samples_excluded"], row["samples"]) == (0, 2, 6)
    assert asked == [4]
    assert row["reward_error"] == NO_IMAGE
    assert np.isfinite([row["loss"], row["grad_norm"], row["reward_mean"]]).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_whose_latents_are_not_finite_takes_no_part_in_the_update(method: str) -> None:
    """As the weights 0 have it: the others' gradient stays, divided by all samples of the step."""
    trainer: Any = trainer_of(method)
    own = trainer.rollout_noise

    def spoiled(step: int) -> Tensor:
        x_0 = own(step).clone()
        x_0[3] = NAN
        return x_0

    trainer.rollout_noise = spoiled
    for step in (1, 2):
        row = trainer.step(step)
        assert row["samples_excluded"] == 1
        assert np.isfinite([row["loss"], row["grad_norm"], row["divergence"]]).all()
        assert row["grad_norm"] > 0
    trainer.rollout_noise = lambda step: own(step) * NAN
    with pytest.raises(AdrpoError, match="expected finite samples; the policy drew NaN"):
        trainer.step(3)


def test_the_rows_of_a_sample_that_is_not_finite_weigh_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of them, at each of its times, and no row of another sample."""
    trainer: Any = trainer_of("diffusion_nft", timesteps_per_sample=2)
    own, batches = adrpo.accumulate_gradient, []

    def kept(velocity: Any, anchor: Any, method: Any, batch: Any, **more: Any) -> Any:
        batches.append(batch)
        return own(velocity, anchor, method, batch, **more)

    monkeypatch.setattr(adrpo, "accumulate_gradient", kept)
    noise = trainer.rollout_noise(1).clone()
    noise[3] = NAN
    trainer.rollout_noise = lambda step: noise
    row = trainer.step(1)
    (batch,) = batches
    assert (~batch.weights.taken).nonzero().flatten().tolist() == [6, 7]
    assert batch.weights.weight[6:8].tolist() == [0, 0]
    assert row["reference_rows"] == 10


def test_a_step_without_any_image_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trainer, begun = trainer_of(), []
    own = trainer.step

    def step(number: int) -> dict[str, Any]:
        begun.append(number)
        return own(number)

    monkeypatch.setattr(trainer, "step", step)
    spoil(monkeypatch, lambda _: bool(begun))
    with pytest.raises(AdrpoError, match="step 1: the reward scored none of 6 samples") as caught:
        trainer.train(tmp_path / "run", progress=False)
    assert NO_IMAGE in str(caught.value)
    assert "\n" not in str(caught.value)


def evaluator() -> Evaluator[Any]:
    return trainer_of().evaluator


def test_an_evaluation_leaves_out_a_prompt_with_a_missing_image_and_counts_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of four prompts with two images each, the third has one: its values are nobody's."""
    expected = evaluator().measure().values
    found = evaluator()  # loading decodes, too
    spoil(monkeypatch, lambda image: image == 5)
    run = RunDirectory.create(tmp_path / "run", "")
    measured = found.measure(before_training=True)
    row = found.record(run, 0, measured)
    assert row["samples_excluded"] == 1
    for name, values in measured.values.items():
        others = [0, 1, 3]
        # A scorer meets one image less: another batch, so another kernel and the last digits.
        np.testing.assert_allclose(
            values[others], expected[name][others], rtol=1e-5, atol=1e-5, err_msg=name
        )
        if name not in ("divergence", "velocity_norm_ratio"):  # of latents, which are there
            assert np.isnan(values[2].reshape(-1)[-1]), name
    reward = measured.values["reward"][[0, 1, 3]]
    assert row["reward"] == pytest.approx(reward.mean())
    crossed = np.asarray(Image.open(run.samples / "base" / "02-1.png"))
    assert (crossed == (255, 0, 0)).all(axis=-1).any()


def test_an_evaluation_without_any_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = evaluator()
    spoil(monkeypatch, lambda _: True)
    with pytest.raises(AdrpoError, match="no score, and an image has pixels that are not finite"):
        found.measure()


def test_an_evaluation_without_any_finite_distance_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = evaluator()
    both = ImageDrawing._against_the_base

    def spoiled(self: ImageDrawing, policy: Any, x_1: Tensor) -> tuple[Tensor, Tensor]:
        divergence, ratio = both(self, policy, x_1)
        return divergence * torch.tensor(factors), ratio

    monkeypatch.setattr(ImageDrawing, "_against_the_base", spoiled)
    factors = [NAN] + [1.0] * 7
    assert found._excluded(found.measure().values) == 1
    factors = [NAN] * 8
    with pytest.raises(AdrpoError, match="expected a finite divergence of at least one of 8"):
        found.measure()


# --- the command, other pipelines, what is encoded, what a reward returns ---


def test_sample_writes_no_picture_of_what_is_none(
    monkeypatch: pytest.MonkeyPatch, command: Command, tmp_path: Path
) -> None:
    asked = ["sample", "embedded", "-p", "a red circle", "-p", "a blue square", "--steps", "2"]
    # The first is decoded as the model is loaded.
    spoil(monkeypatch, lambda image: image != 2)
    assert command(*asked, "--output-dir", "one") == 0
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["001.png"]
    assert "(no picture: its pixels are not finite)  a red circle" in command.out
    assert command(*asked, "--output-dir", "none") == 2
    assert "expected finite pixels, received NaN or infinity in all 2 pictures" in command.err
    assert not (tmp_path / "none").exists()


class Painter:
    """A pipeline of no family, whose second image has a NaN."""

    device = torch.device("cpu")

    def __call__(
        self, prompt: list[str], num_inference_steps: int, guidance_scale: float,
        generator: list[Any], output_type: str = "pil",
    ) -> Any:  # fmt: skip
        assert output_type == "np"
        pixels = np.full((len(prompt), 4, 4, 3), 0.5, dtype=np.float32)
        pixels[1, 0, 0, 0] = NAN
        return type("Output", (), {"images": pixels})()


def test_another_pipelines_pixels_are_looked_at_too() -> None:
    sampler = PipelineSampler(Painter())
    x_1 = sampler.sample(torch.zeros(3, 2), sampler.encode(["a"] * 3), tiny_config().sampling)
    first, none, last = sampler.decode(x_1)
    assert none is None
    assert first is not None and last is not None
    assert np.unique(np.asarray(first)) == np.unique(np.asarray(last)) == 128


def test_what_is_encoded_is_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    policy: Any = trainer_of().policy
    own = StableDiffusion3Policy._encode

    def spoiled(policy: StableDiffusion3Policy, prompts: list[str]) -> Any:
        found = own(policy, prompts)
        if "a blue star" in prompts:
            found.context[prompts.index("a blue star"), 0, 0] = INF
        return found

    monkeypatch.setattr(StableDiffusion3Policy, "_encode", spoiled)
    policy.encode(["a red star"])
    with pytest.raises(AdrpoError, match=r"expected finite embeddings.* for 'a blue star'"):
        policy.encode(["a red star", "a blue star"])
    monkeypatch.setattr(StableDiffusion3Policy, "_to_latents", lambda self, pixels: pixels * NAN)
    with pytest.raises(AdrpoError, match="expected finite latents"):
        policy.encode_images([Image.new("RGB", (policy.width, policy.height))])


def test_text_is_no_number() -> None:
    term = RewardTerm("judge", 1.0, lambda prompts, completions: ["0.5"] * len(prompts))  # type: ignore[arg-type]
    with pytest.raises(AdrpoError, match="expected a number or None for each sample"):
        score([term], prompts=["a"], completions=["b"])


def test_samples_without_an_image_keep_their_places() -> None:
    prompts = [Prompt(text).text for text in "abcd"]
    images = [None, Image.new("RGB", (2, 2)), None, Image.new("RGB", (2, 2))]
    term = RewardTerm("letter", 2.0, lambda prompts, images: [float(ord(p)) for p in prompts])
    result = score([term], prompts=prompts, images=images)
    assert result.total.nan_to_num(-1).tolist() == [-1, 2 * ord("b"), -1, 2 * ord("d")]
    assert result.errors == {"letter": NO_IMAGE}
    none = score([term], prompts=prompts, images=[None] * 4)
    assert none.total.isnan().all() and none.by_term["letter"].isnan().all()
