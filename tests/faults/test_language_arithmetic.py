"""Arithmetic that is wrong without an error is found before a language model trains on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import IterableDataset
from peft import LoraConfig
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from adrpo.data.base import Prompt
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.llm import ADRPOTrainer
from adrpo.llm.trial import FEW_PADDINGS, try_arithmetic, try_before_training
from adrpo.runs.findings import Findings
from adrpo.runs.trials import check_trials, tell
from support.tiny_language_model import CONTEXT
from support.tiny_language_trainers import LANGUAGE_MARKS, build, config, count_a, move

pytestmark = LANGUAGE_MARKS

PROMPTS = [Prompt("a b c"), Prompt("d e f g h")]
LORA = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
SCORED, PADDED, GENERATED, OFF, FINITE = range(5)


def tried(trainer: Any) -> list[Any]:
    return try_arithmetic(trainer, PROMPTS)


@contextmanager
def planted(module: nn.Module, fault: Any) -> Iterator[None]:
    """``fault(arguments, output)`` in the place of the output of ``module``."""
    hook = module.register_forward_hook(
        lambda _module, arguments, keywords, output: fault(keywords, output), with_kwargs=True
    )
    try:
        yield
    finally:
        hook.remove()


def test_a_sound_model_passes_and_is_left_as_it_was(model: str, tmp_path: Path) -> None:
    trainer = build(model, tmp_path, peft_config=LORA)
    move(trainer)
    weights = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    numbers = torch.get_rng_state()
    trials = tried(trainer)
    assert len(trials) == 7 and all(trial.holds for trial in trials), list(map(str, trials))
    # In float32 no difference is larger than its rounding.
    assert max(trial.value for trial in trials) < 1e-4
    assert torch.equal(torch.get_rng_state(), numbers)
    assert all(torch.equal(weights[name], t) for name, t in trainer.model.state_dict().items())
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_a_mask_that_fails_at_one_padding_in_32_is_found(model: str, tmp_path: Path) -> None:
    """As transformers' SDPA mask did on some GPUs: left-padded by 1 modulo 32 logits jump."""
    trainer = build(model, tmp_path)

    def jump(keywords: dict[str, Any], output: Any) -> Any:
        mask = keywords.get("attention_mask")
        if mask is not None and mask.ndim == 2:
            rows = (mask.shape[1] - mask.sum(1)) % 32 == 1
            states = output.last_hidden_state
            states[rows] += 4 * torch.linspace(-1, 1, states.shape[-1])
        return output

    with planted(trainer.model.model, jump):
        few = try_arithmetic(trainer, PROMPTS, paddings=FEW_PADDINGS)
        assert not few[PADDED].holds, "what a run tries before its first step"
        trials = tried(trainer)
        assert not trials[PADDED].holds and "left-padded by " in trials[PADDED].what
        assert int(trials[PADDED].what.split()[-1]) in (1, 33)
        with pytest.raises(AdrpoError, match=r"left-padded by .* expected at most 0\.001 .*eager"):
            check_trials(trials)
    lines: list[str] = []
    findings = Findings(lines.append)
    tell(findings, trials)
    assert findings.broken >= 1 and "BROKEN" in lines[1] and "limit 0.001" in lines[1]


def test_generation_at_another_temperature_passes(model: str, tmp_path: Path) -> None:
    trials = tried(build(model, tmp_path, temperature=0.5))
    assert all(trial.holds for trial in trials), list(map(str, trials))


def test_positions_that_count_the_padding_are_found(tmp_path: Path, model: str) -> None:
    """GPT-2 adds learned positions, which TRL's scoring counts from the padding on."""
    folder = tmp_path / "gpt2"
    tokenizer = build(model, tmp_path / "first").processing_class
    torch.manual_seed(0)
    size = GPT2Config(
        vocab_size=len(tokenizer), n_positions=128, n_embd=16, n_layer=1, n_head=2,
        eos_token_id=tokenizer.eos_token_id, initializer_range=0.5,
    )  # fmt: skip
    GPT2LMHeadModel(size).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    trials = tried(build(str(folder), tmp_path / "second"))
    assert not trials[PADDED].holds and not trials[GENERATED].holds


def test_another_reference_than_the_base_is_found(model: str, tmp_path: Path) -> None:
    trainer = build(model, tmp_path, peft_config=LORA)
    layer = next(part for name, part in trainer.model.named_modules() if name.endswith("v_proj"))
    # Merged into the weights, and not taken out where the adapter is off.
    move(trainer)
    original = type(layer).forward

    def merged(own: Any, x: Any, *arguments: Any, **named: Any) -> Any:
        own._disable_adapters, kept = False, own._disable_adapters
        try:
            return original(own, x, *arguments, **named)
        finally:
            own._disable_adapters = kept

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(layer), "forward", merged)
        trials = tried(trainer)
    assert not trials[OFF].holds and trials[PADDED].holds and trials[GENERATED].holds


@pytest.mark.parametrize("scale", [1.0, 2.0**-20])
def test_gradients_that_a_number_type_rounds_to_0_are_counted(
    model: str, tmp_path: Path, scale: float
) -> None:
    """A loss as small as ``scale`` makes the gradients of float16 vanish; those of float32 stay."""
    trainer = build(model, tmp_path, peft_config=LORA)

    def flush(grad: torch.Tensor) -> torch.Tensor:
        return (grad * scale).half().float()

    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            parameter.register_hook(flush)
    *_, lost, _ = tried(trainer)
    assert lost.holds == (scale == 1.0)


@pytest.mark.parametrize(("dtype", "holds"), [("bfloat16", True), ("float16", False)])
def test_moments_that_a_number_type_rounds_to_0_are_found(
    model: str, tmp_path: Path, dtype: str, holds: bool
) -> None:
    """Adam divides by their root: float16 weights took steps that ruined the model."""
    trainer = build(model, tmp_path, model_init_kwargs={"dtype": dtype})
    *_, moments = tried(trainer)
    assert moments.holds == holds, str(moments)


def test_numbers_that_are_not_finite_are_found(model: str, tmp_path: Path) -> None:
    trainer = build(model, tmp_path, peft_config=LORA)

    def spoil(_: Any, output: Any) -> Any:
        output.last_hidden_state[:] = float("nan")
        return output

    with planted(trainer.accelerator.unwrap_model(trainer.model).get_base_model().model, spoil):
        trials = tried(trainer)
    assert [trial.holds for trial in trials][: FINITE + 1] == [False] * 5


def test_a_prompt_that_fills_the_context_is_tried_without_padding(
    model: str, tmp_path: Path
) -> None:
    trainer = build(model, tmp_path)
    with pytest.warns(AdrpoWarning, match="2 of 2 of a batch leave less room"):
        trials = try_arithmetic(trainer, [Prompt(" ".join("a" * (CONTEXT - 1)))])
    assert all(trial.holds for trial in trials)
    assert not any("left-padded" in trial.what for trial in trials)


# --- a script's own trainer ---


@pytest.mark.parametrize("lora", [False, True])
def test_a_script_trains_to_the_same_weights_with_the_trial_and_without(
    lora: bool, model: str, tmp_path: Path
) -> None:
    def trained(tries: bool) -> dict[str, torch.Tensor]:
        trainer = build(model, tmp_path, peft_config=LORA if lora else None, try_arithmetic=tries)
        move(trainer)
        torch.manual_seed(3)  # what is drawn before the first step moves what training draws
        before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        trainer.train()
        after = {name: p.detach() for name, p in trainer.model.named_parameters()}
        assert any(not torch.equal(after[name], before[name]) for name in after)
        return after

    with_it, without = trained(True), trained(False)
    assert all(torch.equal(with_it[name], without[name]) for name in without)


def test_a_script_with_a_fault_is_refused_once_before_its_first_step(
    model: str, tmp_path: Path
) -> None:
    trainer = build(model, tmp_path, save_strategy="steps", save_steps=1)

    def jump(keywords: dict[str, Any], output: Any) -> Any:
        mask = keywords.get("attention_mask")
        if mask is not None and mask.ndim == 2:
            output.last_hidden_state[mask.sum(1) < mask.shape[1]] *= 2
        return output

    with planted(trainer.model.model, jump):
        with pytest.raises(AdrpoError, match=r"left-padded by .*try_arithmetic=False"):
            trainer.train()
        assert trainer.state.global_step == 0 and not list(tmp_path.glob("checkpoint-*"))
        trainer.args.try_arithmetic = False
        trainer.train()
        # What a checkpoint goes on with was tried when it began.
        trainer.args.try_arithmetic = True
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_streams_are_tried_by_their_first_rows(model: str, tmp_path: Path) -> None:
    read: list[int] = []

    def rows() -> Iterator[dict[str, str]]:
        for number, text in enumerate(["a b c", "d e f", "g h", "i j"]):
            read.append(number)
            yield {"prompt": text}

    trainer = ADRPOTrainer(
        model, count_a, config(tmp_path), IterableDataset.from_generator(rows)
    )  # fmt: skip
    try_before_training(trainer)
    assert read == [0, 1]
