"""Questions of the sounds world in MMAU's layout, and who answers them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from transformers import AutoFeatureExtractor, AutoTokenizer

from adrpo.audio.benchmarks.benchmarks import BENCHMARKS
from adrpo.audio.benchmarks.local import LocalModel
from adrpo.audio.benchmarks.questions import read_questions
from adrpo.config import load_recipe
from adrpo.embedded.sounds.sets import QUESTIONS_FILE, question_set, write_set
from adrpo.embedded.weights import weights_path
from adrpo.errors import AdrpoError

WEIGHTS = weights_path("audio_language_model")
SETTINGS = ["model.device=cpu", "evaluation.batch_size=5"]
COUNTS = [4] * 8 + [5, 2, 4, 4]
"""Choices of the questions below."""


def write_questions(folder: Path) -> Path:
    """Twelve questions in MMAU's layout; one has five choices, one has two, in one a text stands
    twice."""
    write_set(question_set(12, split="test", seed=5), folder)
    rows = json.loads((folder / QUESTIONS_FILE).read_text())
    rows[8]["choices"].append("a siren")
    other = next(choice for choice in rows[9]["choices"] if choice != rows[9]["answer"])
    rows[9]["choices"] = [other, rows[9]["answer"]]
    rows[10]["choices"][3] = rows[10]["choices"][0]
    rows[10]["answer"] = rows[10]["choices"][0]
    (folder / QUESTIONS_FILE).write_text(json.dumps(rows))
    assert [len(row["choices"]) for row in rows] == COUNTS
    return folder


def asked_rows(data: Path) -> list[dict[str, Any]]:
    return json.loads((data / QUESTIONS_FILE).read_text())


def answers_in(path: Path) -> dict[str, Any]:
    return {row["id"]: row for row in map(json.loads, path.read_text().splitlines())}


def local(data: Path, answers: Path, *settings: str, final: Path | None = None, **more: Any) -> Any:
    config = load_recipe("audio/embedded", [*SETTINGS, *settings])
    questions = read_questions(BENCHMARKS["mmau"], data)
    shifts = more.pop("shifts", False)
    return LocalModel("embedded", config, final, questions, answers, shifts=shifts)


def quiet(answered: int, of: int) -> None:
    assert 1 <= answered <= of


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(AdrpoError) as refused:
        call()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def alone(thinker: Any, clip: Path, text: str) -> str:
    """The answer to one question by transformers alone: no batch, no padding but the extractor's
    own, the encoder's tokens counted from the frames."""
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    extractor = AutoFeatureExtractor.from_pretrained(WEIGHTS)
    samples, rate = soundfile.read(clip, dtype="float32")
    heard = extractor(samples, sampling_rate=rate, return_attention_mask=True, return_tensors="pt")
    tokens = ((int(heard["attention_mask"].sum()) - 1) // 2 + 1 - 2) // 2 + 1
    placed = "<|audio_bos|>" + "<|AUDIO|>" * tokens + "<|audio_eos|>" + text
    ids = tokenizer(placed, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        found = thinker.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            input_features=heard["input_features"],
            feature_attention_mask=heard["attention_mask"],
            do_sample=False,
            max_new_tokens=24,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    return tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)


def all_alone(thinker: Any, data: Path, *, clips_from: int = 0, shift: int = 0) -> list[str]:
    """Each question answered alone, by the clip of the question ``clips_from`` further on."""
    rows = asked_rows(data)
    clips = [data / row["audio_id"] for row in rows[clips_from:] + rows[:clips_from]]
    moved = [row["choices"][shift:] + row["choices"][:shift] for row in rows]
    texts = [
        f"{row['question']}\n" + "".join(f"{choice}\n" for choice in choices)
        for row, choices in zip(rows, moved, strict=True)
    ]
    return [alone(thinker, clip, text) for clip, text in zip(clips, texts, strict=True)]


class Saying:
    """In the model's place: each question is answered by ``says`` of its lines."""

    def __init__(self, says: Callable[[list[str]], str]) -> None:
        self.says = says
        self.batches: list[list[str]] = []

    def __call__(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        self.batches.append([row["audio"] for row in rows])
        return [self.says(row["prompt"][-1]["content"].splitlines()) for row in rows]


def asking(data: Path, answers: str = "answers.jsonl") -> list[str]:
    return ["--benchmark", "mmau", "--data", str(data), "--predictions", answers]
