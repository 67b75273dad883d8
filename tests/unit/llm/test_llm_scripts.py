"""What a script does to the trainer from outside: callbacks, subclasses, TRL's other names."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback
from trl import GRPOTrainer

from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.llm import ADRPOTrainer
from adrpo.llm.coefficient import edited_coefficient
from adrpo.llm.context import bytes_of, long_prompts
from support.tiny_audio_trainers import AUDIO_MARKS, audio_trainer
from support.tiny_language_trainers import (
    NAN,
    PROMPTS,
    build,
    config,
    count_a,
    given,
    loss_and_gradients,
    move,
    scored,
)

pytestmark = AUDIO_MARKS
REWARDS = given(1.0, 0.0, 0.0, 2.0, 3.0, 3.0, 3.0, 3.0)


class Annealing(TrainerCallback):
    """Halves beta after each step; ``trainer`` is set once there is one."""

    trainer: Any = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.beta = self.trainer.beta / 2


def annealed(trainer: Any) -> list[float]:
    callback = Annealing()
    callback.trainer = trainer
    trainer.add_callback(callback)
    trainer.train()
    return [row["adrpo/beta_0"] for row in trainer.state.log_history if "adrpo/beta_0" in row]


# --- beta, set by a callback ---


def test_a_beta_that_a_callback_sets_takes_effect(model: str, tmp_path: Path) -> None:
    trainer = build(model, tmp_path, max_steps=3)
    assert annealed(trainer) == pytest.approx([0.04, 0.02, 0.01])
    # Of the samples with A < 0: twice the beta that the last step left.
    assert scored(trainer)["kl_coefficient"].max().item() == pytest.approx(0.01)


def test_an_audio_trainer_follows_it_too(tmp_path: Path) -> None:
    assert annealed(audio_trainer(tmp_path, max_steps=2)) == pytest.approx([0.04, 0.02])


@pytest.mark.parametrize("on_degenerate", [True, False])
def test_it_takes_effect_on_a_batch_that_was_scored_before(
    model: str, tmp_path: Path, on_degenerate: bool
) -> None:
    """As in stock GRPO, whose loss reads beta; of eight samples four have equal rewards."""
    options = {"reward": REWARDS, "kl_on_degenerate_groups": on_degenerate}
    trainer, fresh = (build(model, tmp_path, **options, beta=beta) for beta in (0.04, 0.02))
    batches = []
    for own in (trainer, fresh):
        move(own)
        batches.append(scored(own))
    trainer.beta = 0.02
    received = loss_and_gradients(trainer, batches[0])
    expected = loss_and_gradients(fresh, batches[1])
    assert all(torch.equal(a, b) for a, b in zip(received, expected, strict=True))


@pytest.mark.parametrize(
    ("options", "beta", "message"),
    [
        ({}, NAN, "expected a number >= 0, received nan"),
        ({}, -0.1, "expected a number >= 0, received -0.1"),
        ({"beta": 0.0, "coefficient": "fixed"}, 0.1, "made without a reference; received 0.1"),
        ({"advantage_clip": 0.03}, 0.02, "expected at least advantage_clip = 0.03, received 0.02"),
    ],
)
def test_a_beta_that_can_t_be_is_refused(
    model: str, tmp_path: Path, options: dict[str, Any], beta: float, message: str
) -> None:
    trainer = build(model, tmp_path, **options)
    trainer.beta = beta
    with pytest.raises(AdrpoError, match=message):
        scored(trainer)


def test_beta_may_go_to_0_and_come_back(model: str, tmp_path: Path) -> None:
    """The batch between was scored without a reference, which a later loss needs."""
    trainer = build(model, tmp_path, reward=REWARDS)
    move(trainer)
    expected = loss_and_gradients(trainer, scored(trainer))
    trainer.beta = 0.0
    batch = scored(trainer)
    assert "ref_per_token_logps" not in batch
    plain = loss_and_gradients(trainer, batch)
    trainer.beta = 0.04
    received = loss_and_gradients(trainer, batch)
    assert not torch.equal(plain[0], received[0])
    # The same but for the group of equal rewards, whose advantages are exactly 0 here.
    for a, b in zip(received, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_a_checkpoint_keeps_it(model: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    annealed(build(model, tmp_path, **options))
    state = json.loads((tmp_path / "checkpoint-1" / "adrpo_state.json").read_text())
    assert state["beta_0"] == 0.02
    resumed = build(model, tmp_path, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert resumed.beta == resumed.beta_0 == 0.02


# --- subclasses ---


class Bonus(ADRPOTrainer):
    """Turns the advantages after they were scored, as shaping does."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        batch["advantages"] = -batch["advantages"]
        return batch


def test_edited_advantages_give_the_coefficients_of_the_new_ones(
    model: str, tmp_path: Path
) -> None:
    """Those of samples that were left out of the reference pass, too."""
    trainer: Any = Bonus(model, REWARDS, config(tmp_path), PROMPTS)
    stock = build(model, tmp_path, reward=given(-1.0, 0.0, 0.0, -2.0, 3.0, 3.0, 3.0, 3.0))
    for own in (trainer, stock):
        move(own)
    turned = scored(trainer)
    left_out = turned["ref_per_token_logps"].isnan().all(dim=1)
    assert left_out.any()
    received = loss_and_gradients(trainer, turned)
    assert all(result.isfinite().all() for result in received)
    assert not turned["ref_per_token_logps"][left_out & (turned["advantages"] != 0)].isnan().any()

    from adrpo.llm.coefficient import kl_coefficient

    advantages = turned["advantages"]
    coefficient = kl_coefficient(advantages, kind="adaptive", beta_0=0.04, clip=0.04, floor=False)
    told = scored(stock) | {"advantages": advantages, "kl_coefficient": coefficient}
    told.pop("scored_advantages")
    told.pop("reference_rows")
    told["ref_per_token_logps"] = stock._reference_logps(told, torch.ones(8, dtype=torch.bool))
    for a, b in zip(received, loss_and_gradients(stock, told), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


class OwnLoss(ADRPOTrainer):
    """A loss that reads the batch by itself."""

    seen: list[Tensor]

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self.seen = [*getattr(self, "seen", []), inputs["ref_per_token_logps"]]
        return GRPOTrainer._compute_loss(self, model, inputs)


def test_a_subclass_with_its_own_loss_meets_no_row_without_a_reference(
    model: str, tmp_path: Path
) -> None:
    trainer: Any = OwnLoss(model, count_a, config(tmp_path), PROMPTS)
    trainer.train()
    assert len(trainer.seen) == 2
    assert all(logps.isfinite().all() for logps in trainer.seen)


def test_edits_are_followed_row_by_row() -> None:
    advantages = torch.tensor([0.01, -0.03, 0.0, 0.02])
    batch = {
        "advantages": advantages.clone(),
        "scored_advantages": advantages,
        # The third row is of a group of equal rewards, left out of the KL.
        "kl_advantages": advantages,
        "kl_coefficient": torch.tensor([0.03, 0.07, 0.0, 0.5]),
        "scored_beta": torch.full((4,), 0.04, dtype=torch.float64),
    }

    def follow(**options: Any) -> list[float]:
        options = {"beta_0": 0.04, "on_degenerate_groups": False} | options
        _, found = edited_coefficient(batch, lambda a: options["beta_0"] - a, **options)
        return [round(value, 6) for value in found.flatten().tolist()]

    # Nothing was edited: whatever stands there holds.
    assert follow() == [0.03, 0.07, 0.0, 0.5]
    batch["advantages"][1] = 0.04
    assert follow() == [0.03, 0.0, 0.0, 0.5]
    assert follow(beta_0=0.02) == [0.01, -0.02, 0.0, 0.0]
    assert follow(beta_0=0.02, on_degenerate_groups=True) == [0.01, -0.02, 0.02, 0.0]
    batch["advantages"] = torch.full((4, 2), 0.01)
    assert follow() == [0.03] * 8


# --- options and names ---


def test_beta_0_written_out_is_plain_grpo_and_said_once(model: str, tmp_path: Path) -> None:
    def trained(kind: type, arguments: Any) -> dict[str, Tensor]:
        trainer = kind(model, count_a, arguments, PROMPTS)
        trainer.train()
        return {name: own.detach() for name, own in trainer.model.named_parameters()}

    with pytest.warns(AdrpoWarning, match="beta is 0: this is plain GRPO") as told:
        received = trained(ADRPOTrainer, config(tmp_path, beta=0.0))
    assert len([one for one in told if issubclass(one.category, AdrpoWarning)]) == 1
    arguments = config(tmp_path, beta=0.0)
    arguments.taken = True  # stock GRPO with the same options
    expected = trained(GRPOTrainer, arguments)
    assert all(torch.equal(own, received[name]) for name, own in expected.items())


@pytest.mark.parametrize("options", [{"advantage_clip": 0.1}, {"coefficient": "sign_gated"}])
def test_with_beta_0_no_option_of_the_coefficient_is_wrong(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    assert config(tmp_path, beta=0.0, **options).beta == 0
    with pytest.raises(AdrpoError, match="beta: expected a number above 0, received 0"):
        config(tmp_path, beta=0.0, target_kl=0.1)


def test_stock_grpo_with_our_config_does_not_train_in_silence(model: str, tmp_path: Path) -> None:
    trainer: Any = GRPOTrainer(model, count_a, config(tmp_path), PROMPTS)
    before = [own.clone() for own in trainer.model.parameters()]
    with pytest.raises(AdrpoError, match="expected a GRPOConfig, received an ADRPOConfig"):
        trainer.train()
    assert all(torch.equal(*pair) for pair in zip(before, trainer.model.parameters(), strict=True))


def test_a_mean_of_nothing_is_not_logged(model: str, tmp_path: Path) -> None:
    """TensorBoard's callback warns of each None, at each step."""
    trainer = build(model, tmp_path)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "adrpo/kl_neg" in row]
    assert len(rows) == 2
    for row in rows:
        assert None not in [value for name, value in row.items() if "kl" in name]
        assert "adrpo/kl_pos" not in row


# --- the constructor ---

FORMS: dict[str, list[Any]] = {
    "text": ["a", "ä" * 30, "b" * 50, "c" * 47, ""],
    "conversation": [
        [{"role": "user", "content": "a"}],
        [{"role": "system", "content": "b" * 30}, {"role": "user", "content": "ä" * 10}],
        [],
        [{"role": "user", "content": "c" * 47}],
        [{"role": "user", "content": "c" * 48}],
    ],
    "parts": [[{"role": "user", "content": [{"type": "text", "text": "d" * 60}]}]],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chosen", [None, [4, 1], [0]])
def test_long_prompts_are_those_of_many_bytes(form: str, chosen: list[int] | None) -> None:
    """Read from Arrow and counted one by one; of a selection, too, which Arrow holds whole."""
    data = Dataset.from_dict({"prompt": FORMS[form], "other": list(range(len(FORMS[form])))})
    if chosen is not None:
        data = data.select([row for row in chosen if row < len(data)])
    expected = [row for row, prompt in enumerate(data["prompt"]) if bytes_of(prompt) >= 48]
    assert long_prompts(data, 48) == expected


def test_the_look_at_the_prompts_makes_no_object_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100,000 prompts that took about a second, of a stock constructor's few."""
    prompts = [[{"role": "user", "content": f"What is {n} + 1?"}] for n in range(100)]

    def counted_one_by_one(prompt: object) -> int:
        raise AssertionError(f"{prompt} was taken out of Arrow")

    monkeypatch.setattr("adrpo.llm.context.bytes_of", counted_one_by_one)
    for column in (prompts, [turns[0]["content"] for turns in prompts]):
        assert long_prompts(Dataset.from_dict({"prompt": column}), 4096) == []
