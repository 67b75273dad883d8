"""Trainers of the tiny Thinker, and its log-probabilities without any of the trainer's code."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor

from adrpo.audio import AudioADRPOTrainer
from support.tiny_language_trainers import LANGUAGE_MARKS, config
from support.tiny_thinker import RATE, asked, tiny_processor, tiny_thinker, tone

AUDIO_MARKS = [
    *LANGUAGE_MARKS,
    # Sixteen mels are few for 400 samples' bands, not too many; transformers says it anyway.
    pytest.mark.filterwarnings("ignore:At least one mel filter:UserWarning"),
]

# Of log-probabilities: both sides are float32, but a batch is padded and its matrices are
# multiplied in another order.
ROUNDING = {"atol": 2e-5, "rtol": 0.0}

# One clip; another; two clips of other lengths; none. The text tells which.
QUESTIONS: dict[str, list[dict[str, Any]]] = {
    "a": [tone(300, 0.5)],
    "b": [tone(3000, 0.5)],
    "c d": [tone(500, 0.2), tone(5000, 1.3)],
    "e f g": [],
}
# Clips of one length, so that nothing but their values tells them apart.
ALIKE = {letter: [tone(200.0 * 2**index, 0.3)] for index, letter in enumerate("abcdef")}


def rows_of(questions: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [{"prompt": asked(text), "audio": clips or None} for text, clips in questions.items()]


def score_letters(completions: list[Any], **columns: Any) -> list[float | None]:
    return [float(sum(map(ord, turns[0]["content"])) % 7) for turns in completions]


def audio_trainer(
    folder: Path,
    questions: dict[str, list[Any]] = QUESTIONS,
    reward: Any = score_letters,
    model: Any = None,
    more: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    data = Dataset.from_list(rows_of(questions))
    return AudioADRPOTrainer(
        tiny_thinker() if model is None else model,
        reward,
        config(folder, **options),
        data,
        **({"processing_class": tiny_processor()} | (more or {})),
    )


def row_ids(batch: dict[str, Any], row: int) -> tuple[list[int], list[int]]:
    """Tokens of the prompt and of the completion, without padding."""
    parts = []
    for part in ("prompt", "completion"):
        mask = batch[f"{part}_mask"][row].bool()
        parts.append(batch[f"{part}_ids"][row][mask].tolist())
    return parts[0], parts[1]


def logps_alone(
    model: Any, batch: dict[str, Any], row: int, questions: dict[str, list[Any]]
) -> Tensor:
    """log pi of a row's completion by the Thinker itself, with no other row in the batch.

    The clips are those of the question that the row's prompt holds, their features padded to what
    the model hears at most, as transformers' processor leaves them.
    """
    prompt, completion = row_ids(batch, row)
    processor = tiny_processor()
    words = processor.tokenizer.decode(prompt, skip_special_tokens=True).split()
    clips = questions[" ".join(word for word in words if len(word) == 1)]
    inputs = {}
    if clips:
        heard = processor.feature_extractor(
            [clip["array"] for clip in clips],
            sampling_rate=RATE,
            return_attention_mask=True,
            return_tensors="pt",
        )
        assert heard["input_features"].shape[2] == 400
        inputs["input_features"] = heard["input_features"]
        inputs["feature_attention_mask"] = heard["attention_mask"]
    ids = torch.tensor([prompt + completion])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs).logits
    logps = logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None]).squeeze(1)
    return logps[len(prompt) - 1 :]


def scores(trainer: Any, batch: dict[str, Any], clips: Any = None, size: int | None = 3) -> Tensor:
    """log pi of the trainer's own scoring; 0 at padding."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad(), trainer._hearing(batch["audio"] if clips is None else clips):
        logps, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, batch["completion_ids"].shape[1], batch_size=size
        )
    return logps * batch["completion_mask"]


def scores_alone(trainer: Any, batch: dict[str, Any], questions: dict[str, list[Any]]) -> Tensor:
    """:func:`logps_alone` of every row; 0 at padding."""
    logps = torch.zeros(batch["completion_ids"].shape)
    for row in range(len(logps)):
        alone = logps_alone(trainer.model, batch, row, questions)
        logps[row, : len(alone)] = alone
    return logps
