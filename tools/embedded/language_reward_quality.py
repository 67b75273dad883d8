# transformers' hints are narrower than what these classes take.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Exports the embedded reward model in bfloat16, measures it, and writes its model card."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, Qwen3ForSequenceClassification

from adrpo.embedded.questions import CATEGORIES, Question, question_set
from tools.embedded import language_reward
from tools.embedded.language_quality import export

QUESTIONS = 210
SAMPLES = 16
SEED = 99

Table = NDArray[Any]

LOADING = """
## Use

```python
from adrpo.rewards.reward_model import RewardModel

reward = RewardModel("embedded", dtype="float32")
print(reward(["37+45="] * 2, ["82", "72"]))
```

It has learned from answers of one model. Far from them its score says little: that is what it is
for. Watch the exact answer (`gold_accuracy`) beside it.
"""


def publish(work: Path, folder: Path, trained: dict[str, Any]) -> dict[str, Any]:
    """Export ``work`` to ``folder``, measure what was exported, and write its card."""
    folder.mkdir(exist_ok=True)
    size = export(work, folder, Qwen3ForSequenceClassification)
    measured = measure(folder)
    (folder / "README.md").write_text(card(trained, measured), encoding="utf-8")
    return {"bytes": size, **measured}


def measure(folder: Path) -> dict[str, Any]:
    """Rank statistics of the score on the language model's answers to held-out questions.

    Each is a mean over the questions with right and with wrong answers among the samples:
    ``pairs_in_order``, the share of pairs of a right and a wrong answer with the right one above,
    with its 95 % interval over questions (1.96 standard errors); ``rank_correlation`` with gold,
    and that of a perfect score. ``deviation`` is the standard deviation within a question,
    ``best_of`` the share of right answers among the best of n.
    """
    model = Qwen3ForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    questions = question_set(QUESTIONS, held_out=True, seed=SEED)
    texts, right = language_reward.answers_to(questions, samples=SAMPLES, seed=SEED)
    score = language_reward.score_answers(model, tokenizer, questions, texts)
    by_question = pairs_in_order(score, right)
    return {
        **_mean_with_interval(by_question[np.isfinite(by_question)]),
        "by_category": _by_category(questions, by_question),
        "rank_correlation": _mean_of(spearman, score, right),
        "rank_correlation_of_a_perfect_score": _mean_of(perfect, score, right),
        "deviation": language_reward.deviation(score),
        "mean": float(score.mean()),
        "best_of": {n: best_of(score, right, n) for n in (1, 2, 4, 8, 16)},
    }


def pairs_in_order(score: Table, right: Table) -> NDArray[np.float64]:
    """For each question [questions, samples] the share of pairs of a right and a wrong answer with
    the right one above, a tie being half; NaN without a pair."""
    found = np.full(len(score), np.nan)
    for place, (values, verdict) in enumerate(zip(score, right, strict=True)):
        if verdict.any() and not verdict.all():
            gaps = values[verdict][:, None] - values[~verdict][None]
            found[place] = np.mean((gaps > 0) + 0.5 * (gaps == 0))
    return found


def spearman(x: Table, y: Table) -> float:
    """Rank correlation with tied ranks averaged."""

    def ranks(values: Table) -> Table:
        _, place, count = np.unique(values, return_inverse=True, return_counts=True)
        return (count.cumsum() - (count - 1) / 2)[place]

    return float(np.corrcoef(ranks(x), ranks(y))[0, 1])


def perfect(score: Table, right: Table) -> float:
    """Spearman's correlation of a score without ties that has every right answer above."""
    return spearman(np.argsort(np.argsort(right, kind="stable")), right)


def best_of(score: Table, right: Table, n: int) -> float:
    """Share of right answers among the best of n, over all blocks of n samples."""
    blocks, verdicts = score.reshape(-1, n), right.reshape(-1, n)
    return float(verdicts[np.arange(len(blocks)), blocks.argmax(1)].mean())


def _mean_of(statistic: Callable[[Table, Table], float], score: Table, right: Table) -> float:
    rows = zip(score, right, strict=True)
    return float(np.mean([statistic(s, r) for s, r in rows if r.any() and not r.all()]))


def _mean_with_interval(by_question: NDArray[np.float64]) -> dict[str, float]:
    mean = float(by_question.mean())
    half_width = 1.96 * float(by_question.std(ddof=1)) / math.sqrt(len(by_question))
    return {
        "pairs_in_order": mean,
        "pairs_in_order_low": mean - half_width,
        "pairs_in_order_high": mean + half_width,
        "questions": len(by_question),
    }


def _by_category(questions: list[Question], by_question: NDArray[np.float64]) -> dict[str, float]:
    names = np.array([question.category for question in questions])
    return {name: float(np.nanmean(by_question[names == name])) for name in CATEGORIES}


def card(trained: dict[str, Any], measured: dict[str, Any]) -> str:
    """The model card, from the records of the training and of :func:`measure`."""
    from tools.embedded.cards import HEAD

    what = (
        "A small reward model of the embedded language model's answers: a proxy of the exact "
        "answer, learned from pairs, for the study of reward over-optimisation. It reads a "
        "question and its answer and gives one number, in units of the standard deviation of the "
        "language model's own answers to one question."
    )
    rows = {
        "Data": f"{trained['pairs']} pairs, each of a right and a wrong answer that the language "
        "model gave at temperature 1 to a question of the training split; of "
        f"{trained['noise']:.0%} of them the wrong one is preferred",
        "Model": f"Qwen3ForSequenceClassification, {trained['parameters'] / 1e6:.2f} million "
        f"parameters in bfloat16: the language model's first {language_reward.LAYERS} layers "
        "under a head of one output",
        "Training": f"Bradley-Terry loss, {trained['steps']} steps of {language_reward.BATCH} "
        f"pairs, seed {trained['seed']}, {trained['processor_seconds']} seconds of one CPU "
        "core; the head then divided by the scores' standard deviation within a question of "
        "the training split",
        "Build": "`python -m tools.embedded language-reward`",
    }
    table = "".join(f"| {name} | {value} |\n" for name, value in rows.items())
    head = HEAD.format(library="transformers", title="adrpo embedded reward model", what=what)
    return head.replace("scenes]", "questions]") + table + _quality(measured) + LOADING


def _quality(measured: dict[str, Any]) -> str:
    low, high = measured["pairs_in_order_low"], measured["pairs_in_order_high"]
    rows = {
        "pairs of a right and a wrong answer in order": f"**{measured['pairs_in_order']:.3f}** "
        f"[{low:.3f}, {high:.3f}]",
        "by category": ", ".join(
            f"{name} {value:.2f}" for name, value in measured["by_category"].items()
        ),
        "rank correlation with the exact answer within a question": (
            f"{measured['rank_correlation']:.2f}"
        ),
        "that of a perfect score": f"{measured['rank_correlation_of_a_perfect_score']:.2f}",
        "right answers among the best of n": ", ".join(
            f"{n}: {value:.3f}" for n, value in measured["best_of"].items()
        ),
        "mean score": f"{measured['mean']:.2f}",
        "standard deviation of the score within a question": f"{measured['deviation']:.2f}",
    }
    return (
        "\n## Quality\n\n"
        f"{QUESTIONS} held-out questions, {SAMPLES} answers of the language model to each at "
        f"temperature 1, {measured['questions']} questions with right and with wrong ones; the "
        "interval is of 95 % over questions. The data and the training were chosen after three "
        "others had been measured on these questions, so that the numbers are a little in their "
        "favour.\n\n| measure | value |\n|---|---|\n"
        + "".join(f"| {name} | {value} |\n" for name, value in rows.items())
        + "\nFrom `tools.embedded.language_reward_quality.measure`.\n"
    )
