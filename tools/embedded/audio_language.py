# transformers' hints are narrower than what these classes take.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Trains the embedded audio-language model."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.embedded.audio_language_data import (
    FACTS,
    FIRST_FACT,
    IGNORED,
    LEVEL,
    NAMES,
    TARGETS,
    Batch,
    Example,
    Packing,
    drawn_beside,
)
from tools.embedded.audio_language_parts import WIDTH, new_model, new_processor
from tools.embedded.optimization import Descent, Schedule, optimizers

CLIPS = 32
ANSWERED_CLIPS = 48
MORE = 3
"""Other questions of a clip, at most, where the language model learns from the encoder."""

MUON_RATE = 3e-3
ADAM_RATE = 2e-3
WARMUP = 50
SPOILT_RATE = 0.3
"""Share of the learning rates in the spoilt phase."""

NEARNESS = 4.0


class Hearing(nn.Module):
    """The tower, beside a head and a code by which it is told what is heard in each token.

    A token of the code is the sum of fixed orthogonal directions, one for each target.
    """

    def __init__(self, thinker: Any) -> None:
        super().__init__()
        self.tower = thinker.model.audio_tower
        self.head = nn.Linear(WIDTH, TARGETS)
        nn.init.constant_(self.head.bias, -3.0)
        self.code = nn.Buffer(torch.linalg.qr(torch.randn(WIDTH, TARGETS))[0].T)

    def coded(self, batch: Batch) -> Tensor:
        """Tokens of a tower that hears all."""
        return (batch.targets @ self.code).float()

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Tokens of the clips, and the loss of what they tell."""
        lengths = (batch.frames - 1) // 2 + 1
        heard = self.tower(
            batch.features, feature_lens=batch.frames, aftercnn_lens=lengths
        ).last_hidden_state
        distance = ((heard - self.coded(batch)) ** 2).sum(-1).mean()
        return heard.float(), hearing_loss(self.head(heard), batch.targets) + NEARNESS * distance


@torch.no_grad()
def share_names(thinker: Any, hearing: Hearing, tokenizer: Any) -> None:
    """Begin with the code's direction of a name as the embedding of its word.

    So what is heard and what is read of it match before anything is learned.
    """
    table = thinker.model.language_model.embed_tokens.weight
    table.normal_(std=WIDTH**-0.5)
    words = {name.split()[0]: place for place, name in enumerate(NAMES)}
    words |= {
        fact: FIRST_FACT + place for place, fact in enumerate(FACTS) if len(fact.split()) == 1
    }
    for word, place in words.items():
        for ids in tokenizer([word, f" {word}"]).input_ids:
            if len(ids) == 1:
                table[ids[0]] = hearing.code[place]


@torch.no_grad()
def match_at_first(thinker: Any) -> None:
    """Begin with attention that looks for tokens like its own and hands on what they hold.

    A layer's query, key, value and output maps are the identity beside their noise.
    """
    for layer in thinker.model.language_model.layers:
        attention = layer.self_attn
        for part in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj):
            part.weight += 0.6 * torch.eye(WIDTH)


def hearing_loss(told: Tensor, targets: Tensor) -> Tensor:
    present = functional.binary_cross_entropy_with_logits(
        told[:, :LEVEL], targets[:, :LEVEL], reduction="none"
    ).sum(-1)
    level = (told[:, LEVEL] - targets[:, LEVEL]) ** 2
    return (present + level).mean()


class Answering(nn.Module):
    """The language model on rows of packed questions."""

    def __init__(self, thinker: Any) -> None:
        super().__init__()
        self.language_model = thinker.model.language_model
        self.lm_head = thinker.lm_head
        self.audio = thinker.config.audio_token_id

    def forward(self, heard: Tensor, batch: Batch) -> Tensor:
        embedded = self.language_model.embed_tokens(batch.tokens)
        embedded = embedded.masked_scatter((batch.tokens == self.audio)[..., None], heard)
        hidden = self.language_model(
            inputs_embeds=embedded,
            attention_mask=batch.mask,
            position_ids=batch.places[None].expand(3, -1, -1),
            use_cache=False,
        ).last_hidden_state
        kept = batch.labels[:, 1:] != IGNORED
        logits = self.lm_head(hidden[:, :-1][kept])
        return functional.cross_entropy(logits.float(), batch.labels[:, 1:][kept])


Pool = Sequence[list[Example]]
"""Batches of examples, which each phase takes in turn, again and again."""


class Steps(NamedTuple):
    """Batches of clips, and the steps of each phase."""

    pool: int = 500
    reading: int = 2400
    hearing: int = 500
    hard: int = 350
    answering: int = 280
    plain: int = 280
    spoilt: int = 120


def train(output: Path, *, steps: Steps, seed: int) -> dict[str, Any]:
    """Train the phases one after the other; saves model and processor in float32.

    The encoder's phases and the language model's first need nothing of each other.
    """
    torch.manual_seed(seed)
    processor = new_processor()
    model = new_model(processor.tokenizer)
    hearing, answering = Hearing(model), Answering(model)
    share_names(model, hearing, processor.tokenizer)
    match_at_first(model)
    started, processor_started = time.monotonic(), time.process_time()
    known = [*drawn_beside(CLIPS, batches=steps.pool, seed=seed)]
    packed = Packing(processor.tokenizer, seed)
    read(hearing, answering, known, packed, steps=steps.reading)
    hear(hearing, known, packed, steps=steps.hearing)
    hear(hearing, redealt(known, CLIPS, seed, every=8), packed, steps=steps.hard)
    packed.more = MORE
    dealt = redealt(known, ANSWERED_CLIPS, seed + 1)
    answer(hearing, answering, dealt, packed, steps=steps.answering, spoilt=False)
    packed.more = 0
    answer(hearing, answering, dealt[::-1], packed, steps=steps.plain, spoilt=False)
    answer(hearing, answering, dealt[::-1], packed, steps=steps.spoilt, spoilt=True)
    model.save_pretrained(output)
    processor.save_pretrained(output)
    return {
        "parameters": model.num_parameters(),
        "steps": steps._asdict(),
        "seed": seed,
        "seconds": round(time.monotonic() - started),
        "processor_seconds": round(time.process_time() - processor_started),
    }


def redealt(known: Pool, size: int, seed: int, every: int = 1) -> Pool:
    """Batches of ``size`` of all clips of speech and music, which are hard to hear, and one of
    ``every`` few of sounds."""
    flat = [example for batch in known for example in batch]
    dealt = [e for place, e in enumerate(flat) if e.question.task != "sound" or place % every == 0]
    order = np.random.default_rng(seed).permutation(len(dealt))
    return [
        [dealt[place] for place in order[start : start + size]]
        for start in range(0, len(dealt) - size + 1, size)
    ]


def read(
    hearing: Hearing, answering: Answering, known: Pool, packed: Packing, *, steps: int
) -> None:
    """Train the language model to answer from the code of what is heard."""
    descent = _descent("reading", answering, steps)
    for step in range(1, steps + 1):
        batch = packed(known[(step - 1) % len(known)], spoilt=False)
        with _half_precision():
            loss = answering(hearing.coded(batch), batch)
        descent.step(step, loss)


def hear(hearing: Hearing, known: Pool, packed: Packing, *, steps: int) -> None:
    """Train the encoder to write the code of what is heard."""
    descent = _descent("hearing", hearing, steps)
    for step in range(1, steps + 1):
        batch = packed(known[(step - 1) % len(known)], spoilt=False)
        with _half_precision():
            _, loss = hearing(batch)
        descent.step(step, loss)


def answer(
    hearing: Hearing,
    answering: Answering,
    known: Pool,
    packed: Packing,
    *,
    steps: int,
    spoilt: bool,
) -> None:
    """Train the language model on what the encoder gives."""
    rate = SPOILT_RATE if spoilt else 1.0
    descent = _descent("spoilt" if spoilt else "answering", answering, steps, rate)
    for step in range(1, steps + 1):
        batch = packed(known[(step - 1) % len(known)], spoilt=spoilt)
        with _half_precision():
            with torch.no_grad():
                heard, _ = hearing(batch)
            loss = answering(heard, batch)
        descent.step(step, loss)


def _half_precision() -> Any:
    return torch.autocast("cpu", torch.bfloat16)


def _descent(name: str, model: nn.Module, steps: int, rate: float = 1.0) -> Descent:
    optimizing = optimizers(model, muon_rate=rate * MUON_RATE, adam_rate=rate * ADAM_RATE)
    return Descent(name, model, Schedule(optimizing, steps=steps, warmup=min(WARMUP, steps // 4)))
