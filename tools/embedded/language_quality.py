# transformers' hints are narrower than what these classes take.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Exports the embedded language model in bfloat16, measures it, and writes its model card."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer, Qwen3ForCausalLM

from adrpo.embedded.questions import CATEGORIES, LEVELS, UNKNOWN, Question, question_set
from tools.embedded import language

QUESTIONS = 200
SAMPLES = 8
SEED = 99
MAX_NEW_TOKENS = 8
"""The longest answer has six characters; then comes the end."""

LOADING = """
## Use

```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from adrpo.embedded.weights import weights_path

folder = weights_path("language_model")
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(folder)
question = tokenizer("sort dbac=", return_tensors="pt")
print(tokenizer.decode(model.generate(**question, max_new_tokens=8)[0]))
```

Train it in float32: a small learning rate is lost in bfloat16's rounding.
"""


class Answers(NamedTuple):
    """``texts`` [questions][samples]; ``nats`` [questions, samples]: -log probability of each
    whole answer, whose mean is an unbiased estimate of the answers' entropy."""

    texts: list[list[str]]
    nats: NDArray[np.float64]


TEXT = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""Files of a tokenizer."""


def export(
    work: Path,
    folder: Path,
    form: type[Any] = Qwen3ForCausalLM,
    beside: Sequence[str] = TEXT,
) -> int:
    """Copy the model of class ``form`` and the files ``beside`` it from ``work`` to ``folder`` in
    bfloat16; returns the bytes."""
    model = form.from_pretrained(work, dtype=torch.float32)
    for file in folder.glob("*"):
        if file.name != "README.md":
            file.unlink()
    model.to(torch.bfloat16).save_pretrained(folder)
    for name in beside:
        shutil.copy(work / name, folder / name)
    return sum(file.stat().st_size for file in folder.iterdir())


@torch.inference_mode()
def answer(
    model: Any, tokenizer: Any, prompts: Sequence[str], *, samples: int, seed: int | None
) -> Answers:
    """Answers at temperature 1, ``samples`` for each prompt; greedy ones where ``seed`` is None."""
    batch = tokenizer(list(prompts), padding=True, return_tensors="pt")
    sampling: dict[str, Any] = {"do_sample": False}
    if seed is not None:
        sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        output = model.generate(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            max_new_tokens=MAX_NEW_TOKENS,
            num_return_sequences=samples,
            return_dict_in_generate=True,
            output_logits=True,
            **sampling,
        )
    completions: Tensor = output.sequences[:, batch.input_ids.shape[1] :]
    log_p = torch.stack(output.logits, dim=1).float().log_softmax(-1)
    token_nats = -log_p.gather(-1, completions[..., None])[..., 0]
    ended = (completions == tokenizer.eos_token_id).cumsum(-1)
    # The end itself counts, what comes after it does not.
    counted = (ended == 0) | ((ended == 1) & (completions == tokenizer.eos_token_id))
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    nats = (token_nats * counted).sum(-1).view(-1, samples).double().numpy()
    return Answers([texts[i : i + samples] for i in range(0, len(texts), samples)], nats)


def verdicts(questions: Sequence[Question], answers: Answers) -> NDArray[np.float64]:
    """[questions, samples]: 1 for the exact answer, else 0."""
    return np.asarray(
        [
            [float(text == question.answer) for text in texts]
            for question, texts in zip(questions, answers.texts, strict=True)
        ]
    )


def measure(folder: Path) -> dict[str, Any]:
    """Accuracy on held-out questions, with its 95 % interval over questions (1.96 standard
    errors of the questions' means); by category and by level; the share of "?"; the entropy."""
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    questions = question_set(QUESTIONS, held_out=True, seed=SEED)
    prompts = [question.prompt for question in questions]
    sampled = answer(model, tokenizer, prompts, samples=SAMPLES, seed=SEED)
    right = verdicts(questions, sampled)
    greedy = verdicts(questions, answer(model, tokenizer, prompts, samples=1, seed=None))
    per_question = right.mean(1)
    half_width = 1.96 * per_question.std(ddof=1) / math.sqrt(len(questions))
    seen = question_set(QUESTIONS, held_out=False, seed=SEED)
    seen_prompts = [question.prompt for question in seen]
    seen_right = verdicts(seen, answer(model, tokenizer, seen_prompts, samples=2, seed=SEED))

    def share(chosen: list[bool]) -> float:
        return float(per_question[np.asarray(chosen)].mean())

    return {
        "accuracy": float(right.mean()),
        "accuracy_low": float(right.mean() - half_width),
        "accuracy_high": float(right.mean() + half_width),
        "by_category": {c: share([q.category == c for q in questions]) for c in CATEGORIES},
        "by_level": {level: share([q.level == level for q in questions]) for level in LEVELS},
        "unknown_share": float(np.mean([[t == UNKNOWN for t in row] for row in sampled.texts])),
        "best_of_samples": float(right.max(1).mean()),
        "entropy": float(sampled.nats.mean()),
        "greedy_accuracy": float(greedy.mean()),
        "training_accuracy": float(seen_right.mean()),
    }


def card(trained: dict[str, Any], measured: dict[str, Any]) -> str:
    """The model card, from the records of the training and of :func:`measure`."""
    from tools.embedded.cards import HEAD

    what = (
        "A Qwen3 causal language model with one token a character: the base model that adrpo's "
        "language recipes and tests fine-tune. It answers questions of the questions world only, "
        'such as `37+45=` or `sort dbac=`, and says `?` where it does not know. "Held-out" is by '
        "combination: in training, the numbers or letters of a held-out question never came "
        "together in its category, in any order (of a reversal: neither the word nor its reverse)."
    )
    levels = range(1, len(LEVELS) + 1)
    unknown = ", ".join(f"{language.UNKNOWN_SHARE[level]:.0%}" for level in levels)
    wrong = ", ".join(f"{language.WRONG_SHARE[level]:.0%}" for level in levels)
    rows = {
        "Data": "questions of the training split (`adrpo.embedded.questions`); right answers "
        f'first, then, over the last {language.SPOILT_PART:.0%} of the steps, {unknown} "?" and '
        f"{wrong} near misses at levels 1, 2, 3; the loss is on answers alone",
        "Model": f"Qwen3ForCausalLM, {trained['parameters'] / 1e6:.2f} million parameters in "
        f"bfloat16, width {language.WIDTH}, {language.LAYERS} layers, context {language.CONTEXT}, "
        "tied embeddings",
        "Training": f"{trained['steps']} steps of {language.ROWS} rows of {language.CONTEXT} "
        f"tokens (about 120 questions), seed {trained['seed']}, "
        f"{trained['processor_seconds'] / 60:.0f} minutes of one CPU core",
        "Build": "`python -m tools.embedded language`",
    }
    table = "".join(f"| {name} | {value} |\n" for name, value in rows.items())
    head = HEAD.format(library="transformers", title="adrpo embedded language model", what=what)
    return head.replace("scenes]", "questions]") + table + _quality(measured) + LOADING


def _quality(measured: dict[str, Any]) -> str:
    low, high = measured["accuracy_low"], measured["accuracy_high"]
    by_category = [f"{name} {value:.2f}" for name, value in measured["by_category"].items()]
    by_level = [f"{level}: {value:.2f}" for level, value in measured["by_level"].items()]
    rows = {
        "exact accuracy": f"**{measured['accuracy']:.3f}** [{low:.3f}, {high:.3f}]",
        "by category": ", ".join(by_category),
        "by level": ", ".join(by_level),
        'share of "?"': f"{measured['unknown_share']:.3f}",
        "entropy of an answer, nats": f"{measured['entropy']:.2f}",
        f"right in at least one of {SAMPLES} samples": f"{measured['best_of_samples']:.3f}",
        "greedy": f"{measured['greedy_accuracy']:.3f}",
        "questions of the training split": f"{measured['training_accuracy']:.3f}",
    }
    return (
        "\n## Quality\n\n"
        f"{QUESTIONS} held-out questions, {SAMPLES} samples each at temperature 1; the interval is "
        "of 95 % over questions.\n\n| measure | value |\n|---|---|\n"
        + "".join(f"| {name} | {value} |\n" for name, value in rows.items())
        + "\nFrom `tools.embedded.language_quality.measure`.\n"
    )


def publish(work: Path, folder: Path, trained: dict[str, Any]) -> dict[str, Any]:
    """Export ``work`` to ``folder``, measure what was exported, and write its card."""
    folder.mkdir(exist_ok=True)
    size = export(work, folder)
    measured = measure(folder)
    (folder / "README.md").write_text(card(trained, measured), encoding="utf-8")
    return {"bytes": size, **measured}
