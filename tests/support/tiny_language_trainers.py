"""Trainers of the tiny language model, one step at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor

from adrpo.llm import ADRPOConfig, ADRPOTrainer

LANGUAGE_MARKS = [
    pytest.mark.usefixtures("frozen_imports"),
    # TRL still passes and reads transformers' old name of activation checkpointing.
    pytest.mark.filterwarnings(
        r"ignore:`(is_)?gradient_checkpointing\w*` is deprecated:FutureWarning"
    ),
]
"""For every module that trains by TRL."""

PROMPTS = Dataset.from_dict({"prompt": ["a b c", "d e f", "g h", "i j k l"]})
TWO_GROUPS = [{"prompt": "a b c"}] * 4 + [{"prompt": "d e"}] * 4
NAN = float("nan")
INF = float("inf")

Reward = Callable[..., list[float | None]]


SETTINGS: dict[str, Any] = {
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
"""As stock GRPO's configuration takes them, too."""


def config(folder: Path, **options: Any) -> ADRPOConfig:
    return ADRPOConfig(str(folder), **(SETTINGS | options))


def count_a(completions: list[str], **columns: Any) -> list[float | None]:
    return [float(text.split().count("a")) for text in completions]


def small_steps(completions: list[str], **columns: Any) -> list[float | None]:
    """Differences below beta_0 = 0.04: no coefficient saturates without a scale."""
    return [0.0003 * sum(map(ord, text)) / 10 for text in completions]


def given(*rewards: float | None) -> Reward:
    return lambda completions, **columns: list(rewards)[: len(completions)]


def build(
    model: str, folder: Path, reward: Reward = count_a, peft_config: Any = None, **options: Any
) -> Any:
    arguments = config(folder, **options)
    return ADRPOTrainer(model, reward, arguments, PROMPTS, peft_config=peft_config)


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
