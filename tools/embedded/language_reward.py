# transformers' hints are narrower than what these classes take.
# pyright: reportArgumentType=false, reportCallIssue=false
"""Trains the embedded reward model: half of the language model, on pairs of its own answers.

``python -m tools.embedded language-reward --work DIR``, after ``language``. For questions of
the training split the language model answers at temperature 1; a right and a wrong answer of one
question are a pair, some of them with the wrong one preferred. The Bradley-Terry loss

    -log sigmoid(r(better) - r(worse))

makes r a proxy of being right: good where the language model answers, and nowhere else, since it
has seen no other answers. That gap is what it is for (reward over-optimisation; Gao et al., arXiv
2210.10760).
"""

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, Qwen3ForCausalLM, Qwen3ForSequenceClassification

from adrpo.embedded.questions import Question, question_set
from adrpo.embedded.weights import weights_path
from tools.embedded.language_quality import answer, verdicts
from tools.embedded.optimization import Descent, Schedule

LAYERS = 2
QUESTIONS = 4000
SAMPLES = 8
"""Answers drawn for each question."""

DRAWN_TOGETHER = 100
"""Questions whose answers are drawn in one batch."""

LABEL_NOISE = 0.05
"""Share of the pairs in which the wrong answer is preferred."""

SCALED_BY = 500
"""Questions by which the score is scaled."""

BATCH = 64
"""Pairs of a step."""

EPOCHS = 5
RATE = 5e-4
WARMUP = 20


class Pair(NamedTuple):
    """Two answers to one question, as whole texts."""

    better: str
    worse: str


def answers_to(
    questions: Sequence[Question], *, samples: int, seed: int
) -> tuple[list[list[str]], np.ndarray]:
    """The language model's answers at temperature 1 [questions][samples], and which are right."""
    folder = weights_path("language_model")
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts: list[list[str]] = []
    right: list[np.ndarray] = []
    for start in range(0, len(questions), DRAWN_TOGETHER):
        part = questions[start : start + DRAWN_TOGETHER]
        prompts = [question.prompt for question in part]
        drawn = answer(model, tokenizer, prompts, samples=samples, seed=seed + start)
        texts += drawn.texts
        right.append(verdicts(part, drawn) > 0)
    return texts, np.concatenate(right)


def draw_pairs(
    questions: Sequence[Question],
    texts: Sequence[Sequence[str]],
    right: np.ndarray,
    rng: np.random.Generator,
) -> list[Pair]:
    """A right and a wrong answer of each question that has both, at random; LABEL_NOISE of the
    pairs the wrong way round."""
    pairs = []
    for question, answers, verdict in zip(questions, texts, right, strict=True):
        if verdict.all() or not verdict.any():
            continue
        wrong = str(rng.choice(np.array(answers)[~verdict]))
        pair = Pair(question.prompt + question.answer, question.prompt + wrong)
        pairs.append(Pair(pair.worse, pair.better) if rng.random() < LABEL_NOISE else pair)
    return pairs


def new_model() -> Qwen3ForSequenceClassification:
    """The language model's first LAYERS layers under a head of one output, drawn at random."""
    language = Qwen3ForCausalLM.from_pretrained(weights_path("language_model"), dtype=torch.float32)
    config = copy.deepcopy(language.config)
    config.num_hidden_layers, config.layer_types = LAYERS, ["full_attention"] * LAYERS
    config.num_labels = 1
    model = Qwen3ForSequenceClassification(config)
    known = language.model.state_dict()
    model.model.load_state_dict({name: known[name] for name in model.model.state_dict()})
    return model


def scores(model: Any, tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """The logit of each whole text, read at its end token."""
    batch = tokenizer(
        [text + tokenizer.eos_token for text in texts],
        padding=True, padding_side="right", return_tensors="pt",
    )  # fmt: skip
    return model(**batch, use_cache=False).logits[:, 0]


@torch.inference_mode()
def score_answers(
    model: Any, tokenizer: Any, questions: Sequence[Question], texts: Sequence[Sequence[str]]
) -> np.ndarray:
    """Scores [questions, samples] of answers [questions][samples]."""
    return np.stack(
        [
            scores(model, tokenizer, [question.prompt + text for text in answers]).numpy()
            for question, answers in zip(questions, texts, strict=True)
        ]
    )


def deviation(score: np.ndarray) -> float:
    """Standard deviation of scores [questions, samples] within a question: the root of the mean
    variance."""
    return float(np.sqrt(score.var(axis=1).mean()))


def train(output: Path, *, seed: int) -> dict[str, Any]:
    """Draw the pairs and train for EPOCHS; saves model and tokenizer in float32.

    At the end the head is divided by the scores' deviation within a question, so that advantages
    R - V on the language model's own answers have a standard deviation of about 1.
    """
    processor_started = time.process_time()
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tokenizer = AutoTokenizer.from_pretrained(weights_path("language_model"))
    questions = question_set(QUESTIONS, held_out=False, seed=seed)
    texts, right = answers_to(questions, samples=SAMPLES, seed=seed)
    pairs = draw_pairs(questions, texts, right, rng)
    model = new_model()
    steps = EPOCHS * (len(pairs) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = Schedule([optimizer], steps=steps, warmup=WARMUP)
    order = np.concatenate([rng.permutation(len(pairs)) for _ in range(EPOCHS)])
    descent = Descent("reward", model, schedule)
    for step in range(1, steps + 1):
        batch = [pairs[index] for index in order[(step - 1) * BATCH : step * BATCH]]
        both = scores(model, tokenizer, [p.better for p in batch] + [p.worse for p in batch])
        loss = -nn.functional.logsigmoid(both[: len(batch)] - both[len(batch) :]).mean()
        descent.step(step, loss)
    model.eval()
    some = slice(0, SCALED_BY)
    scale = deviation(score_answers(model, tokenizer, questions[some], texts[some]))
    model.score.weight.data /= scale
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    return {
        "parameters": model.num_parameters(),
        "pairs": len(pairs),
        "noise": LABEL_NOISE,
        "steps": steps,
        "seed": seed,
        "processor_seconds": round(time.process_time() - processor_started),
    }
