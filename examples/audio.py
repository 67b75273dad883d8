"""A model that hears learns to tell a high tone from a low one, by the trainer for own scripts.

    python examples/audio.py [MODEL]

Without an argument the model is the small Thinker that ships. Needs the extra ``audio``.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from datasets import Dataset

from adrpo.audio import AudioADRPOTrainer
from adrpo.embedded.weights import weights_path
from adrpo.llm import ADRPOConfig

RATE = 16_000
QUESTION = "Is the tone high or low? Choose from: high, low."


def questions(folder: Path, count: int = 8) -> Dataset:
    """``count`` tones as files, half of them above 1000 Hz, with the question and its answer."""
    folder.mkdir(parents=True, exist_ok=True)
    times = np.arange(RATE // 2) / RATE
    rows: list[dict[str, Any]] = []
    for number in range(count):
        answer = ("low", "high")[number % 2]
        hertz = {"low": 150, "high": 2000}[answer] * (1 + number / count)
        clip = folder / f"{number}.wav"
        soundfile.write(clip, 0.5 * np.sin(2 * np.pi * hertz * times), RATE)
        prompt = [{"role": "user", "content": QUESTION}]
        rows.append({"prompt": prompt, "audio": str(clip), "answer": answer})
    return Dataset.from_list(rows)


def right(completions: list[Any], answer: list[str], **columns: Any) -> list[float]:
    """1 where the answer's word stands in the completion and the other's doesn't."""
    said = [turns[0]["content"].lower() for turns in completions]
    return [
        float(wanted in text and ({"high", "low"} - {wanted}).pop() not in text)
        for text, wanted in zip(said, answer, strict=True)
    ]


def main(model: str, folder: Path, **options: Any) -> AudioADRPOTrainer:
    trainer = AudioADRPOTrainer(
        model=model,
        reward_funcs=right,
        args=ADRPOConfig(output_dir=str(folder), max_completion_length=8, **options),
        train_dataset=questions(folder / "clips"),
    )
    trainer.train()
    return trainer


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else str(weights_path("audio_language_model"))
    main(name, Path("runs/tones"), max_steps=50, learning_rate=1e-4)
