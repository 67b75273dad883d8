"""The trainer of language models: coefficients, options, metrics, bad input, whole runs."""

import gc
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tiny_language_model import CONTEXT, save_tiny_model, tiny_tokenizer
from torch import Tensor
from transformers import HfArgumentParser
from trl import GRPOConfig

import adrpo.llm
from adrpo import AdrpoError, adaptive_coefficient, token_kl
from adrpo.core.controller import controlled
from adrpo.llm import ADRPOConfig, ADRPOTrainer
from adrpo.llm.coefficient import degenerate_rows, kl_coefficient
from adrpo.llm.controller import KLController
from adrpo.llm.penalty import PerSampleBeta

pytestmark = [
    # TRL still passes and reads transformers' old name of activation checkpointing.
    pytest.mark.filterwarnings(
        r"ignore:`(is_)?gradient_checkpointing\w*` is deprecated:FutureWarning"
    )
]

PROMPTS = Dataset.from_dict({"prompt": ["a b c", "d e f", "g h", "i j k l"]})
TWO_GROUPS = [{"prompt": "a b c"}] * 4 + [{"prompt": "d e"}] * 4
NAN = float("nan")

Reward = Callable[..., list[float | None]]


@pytest.fixture(scope="module", autouse=True)
def _imports_are_not_collected() -> Iterator[None]:
    """Trainer.train collects garbage; looking through all that torch imported takes seconds."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("model")))


def config(folder: Path, **options: Any) -> ADRPOConfig:
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 5,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    return ADRPOConfig(str(folder), **(settings | options))


def count_a(completions: list[str], **columns: Any) -> list[float | None]:
    return [float(text.split().count("a")) for text in completions]


def small_steps(completions: list[str], **columns: Any) -> list[float | None]:
    """Differences below beta_0 = 0.04: no coefficient saturates without a scale."""
    return [0.0003 * sum(map(ord, text)) / 10 for text in completions]


def given(*rewards: float | None) -> Reward:
    return lambda completions, **columns: list(rewards)[: len(completions)]


def build(model: str, folder: Path, reward: Reward = count_a, **options: Any) -> Any:
    return ADRPOTrainer(model, reward, config(folder, **options), PROMPTS)


def move(trainer: Any) -> None:
    """Away from the reference; in place, so that the reference stays."""
    generator = torch.Generator().manual_seed(1)
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)


def scored(trainer: Any, inputs: list[dict[str, Any]] = TWO_GROUPS) -> dict[str, Any]:
    torch.manual_seed(2)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    return trainer._generate_and_score_completions(inputs)


def loss_and_gradients(trainer: Any, batch: dict[str, Any]) -> list[Tensor]:
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    return [loss.detach()] + [p.grad.clone() for p in trainer.model.parameters() if p.requires_grad]


def log_probabilities(model: Any, batch: dict[str, Any]) -> Tensor:
    """log pi of the completions' tokens from plain logits, at temperature 1."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
    logps = logits.gather(2, ids[:, 1:, None]).squeeze(2)
    return logps[:, -batch["completion_ids"].shape[1] :]


def per_sequence_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum(1) / mask.sum(1)


# --- the coefficient ---


def test_coefficients_of_each_kind() -> None:
    advantages = torch.tensor([-1.5, -0.03, 0.0, 0.01, 1.5])

    def coefficients(kind: Any, clip: float = 0.04, floor: bool = False) -> list[float]:
        received = kl_coefficient(advantages, kind=kind, beta_0=0.04, clip=clip, floor=floor)
        return [round(value, 7) for value in received.tolist()]

    assert coefficients("adaptive") == [0.08, 0.07, 0.04, 0.03, 0.0]
    assert coefficients("adaptive", clip=0.02) == [0.06, 0.06, 0.04, 0.03, 0.02]
    assert coefficients("adaptive", clip=0.08) == [0.12, 0.07, 0.04, 0.03, -0.04]
    assert coefficients("adaptive", clip=0.08, floor=True) == [0.12, 0.07, 0.04, 0.03, 0.0]
    assert coefficients("sign_gated") == [0.08, 0.08, 0.04, 0.0, 0.0]
    assert coefficients("fixed") == [0.04] * 5


@pytest.mark.parametrize("beta_0", [0.04, 1 / 3])
def test_standardised_advantages_make_adaptive_the_sign_gate_exactly(beta_0: float) -> None:
    advantages = torch.tensor([-1.2, -0.4, 0.0, 0.4, 1.2])
    adaptive, gated = (
        kl_coefficient(advantages, kind=kind, beta_0=beta_0, clip=beta_0, floor=False)
        for kind in ("adaptive", "sign_gated")
    )
    # One rounding of beta_0 in float32; the zeros, which decide what is skipped, are exact.
    torch.testing.assert_close(adaptive, gated, rtol=1e-7, atol=0)
    assert adaptive[3:].tolist() == gated[3:].tolist() == [0.0, 0.0]


def test_coefficients_per_token_are_those_of_each_token() -> None:
    advantages = torch.tensor([[0.5, -0.01], [0.0, 0.02]], requires_grad=True)
    received = kl_coefficient(advantages, kind="adaptive", beta_0=0.04, clip=0.03, floor=False)
    expected = adaptive_coefficient(advantages.flatten(), beta_0=0.04, clip=(-0.03, 0.03))
    assert torch.equal(received.flatten(), expected)
    assert not received.requires_grad


def test_groups_without_variance() -> None:
    groups = [[1.0, 1.0, 2.0], [0.3, 0.3, 0.3], [NAN, 5.0, 5.0], [NAN] * 3, [NAN, 4.0, 5.0]]
    rewards = torch.tensor(groups).reshape(-1, 1)
    received = degenerate_rows(rewards, group_size=3).view(-1, 3)
    assert received.any(1).tolist() == [False, True, True, True, False]
    assert torch.equal(received.any(1), received.all(1))
    # Each reward by itself: the second alone tells the samples apart.
    both = torch.cat([torch.ones(3, 1), torch.tensor([[1.0], [2.0], [3.0]])], dim=1)
    assert not degenerate_rows(both, group_size=3).any()


def test_the_controller_follows_the_law_of_flow_models() -> None:
    controller = KLController(0.04, target=0.1)
    beta_0 = 0.04
    for kl in (0.0, 0.09, 0.1, 0.11, 5.0):
        controller.observe(kl * 30, 30)
        controller.observe(kl * 10, 10)
        controller.move()
        beta_0 = controlled(beta_0, divergence=kl, target=0.1)
        # float64: sums of two products.
        assert controller.beta_0 == pytest.approx(beta_0, rel=1e-12)
    controller.move()
    assert controller.beta_0 == pytest.approx(beta_0, rel=1e-12), "moved without a measurement"
    assert KLController(0.04, target=None).beta_0 == 0.04


# --- configuration ---


def test_defaults_are_the_papers(tmp_path: Path) -> None:
    options = config(tmp_path)
    assert (options.beta, options.clip_at(options.beta)) == (0.04, 0.04)
    assert not options.may_be_negative()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coefficient": "adaptiv"}, "coefficient: expected one of 'adaptive'"),
        ({"kl_estimator": "k4"}, "kl_estimator: expected one of 'k1', 'k2', 'k3'"),
        ({"negative_coefficient": "no"}, "negative_coefficient: expected one of"),
        ({"reference_rows": "some"}, "reference_rows: expected one of"),
        ({"advantage_clip": 0.0}, "advantage_clip: expected a number above 0"),
        ({"log_ratio_bound": -1.0}, "log_ratio_bound: expected a number above 0"),
        ({"target_kl": NAN}, "target_kl: expected a number above 0"),
        ({"beta": -0.1}, "beta: expected a number of at least 0"),
        ({"beta": 0.0}, "beta: expected beta_0 > 0 for coefficient 'adaptive'"),
        ({"advantage_clip": 0.08}, "expected at most beta_0 = 0.04, received 0.08"),
        ({"advantage_clip": 0.02, "target_kl": 0.1}, "which target_kl may lower"),
    ],
)
def test_impossible_options_fail_at_construction(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(AdrpoError, match=message):
        config(tmp_path, **options)


def test_the_command_line_form_knows_every_option() -> None:
    parser = HfArgumentParser(ADRPOConfig)  # type: ignore[arg-type]
    line = "--coefficient sign_gated --advantage_clip 0.02 --kl_estimator k2 --use_cpu --bf16 False"
    (parsed,) = parser.parse_args_into_dataclasses(line.split())
    assert (parsed.coefficient, parsed.advantage_clip, parsed.kl_estimator, parsed.beta) == (
        "sign_gated",
        0.02,
        "k2",
        0.04,
    )
    # A percent sign in a help text would raise here.
    assert "--log_ratio_bound" in parser.format_help()


def test_negative_coefficients_are_warned_about(model: str, tmp_path: Path) -> None:
    options = {"advantage_clip": 0.08, "negative_coefficient": "allow"}
    with pytest.warns(UserWarning, match=r"advantage_clip 0\.08 above beta_0 = 0\.04"):
        trainer = build(model, tmp_path, **options)
    assert scored(trainer)["kl_coefficient"].min() < 0
    assert trainer._metrics["train"]["adrpo/frac_negative_coef"][-1] > 0
    # Floored, the same clip neither warns nor rewards distance.
    floored = build(model, tmp_path, advantage_clip=0.08, negative_coefficient="floor")
    assert scored(floored)["kl_coefficient"].min() == 0


def test_an_estimator_without_gradient_is_warned_about(model: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="penalises nothing"):
        build(model, tmp_path, kl_estimator="k1", use_bias_correction_kl=False)


def test_a_config_of_stock_grpo_is_refused(model: str, tmp_path: Path) -> None:
    stock = GRPOConfig(str(tmp_path), use_cpu=True, bf16=False, report_to=[])
    with pytest.raises(AdrpoError, match="expected an ADRPOConfig, received a GRPOConfig"):
        ADRPOTrainer(model, count_a, stock, PROMPTS)  # type: ignore[arg-type]


def test_without_trl_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(AdrpoError, match=r'pip install "adrpo\[llm\]"'):
        _ = adrpo.llm.ADRPOTrainer


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


# --- rewards ---


def test_samples_without_score_and_groups_without_variance_have_beta_0(
    model: str, tmp_path: Path
) -> None:
    rewards = given(1.0, None, 0.0, 2.0, 3.0, 3.0, NAN, 3.0)
    batch = scored(build(model, tmp_path, reward=rewards))
    # Group one has the mean 1 and a row on it, group two no variance.
    assert batch["advantages"].sign().tolist() == [0, 0, -1, 1, 0, 0, 0, 0]
    coefficient = [round(value, 7) for value in batch["kl_coefficient"].tolist()]
    assert coefficient == [0.04, 0.04, 0.08, 0.0, 0.04, 0.04, 0.04, 0.04]
    without = build(model, tmp_path, reward=rewards, kl_on_degenerate_groups=False)
    coefficient = [round(value, 7) for value in scored(without)["kl_coefficient"].tolist()]
    assert coefficient == [0.04, 0.04, 0.08, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_the_sign_of_a_rounding_error_is_no_sign(model: str, tmp_path: Path) -> None:
    trainer = build(
        model,
        tmp_path,
        reward=given(*[0.3] * 6),
        coefficient="sign_gated",
        num_generations=6,
        per_device_train_batch_size=6,
    )
    batch = scored(trainer, [{"prompt": "a b c"}] * 6)
    # The mean of six times 0.3 is not 0.3 in float32, and its distance is divided by 1e-4.
    assert (batch["advantages"] != 0).all()
    assert torch.equal(batch["kl_coefficient"], torch.full((6,), 0.04))


@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
def test_a_batch_without_any_score_holds_to_the_reference(model: str, tmp_path: Path) -> None:
    trainer = build(model, tmp_path, reward=given(*[None] * 8))
    move(trainer)
    batch = scored(trainer)
    assert torch.equal(batch["kl_coefficient"], torch.full((8,), 0.04))
    results = loss_and_gradients(trainer, batch)
    assert all(result.isfinite().all() for result in results)
    assert results[0] > 0


@pytest.mark.parametrize(
    ("aggregation", "degenerate"),
    [("sum_then_normalize", True), ("normalize_then_sum", False)],
)
def test_two_rewards_that_cancel(
    aggregation: str, degenerate: bool, model: str, tmp_path: Path
) -> None:
    up, down = given(*[0.0, 1.0] * 4), given(*[1.0, 0.0] * 4)
    options = config(tmp_path, multi_objective_aggregation=aggregation)
    trainer: Any = ADRPOTrainer(model, [up, down], options, PROMPTS)  # type: ignore[list-item]
    scored(trainer)
    assert trainer._degenerate_rows(8).tolist() == [degenerate] * 8


def test_an_empty_completion_counts_nothing(model: str, tmp_path: Path) -> None:
    trainer = build(model, tmp_path, loss_type="dapo", reference_rows="all")
    move(trainer)
    batch = scored(trainer)
    batch["completion_mask"] = batch["completion_mask"].clone()
    batch["completion_mask"][0] = 0
    results = loss_and_gradients(trainer, batch)
    # Whatever stands in the row, nothing changes: tokens, advantage, coefficient, reference.
    other = {name: batch[name].clone() for name in ("advantages", "kl_coefficient")}
    other["ref_per_token_logps"] = batch["ref_per_token_logps"].clone()
    for values in other.values():
        values[0] = 3.0
    assert all(
        torch.equal(a, b)
        for a, b in zip(results, loss_and_gradients(trainer, batch | other), strict=True)
    )
    assert all(result.isfinite().all() for result in results)
    assert trainer._metrics["train"]["adrpo/weighted_kl"][-1] > 0


# --- metrics ---


@pytest.mark.parametrize("reference_rows", ["needed", "all"])
def test_metrics_are_what_the_table_says(reference_rows: str, model: str, tmp_path: Path) -> None:
    trainer = build(model, tmp_path, reference_rows=reference_rows, use_bias_correction_kl=False)
    move(trainer)
    batch = scored(trainer)
    loss_and_gradients(trainer, batch)
    logged = {name: values[-1] for name, values in trainer._metrics["train"].items()}

    with torch.no_grad():
        logps = log_probabilities(trainer.model, batch)
        reference = log_probabilities(trainer.ref_model, batch)
    kl = token_kl(logps, reference)
    mask = batch["completion_mask"].bool()
    beta, advantages = batch["kl_coefficient"], batch["advantages"]
    measured = mask if reference_rows == "all" else mask & (beta != 0)[:, None]
    up, down = measured & (advantages > 0)[:, None], measured & (advantages < 0)[:, None]
    expected = {
        "beta_0": 0.04,
        "coef_mean": beta.mean().item(),
        "coef_min": beta.min().item(),
        "coef_max": beta.max().item(),
        "saturated_frac": (advantages.abs() >= 0.04).float().mean().item(),
        "frac_negative_coef": 0.0,
        "reference_frac": measured.any(1).float().mean().item(),
        "kl": kl[measured].mean().item(),
        "kl_pos": kl[up].mean().item(),
        "kl_neg": kl[down].mean().item(),
        "weighted_kl": (beta[:, None] * kl)[mask].mean().item(),
    }
    received = {
        name.removeprefix("adrpo/"): value
        for name, value in logged.items()
        if name.startswith("adrpo/")
    }
    # float32: logits by two kernels.
    assert received == pytest.approx(expected, rel=1e-4, nan_ok=True)
    assert (expected["kl_pos"] != expected["kl_pos"]) == (reference_rows == "needed")
    # TRL's own mean is over the rows with a reference too.
    assert logged["kl"] == pytest.approx(expected["kl"], rel=1e-4)
    documented = (Path(__file__).parents[2] / "docs" / "llm.md").read_text(encoding="utf-8")
    assert all(f"`adrpo/{name}`" in documented for name in received)


# --- prompts and tokenizers ---


def test_a_prompt_beyond_the_context_stops_before_training(model: str, tmp_path: Path) -> None:
    long = " ".join(["b"] * CONTEXT)
    with pytest.raises(AdrpoError, match=f"context of {CONTEXT}, received {CONTEXT} for .*'b b"):
        ADRPOTrainer(model, count_a, config(tmp_path), Dataset.from_dict({"prompt": ["a", long]}))
    # Many bytes are not yet many tokens.
    word = Dataset.from_dict({"prompt": ["a", "b" * 2 * CONTEXT]})
    trainer: Any = ADRPOTrainer(model, count_a, config(tmp_path), word)
    # What cannot be looked at beforehand is checked batch by batch, roles and all.
    turns = [{"role": "user", "content": " ".join(["b"] * (CONTEXT - 2))}]
    with pytest.raises(AdrpoError, match=f"received {CONTEXT} for the prompt that begins 'b b"):
        trainer._tokenize_prompts([turns])


def test_a_tokenizer_without_pad_token_pads_with_eos(model: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(pad=False)
    # Arguments by position, as GRPOTrainer has them.
    arguments = config(tmp_path, max_completion_length=16)
    trainer: Any = ADRPOTrainer(model, count_a, arguments, PROMPTS, PROMPTS, tokenizer)
    assert tokenizer.pad_token == "<eos>"
    batch = scored(trainer)
    padding = batch["completion_mask"] == 0
    assert padding.any()
    assert (batch["completion_ids"][padding] == tokenizer.eos_token_id).all()
    # A completion's own eos counts, the padding behind it does not.
    assert ((batch["completion_ids"] == tokenizer.eos_token_id) & ~padding).any()


def test_a_tokenizer_with_neither_pad_nor_eos_token_is_refused(model: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(pad=False, eos=False)
    with pytest.raises(AdrpoError, match="expected a tokenizer with a pad or an eos token"):
        ADRPOTrainer(model, count_a, config(tmp_path), PROMPTS, processing_class=tokenizer)


# --- whole runs ---


@pytest.mark.parametrize("lora", [False, True])
def test_a_script_of_grpo_runs_saves_and_resumes(lora: bool, model: str, tmp_path: Path) -> None:
    def trainer(folder: str, **options: Any) -> Any:
        return ADRPOTrainer(
            model=model,
            reward_funcs=count_a,
            args=config(
                tmp_path / folder,
                target_kl=0.01,
                save_strategy="steps",
                save_steps=2,
                num_iterations=2,
                eval_strategy="steps",
                eval_steps=2,
                max_steps=4,
                gradient_checkpointing=lora,
                **options,
            ),
            train_dataset=PROMPTS,
            eval_dataset=PROMPTS.select(range(2)),
            peft_config=LoraConfig(r=2, target_modules=["q_proj", "v_proj"]) if lora else None,
        )

    whole = trainer("whole")
    before = {name: p.detach().clone() for name, p in whole.model.named_parameters()}
    whole.train()
    after = {name: p.detach() for name, p in whole.model.named_parameters()}
    moved = [name for name in after if not torch.equal(before[name], after[name])]
    assert moved
    assert all("lora" in name for name in moved) == lora

    checkpoint = tmp_path / "whole" / "checkpoint-2"
    state = json.loads((checkpoint / "adrpo_state.json").read_text())
    history = whole.state.log_history
    # Two steps on each batch: beta_0 moved once, by the KL of the first two.
    measured = state["kl_sum"] / state["tokens"]
    assert measured > 0
    beta_0 = [row["adrpo/beta_0"] for row in history if "adrpo/beta_0" in row]
    assert beta_0 == [0.04, pytest.approx(controlled(0.04, divergence=measured, target=0.01))]
    evaluations = [row for row in history if "eval_adrpo/reference_frac" in row]
    assert [row["eval_adrpo/reference_frac"] for row in evaluations] == [1.0, 1.0]

    resumed = trainer("resumed")
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert resumed.beta_0 == whole.beta_0
    for name, parameter in resumed.model.named_parameters():
        assert torch.equal(parameter, after[name]), name


def test_grpo_without_a_reference_is_still_there(model: str, tmp_path: Path) -> None:
    trainer = build(model, tmp_path, beta=0.0, coefficient="fixed")
    trainer.train()
    assert trainer.ref_model is None
    assert not any("adrpo/" in name for row in trainer.state.log_history for name in row)


def test_without_a_config_the_defaults_hold(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass
    class OnTheCPU(ADRPOConfig):
        use_cpu: bool = True
        bf16: bool | None = False

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("adrpo.llm.trainer.ADRPOConfig", OnTheCPU)
    trainer: Any = ADRPOTrainer(model, count_a, train_dataset=PROMPTS)
    assert trainer.args.output_dir == f"{Path(model).name}-ADRPO"
    assert trainer.beta == trainer.beta_0 == 0.04
