"""The keys that a step of a model that completes prompts shows, in the domains llm and audio."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from wiring.adamw import distance
from wiring.adamw import missed as missed_by_adamw
from wiring.rewards import lengths, letters
from wiring.table import Seen, Table
from wiring.text_oracle import SAME, missed
from wiring.text_steps import Laboratory, WatchedText

ALGORITHM = {
    "beta_0": 0.3, "advantage_clip": 0.5, "negative_coefficient": "floor",
    "clip_policy_advantage": True, "kl_estimator": "k1", "log_ratio_bound": 0.1,
    "kl_on_degenerate_groups": False, "advantage_scale": "none", "loss_type": "dr_grpo",
    "bias_correction": True,
}  # fmt: skip
BACK = {"negative_coefficient": "allow"}
"""Key -> what it is set back to where its default is refused beside the others."""


def changed_algorithm(lab: Laboratory) -> WatchedText:
    """A step with all of these keys changed, whose gradient is the one that they ask for."""

    def make() -> WatchedText:
        watched = lab.steps(algorithm=ALGORITHM, training={"steps": 1, "micro_batch_size": 16})
        assert missed(watched, watched.config.algorithm, watched.steps[0]) < SAME
        return watched

    return lab.once("algorithm", make)


def follows(key: str) -> Callable[[Laboratory, Any], None]:
    """The gradient is not the one that the key's default asks for."""

    def effect(lab: Laboratory, value: Any) -> None:
        watched = changed_algorithm(lab)
        section = watched.config.algorithm
        assert getattr(section, key) == value
        default = BACK.get(key, type(section).model_fields[key].default)
        back = section.model_copy(update={key: default})
        assert missed(watched, back, watched.steps[0]) > 2 * SAME

    return effect


def gates_by_the_sign(lab: Laboratory, value: str) -> None:
    algorithm = {"method": value, "beta_0": 0.3, "advantage_scale": "none"}
    watched = lab.steps(algorithm=algorithm, training={"steps": 1, "micro_batch_size": 16})
    section, (step,) = watched.config.algorithm, watched.steps
    assert missed(watched, section, step) < SAME
    for other in ("adrpo", "fixed_beta"):
        assert missed(watched, section.model_copy(update={"method": other}), step) > 2 * SAME


def holds_the_kl(lab: Laboratory, value: float) -> None:
    """beta_0 moves by 2 % after a batch whose KL is far above the target."""
    algorithm = {"method": "fixed_beta", "target_kl": value, "beta_0": 0.3}
    watched = lab.steps(algorithm=algorithm, training={"micro_batch_size": 16})
    first, second = watched.steps
    batch = first.batch
    with watched.at(first.updates[0].before), torch.no_grad():
        x = watched.logps(batch, reference=True) - watched.logps(batch)
    mask = batch["completion_mask"]
    measured = float(((x.exp() - x - 1) * mask).sum() / mask.sum())
    assert measured > 1.2 * value
    assert (first.beta_0, second.beta_0) == pytest.approx((0.3, 0.3 * 1.02))
    assert missed(watched, watched.config.algorithm, second) < SAME


# --- the batch and the optimizer ---


def unchanged(lab: Laboratory) -> WatchedText:
    """Two steps without a change, to be compared with."""
    return lab.once("unchanged", lambda: lab.steps(training={"micro_batch_size": 16}))


def makes_groups(prompts: int, each: int, key: str) -> Callable[[Laboratory, int], None]:
    """The batch has so many groups of so many completions, which are compared with one another."""

    def effect(lab: Laboratory, value: int) -> None:
        batch = prompts * each
        watched = lab.steps(training={"steps": 1, "micro_batch_size": batch, key: value})
        asked = [str(prompt) for prompt in watched.steps[0].said[0]]
        names = asked[::each]
        assert len(set(names)) == prompts and asked == [n for n in names for _ in range(each)]
        assert missed(watched, watched.config.algorithm, watched.steps[0]) < SAME

    return effect


def makes_parts(lab: Laboratory, value: int) -> None:
    watched = lab.steps(training={"micro_batch_size": value})
    (step, _), (whole, _) = watched.steps, unchanged(lab).steps
    assert step.rows == 16 // value * [value] and whole.rows == [16]
    # Parts are padded less, and sum in another order.
    assert distance(step.updates[0].gradient, whole.updates[0].gradient) < SAME


def optimized(
    training: dict[str, Any], rates: list[float], **by: float
) -> Callable[[Laboratory, Any], None]:
    """The weights are AdamW's with these ``rates``, and not with the default's."""

    def effect(lab: Laboratory, value: Any) -> None:
        assert value in training.values()
        watched = lab.steps(training={"micro_batch_size": 16, "steps": 4, **training})
        updates = [step.updates[0] for step in watched.steps][:2]
        assert missed_by_adamw(updates, rates, **by) < 1e-3
        assert missed_by_adamw(updates, [1e-3, 1e-3]) > 1e-2

    return effect


def normalizes_each_term(lab: Laboratory, value: str) -> None:
    """TRL is given rewards whose terms are standardised in their group, then weighed."""
    reward = [
        {"name": f"wiring.rewards:{name}", "weight": weight}
        for name, weight in (("letters", 2.0), ("lengths", -0.5))
    ]
    training = {"steps": 1, "micro_batch_size": 16, "reward_normalization": value}
    watched = lab.steps(reward=reward, training=training)
    (step,) = watched.steps
    prompts, completions, _ = step.said
    sums = torch.zeros(16, dtype=torch.float64)
    for term, weight in ((letters, 2.0), (lengths, -0.5)):
        found = torch.tensor(term(prompts, completions), dtype=torch.float64).view(4, 4)
        apart = found - found.mean(1, keepdim=True)
        spread = found.std(1, correction=0, keepdim=True)
        sums += weight * torch.where(spread > 0, apart / spread, 0).flatten()
    # float32.
    torch.testing.assert_close(step.rewards.sum(1).cpu(), sums, rtol=1e-5, atol=1e-5)
    assert missed(watched, watched.config.algorithm, step) < SAME


# --- generation ---


def is_no_longer_than(lab: Laboratory, value: int) -> None:
    watched = lab.steps(generation={"max_completion_length": value})
    lengths = torch.cat([step.batch["completion_mask"].sum(1) for step in watched.steps])
    assert int(lengths.max()) == value


def draws_the_likeliest(key: str) -> Callable[[Laboratory, float], None]:
    """Close to 0 every completion is the likeliest one, in training and in evaluations."""

    def effect(lab: Laboratory, value: float) -> None:
        watched = lab.steps(generation={key: value}, training={"steps": 1, "micro_batch_size": 16})
        run, (step,) = watched.run, watched.steps
        drawing = run._evaluator(watched.trainer, None, "unseen", run.held_out).drawing
        with watched.at(step.updates[0].before):
            assert drawing.complete(step.inputs) == texts(step.completions)
            drawn = drawing.draw()
            rows = [{"prompt": p.content, **p.columns} for p in drawing.repeated]
            assert drawing.complete(rows) == drawn.texts
        varied = texts(unchanged(lab).steps[0].completions)
        assert len(set(varied[:4])) > 1
        if key == "temperature":
            # The entropy is that of the distribution that tokens are drawn from.
            assert float(drawn.entropy.max()) < 0.05

    return effect


def texts(completions: list[Any]) -> list[str]:
    return [c if isinstance(c, str) else c[-1]["content"] for c in completions]


STEPS: Table = {
    **{f"algorithm.{key}": Seen(value, follows(key)) for key, value in ALGORITHM.items()},
    "algorithm.method": Seen("sign_gated", gates_by_the_sign),
    "algorithm.target_kl": Seen(0.01, holds_the_kl),
    "generation.max_completion_length": Seen(3, is_no_longer_than),
    "generation.temperature": Seen(1e-3, draws_the_likeliest("temperature")),
    "generation.top_p": Seen(1e-3, draws_the_likeliest("top_p")),
    "training.prompts_per_step": Seen(3, makes_groups(3, 4, "prompts_per_step")),
    "training.samples_per_prompt": Seen(6, makes_groups(4, 6, "samples_per_prompt")),
    "training.micro_batch_size": Seen(4, makes_parts),
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
}
