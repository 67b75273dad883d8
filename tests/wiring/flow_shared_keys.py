"""The keys of the domain flow that several methods share, and those of losses of a whole group."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from wiring.adamw import distance
from wiring.flow_run import is_refused
from wiring.flow_steps import integrated
from wiring.image_oracle import fits
from wiring.image_steps import Step, WatchedTrainer, image_config
from wiring.table import AsAt, Elsewhere, Seen, Table

LAG = {"decay": 0.2, "decay_growth": 0.3, "decay_flat": 1, "decay_most": 0.6}
TRAINING = "tests/equivalence/test_schedules_in_training.py::"
SCHEDULES = "tests/identities/test_schedules.py::"


@cache
def lagging_steps() -> tuple[WatchedTrainer, list[Step]]:
    """Five steps whose samples a policy draws that lags behind."""
    algorithm = {"method": "adrpo", "sampling_policy": LAG}
    watched = WatchedTrainer(image_config(algorithm=algorithm, training={"learning_rate": 0.01}))
    return watched, [watched.step(number) for number in range(1, 6)]


def lags(key: str, default: float) -> Callable[[Any], None]:
    """The last step's samples are those of the policy that lags by the keys, worked out by hand
    from what each step left, and not those with the key's default."""

    def missed(**changed: float) -> float:
        watched, steps = lagging_steps()
        named, policy = {**LAG, **changed}, watched.start
        for number, step in enumerate(steps[:-1]):
            grown = named["decay_growth"] * max(number - named["decay_flat"], 0)
            decay = min(named["decay"] + grown, named["decay_most"])
            after = step.updates[0].after
            policy = [
                decay * old + (1 - decay) * new for old, new in zip(policy, after, strict=True)
            ]
        (drawn,) = steps[-1].drawn
        return distance(drawn.x_1, integrated(watched, drawn, policy))

    def effect(_: Any) -> None:
        assert missed() < 1e-5
        assert missed(**{key: default}) > 3e-5

    return effect


LAGGING: Table = {
    f"algorithm[adrpo].sampling_policy.{key}": Seen(LAG[key], lags(key, default))
    for key, default in (
        ("decay", 0.0), ("decay_growth", 0.0), ("decay_flat", 0), ("decay_most", 1.0)
    )
}  # fmt: skip


def shares_points(_: Any) -> None:
    """The images of a prompt are learned from at one list of points, which no other prompt has;
    without the key each has its own."""

    def points(*, shared: bool) -> Tensor:
        """Time and noise of each row, [prompts, images, points, 1 + numbers of a noise]."""
        algorithm = {"method": "adrpo", "shared_points": shared}
        training = {"timesteps_per_sample": 3, "micro_batch_size": 100}
        watched = WatchedTrainer(image_config(algorithm=algorithm, training=training))
        step = watched.step(1)
        assert fits(watched, watched.config.algorithm, [step])
        x_1 = step.x_1.repeat_interleave(3, dim=0)
        t = step.t.view(-1, *[1] * (x_1.ndim - 1))
        x_0 = (step.x_t - t * x_1) / (1 - t)
        rows = torch.cat([step.t[:, None], x_0.flatten(1)], dim=1)
        each = watched.config.training.samples_per_prompt
        return rows.unflatten(0, (-1, each, 3))

    found = points(shared=True)
    spread = (found - found[:, :1]).abs().amax()
    # Rounding of x_t over 1 - t, of which the smallest here is above 0.01.
    assert spread < 1e-3 < (found[0] - found[1]).abs().amin(dim=-1).max()
    assert len(found[0, 0, :, 0].unique()) == 3
    assert (points(shared=False)[:, 0, :, 0] - points(shared=False)[:, 1, :, 0]).abs().min() > 0


POINTS: Table = {"algorithm[adrpo].shared_points": Seen(True, shares_points)}
REFUSED: Table = {
    f"algorithm[adrpo].{place}.{key}": Seen(value, is_refused(name))
    for place in ("coefficient[gated].scores", "advantage_novelty")
    for key, name, value in (
        ("weight", "weight", 2.0),
        ("logistic.location", "logistic", {"location": 1.0, "scale": 1.0}),
        ("logistic.scale", "logistic", {"location": 0.0, "scale": 2.0}),
    )
}
"""A reward that is only read has no weight and no bounds, wherever it is named."""
TIMED: Table = {
    f"algorithm[adrpo].{place}.timeout": AsAt("reward.timeout")
    for place in ("coefficient[gated].scores", "advantage_novelty")
} | {"evaluation.rewards.timeout": AsAt("reward.timeout")}

COPIED = {"anchor_copy_above": 1e6, "anchor_copy_after": 2}


@cache
def copied_steps() -> tuple[WatchedTrainer, list[Step]]:
    """Three steps of an anchor that is a copy of the policy, made anew after the second."""
    algorithm = {"method": "adrpo", "anchor": "copied", **COPIED}
    watched = WatchedTrainer(image_config(algorithm=algorithm))
    return watched, [watched.step(number) for number in (1, 2, 3)]


def copies(key: str, default: float) -> Callable[[Any], None]:
    """v_ref is that of the copy; the divergence of the first step is above the default's bound."""

    def effect(_: Any) -> None:
        watched, steps = copied_steps()
        section = watched.config.algorithm
        assert steps[0].row["divergence"] > 3e-4
        assert fits(watched, section, steps)
        assert not fits(watched, section.model_copy(update={key: default}), steps)

    return effect


COPYING: Table = {
    f"algorithm[adrpo].{key}": Seen(COPIED[key], copies(key, default))
    for key, default in (("anchor_copy_above", 3e-4), ("anchor_copy_after", 15))
}

BESIDE: Table = {
    **{
        f"algorithm[adrpo].coefficient[{schedule}].schedule": Elsewhere(
            (f"{SCHEDULES}test_a_schedule_of_a_section_is_its_function_with_its_keys",)
        )
        for schedule in (
            "fixed", "adaptive", "sign_gated", "reward_adaptive", "gated", "mixture"
        )
    },
    **{
        f"algorithm[adrpo].coefficient[{key}": Elsewhere(
            (f"{SCHEDULES}test_a_schedule_of_a_section_is_its_function_with_its_keys",)
        )
        for key in ("reward_adaptive].bound", "reward_adaptive].least", "gated].share")
    },
    **{
        f"algorithm[adrpo].coefficient[gated].scores.{key}": Elsewhere(
            (f"{TRAINING}test_the_gate_runs_the_reference_for_gated_samples_alone",)
        )
        for key in ("name", "options")
    },
    "algorithm[adrpo].coefficient[mixture].parts.weight": Elsewhere(
        (f"{SCHEDULES}test_a_mixture_is_the_weighted_mean_of_its_parts",)
    ),
    **{
        f"algorithm[adrpo].advantage_novelty.{key}": Elsewhere(
            (f"{TRAINING}test_a_good_sample_that_is_unlike_the_others_counts_more",)
        )
        for key in ("name", "options")
    },
    **{
        f"algorithm[flow_grpo].{key}": Elsewhere(
            (f"{TRAINING}test_flow_grpo_is_held_to_the_anchor_that_it_names",)
        )
        for key in ("anchor", "anchor_decay")
    },
}  # fmt: skip

DIFFERENCES = "tests/equivalence/test_finite_difference_trainer.py::"
STEP = f"{DIFFERENCES}test_a_step_is_the_published_one_and_the_adaptive_penalty"
DIFFERENCED: Table = {
    **{
        f"algorithm[fdfo].{key}": Elsewhere((STEP,))
        for key in (
            "method", "churn", "clip_range", "advantage_scale", "updates_per_step", "beta_0",
        )
    },
    "algorithm[fdfo].points": Elsewhere(
        (f"{DIFFERENCES}test_without_a_penalty_the_reference_is_never_asked",)
    ),
    **{
        f"algorithm[fdfo].{key}": Elsewhere(
            (f"{DIFFERENCES}test_it_is_held_to_the_anchor_that_it_names",)
        )
        for key in ("anchor", "anchor_decay")
    },
}  # fmt: skip
"""FDFO's keys, all of them other than their defaults in one step."""

NOVELTY = [key for key in (*REFUSED, *BESIDE) if ".advantage_novelty." in key]
FROM_ADRPO = {
    "shared_points": ("fixed_beta", "orw_cfm_w2", "raft", "awm", "diffusion_nft", "crd", "dgpo"),
    "sampling_policy": ("fixed_beta", "orw_cfm_w2", "raft", "awm", "diffusion_nft", "crd", "dgpo"),
    "advantage_novelty": (
        "fixed_beta", "orw_cfm_w2", "awm", "diffusion_nft", "crd", "dgpo", "flow_grpo",
    ),
    "anchor_copy_above": (
        "fixed_beta", "orw_cfm_w2", "awm", "diffusion_nft", "crd", "dgpo", "flow_grpo", "fdfo",
    ),
    "anchor_copy_after": (
        "fixed_beta", "orw_cfm_w2", "awm", "diffusion_nft", "crd", "dgpo", "flow_grpo", "fdfo",
    ),
}  # fmt: skip
"""Key or section that ADRPO shows -> methods that share it."""


def shared(known: Table) -> Table:
    """The rows of the methods that share a key of ADRPO, which ``known`` has."""
    return {
        key.replace("[adrpo]", f"[{method}]", 1): row if isinstance(row, AsAt) else AsAt(key)
        for name, methods in FROM_ADRPO.items()
        for key, row in known.items()
        if key == f"algorithm[adrpo].{name}" or key.startswith(f"algorithm[adrpo].{name}.")
        for method in methods
    }
