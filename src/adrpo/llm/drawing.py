"""Completions of a language model for its evaluation: drawn, measured, shown."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from trl.trainer.utils import pad

from adrpo.config.llm import CompletionConfig
from adrpo.core.divergences import token_kl
from adrpo.data.base import Content, Prompt, columns_of
from adrpo.data.identity import by_words
from adrpo.embedded.questions import parse_question
from adrpo.evaluation.evaluator import Place
from adrpo.evaluation.values import Values, plain
from adrpo.llm.prompt_batch import PromptBatch
from adrpo.metrics import TOTAL, UNSEEN
from adrpo.rewards.completions import Completion
from adrpo.rewards.questions import QuestionAnswer
from adrpo.runs.counting import counted
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import write_durably
from adrpo.runs.processes import ALONE, Processes
from adrpo.runs.seeding import generator, preserved_generators
from adrpo.runs.spread import spread

if TYPE_CHECKING:
    from adrpo.llm.trainer import ADRPOTrainer

LIKELIEST = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
"""Options of generation that take the likeliest token at every place."""


@dataclass(frozen=True, kw_only=True)
class Completions:
    """Completions, prompt after prompt, and what the models say of them, each [prompts * K]:
    texts, token ids up to the end and with it, their number, mean entropy of the policy at them,
    and the sum of their k3 (in nats)."""

    texts: list[str]
    ids: list[list[int]]
    length: Tensor
    entropy: Tensor
    kl: Tensor


@dataclass(frozen=True)
class Generated:
    """Completions as the model gave them: ``ids`` of prompts and completions, padded on both sides,
    ``attention`` of the same shape, and ``mask`` [batch, count] of the completions' tokens."""

    prompts: PromptBatch
    ids: Tensor
    attention: Tensor
    mask: Tensor

    @property
    def completion(self) -> Tensor:
        """Ids of the completions [batch, count]."""
        return self.ids[:, -self.mask.shape[1] :]


class CompletionDrawing:
    """Draws the completions of one ``split`` and measures them; an
    :class:`~adrpo.evaluation.evaluator.Drawing`.

    Completion k of prompt p is drawn with the same random numbers at every evaluation of every
    run with the same ``evaluation.seed`` and batch size.
    """

    def __init__(
        self,
        config: CompletionConfig,
        trainer: "ADRPOTrainer",
        reference: nn.Module | None,
        prompts: Sequence[Prompt],
        *,
        split: str = UNSEEN,
        processes: Processes = ALONE,
    ) -> None:
        self.config = config
        self.trainer = trainer
        self.reference = reference
        self.prompts = prompts
        self.split = split
        self.processes = processes
        self.categories = [prompt.category for prompt in prompts]
        self.samples_per_prompt = config.evaluation.samples_per_prompt
        self.share = processes.share(len(prompts), f"prompts that are evaluated ({split})")
        self.repeated = [prompt for prompt in prompts for _ in range(self.samples_per_prompt)]
        self.has_gold = all(_is_question(prompt.content) for prompt in prompts)

    def known_as(self, prompt: Prompt) -> str:
        return by_words(prompt)

    @torch.no_grad()
    def draw(self, draw: int = 0) -> Completions:
        """Completions drawn as in training; see ``Drawing.draw``."""
        settings, trainer = self.config.evaluation, self.trainer
        model = trainer.accelerator.unwrap_model(trainer.model)
        rows = [{"prompt": prompt.content, **prompt.columns} for prompt in self.repeated]
        # The unseen split keeps the stream's first name: its draws are those of earlier runs.
        stream = ("evaluation",) if self.split == UNSEEN else ("evaluation", self.split)
        again = ("draw", draw) if draw else ()
        own, at_once = self.share.times(self.samples_per_prompt), settings.batch_size
        # A batch has one stream of random numbers: those in which the share has a part are drawn
        # whole.
        first = own.start // at_once * at_once
        parts: list[Completions] = []
        starts = range(first, own.stop, at_once)
        batches = [range(start, min(start + at_once, len(rows))) for start in starts]
        # As in training, also before accelerate prepares the model, and for a reference of our own.
        with (
            preserved_generators(),
            evaluating(model),
            trainer.accelerator.autocast(),
            counted(batches, sum(map(len, batches)), "completions") as counting,
        ):
            for batch in counting:
                numbers = generator(settings.seed, *stream, batch.start, *again)
                torch.manual_seed(numbers.initial_seed())
                parts.append(self._draw(model, rows[batch.start : batch.stop]))
        kept = slice(own.start - first, own.stop - first)
        return Completions(
            texts=[text for part in parts for text in part.texts][kept],
            ids=[ids for part in parts for ids in part.ids][kept],
            length=torch.cat([part.length for part in parts])[kept],
            entropy=torch.cat([part.entropy for part in parts])[kept],
            kl=torch.cat([part.kl for part in parts])[kept],
        )

    @torch.no_grad()
    def trial(self, count: int) -> dict[str, list[Any]]:
        chosen = self.share.times(self.samples_per_prompt).of(self.repeated)[:count]
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        rows = [{"prompt": prompt.content, **prompt.columns} for prompt in chosen]
        with evaluating(model), self.trainer.accelerator.autocast():
            generated = self._generate(model, rows)
        ids = zip(generated.completion.tolist(), generated.mask.sum(dim=1).tolist(), strict=True)
        return _arguments(chosen, self._texts(generated), [row[:n] for row, n in ids])

    @torch.no_grad()
    def complete(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """One completion of each of ``rows``, which have the columns of the data set: the likeliest
        token at every place, without a draw."""
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        at_once = self.config.evaluation.batch_size
        texts: list[str] = []
        batches = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
        with (
            evaluating(model),
            self.trainer.accelerator.autocast(),
            counted(batches, len(rows), "completions") as counting,
        ):
            for part in counting:
                generated = self._generate(model, part, **LIKELIEST)
                texts += self._texts(generated)
        return texts

    def _generate(self, model: Any, rows: Sequence[Mapping[str, Any]], **options: Any) -> Generated:
        tokenizer: Any = self.trainer.processing_class
        prompts = self.trainer.prompt_batch(rows)
        unpadded = [torch.tensor(ids, device=model.device) for ids in prompts.ids]
        ones = [torch.ones_like(ids) for ids in unpadded]
        prompt_ids = pad(unpadded, padding_value=tokenizer.pad_token_id, padding_side="left")
        prompt_mask = pad(ones, padding_value=0, padding_side="left")
        ids = model.generate(
            input_ids=prompt_ids,
            attention_mask=prompt_mask,
            generation_config=self.trainer.generation_config,
            **prompts.inputs(),
            **options,
        )
        mask = until_end(ids[:, prompt_ids.shape[1] :], self.trainer.eos_token_ids)
        return Generated(prompts, ids, torch.cat([prompt_mask, mask], dim=1), mask)

    def _texts(self, generated: Generated) -> list[str]:
        tokenizer: Any = self.trainer.processing_class
        mask = generated.mask.bool()
        kept = torch.where(mask, generated.completion, tokenizer.pad_token_id)
        return tokenizer.batch_decode(kept, skip_special_tokens=True)

    def _draw(self, model: Any, rows: Sequence[Mapping[str, Any]]) -> Completions:
        generated = self._generate(model, rows)
        mask = generated.mask
        logps, entropies = self._logps(model, generated)
        with self._reference(model) as reference:
            ref_logps, _ = self._logps(reference, generated)
        kl = token_kl(logps, ref_logps, estimator="k3")
        length = mask.sum(dim=1)
        ids = generated.completion.tolist()
        return Completions(
            texts=self._texts(generated),
            ids=[row[:n] for row, n in zip(ids, length.tolist(), strict=True)],
            length=length.float().cpu(),
            entropy=((entropies * mask).sum(dim=1) / length).cpu(),
            kl=(kl * mask).sum(dim=1).cpu(),
        )

    @contextmanager
    def _reference(self, model: Any) -> Iterator[Any]:
        """The reference: kept for this, or the trainer's own."""
        if self.reference is not None:
            yield self.reference
            return
        with self.trainer._reference() as reference:
            yield self.trainer.accelerator.unwrap_model(reference)

    def _logps(self, model: Any, generated: Generated) -> tuple[Tensor, Tensor]:
        """log p and entropy of the completions' tokens [batch, count], at the temperature that
        they are drawn at."""
        logps, entropies = [], []
        ids, count = generated.ids, generated.mask.shape[1]
        at_once = self.config.training.micro_batch_size
        for start in range(0, len(ids), at_once):
            rows = slice(start, start + at_once)
            # A model that does not know logits_to_keep gives those of all tokens.
            logits = model(
                input_ids=ids[rows],
                attention_mask=generated.attention[rows],
                logits_to_keep=count + 1,
                **generated.prompts.inputs(rows),
            ).logits[:, -count - 1 : -1]
            scores = (logits.float() / self.config.generation.temperature).log_softmax(dim=-1)
            drawn = ids[rows, -count:, None]
            logps.append(scores.gather(-1, drawn).squeeze(-1))
            entropies.append(-(scores.exp() * scores).sum(dim=-1))
        return torch.cat(logps), torch.cat(entropies)

    def columns(self, drawn: Completions) -> dict[str, list[Any]]:
        """The arguments of a reward, as TRL passes them."""
        own = self.share.times(self.samples_per_prompt).of(self.repeated)
        return _arguments(own, drawn.texts, drawn.ids)

    def measure(self, drawn: Completions) -> Values:
        flat: dict[str, Sequence[float | None] | Tensor] = {**self.judged(self.columns(drawn))}
        flat |= {"kl": drawn.kl, "entropy": drawn.entropy, "completion_length": drawn.length}
        shape = (len(self.share), self.samples_per_prompt)
        return {
            name: np.asarray(column, dtype=np.float64).reshape(shape)
            for name, column in flat.items()
        }

    def judged(self, columns: Mapping[str, list[Any]]) -> dict[str, Sequence[float | None]]:
        """Judge samples without any reward: metric -> one value a sample. Of questions, whether the
        answer is right. ``columns`` are the arguments of a reward."""
        if not self.has_gold:
            return {}
        return {"gold_accuracy": QuestionAnswer()(columns["prompts"], columns["completions"])}

    def choose(self, theirs: Tensor, drawn: Completions, others: Completions) -> Completions:
        wins = theirs.tolist()

        def kept(own: Sequence[Any], other: Sequence[Any]) -> list[Any]:
            return [b if won else a for a, b, won in zip(own, other, wins, strict=True)]

        return Completions(
            texts=kept(drawn.texts, others.texts),
            ids=kept(drawn.ids, others.ids),
            length=torch.where(theirs, others.length, drawn.length),
            entropy=torch.where(theirs, others.entropy, drawn.entropy),
            kl=torch.where(theirs, others.kl, drawn.kl),
        )

    def shown(self, drawn: Completions) -> dict[Place, str]:
        if self.split != UNSEEN:
            return {}
        shown, each = set(self._shown_prompts()), self.samples_per_prompt
        own = self.share.times(each)
        places = [(row // each, row % each) for row in range(own.start, own.stop)]
        return {p: text for p, text in zip(places, drawn.texts, strict=True) if p[0] in shown}

    def show(
        self, run: RunDirectory, step: int, shown: Mapping[Place, str], values: Values
    ) -> None:
        """Write samples/base.jsonl and, replaced by every later evaluation, samples/final.jsonl."""
        if self.split != UNSEEN:
            return
        lines = []
        run.samples.mkdir(parents=True, exist_ok=True)
        for prompt in self._shown_prompts():
            row = {
                "prompt": self.prompts[prompt].content,
                "category": self.categories[prompt],
                "completions": [shown[prompt, k] for k in range(self.samples_per_prompt)],
                "rewards": plain(values[TOTAL][prompt]),
                **self.attached(run, prompt),
            }
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        path = run.samples / ("base.jsonl" if step == 0 else "final.jsonl")
        write_durably(path, "".join(lines).encode())

    def attached(self, run: RunDirectory, prompt: int) -> dict[str, Any]:
        """Further keys of the row of ``prompt`` in samples/, whose files it writes there."""
        del run, prompt
        return {}

    def listing(self) -> dict[str, Any]:
        if self.split != UNSEEN:
            return {f"{self.split}_categories": self.categories}
        return {"categories": self.categories, "held_out": [], "strip": []}

    def _shown_prompts(self) -> list[int]:
        return spread(self.categories, self.config.evaluation.shown_prompts)


def _arguments(
    prompts: Sequence[Prompt], texts: Sequence[str], ids: list[list[int]]
) -> dict[str, list[Any]]:
    """The arguments of a reward for one completion of each of ``prompts``, as TRL passes them."""
    columns = columns_of(prompts)
    completions: list[Completion] = [
        text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
        for prompt, text in zip(columns["prompts"], texts, strict=True)
    ]
    return {**columns, "completions": completions, "completion_ids": ids}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """``model`` without dropout, and as it was afterwards, whatever happens meanwhile."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def until_end(completion: Tensor, ends: Sequence[int]) -> Tensor:
    """1 for the tokens of ``completion`` [batch, tokens] up to the first of ``ends``, included."""
    is_end = torch.isin(completion, torch.tensor(ends, device=completion.device)).long()
    return (is_end.cumsum(dim=1) - is_end == 0).long()


def _is_question(prompt: Content) -> bool:
    if not isinstance(prompt, str):
        return False
    try:
        parse_question(prompt)
    except ValueError:
        return False
    return True
