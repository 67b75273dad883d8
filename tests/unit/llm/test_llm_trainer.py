"""The trainer of language models: options, rewards, metrics, bad input, whole runs."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig
from transformers import HfArgumentParser
from trl import GRPOConfig

import adrpo.llm
from adrpo import AdrpoError, token_kl
from adrpo.core.controller import controlled
from adrpo.errors import AdrpoWarning
from adrpo.llm import ADRPOConfig, ADRPOTrainer
from support.tiny_language_model import CONTEXT, tiny_tokenizer
from support.tiny_language_trainers import (
    INF,
    LANGUAGE_MARKS,
    NAN,
    PROMPTS,
    build,
    config,
    count_a,
    given,
    log_probabilities,
    loss_and_gradients,
    move,
    scored,
)

pytestmark = LANGUAGE_MARKS


# --- configuration ---


def test_defaults_are_the_papers(tmp_path: Path) -> None:
    options = config(tmp_path)
    assert (options.beta, options.clip_at(options.beta)) == (0.04, 0.04)
    assert not options.may_be_negative()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coefficient": "adaptiv"}, "coefficient: expected 'adaptive', 'sign_gated'"),
        ({"kl_estimator": "k4"}, "kl_estimator: expected 'k1', 'k2' or 'k3'"),
        ({"negative_coefficient": "no"}, "negative_coefficient: expected 'refuse', 'floor'"),
        ({"reference_rows": "some"}, "reference_rows: expected 'needed' or 'all'"),
        ({"advantage_clip": 0.0}, "advantage_clip: expected a number > 0"),
        ({"log_ratio_bound": -1.0}, "log_ratio_bound: expected a number > 0"),
        ({"target_kl": NAN}, "target_kl: expected a number > 0"),
        ({"beta": -0.1}, "beta: expected a number >= 0"),
        ({"beta": 0.0, "target_kl": 0.1}, "beta: expected a number above 0, received 0, which"),
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
    with pytest.warns(AdrpoWarning, match=r"advantage_clip 0\.08 above beta_0 = 0\.04"):
        trainer = build(model, tmp_path, **options)
    batch = scored(trainer)
    negative = batch["kl_coefficient"] < 0
    # They have a reference: away from it they are pushed.
    assert negative.any() and batch["reference_rows"][negative].all()
    assert batch["ref_per_token_logps"][negative].isfinite().all()
    assert trainer._metrics["train"]["adrpo/frac_negative_coef"][-1] > 0
    # Floored, the same clip neither warns nor rewards distance.
    floored = build(model, tmp_path, advantage_clip=0.08, negative_coefficient="floor")
    assert scored(floored)["kl_coefficient"].min() == 0


def test_an_estimator_without_gradient_is_warned_about(model: str, tmp_path: Path) -> None:
    with pytest.warns(AdrpoWarning, match="penalises nothing"):
        build(model, tmp_path, kl_estimator="k1", use_bias_correction_kl=False)


def test_a_config_of_stock_grpo_is_refused(model: str, tmp_path: Path) -> None:
    stock = GRPOConfig(str(tmp_path), use_cpu=True, bf16=False, report_to=[])
    with pytest.raises(AdrpoError, match="expected an ADRPOConfig, received a GRPOConfig"):
        ADRPOTrainer(model, count_a, stock, PROMPTS)  # type: ignore[arg-type]


def test_without_trl_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(AdrpoError, match=r"pip install '\.\[llm\]' in the folder of adrpo"):
        _ = adrpo.llm.ADRPOTrainer


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


@pytest.mark.parametrize("infinite", [INF, -INF])
def test_an_infinite_reward_is_no_score(infinite: float, model: str, tmp_path: Path) -> None:
    """TRL alone would give its whole group no advantage."""
    rewards = (1.0, None, 0.0, 2.0, 3.0, 1.0, 2.0, 3.0)
    expected, found = (
        scored(build(model, tmp_path, reward=given(rewards[0], value, *rewards[2:])))
        for value in (None, infinite)
    )
    assert found["advantages"][:4].sign().tolist() == [0, 0, -1, 1]
    for name in ("advantages", "kl_coefficient"):
        assert torch.equal(found[name], expected[name])


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
    # A mean of nothing is not logged.
    assert (expected["kl_pos"] != expected["kl_pos"]) == (reference_rows == "needed")
    known = {name: value for name, value in expected.items() if value == value}
    # float32: logits by two kernels.
    assert received == pytest.approx(known, rel=1e-4)
    # TRL's own mean is over the rows with a reference too.
    assert logged["kl"] == pytest.approx(expected["kl"], rel=1e-4)
    documented = (Path(__file__).parents[3] / "docs" / "use" / "llm.md").read_text(encoding="utf-8")
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


def test_prompts_that_leave_too_little_of_the_context_are_told_of_once(
    model: str, tmp_path: Path
) -> None:
    """At the start where they are at hand, otherwise at the first batch with one."""
    texts = ["a", " ".join(["b"] * (CONTEXT - 5)), " ".join(["b"] * (CONTEXT - 4))]
    data = Dataset.from_dict({"prompt": texts})
    with pytest.warns(AdrpoWarning, match=r"1 of 3 leave less .* = 5 in .* 48 .* leaves 4: lower"):
        trainer: Any = ADRPOTrainer(model, count_a, config(tmp_path), data)
    trainer._tokenize_prompts(texts)
    stream = IterableDataset.from_generator(lambda: iter([{"prompt": text} for text in texts]))
    trainer = ADRPOTrainer(model, count_a, config(tmp_path), stream)
    trainer._tokenize_prompts(texts[:2])
    with pytest.warns(AdrpoWarning, match="1 of 3 of a batch leave less"):
        trainer._tokenize_prompts(texts)
    trainer._tokenize_prompts(texts)


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


def test_uses_of_the_adapters_base_nest(model: str, tmp_path: Path) -> None:
    adapter = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    trainer: Any = ADRPOTrainer(model, count_a, config(tmp_path), PROMPTS, peft_config=adapter)
    move(trainer)
    ids = torch.tensor([[3, 4, 5]])

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return trainer.model(input_ids=ids).logits

    before = logits()
    with trainer._reference():
        base = logits()
        with trainer._reference():
            assert torch.equal(logits(), base)
        assert torch.equal(logits(), base)
    assert torch.equal(logits(), before) and not torch.equal(base, before)


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
    with pytest.warns(AdrpoWarning, match="4 of 4 leave less room"):  # than TRL's default of 512
        trainer: Any = ADRPOTrainer(model, count_a, train_dataset=PROMPTS)
    assert trainer.args.output_dir == f"{Path(model).name}-ADRPO"
    assert trainer.beta == trainer.beta_0 == 0.04
