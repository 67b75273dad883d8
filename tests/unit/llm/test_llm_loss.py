"""The loss of language models: the penalty of each sample, and the reference pass it needs."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor

from adrpo import token_kl
from adrpo.llm import ADRPOTrainer
from adrpo.llm.penalty import PerSampleBeta
from support.tiny_language_trainers import (
    LANGUAGE_MARKS,
    NAN,
    PROMPTS,
    TWO_GROUPS,
    build,
    config,
    count_a,
    given,
    log_probabilities,
    loss_and_gradients,
    move,
    per_sequence_mean,
    scored,
    small_steps,
)

pytestmark = LANGUAGE_MARKS


# --- the loss ---


def test_the_first_step_is_a_policy_gradient_with_an_advantage_per_token(
    model: str, tmp_path: Path
) -> None:
    trainer = build(
        model,
        tmp_path,
        reward=small_steps,
        scale_rewards="none",
        loss_type="grpo",
        use_bias_correction_kl=False,
        reference_rows="all",
    )
    move(trainer)
    batch = scored(trainer)
    beta, advantages = batch["kl_coefficient"], batch["advantages"]
    assert beta.unique().numel() > 3
    received = loss_and_gradients(trainer, batch)[1:]

    trainer.model.zero_grad()
    logps = log_probabilities(trainer.model, batch)
    with torch.no_grad():
        ratio = (log_probabilities(trainer.ref_model, batch) - logps).exp()
    assert (ratio - 1).abs().max() > 0.1
    token_advantages = advantages[:, None] + beta[:, None] * (ratio - 1)
    mask = batch["completion_mask"]
    (-per_sequence_mean(token_advantages * logps, mask).mean()).backward()
    for parameter, gradient in zip(trainer.model.parameters(), received, strict=True):
        assert parameter.grad is not None
        # float32: gradients of size 1e-3 to 1e-2 summed over 40 tokens in two orders.
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_the_penalty_is_the_estimator_times_the_samples_coefficient(
    estimator: Any, corrected: bool, model: str, tmp_path: Path
) -> None:
    trainer = build(
        model,
        tmp_path,
        kl_estimator=estimator,
        use_bias_correction_kl=corrected,
        loss_type="grpo",
        reference_rows="all",
    )
    move(trainer)
    batch = scored(trainer)
    shift = 0.3 * torch.randn(batch["completion_ids"].shape)
    logps = log_probabilities(trainer.model, batch).detach()
    batch["old_per_token_logps"] = logps + shift
    free = batch | {"kl_coefficient": torch.zeros(8)}
    difference = loss_and_gradients(trainer, batch)[0] - loss_and_gradients(trainer, free)[0]

    kl = token_kl(logps, batch["ref_per_token_logps"], estimator=estimator)
    kl = kl * (-shift).exp() if corrected else kl
    expected = (batch["kl_coefficient"] * per_sequence_mean(kl, batch["completion_mask"])).mean()
    # float32: the difference of two losses of size 0.1.
    assert difference.item() == pytest.approx(expected.item(), abs=2e-7)
    assert expected > 1e-4


def test_k1_trains_with_the_ratio_of_trl(model: str, tmp_path: Path) -> None:
    trainer = build(model, tmp_path, kl_estimator="k1", loss_type="grpo", reference_rows="all")
    move(trainer)
    batch = scored(trainer)
    received = loss_and_gradients(trainer, batch)
    free = loss_and_gradients(trainer, batch | {"kl_coefficient": torch.zeros(8)})
    trainer.model.zero_grad()
    logps = log_probabilities(trainer.model, batch)
    ratio = (logps - logps.detach()).exp()
    kl = ratio * (logps - batch["ref_per_token_logps"])
    mask = batch["completion_mask"]
    (batch["kl_coefficient"] * per_sequence_mean(kl, mask)).mean().backward()
    for parameter, a, b in zip(trainer.model.parameters(), received[1:], free[1:], strict=True):
        # float32: differences of gradients of size 0.1.
        torch.testing.assert_close(parameter.grad, a - b, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("bounded", [True, False])
def test_the_bound_keeps_extreme_log_ratios_finite(
    bounded: bool, model: str, tmp_path: Path
) -> None:
    trainer = build(
        model, tmp_path, log_ratio_bound=20.0 if bounded else None, reference_rows="all"
    )
    batch = scored(trainer)
    batch["ref_per_token_logps"] = batch["ref_per_token_logps"] + 500
    results = loss_and_gradients(trainer, batch)
    assert all(result.isfinite().all() for result in results) == bounded


@pytest.mark.parametrize("clipped", [True, False])
def test_the_policy_advantage_is_clipped_on_request(
    clipped: bool, model: str, tmp_path: Path
) -> None:
    trainer = build(model, tmp_path, clip_policy_advantage=clipped, advantage_clip=0.02)
    plain = build(model, tmp_path, advantage_clip=0.02)
    batch = scored(trainer)
    assert batch["advantages"].abs().max() > 0.5
    received = loss_and_gradients(trainer, batch)
    by_hand = batch["advantages"].clamp(-0.02, 0.02) if clipped else batch["advantages"]
    expected = loss_and_gradients(plain, batch | {"advantages": by_hand})
    assert all(torch.equal(a, b) for a, b in zip(received, expected, strict=True))


def test_the_stand_in_knows_two_operations_and_no_others() -> None:
    batch = {"ref_per_token_logps": torch.zeros(2, 3), "completion_mask": torch.ones(2, 3)}
    coefficient = torch.tensor([0.5, 2.0])
    beta: Any = PerSampleBeta(batch, coefficient, estimator="k3", bound=None, correction=None)
    kl = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert beta != 0.0
    assert (beta * kl).tolist() == [[0.5, 1.0, 1.5], [8.0, 10.0, 12.0]]
    for operation in (
        lambda: beta != 1.0,
        lambda: beta + kl,
        lambda: kl * beta,
        lambda: beta > 0,
        lambda: float(beta),
    ):
        with pytest.raises(TypeError):
            operation()


# --- the reference pass ---


def test_a_row_without_reference_is_its_own() -> None:
    # As of a tool's token: no policy would draw it, and e^200 overflows.
    logps = torch.full((2, 3), -200.0, requires_grad=True)
    batch = {
        "ref_per_token_logps": torch.tensor([[-199.0] * 3, [NAN] * 3]),
        "reference_rows": torch.tensor([True, False]),
    }
    coefficient = torch.tensor([1.0, 0.0])
    beta = PerSampleBeta(batch, coefficient, estimator="k3", bound=20.0, correction=None)
    beta.receive(logps)
    x = batch["ref_per_token_logps"] - logps
    penalty = beta * (x.exp() - x - 1)
    (gradient,) = torch.autograd.grad(penalty.sum(), logps)
    # k3 at x = 1, and its slope 1 - e.
    torch.testing.assert_close(penalty[0], torch.full((3,), math.e - 2))
    torch.testing.assert_close(gradient[0], torch.full((3,), 1 - math.e))
    assert penalty[1].tolist() == gradient[1].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("coefficient", ["adaptive", "sign_gated"])
def test_rows_with_coefficient_0_are_left_out_of_the_reference_pass(
    coefficient: str, lora: bool, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def result(reference_rows: str) -> tuple[int, dict[str, Any], list[Tensor], list[Tensor]]:
        trainer: Any = ADRPOTrainer(
            model,
            count_a,
            config(tmp_path, reference_rows=reference_rows, coefficient=coefficient),
            PROMPTS,
            peft_config=LoraConfig(r=2, target_modules=["q_proj", "v_proj"]) if lora else None,
        )
        move(trainer)
        referred = []
        plain = ADRPOTrainer._get_per_token_logps_and_entropies

        def counting(self: Any, model: Any, ids: Tensor, *rest: Any, **named: Any) -> Any:
            if not torch.is_grad_enabled():
                referred.append(len(ids))
            return plain(self, model, ids, *rest, **named)

        with monkeypatch.context() as patch:
            patch.setattr(ADRPOTrainer, "_get_per_token_logps_and_entropies", counting)
            batch = scored(trainer)
        first = loss_and_gradients(trainer, batch)
        again = loss_and_gradients(trainer, batch)
        return sum(referred), batch, first, again

    all_rows, batch, expected, _ = result("all")
    rows, fewer, received, again = result("needed")
    needed = batch["kl_coefficient"] != 0
    assert all_rows == 8
    assert rows == needed.sum()
    assert 0 < rows < 8
    # Left out, not guessed: a row that is read nevertheless would be noticed.
    assert torch.equal(fewer["ref_per_token_logps"].isnan().all(1), ~needed)
    for a, b, c in zip(expected, received, again, strict=True):
        # A matrix product of fewer rows may round the others differently in float32.
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-8)
        assert torch.equal(b, c), "the loss changed the batch, which iterations share"


def test_no_reference_pass_where_no_row_needs_it(model: str, tmp_path: Path) -> None:
    trainer = build(model, tmp_path, reward=given(*[1.0] * 8), kl_on_degenerate_groups=False)
    move(trainer)
    batch = scored(trainer)
    assert batch["ref_per_token_logps"].isnan().all()
    # Nothing to learn and nothing to hold: not a rounding of a gradient.
    results = loss_and_gradients(trainer, batch)
    assert all((result == 0).all() for result in results)
    assert trainer._metrics["train"]["adrpo/reference_frac"] == [0.0]


def test_a_controller_and_evaluation_see_all_rows(model: str, tmp_path: Path) -> None:
    trainer = build(model, tmp_path, target_kl=0.1)
    assert "reference_rows" not in scored(trainer)
    plain = build(model, tmp_path)
    assert "reference_rows" in scored(plain)
    plain.model.eval()
    assert "reference_rows" not in plain._generate_and_score_completions(TWO_GROUPS)


def test_the_controller_learns_the_kl_of_training_and_of_nothing_else(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The KL itself, not the weighted one, and not that of TRL's own evaluations."""
    trainer = build(model, tmp_path, target_kl=0.1)
    batch = scored(trainer)
    move(trainer)
    told: list[tuple[float, float]] = []
    monkeypatch.setattr(trainer._controller, "observe", lambda kl, count: told.append((kl, count)))
    trainer._compute_loss(trainer.model, dict(batch))
    metrics = trainer._metrics["train"]
    ((kl, count),) = told
    assert count == int(batch["completion_mask"].sum())
    # One division of float32 sums.
    assert kl / count == pytest.approx(metrics["adrpo/kl"][-1], rel=1e-6)
    assert metrics["adrpo/weighted_kl"][-1] < 0.5 * kl / count
    trainer.model.eval()
    trainer._compute_loss(trainer.model, dict(batch))
    assert len(told) == 1
