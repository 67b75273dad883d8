"""Runs that must be the same run, by their seeds, and what diffusers makes of the result."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from adrpo.config import FlowModelSection, SamplingSection
from adrpo.embedded.weights import weights_path
from adrpo.evaluation.values import read_values
from adrpo.flow.models.loading import load_policy
from adrpo.flow.path.draws import initial_noise, prompt_order
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.runs.directory import RunDirectory
from support.tiny_runs import (
    adapter_bytes,
    embedded_config,
    metrics_without_timings,
    tiny_config,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    return FlowTrainer(embedded_config()).train(folder, progress=False)


def test_the_same_seed_gives_the_same_run(run: Path, tmp_path: Path):
    again = FlowTrainer(embedded_config()).train(tmp_path / "again", progress=False)
    assert metrics_without_timings(again) == metrics_without_timings(run)
    assert adapter_bytes(again) == adapter_bytes(run)
    for file in ("config.yaml", "evaluations.jsonl"):
        assert (again / file).read_text() == (run / file).read_text()


def test_another_seed_gives_another_run(run: Path, tmp_path: Path):
    other = FlowTrainer(embedded_config(training={"seed": 1})).train(tmp_path / "b", progress=False)
    assert metrics_without_timings(other)[0] != metrics_without_timings(run)[0]
    assert adapter_bytes(other) != adapter_bytes(run)


def test_several_timesteps_per_sample_are_rows_of_their_own(tmp_path: Path):
    """Cut into micro-batches that tear a sample's points apart, the run stays the same."""
    whole, torn = (
        metrics_without_timings(
            FlowTrainer(
                tiny_config(training={"timesteps_per_sample": 3, "micro_batch_size": size})
            ).train(tmp_path / str(size), progress=False)
        )
        for size in (18, 4)
    )
    # Each of 6 images is drawn with 2 network evaluations and used at 3 points, all with or all
    # without a reference.
    references = whole[0]["reference_rows"]
    assert whole[0]["model_calls"] == 6 * 2 + 6 * 3 + references
    assert 0 < references <= 18 and references % 3 == 0
    for row, expected in zip(torn, whole, strict=True):
        for name, value in expected.items():
            # The tolerance of the test above, for its reasons.
            assert row[name] == pytest.approx(value, rel=2e-2, abs=2e-3), name


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [0.5, 1, 1, 1]),
        ("linear", [0.5, 1, 2 / 3, 1 / 3]),
        ("cosine", [0.5, 1, 0.75, 0.25]),
    ],
)
def test_the_learning_rate_rises_and_falls_as_configured(
    tmp_path: Path, schedule: str, factors: list[float]
):
    """Of the first four of five steps, each row telling the next step's rate."""
    training = {"steps": 5, "warmup_steps": 2, "learning_rate_schedule": schedule}
    run = FlowTrainer(tiny_config(training=training)).train(tmp_path / "run", progress=False)
    rates = [row["learning_rate"] for row in metrics_without_timings(run)]
    assert rates[:4] == pytest.approx([1e-3 * factor for factor in factors])


def test_evaluations_are_paired_by_noise(run: Path):
    directory = RunDirectory.open(run)
    before, after = (read_values(directory.samples / f"step-00000{n}/values.json") for n in (0, 4))
    rows = directory.read_evaluations()
    assert [row["step"] for row in rows] == [0, 2, 4]
    change = np.mean(after["clip_score"] - before["clip_score"])
    # Values are kept with six decimals.
    assert rows[-1]["clip_score_change"] == pytest.approx(change, abs=1e-5)
    assert rows[0]["divergence"] == 0.0
    assert rows[-1]["divergence"] > 0


def test_each_prompt_comes_once_an_epoch():
    order = [i for step in range(1, 6) for i in prompt_order(step, prompts=10, per_step=4, seed=0)]
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert order[:10] != order[10:]


def test_diffusers_loads_the_adapter_and_draws_the_trainers_samples(run: Path):
    config = embedded_config()
    trainer = FlowTrainer(config)
    trainer.policy.load_adapter_state(
        torch.load(run / "checkpoints" / "step-000004" / "state.pt", weights_only=True)["adapter"]
    )
    prompts = ["a red circle", "two blue stars"]
    x_0 = initial_noise(2, trainer.policy.latent_shape, 0, "test")
    sampling = SamplingSection(steps=4)
    x_1 = trainer.policy.sample(x_0, trainer.policy.encode(prompts), sampling)
    expected = trainer.policy.decode(x_1)

    pipeline = StableDiffusion3Pipeline.from_pretrained(
        weights_path("pipeline"), text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)

    def draw() -> list[np.ndarray]:
        images = pipeline(
            prompts,
            latents=x_0.clone(),
            num_inference_steps=4,
            guidance_scale=1.0,
            max_sequence_length=1,
        ).images
        return [np.asarray(image, dtype=int) for image in images]

    base = draw()
    pipeline.load_lora_weights(run / "final")
    tuned = draw()
    alone = (run / "final.safetensors").read_bytes()
    assert alone == (run / "final" / "pytorch_lora_weights.safetensors").read_bytes()
    for ours, theirs, untouched in zip(expected, tuned, base, strict=True):
        # The same arithmetic in the same order, rounded to 8 bits: a level at most.
        assert np.abs(np.asarray(ours, dtype=int) - theirs).max() <= 1
        assert np.abs(untouched - theirs).max() > 1


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_our_sampling_is_the_pipelines(guidance_scale: float):
    policy = load_policy(FlowModelSection())
    prompts = ["a red circle left of a blue square", "three green crosses"]
    x_0 = initial_noise(2, policy.latent_shape, 0, "parity")
    sampling = SamplingSection(steps=5, guidance_scale=guidance_scale)
    ours = policy.sample(x_0, policy.encode(prompts), sampling)
    theirs = policy.pipeline(
        prompts,
        latents=x_0.clone(),
        num_inference_steps=5,
        guidance_scale=guidance_scale,
        max_sequence_length=1,
        output_type="latent",
    ).images
    # Latents of size 1 after five float32 steps; sigma and 1 - t round differently.
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)
