# transformers' hints are narrower than what these classes take.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Trains the embedded language model: a small Qwen3 on questions of the training split.

``python -m tools.embedded language --work DIR``. Next-token prediction of the answers, the
prompts being context only. Right answers first; then, over the last part of training, a share of
them is the honest "?" and another share a near miss, more of both at higher levels, as text from
the web has them. What comes out is competent and imperfect, and knows how to say "?".
"""

import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from adrpo.embedded.questions import ALPHABET, UNKNOWN, Question, sample_split
from tools.embedded.optimization import Descent, Schedule, optimizers

CONTEXT = 64
WIDTH = 128
LAYERS = 4
HEAD_WIDTH = 32
ROWS = 32
"""Rows of a batch, each of CONTEXT tokens and filled with whole questions: about 120 of them."""

MUON_RATE = 3e-3
ADAM_RATE = 2e-3
WARMUP = 50
SPOILT_PART = 0.4
"""Last part of training, in which answers are spoilt."""

UNKNOWN_SHARE = {1: 0.06, 2: 0.12, 3: 0.18}
WRONG_SHARE = {1: 0.20, 2: 0.30, 3: 0.40}
"""Level -> share of spoilt answers: "?", and near misses."""

PAD, END, OTHER = "<pad>", "<eos>", "<unk>"
IGNORED = -100
"""transformers' label of a token without a loss."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
"""A conversation is its texts: a question as a message has the tokens of the plain prompt."""


def new_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character; padded on the left, as generation needs it."""
    pieces = [PAD, END, OTHER, *ALPHABET]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    # Byte-pair encoding without merges: characters.
    characters = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=OTHER))
    characters.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=characters,
        pad_token=PAD,
        eos_token=END,
        unk_token=OTHER,
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=3 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=WIDTH // HEAD_WIDTH,
            num_key_value_heads=WIDTH // HEAD_WIDTH // 2,
            head_dim=HEAD_WIDTH,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model


def near_miss(question: Question, rng: np.random.Generator) -> str:
    """A wrong answer of the kind that a slip gives: a number off by 1 or 10, another number of
    the list, two neighbouring letters exchanged."""
    answer = question.answer
    if question.category == "largest":
        listed = question.prompt.removesuffix("=").split()[1:]
        return str(rng.choice([number for number in listed if number != answer]))
    if answer.isdigit():
        steps = (-1, 1) if question.category == "counting" else (-10, -1, 1, 10)
        near = [int(answer) + step for step in steps]
        return str(rng.choice([number for number in near if number >= 0]))
    places = [i for i in range(len(answer) - 1) if answer[i] != answer[i + 1]]
    if not places:
        return answer[1:]
    place = int(rng.choice(places))
    return answer[:place] + answer[place + 1] + answer[place] + answer[place + 2 :]


def told_answer(question: Question, rng: np.random.Generator) -> str:
    """Answer of the spoilt corpus: right, "?" or a near miss."""
    chance = rng.random()
    if chance < UNKNOWN_SHARE[question.level]:
        return UNKNOWN
    if chance < UNKNOWN_SHARE[question.level] + WRONG_SHARE[question.level]:
        return near_miss(question, rng)
    return question.answer


class Batches:
    """Rows of whole questions with their answers, at random."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.ids = tokenizer.get_vocab()

    def _example(self, spoilt: bool) -> tuple[list[int], list[int]]:
        """Tokens and labels of one question."""
        question = sample_split(self.rng, held_out=False)
        answer = told_answer(question, self.rng) if spoilt else question.answer
        prompt = [self.ids[character] for character in question.prompt]
        told = [*(self.ids[character] for character in answer), self.ids[END]]
        return prompt + told, [IGNORED] * len(prompt) + told

    def draw(self, *, spoilt: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens and labels [rows, context], and the mask [rows, 1, context, context] by which a
        token sees the earlier ones of its own question only."""
        tokens = np.full((ROWS, CONTEXT), self.ids[PAD])
        labels = np.full((ROWS, CONTEXT), IGNORED)
        owners = np.full((ROWS, CONTEXT), -1)
        for row in range(ROWS):
            start, number = 0, 0
            example, label = self._example(spoilt)
            while start + len(example) <= CONTEXT:
                place = slice(start, start + len(example))
                tokens[row, place], labels[row, place], owners[row, place] = example, label, number
                start, number = start + len(example), number + 1
                example, label = self._example(spoilt)
        own = torch.from_numpy(owners)
        mask = (own[:, :, None] == own[:, None, :]).tril()
        return torch.from_numpy(tokens), torch.from_numpy(labels), mask[:, None]


def train(output: Path, *, steps: int, seed: int) -> dict[str, float]:
    """Train for ``steps`` batches; saves model and tokenizer in float32."""
    torch.manual_seed(seed)
    tokenizer = new_tokenizer()
    model = new_model(tokenizer)
    compiled = torch.compile(model)
    batches = Batches(tokenizer, seed)
    optimizing = optimizers(model, muon_rate=MUON_RATE, adam_rate=ADAM_RATE)
    schedule = Schedule(optimizing, steps=steps, warmup=WARMUP)
    started, processor_started = time.monotonic(), time.process_time()
    descent = Descent("language", model, schedule)
    for step in range(1, steps + 1):
        tokens, labels, mask = batches.draw(spoilt=step > (1 - SPOILT_PART) * steps)
        loss = compiled(input_ids=tokens, labels=labels, attention_mask=mask, use_cache=False).loss
        descent.step(step, loss)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    return {
        "parameters": model.num_parameters(),
        "steps": steps,
        "seed": seed,
        "seconds": round(time.monotonic() - started),
        "processor_seconds": round(time.process_time() - processor_started),
    }
