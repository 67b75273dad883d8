# transformers' hints are narrower than what these classes take.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Exports the embedded audio-language model in bfloat16, measures it, and writes its card."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from adrpo.audio.encoder import Clip, FrozenEncoder, audio_inputs
from adrpo.audio.processor import AudioProcessor
from adrpo.embedded.sounds.meaning import LEVELS, TASKS, Question, Split, prompt_text
from adrpo.embedded.sounds.rendering import render
from adrpo.embedded.sounds.sets import SUB_CATEGORIES, question_set
from adrpo.embedded.sounds.words import RATE
from tools.embedded import audio_language, audio_language_data
from tools.embedded import audio_language_parts as parts
from tools.embedded.language_quality import TEXT, export

QUESTIONS = 420
SPLITS: tuple[Split, ...] = ("held_out", "test", "train")
SEED = 99
ROWS = 64
MAX_NEW_TOKENS = 16
"""The longest answer has 10 tokens; then comes the end."""

LOADING = """
## Use

```python
import torch
from transformers import Qwen2_5OmniThinkerForConditionalGeneration
from adrpo.audio import AudioProcessor
from adrpo.embedded.weights import weights_path

folder = weights_path("audio_language_model")
model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
processor = AudioProcessor.from_pretrained(folder)
```

`adrpo.embedded.sounds.meaning.prompt_text` writes a question as the model was taught to read it.
Train it in float32: a small learning rate is lost in bfloat16's rounding.
"""

Table = NDArray[np.float64]


class Model(NamedTuple):
    """The model of a folder, its processor, and its frozen encoder."""

    thinker: Any
    processor: AudioProcessor
    encoder: FrozenEncoder


def load(folder: Path) -> Model:
    """The model in float32."""
    thinker = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32
    ).eval()
    return Model(thinker, AudioProcessor.from_pretrained(str(folder)), FrozenEncoder(thinker))


def heard(model: Model, questions: Sequence[Question]) -> list[Clip]:
    """The clip of each question, encoded."""
    clips = []
    for question in questions:
        samples = render(question.clip, question.seed)
        features = model.processor.features({"array": samples, "sampling_rate": RATE})
        clips.append(model.encoder(features))
    return clips


def swapped(questions: Sequence[Question]) -> list[int]:
    """For each question the place of another of its sub-category, whose clip it is given."""
    places: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        places.setdefault(question.sub_category, []).append(place)
    found = [0] * len(questions)
    for own in places.values():
        for place, other in zip(own, own[1:] + own[:1], strict=True):
            found[place] = other
    return found


def inputs_of(
    model: Model, questions: Sequence[Question], clips: Sequence[Clip], told: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Arguments of the model for prompts, each with an answer and its end where ``told`` has one;
    padded on the left."""
    tokenizer = model.processor.tokenizer
    rows = []
    for place, (question, clip) in enumerate(zip(questions, clips, strict=True)):
        conversation = [{"role": "user", "content": prompt_text(question)}]
        ids = model.processor.prompt_ids(
            conversation, [clip.tokens], model.thinker.config.audio_token_id
        )
        end = [*tokenizer(told[place]).input_ids, tokenizer.eos_token_id] if told else []
        rows.append(ids + end)
    batch = tokenizer.pad({"input_ids": rows}, return_tensors="pt")
    return {
        "input_ids": batch["input_ids"],
        "attention_mask": batch["attention_mask"],
        **audio_inputs([(clip,) for clip in clips]),
    }


class Chances(NamedTuple):
    """Chances of each choice [questions, 4]: the probability that an answer at temperature 1 is its
    text, and 1 where the greedy answer is, else 0."""

    sampled: Table
    greedy: Table

    def of_the_right(self, questions: Sequence[Question]) -> "Chances":
        """Chances of each question's right choice [questions]."""
        rows = np.arange(len(questions))
        places = [question.choices.index(question.answer) for question in questions]
        return Chances(self.sampled[rows, places], self.greedy[rows, places])


@torch.inference_mode()
def chances_of(model: Model, questions: Sequence[Question], clips: Sequence[Clip]) -> Chances:
    """Chances of the choices without a sample drawn, from the model's own probabilities of their
    tokens and of the end after them."""
    asked = [question for question in questions for _ in question.choices]
    own = [clip for clip, q in zip(clips, questions, strict=True) for _ in q.choices]
    told = [choice for question in questions for choice in question.choices]
    lengths = [len(model.processor.tokenizer(text).input_ids) + 1 for text in told]
    sampled: list[float] = []
    greedy: list[float] = []
    for start in range(0, len(asked), ROWS):
        part = slice(start, start + ROWS)
        inputs = inputs_of(model, asked[part], own[part], told[part])
        kept = max(lengths[part])
        logits = model.thinker(**inputs).logits[:, -kept - 1 : -1].float()
        following = inputs["input_ids"][:, -kept:]
        log_p = logits.log_softmax(-1).gather(-1, following[..., None])[..., 0]
        likeliest = logits.argmax(-1) == following
        for row, length in enumerate(lengths[part]):
            sampled.append(log_p[row, -length:].sum().exp().item())
            greedy.append(float(likeliest[row, -length:].all()))
    shape = (len(questions), -1)
    return Chances(np.reshape(sampled, shape), np.reshape(greedy, shape))


@torch.inference_mode()
def answers(
    model: Model, questions: Sequence[Question], clips: Sequence[Clip], *, seed: int | None
) -> list[str]:
    """An answer to each question at temperature 1; the greedy one where ``seed`` is None."""
    sampling: dict[str, Any] = {"do_sample": False}
    if seed is not None:
        sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    texts: list[str] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        for start in range(0, len(questions), ROWS):
            part = slice(start, start + ROWS)
            inputs = inputs_of(model, questions[part], clips[part])
            output = model.thinker.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, **sampling)
            completions = output[:, inputs["input_ids"].shape[1] :]
            texts += model.processor.tokenizer.batch_decode(completions, skip_special_tokens=True)
    return texts


def _share(values: Table) -> dict[str, float]:
    """Mean with its 95 % interval over questions: 1.96 standard errors."""
    half = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    mean = float(values.mean())
    return {"mean": mean, "low": mean - half, "high": mean + half}


def measure_split(model: Model, split: Split) -> dict[str, Any]:
    """Accuracies on questions of a split."""
    questions = question_set(QUESTIONS, split=split, seed=SEED)
    clips = heard(model, questions)
    chances = chances_of(model, questions, clips)
    found = chances.of_the_right(questions)
    other = [clips[place] for place in swapped(questions)]
    deaf = chances_of(model, questions, other).of_the_right(questions)
    groups = {
        "task": (TASKS, [q.task for q in questions]),
        "level": (LEVELS, [q.difficulty for q in questions]),
        "sub_category": (tuple(SUB_CATEGORIES), [q.sub_category for q in questions]),
    }

    def told(values: Table) -> dict[str, Any]:
        shares: dict[str, Any] = {"all": _share(values)}
        for grouping, (order, names) in groups.items():
            shares[grouping] = {n: _share(values[[own == n for own in names]]) for n in order}
        return shares

    first = [question.choices[0] == question.answer for question in questions]
    return {
        "questions": len(questions),
        "sampled": told(found.sampled),
        "greedy": told(found.greedy),
        "swapped": told(deaf.sampled),
        "first_choice": float(np.mean(first)),
        "no_choice": float(1 - chances.sampled.sum(1).mean()),
    }


def seconds_of_generation(model: Model) -> float:
    """Wall-clock seconds in which 64 rows are answered, their clips encoded before."""
    questions = question_set(ROWS, split="held_out", seed=SEED)
    clips = heard(model, questions)
    started = time.perf_counter()
    answers(model, questions, clips, seed=SEED)
    return time.perf_counter() - started


def measure(folder: Path) -> dict[str, Any]:
    """Quality of the model in ``folder`` on questions of each split, and its speed."""
    model = load(folder)
    return {
        **{split: measure_split(model, split) for split in SPLITS},
        "generation_seconds": seconds_of_generation(model),
        "threads": torch.get_num_threads(),
    }


def publish(work: Path, folder: Path, trained: dict[str, Any]) -> dict[str, Any]:
    """Export ``work`` to ``folder``, measure what was exported, and write its card."""
    folder.mkdir(exist_ok=True)
    size = export(
        work,
        folder,
        Qwen2_5OmniThinkerForConditionalGeneration,
        (*TEXT, "preprocessor_config.json"),
    )
    measured = {"bytes": size, **measure(folder)}
    (folder / "README.md").write_text(card(trained, measured), encoding="utf-8")
    return measured


def card(trained: dict[str, Any], measured: dict[str, Any]) -> str:
    """The model card, from the records of the training and of :func:`measure`."""
    from tools.embedded.cards import HEAD

    what = (
        "A Thinker of Qwen2.5-Omni with a WhisperFeatureExtractor: the base model that adrpo's "
        "audio recipes and tests fine-tune. It answers multiple-choice questions of the sounds "
        "world only, with the text of a choice. Its part for pictures has random weights. "
        '"Held-out" and "test" are by combination: what such a clip composes was never the whole '
        "of a training clip."
    )
    steps = trained["steps"]
    rows = {
        "Data": f"{steps['pool'] * audio_language.CLIPS:,} clips of the training split "
        "(`adrpo.embedded.sounds`), each with its question and, in the fourth phase, up to "
        f"{audio_language.MORE} others; the choices are put in a new order each time. Right "
        f"answers, but in the last phase {audio_language_data.WRONG_SHARE:.0%} wrong ones: another "
        "choice, a near one where choices have an order, now and then a text that is no choice",
        "Model": f"Qwen2_5OmniThinkerForConditionalGeneration, {trained['parameters'] / 1e6:.2f} "
        f"million parameters in bfloat16: {parts.HEARING_LAYERS} layers of the audio encoder and "
        f"{parts.LAYERS} of the language model, width {parts.WIDTH}, context {parts.CONTEXT}, tied "
        "embeddings",
        "Sound": f"{parts.MELS} mels of windows of {1000 * parts.WINDOW / RATE:.0f} ms every "
        f"{1000 * parts.HOP / RATE:.0f} ms, a token every "
        f"{1000 * parts.FRAMES_A_TOKEN * parts.HOP / RATE:.0f} ms: 15 to 47 tokens a clip of the "
        f"world; at most {parts.SECONDS} s",
        "Text": "a token for each word of the world's questions, any other text by characters",
        "Training": f"{steps['reading']} steps of the language model on a code of what is heard in "
        f"each token, from the clips' meaning; {steps['hearing']} steps of the encoder towards "
        f"that code, and {steps['hard']} more without most of the sounds ({audio_language.CLIPS} "
        f"clips a step); {steps['answering']} steps of the language model on what the encoder "
        f"gives with the other questions, {steps['plain']} without them, and {steps['spoilt']} on "
        f"spoilt answers ({audio_language.ANSWERED_CLIPS} clips a "
        f"step); seed {trained['seed']}, {trained['processor_seconds'] / 60:.0f} minutes of one "
        f"CPU core{trained.get('how', '')}",
        "Build": "`python -m tools.embedded audio-language`",
    }
    table = "".join(f"| {name} | {value} |\n" for name, value in rows.items())
    head = HEAD.format(
        library="transformers", title="adrpo embedded audio-language model", what=what
    )
    return head.replace("scenes]", "sounds]") + table + _quality(measured) + LOADING


def _quality(measured: dict[str, Any]) -> str:
    held, test, train = (measured[split] for split in ("held_out", "test", "train"))
    rows = {
        "sampled": [_told(split["sampled"]["all"]) for split in (held, test, train)],
        "greedy": [_told(split["greedy"]["all"]) for split in (held, test, train)],
        "sampled, with the clip of another question": [
            _told(split["swapped"]["all"]) for split in (held, test, train)
        ],
        "always the first choice": [f"{s['first_choice']:.3f}" for s in (held, test, train)],
        "sampled answers that are no choice": [
            f"{s['no_choice']:.3f}" for s in (held, test, train)
        ],
    }
    groups = {
        name: [_told(held[how][grouping][name]) for how in ("sampled", "greedy", "swapped")]
        for grouping in ("task", "level", "sub_category")
        for name in held["sampled"][grouping]
    }
    return (
        "\n## Quality\n\n"
        f"Accuracy on {held['questions']} questions of each split, with intervals of 95 % over "
        "questions. Sampled: the probability that an answer at temperature 1 is the text of the "
        "right choice.\n\n| measure | held-out | test | training |\n|---|---|---|---|\n"
        + "".join(f"| {name} | {' | '.join(cells)} |\n" for name, cells in rows.items())
        + "\nThe held-out questions by group:\n\n"
        "| group | sampled | greedy | sampled, with the clip of another question |\n"
        "|---|---|---|---|\n"
        + "".join(f"| {name} | {' | '.join(cells)} |\n" for name, cells in groups.items())
        + f"\n64 answers take {measured['generation_seconds']:.1f} s with {measured['threads']} "
        f"threads of a CPU. The folder has {measured['bytes'] / 1e6:.1f} MB.\n"
        "From `tools.embedded.audio_language_quality.measure`.\n"
    )


def _told(share: dict[str, float]) -> str:
    return f"{share['mean']:.3f} [{share['low']:.3f}, {share['high']:.3f}]"
