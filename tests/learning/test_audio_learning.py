"""The tiny Thinker learns to say which tone it hears, and says it from the sound alone."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from adrpo.audio import AudioADRPOTrainer, AudioRun
from adrpo.config import load_recipe
from adrpo.runs.directory import RunDirectory
from support.tiny_audio_trainers import AUDIO_MARKS
from support.tiny_language_trainers import config
from support.tiny_thinker import asked, tiny_processor, tiny_thinker, tone

pytestmark = AUDIO_MARKS

ANSWERS = ["high", "low"]


def questions(count: int, seed: int) -> list[dict[str, Any]]:
    """Tones above 2000 Hz and below 700 Hz in turn; the text says nothing of them."""
    drawn = random.Random(seed)
    rows = []
    for number in range(count):
        hertz = drawn.uniform(150, 700) if number % 2 else drawn.uniform(2000, 5000)
        clip = tone(hertz, drawn.uniform(0.15, 0.4))
        text = f"which {drawn.choice('abcd')}"
        rows.append({"prompt": asked(text), "audio": clip, "answer": ANSWERS[number % 2]})
    return rows


def is_right(completions: list[Any], answer: list[str], **columns: Any) -> list[float | None]:
    texts = [turns[0]["content"].strip() for turns in completions]
    return [float(text == right) for text, right in zip(texts, answer, strict=True)]


def answered(trainer: Any, rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Mean probability of the right answer, and how often it is the likelier of the two."""
    words = trainer.processor.tokenizer.convert_tokens_to_ids(ANSWERS)
    probabilities = []
    trainer.model.eval()
    for row in rows:
        with torch.no_grad(), trainer._hearing(trainer._encoded([row])):
            ids, _, heard = trainer._tokenize_prompts([row["prompt"]])
            inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.ones(1, len(ids[0]))}
            logits = trainer.model(**inputs, **heard).logits[0, -1]
        both = logits.softmax(-1)[words].tolist()
        probabilities.append(both if row["answer"] == "high" else both[::-1])
    right = [first for first, _ in probabilities]
    likelier = [first > second for first, second in probabilities]
    return sum(right) / len(rows), sum(likelier) / len(rows)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    arguments = config(
        tmp_path_factory.mktemp("run"),
        per_device_train_batch_size=64,
        num_generations=8,
        max_completion_length=1,
        max_steps=40,
        learning_rate=0.02,
        lr_scheduler_type="constant",
        seed=0,
    )
    made = AudioADRPOTrainer(
        tiny_thinker(),
        is_right,
        arguments,
        Dataset.from_list(questions(64, seed=0)),
        processing_class=tiny_processor(),
    )
    made.before = answered(made, questions(32, seed=1))
    made.train()
    return made


def test_it_answers_questions_whose_clips_it_never_heard(trainer: Any) -> None:
    probability, likelier = answered(trainer, questions(32, seed=1))
    # 0.05 and a half before it has learned that these two words are wanted.
    assert trainer.before[0] < 0.1
    assert probability > 0.6
    assert likelier > 0.85


def test_it_falls_to_chance_when_the_clips_are_swapped(trainer: Any) -> None:
    """Every other pair of questions gives its clips to each other, a high tone for a low one."""
    rows = questions(32, seed=1)
    swapped = []
    for number, row in enumerate(rows):
        other = number ^ 1 if number // 2 % 2 else number
        swapped.append({**row, "audio": rows[other]["audio"]})
    probability, likelier = answered(trainer, swapped)
    assert likelier == pytest.approx(0.5, abs=0.15)
    assert probability < 0.5


@pytest.mark.slow
def test_the_embedded_recipe_answers_more_questions_right(tmp_path: Path) -> None:
    """A third of the recipe: held-out answers get better by more than their interval."""
    config: Any = load_recipe("audio/embedded", ["training.steps=20", "checkpoint.every=20"])
    run = RunDirectory.open(AudioRun(config).train(tmp_path / "run", progress=False))
    last = run.read_evaluations("unseen")[-1]
    assert last["step"] == 20 and last["gold_accuracy_change_low"] > 0
    assert last["gold_accuracy_sound_change_low"] > 0
