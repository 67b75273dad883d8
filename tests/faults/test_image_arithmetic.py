"""Arithmetic that is wrong without an error is found before a text-to-image model trains on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adrpo.errors import AdrpoError
from adrpo.flow.models.families.stable_diffusion_3 import StableDiffusion3Policy
from adrpo.flow.training.adrpo import FlowTrainer
from support.tiny_runs import darkness, perturb, tiny_config

VELOCITIES, BATCH, PIXELS, OFF, FINITE, LOST = range(6)


@pytest.fixture
def trainer() -> FlowTrainer:
    made = FlowTrainer(tiny_config(), reward=darkness)
    assert isinstance(made.policy, StableDiffusion3Policy)
    perturb(made.policy)
    return made


@contextmanager
def planted(module: nn.Module, fault: Any) -> Iterator[None]:
    """``fault(output)`` in the place of the output of ``module``."""
    hook = module.register_forward_hook(lambda _module, _arguments, output: fault(output))
    try:
        yield
    finally:
        hook.remove()


def test_a_sound_model_passes_and_is_left_as_it_was(trainer: FlowTrainer) -> None:
    numbers, calls = torch.get_rng_state(), trainer.policy.model_calls
    state = {name: value.clone() for name, value in trainer.policy.adapter_state().items()}
    # A network that draws, as one with dropout would.
    with planted(trainer.policy.pipeline.transformer, lambda output: (torch.rand(1), output)[1]):
        trials = trainer.tried()
    assert len(trials) == 7 and all(trial.holds for trial in trials), list(map(str, trials))
    assert trainer.policy.model_calls == calls
    assert torch.equal(torch.get_rng_state(), numbers)
    assert all(torch.equal(state[n], value) for n, value in trainer.policy.adapter_state().items())
    assert all(parameter.grad is None for parameter in trainer.policy.adapter_parameters())


def test_a_kernel_that_depends_on_the_batch_is_found(trainer: FlowTrainer, tmp_path: Path) -> None:
    def fault(output: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (output[0] * (1.01 if len(output[0]) > 1 else 1.0), *output[1:])

    with planted(trainer.policy.pipeline.transformer, fault):
        trials = trainer.tried()
        assert [trial.holds for trial in trials] == [True, False] + 5 * [True]
        with pytest.raises(AdrpoError, match=r"alone, and in a batch: expected at most 0\.001 bef"):
            trainer.train(tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "evaluations.jsonl").exists()


def test_another_reference_than_the_base_is_found(
    trainer: FlowTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.policy.pipeline.transformer, "disable_adapters", lambda: None)
    monkeypatch.setattr(trainer.policy.pipeline.transformer, "enable_adapters", lambda: None)
    assert [trial.holds for trial in trainer.tried()][: OFF + 1] == 3 * [True] + [False]


def test_pixels_that_are_not_finite_are_counted(trainer: FlowTrainer) -> None:
    decoder = trainer.policy.pipeline.vae
    decode = decoder.decode

    def spoilt(*arguments: Any, **named: Any) -> Any:
        found = decode(*arguments, **named)
        pixels = found[0] if isinstance(found, tuple) else found.sample
        pixels[0] = float("inf")
        return found

    decoder.decode = spoilt
    pixels = trainer.tried()[PIXELS]
    assert pixels.value == 1 and not pixels.holds


def test_gradients_that_are_rounded_to_0_are_counted(trainer: FlowTrainer) -> None:
    for parameter in trainer.policy.adapter_parameters():
        parameter.register_hook(lambda grad: (grad * 2.0**-24).half().float())
    trials = trainer.tried()
    assert not trials[LOST].holds and trials[FINITE].holds


def test_a_loss_that_is_not_finite_is_found(trainer: FlowTrainer) -> None:
    with planted(
        trainer.policy.pipeline.transformer,
        lambda output: (output[0] * float("nan"), *output[1:]),
    ):
        trials = trainer.tried()
    assert not any(trials[place].holds for place in (VELOCITIES, BATCH, OFF, FINITE))
