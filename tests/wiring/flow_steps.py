"""The keys of the domain flow that a step shows: training, sampling, the reward, the adapter."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adrpo.rewards.file_size import JpegSize
from wiring.adamw import distance, missed
from wiring.image_oracle import fits
from wiring.image_steps import Drawn, Step, WatchedTrainer, image_config, same
from wiring.rewards import ink
from wiring.table import Elsewhere, Seen, Table

Steps = tuple[WatchedTrainer, list[Step]]
MEMORY = "tests/equivalence/test_memory_settings.py::"


def steps(count: int = 1, **sections: Any) -> Steps:
    """The first ``count`` steps of ADRPO with the changed ``sections``, which fit its loss."""
    watched = WatchedTrainer(image_config(**sections))
    made = [watched.step(number) for number in range(1, count + 1)]
    assert fits(watched, watched.config.algorithm, made)
    return watched, made


@cache
def unchanged() -> Steps:
    """Two steps without a change, to be compared with."""
    return steps(2)


# --- the optimizer ---


def optimized(training: dict[str, Any], rates: list[float], **by: float) -> Callable[[Any], None]:
    """The effect of a key on what the optimizer makes of the gradients, which follows from AdamW's
    equations with these ``rates`` and not with the default's."""

    def effect(value: Any) -> None:
        assert value in training.values()
        _, made = steps(2, training=training)
        updates = [step.updates[0] for step in made]
        # float32 in the place of float64; a weight with hardly a gradient moves by its rounding.
        assert missed(updates, rates, **by) < 1e-3
        assert missed(updates, [1e-3, 1e-3]) > 1e-2

    return effect


# --- what a step is made of ---


def makes_groups(key: str, prompts: int, each: int) -> Callable[[Any], None]:
    """The batch has so many groups of so many images, which are compared with one another, drawn
    and trained on with their own prompt."""

    def effect(value: Any) -> None:
        watched, (step,) = steps(training={key: value})
        names = step.prompts[::each]
        assert len(set(names)) == prompts
        assert step.prompts == [name for name in names for _ in range(each)]
        assert len(step.x_1) == prompts * each
        has_own_prompts(watched, step)

    return effect


def has_own_prompts(watched: WatchedTrainer, step: Step) -> None:
    """Every row's network call has the prompt that its image is scored for."""
    points = watched.config.training.timesteps_per_sample
    for drawn, place in parts(step.drawn):
        asked = step.prompts[place : place + len(drawn.x_0)]
        assert same(drawn.conditioning, watched.policy.encode(asked))
    rows = [prompt for prompt in step.prompts for _ in range(points)]
    for call, place in parts(step.policy_calls):
        asked = rows[place : place + len(call.t)]
        assert same(call.conditioning, watched.policy.encode(asked))
    assert not same(watched.policy.encode(step.prompts), watched.policy.encode(step.prompts[::-1]))


def parts(calls: list[Any]) -> list[tuple[Any, int]]:
    """Calls and the place of their first row."""
    sizes = [len(call.conditioning) for call in calls]
    return [(call, sum(sizes[:number])) for number, call in enumerate(calls)]


def bounds_the_memory(value: int) -> None:
    _, (step,) = steps(training={"micro_batch_size": value})
    _, (whole, _) = unchanged()
    sizes = [len(call.t) for call in step.calls] + [len(drawn.x_0) for drawn in step.drawn]
    assert max(sizes) == value < max(len(call.t) for call in whole.calls)
    # Batches of other sizes sum in another order.
    assert distance(step.updates[0].gradient, whole.updates[0].gradient) < 1e-3


def seeds_every_stream(value: int) -> None:
    watched, made = steps(2, training={"seed": value})
    before, unseeded = unchanged()
    assert distance(watched.start, before.start) > 0.5
    for ours, theirs in zip(made, unseeded, strict=True):
        assert distance(ours.x_0, theirs.x_0) > 0.5
        assert distance(ours.t, theirs.t) > 0.1
        assert distance(noises(ours), noises(theirs)) > 0.5
        assert ours.prompts != theirs.prompts
    # The prompts of a world go by the seed as well, and so does their order.
    orders = [[w.trainer.chosen_prompts(n)[0].tolist() for n in (1, 2)] for w in (watched, before)]
    assert orders[0] != orders[1]
    draws_anew_at_every_step(made)


def draws_anew_at_every_step(made: list[Step]) -> None:
    """Noises and times of a step are not those of the step before."""
    one, other = made
    # The gradient of one step is no part of the next one's.
    assert all((value == 0).all() for value in [*one.left, *other.left])
    assert one.prompts != other.prompts
    assert distance(one.x_0, other.x_0) > 0.5
    assert distance(one.t, other.t) > 0.1
    assert distance(noises(one), noises(other)) > 0.5


def noises(step: Step) -> Tensor:
    """x_0 of the points that the policy is trained at; every sample has ``2`` of them."""
    t = step.t.reshape(-1, 1, 1, 1)
    x_1 = step.x_1.repeat_interleave(len(step.t) // len(step.x_1), 0)
    return (step.x_t - t * x_1) / (1 - t)


def uses_each_image_so_often(value: int) -> None:
    watched, (step,) = steps(training={"timesteps_per_sample": value, "micro_batch_size": 18})
    assert len(step.t) == value * len(step.x_1)
    # Stratified: one in each part of the path.
    places = (step.t * value).floor().view(-1, value)
    assert bool((places == torch.arange(value)).all())
    has_own_prompts(watched, step)


def guides_both_velocities(value: float) -> None:
    """fits() has the guided reference beside the guided policy."""
    watched, (step,) = steps(training={"guidance_scale": value})
    for call in step.policy_calls:
        expected = watched.velocity(call, step.begin, guidance_scale=value)
        plain = watched.velocity(call, step.begin, guidance_scale=1.0)
        assert distance(call.v.detach(), expected) < 1e-4 < distance(plain, expected)


# --- sampling ---


def integrated(watched: WatchedTrainer, drawn: Drawn, adapter: list[Tensor], **by: Any) -> Tensor:
    """x_1 of a call's noise, by hand: Euler's rule or the trapezoidal one along the model's own
    times."""
    from wiring.image_steps import Call

    x, times = drawn.x_0.clone(), watched.policy.time_grid(by.get("steps", 2))

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        call = Call(x, t.expand(len(x)), drawn.conditioning, by.get("guidance_scale", 1.0), x, 0)
        return watched.velocity(call, adapter)

    for t, t_next in pairwise(times):
        v = velocity(x, t)
        if by.get("solver") == "heun":
            v = (v + velocity(x + (t_next - t) * v, t_next)) / 2
        x = x + (t_next - t) * v
    return x


def draws(key: str) -> Callable[[Any], None]:
    """The samples are what integration by hand makes of their noise with the key's value, and not
    without."""

    def effect(value: Any) -> None:
        watched, (step,) = steps(sampling={key: value})
        for drawn in step.drawn:
            with_it = integrated(watched, drawn, step.begin, **{key: value})
            without = integrated(watched, drawn, step.begin)
            assert distance(drawn.x_1, with_it) < 1e-4
            assert distance(drawn.x_1, without) > 1e-2

    return effect


# --- the reward ---

TERM = {
    "name": "wiring.rewards:ink", "weight": -2.0, "options": {"unit": 9.0},
    "logistic": {"location": 6.5, "scale": 2.0},
}  # fmt: skip


@cache
def rewarded() -> Step:
    """A step whose reward has every key changed."""
    watched = WatchedTrainer(image_config(reward=[TERM]))
    return watched.step(1)


def is_scored(key: str) -> Callable[[Any], None]:
    """The rewards are those of the formula with all keys, and other ones without this one."""

    def total(weight: float, unit: float, location: float | None, scale: float | None) -> Any:
        ((prompts, images, _),) = rewarded().scored
        dark = np.array([255 - np.asarray(image, dtype=float).mean() for image in images])
        r = dark / unit + np.array([len(prompt) / 10 for prompt in prompts])
        if location is not None and scale is not None:
            r = 1 / (1 + np.exp(-(r - location) / scale))
        return weight * r

    def effect(value: Any) -> None:
        named = {"weight": -2.0, "unit": 9.0, "location": 6.5, "scale": 2.0}
        received = rewarded().rewards.numpy()
        np.testing.assert_allclose(received, total(**named), rtol=1e-5)
        without = named | {key: {"weight": 1.0, "unit": 6.0, "location": 0.0, "scale": 1.0}[key]}
        assert np.abs(received - total(**without)).max() > 0.05

    return effect


def scores_by(value: str) -> None:
    """Another function than ink's, of the same pictures."""
    from support.tiny_runs import darkness

    watched = WatchedTrainer(image_config(reward=[{"name": value}]))
    step = watched.step(1)
    images = watched.policy.decode(step.x_1)
    expected = torch.tensor(darkness([], images), dtype=torch.float64)
    assert distance(step.rewards, expected) < 1e-5


def normalizes_each_term(value: str) -> None:
    """The gradient is that of rewards whose terms are standardised in their group, then weighed;
    the row keeps the plain sum."""
    reward = [
        {"name": "wiring.rewards:ink", "weight": 2.0},
        {"name": "jpeg_size", "weight": -0.01},
    ]
    watched = WatchedTrainer(image_config(reward=reward, training={"reward_normalization": value}))
    step = watched.step(1)
    images = step.scored[0][1]
    sums, plain = np.zeros(len(images)), np.zeros(len(images))
    for term, weight in ((ink, 2.0), (JpegSize(), -0.01)):
        found = np.array(term(prompts=step.prompts, images=images))
        plain = plain + weight * found
        for group in np.split(np.arange(len(images)), 2):
            own = found[group]
            sums[group] += weight * (own - own.mean()) / own.std()
    assert step.row["reward_mean"] == pytest.approx(plain.mean(), rel=1e-5)
    section = watched.config.algorithm
    assert not fits(watched, section, [step])
    step.rewards = torch.tensor(sums)
    assert fits(watched, section, [step])


# --- the adapter ---


def has_rank(value: int) -> None:
    watched, _ = steps(adapter={"rank": value, "alpha": 16.0})
    state = watched.policy.adapter_state()
    assert {min(tensor.shape) for tensor in state.values()} == {value}


def scales_the_update(value: float) -> None:
    """alpha / rank times B A: twice alpha is twice B."""
    watched, (step,) = steps(adapter={"alpha": value})
    plain, _ = unchanged()
    names = list(watched.policy.adapter_state())
    assert value == 2 * plain.config.adapter.alpha
    doubled = [
        2 * tensor if "lora_B" in name else tensor
        for name, tensor in zip(names, step.begin, strict=True)
    ]
    assert {"lora_A" in name or "lora_B" in name for name in names} == {True}
    call = step.policy_calls[0]
    ours, theirs = watched.velocity(call, step.begin), plain.velocity(call, doubled)
    assert distance(ours, theirs) < 1e-5 < distance(plain.velocity(call, step.begin), theirs)


def adapts_these_layers(value: list[str]) -> None:
    watched, _ = steps(adapter={"target_modules": value})
    named = dict(watched.policy.pipeline.transformer.named_modules())
    adapted = {name.partition(".lora_")[0] for name in watched.policy.adapter_state()}
    linear = {
        name.removesuffix(".base_layer") for name in named if name.endswith("to_q.base_layer")
    }
    assert {name.removeprefix("transformer.") for name in adapted} == linear


STEPS: Table = {
    "training.prompts_per_step": Seen(3, makes_groups("prompts_per_step", 3, 3)),
    "training.samples_per_prompt": Seen(4, makes_groups("samples_per_prompt", 2, 4)),
    "training.micro_batch_size": Seen(4, bounds_the_memory),
    "training.learning_rate": Seen(3e-3, optimized({"learning_rate": 3e-3}, [3e-3, 3e-3])),
    "training.learning_rate_schedule": Seen(
        "linear", optimized({"learning_rate_schedule": "linear"}, [1e-3, 0.75e-3])
    ),
    "training.warmup_steps": Seen(4, optimized({"warmup_steps": 4}, [0.0, 0.25e-3])),
    "training.weight_decay": Seen(5.0, optimized({"weight_decay": 5.0}, [1e-3, 1e-3], decay=5.0)),
    "training.reward_normalization": Seen("group", normalizes_each_term),
    "training.max_grad_norm": Seen(
        1e-6, optimized({"max_grad_norm": 1e-6}, [1e-3, 1e-3], bound=1e-6)
    ),
    "training.seed": Seen(7, seeds_every_stream),
    "training.timesteps_per_sample": Seen(3, uses_each_image_so_often),
    "training.timestep_sampling": Elsewhere(
        (
            "tests/equivalence/test_timestep_sampling.py::"
            "test_the_times_of_a_step_have_the_distribution_that_is_named",
        )
    ),
    "training.optimizer": Elsewhere((f"{MEMORY}test_the_8_bit_optimizer_is_used_and_resumed",)),
    "training.guidance_scale": Seen(3.0, guides_both_velocities),
    "sampling.steps": Seen(3, draws("steps")),
    "sampling.solver": Seen("heun", draws("solver")),
    "sampling.guidance_scale": Seen(3.0, draws("guidance_scale")),
    "reward.name": Seen("support.tiny_runs:darkness", scores_by),
    "reward.weight": Seen(-2.0, is_scored("weight")),
    "reward.options": Seen({"unit": 9.0}, is_scored("unit")),
    "reward.timeout": Elsewhere(
        ("tests/faults/test_misbehaving_rewards.py::test_the_key_timeout_reaches_the_reward",)
    ),
    "reward.logistic.location": Seen(6.5, is_scored("location")),
    "reward.logistic.scale": Seen(2.0, is_scored("scale")),
    "adapter.rank": Seen(4, has_rank),
    "adapter.alpha": Seen(32.0, scales_the_update),
    "adapter.target_modules": Seen(["to_q"], adapts_these_layers),
    "adapter.start_from": Elsewhere(
        ("tests/equivalence/test_adapter_start.py::test_a_run_of_images_goes_on_with_it",)
    ),
    "adapter.reference": Elsewhere(
        ("tests/equivalence/test_adapter_start.py::test_a_run_of_images_goes_on_with_it",)
    ),
}
