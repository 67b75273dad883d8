"""The keys of the section ``algorithm`` of the domain flow, for every method.

Each method is trained once with all of its keys changed. A key has an effect where the gradients
are those of the changed settings, worked out by hand, and not those with the key's default.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from adrpo.config import FlowConfig
from wiring.image_oracle import advantages, fits
from wiring.image_ratios import NoisySteps, Pairs, preference_fits, ratio_fits
from wiring.image_steps import Step, WatchedTrainer, image_config, same
from wiring.table import Seen, Table

MOVING = {"anchor": "ema", "anchor_decay": 0.3}
CHANGED: dict[str, dict[str, Any]] = {
    "adrpo": {
        **MOVING, "beta_0": 0.9, "advantage_clip": (-0.4, 0.7), "advantage_scale": "batch",
        "target_divergence": 1e-3, "allow_negative_beta": True, "advantage_gamma": 0.4,
    },
    "fixed_beta": {
        **MOVING, "beta_0": 0.6, "advantage_clip": (-0.4, 0.7), "advantage_scale": "group",
        "target_divergence": 1e-3, "advantage_gamma": 0.4,
    },
    "orw_cfm_w2": {
        **MOVING, "beta_0": 0.6, "temperature": 0.8, "advantage_scale": "group",
        "weight_mean": "one", "advantage_gamma": 0.4,
    },
    "raft": {"best": 2},
    "awm": {
        **MOVING, "beta_0": 0.6, "advantage_clip": (-0.4, 0.7), "advantage_scale": "batch",
        "advantage_gamma": 0.4,
    },
    "diffusion_nft": {
        "anchor": "base", "beta_0": 0.6, "advantage_clip": 0.7, "advantage_scale": "batch",
        "adaptive_weighting": False, "advantage_gamma": 0.4, "kl_beta": 0.3, "loss_weight": 2.0,
    },
}  # fmt: skip
"""Method -> its keys and values. A moving anchor that nobody asked for would move, too."""

Steps = tuple[WatchedTrainer, list[Step]]


@cache
def changed_steps(method: str) -> Steps:
    """Two steps of ``method`` with all of its keys changed, which fit its loss."""
    config = image_config(algorithm={"method": method, **CHANGED[method]})
    watched = WatchedTrainer(config)
    steps = [watched.step(1), watched.step(2)]
    assert fits(watched, config.algorithm, steps)
    return watched, steps


def follows(key: str) -> Callable[[Any, Any], None]:
    """The effect of a key of a method that weighs two terms."""

    def effect(method: str, value: Any) -> None:
        watched, steps = changed_steps(method)
        section = watched.config.algorithm
        assert getattr(section, key) == value
        field = type(section).model_fields[key]
        default = field.get_default(call_default_factory=True)
        assert not fits(watched, section.model_copy(update={key: default}), steps)

    return effect


def is_the_method(method: str, value: Any) -> None:
    """The loss is no other method's."""
    watched, steps = changed_steps(value)
    others = [watched_other for watched_other in CHANGED if watched_other != value]
    for other in others:
        section = image_config(algorithm={"method": other, **CHANGED[other]}).algorithm
        assert not fits(watched, section, steps), other


def follows_the_average(method: str, value: Any) -> None:
    """DiffusionNFT's own default moves; the other rows leave it at the base."""
    config = image_config(algorithm={"method": method, "anchor_decay": value})
    watched = WatchedTrainer(config)
    steps = [watched.step(1), watched.step(2)]
    # Each error is divided by its own size, which magnifies what is rounded of a small one.
    assert fits(watched, config.algorithm, steps, within=1e-3)
    slower = config.algorithm.model_copy(update={"anchor_decay": 0.95})
    assert not fits(watched, slower, steps, within=0.1)


def permits_negative_coefficients(method: str, value: Any) -> None:
    wide = {"method": method, "advantage_clip": [-1.0, 1.0], "beta_0": 0.2}
    with pytest.raises(ValidationError, match="allow_negative_beta: true"):
        FlowConfig.model_validate({"algorithm": wide})
    watched = WatchedTrainer(image_config(algorithm={**wide, "allow_negative_beta": value}))
    step = watched.step(1)
    greatest = advantages(step.rewards.numpy(), np.array([0, 0, 0, 1, 1, 1]), "none").max()
    assert step.row["beta_min"] == pytest.approx(0.2 - min(greatest, 1), abs=1e-6)
    assert step.row["beta_min"] < 0
    assert fits(watched, watched.config.algorithm, [step])


def counts_bad_samples_as_average(method: str, value: Any) -> None:
    config = image_config(algorithm={"method": method, "only_positive": value})
    watched = WatchedTrainer(config)
    step = watched.step(1)
    assert fits(watched, config.algorithm, [step])
    assert not fits(watched, config.algorithm.model_copy(update={"only_positive": False}), [step])


# --- Flow-GRPO ---

RATIO = {
    "advantage_clip": 0.9, "advantage_scale": "group", "clip_range": 2e-3, "beta_0": 0.5,
    "noise_level": 0.4, "updates_per_step": 3, "advantage_gamma": 0.4,
}  # fmt: skip


@cache
def ratio_steps() -> Steps:
    """Two steps of Flow-GRPO with all keys changed, which fit its loss."""
    config = image_config(
        algorithm={"method": "flow_grpo", **RATIO},
        sampling={"steps": 4, "guidance_scale": 2.0},
        training={"timesteps_per_sample": 1, "learning_rate": 3e-3, "guidance_scale": 2.0},
    )
    watched = WatchedTrainer(config)
    steps = [watched.step(1), watched.step(2)]
    assert all(ratio_fits(watched, config.algorithm, step) for step in steps)
    return watched, steps


def ratio_follows(key: str) -> Callable[[Any, Any], None]:
    """The effect of a key on Flow-GRPO's gradients."""

    def effect(method: str, value: Any) -> None:
        watched, steps = ratio_steps()
        section = watched.config.algorithm
        assert getattr(section, key) == value
        default = type(section).model_fields[key].get_default()
        back = section.model_copy(update={key: default})
        assert not ratio_fits(watched, back, steps[0])

    return effect


def is_flow_grpo(method: str, value: Any) -> None:
    watched, steps = ratio_steps()
    assert watched.config.algorithm.method == value
    # Drawn by the network's own noisy steps and not by a sampler.
    assert all(step.rollout and not step.drawn for step in steps)
    # Rollout, update and reference are guided alike.
    guidance = {call.guidance_scale for step in steps for call in step.rollout + step.calls}
    assert guidance == {watched.config.sampling.guidance_scale} != {1.0}
    assert steps[0].row["ratio_clipped_fraction"] > 0


def draws_so_much_noise(method: str, value: Any) -> None:
    _, steps = ratio_steps()
    draws = [NoisySteps(step).noise(value) for step in steps]
    for noise in draws:
        # 3 x 6 steps of 4 x 8 x 8 draws and more: 5 deviations of a deviation's estimate.
        assert abs(float(noise.std()) - 1) < 5 / (2 * noise.numel()) ** 0.5
        assert abs(float(noise.mean())) < 5 / noise.numel() ** 0.5
    assert (draws[0] - draws[1]).abs().mean() > 0.5, "both steps have the same noise"
    ratio_follows("noise_level")(method, value)


def makes_so_many_updates(method: str, value: Any) -> None:
    _watched, steps = ratio_steps()
    drawn = len(steps[0].rewards)
    for step in steps:
        assert len(step.updates) == value
        samples = [set() for _ in range(value)]
        noisy = NoisySteps(step)
        for call in step.policy_calls:
            samples[call.update] |= {int(noisy.sample[row]) for row in noisy.rows_of(call)}
        # Whole samples, each in one part.
        assert [len(part) for part in samples] == [drawn // value] * value
        assert set.union(*samples) == set(range(drawn))


# --- Diffusion-DPO ---


@cache
def preference_steps(folder: Path) -> tuple[WatchedTrainer, list[Step], Pairs]:
    """Drawing the pairs and a step of Diffusion-DPO with all keys changed, in ``folder``."""
    from adrpo.runs.directory import RunDirectory

    config = image_config(
        algorithm={"method": "dpo", "beta": 300.0, "pairs_prompts": 3, "pairs_samples": 4},
        # Six points of pairs in two parts, of four and of two.
        training={"guidance_scale": 2.0, "micro_batch_size": 8},
    )
    watched = WatchedTrainer(config)
    with watched.listening() as drawing:
        watched.trainer.prepare(RunDirectory(folder))
    pairs = Pairs(watched, folder / "pairs")
    step = watched.step(1)
    assert preference_fits(watched, config.algorithm, step, pairs)
    for call in step.policy_calls:
        index = pairs.find(call)
        asked = [pairs.prompts[place] for place in index + index]
        assert same(call.conditioning, watched.policy.encode(asked))
    return watched, [drawing, step], pairs


def preference_beta(folder: Path, value: Any) -> None:
    watched, (_, step), pairs = preference_steps(folder)
    section = watched.config.algorithm
    assert section.beta == value
    assert not preference_fits(watched, section.model_copy(update={"beta": 2000.0}), step, pairs)


def draws_for_so_many_prompts(folder: Path, value: Any) -> None:
    watched, (drawing, _), pairs = preference_steps(folder)
    train = [prompt.text for prompt in watched.trainer.prompts]
    assert pairs.prompts == train[:value]
    # The base draws, whatever the adapter is.
    for drawn in drawing.drawn:
        assert drawn.is_reference
    assert watched.config.algorithm.pairs_prompts == value < len(train)


def draws_so_many_images(folder: Path, value: Any) -> None:
    _watched, (drawing, _), pairs = preference_steps(folder)
    (prompts, _, _), *_ = drawing.scored
    assert prompts == [text for text in pairs.prompts for _ in range(value)]


def trains_on_the_folder(folder: Path, value: Any) -> None:
    """Nothing is drawn, and the pairs are those of the folder."""
    from adrpo.runs.directory import RunDirectory

    _, _, pairs = preference_steps(folder)
    named = folder / value
    watched = WatchedTrainer(image_config(algorithm={"method": "dpo", "pairs": str(named)}))
    with watched.listening() as drawing:
        watched.trainer.prepare(RunDirectory(folder / "other"))
    assert not drawing.drawn and not (folder / "other").exists()
    assert torch.equal(watched.trainer.chosen, pairs.chosen)
    assert torch.equal(watched.trainer.rejected, pairs.rejected)


def is_dpo(folder: Path, value: Any) -> None:
    watched, (_, step), _ = preference_steps(folder)
    assert watched.config.algorithm.method == value
    assert not step.drawn and "pair_accuracy" in step.row
    assert {call.guidance_scale for call in step.calls} == {2.0}


WEIGHED: Table = {
    f"algorithm[{method}].{key}": Seen(value, follows(key))
    for method, keys in CHANGED.items()
    for key, value in keys.items()
}
ALGORITHM: Table = {
    **WEIGHED,
    **{f"algorithm[{method}].method": Seen(method, is_the_method) for method in CHANGED},
    "algorithm[diffusion_nft].anchor_decay": Seen(0.3, follows_the_average),
    "algorithm[adrpo].allow_negative_beta": Seen(True, permits_negative_coefficients),
    "algorithm[adrpo].only_positive": Seen(True, counts_bad_samples_as_average),
    **{
        f"algorithm[flow_grpo].{key}": Seen(value, ratio_follows(key))
        for key, value in RATIO.items()
    },
    "algorithm[flow_grpo].method": Seen("flow_grpo", is_flow_grpo),
    "algorithm[flow_grpo].noise_level": Seen(0.4, draws_so_much_noise),
    "algorithm[flow_grpo].updates_per_step": Seen(3, makes_so_many_updates),
}
PAIRS: Table = {
    "algorithm[dpo].method": Seen("dpo", is_dpo),
    "algorithm[dpo].beta": Seen(300.0, preference_beta),
    "algorithm[dpo].pairs": Seen("pairs", trains_on_the_folder),
    "algorithm[dpo].pairs_prompts": Seen(3, draws_for_so_many_prompts),
    "algorithm[dpo].pairs_samples": Seen(4, draws_so_many_images),
}
"""Effects of these are given the folder that pairs are drawn into."""
