"""Evaluates a language model on fixed prompts with fixed random streams."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from trl.trainer.utils import pad

from adrpo.config import LanguageConfig
from adrpo.core.divergences import token_kl
from adrpo.embedded.questions import parse_question
from adrpo.evaluation.values import (
    Values,
    plain,
    read_values,
    record_prompts,
    spread,
    summarise,
    values_path,
    write_values,
)
from adrpo.llm.prompt_rows import Row, categories_of
from adrpo.llm.trainer import ADRPOTrainer
from adrpo.rewards.base import RewardTerm
from adrpo.rewards.completions import Completion
from adrpo.rewards.questions import QuestionAnswer
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import write_durably
from adrpo.runs.seeding import generator


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


class LanguageEvaluator:
    """Measures the policy on held-out prompts: rewards, KL to the reference, entropy, length.

    Completion k of prompt p is drawn with the same random numbers at every evaluation of every
    run with the same ``evaluation.seed`` and batch size.
    """

    def __init__(
        self,
        config: LanguageConfig,
        trainer: ADRPOTrainer,
        reference: nn.Module | None,
        terms: Sequence[RewardTerm],
        others: Sequence[RewardTerm],
        rows: list[Row],
    ) -> None:
        self.config = config
        self.trainer = trainer
        self.reference = reference
        self.terms = terms
        self.others = others
        self.rows = rows
        self.categories = categories_of(rows)
        self.has_gold = all(_is_question(row["prompt"]) for row in rows)

    def evaluate(self, run: RunDirectory, step: int) -> dict[str, Any]:
        """The row of evaluations.jsonl of ``step`` (0: the base); writes what the report shows."""
        settings = self.config.evaluation
        drawn = self.generate()
        values = self.values(drawn)
        self._save_completions(run, step, drawn.texts, values["reward"])
        record_prompts(run, {"categories": self.categories, "held_out": [], "strip": []})
        write_values(values_path(run, step), values)
        base = None if step == 0 else read_values(values_path(run, 0))
        row: dict[str, Any] = {
            "step": step,
            "split": "unseen",
            "prompts": len(self.rows),
            "samples": len(drawn.texts),
        }
        return row | summarise(values, self.categories, base, seed=settings.seed)

    @torch.no_grad()
    def generate(self, draw: int = 0) -> Completions:
        """``samples_per_prompt`` completions of each prompt, drawn as in training; ``draw`` 0 is
        the evaluation's own, others are independent of it."""
        settings, trainer = self.config.evaluation, self.trainer
        model = trainer.accelerator.unwrap_model(trainer.model)
        training = model.training
        model.eval()
        prompts = [row["prompt"] for row in self.rows for _ in range(settings.samples_per_prompt)]
        again = ("draw", draw) if draw else ()
        parts: list[Completions] = []
        # The run's own random state stays as it is, whatever is drawn here.
        devices = [model.device] if model.device.type == "cuda" else []
        # As in training, also before accelerate prepares the model, and for a reference of our own.
        with torch.random.fork_rng(devices=devices), trainer.accelerator.autocast():
            for start in range(0, len(prompts), settings.batch_size):
                stream = generator(settings.seed, "evaluation", start, *again)
                torch.manual_seed(stream.initial_seed())
                parts.append(self._draw(model, prompts[start : start + settings.batch_size]))
        model.train(training)
        return Completions(
            texts=[text for part in parts for text in part.texts],
            ids=[ids for part in parts for ids in part.ids],
            length=torch.cat([part.length for part in parts]),
            entropy=torch.cat([part.entropy for part in parts]),
            kl=torch.cat([part.kl for part in parts]),
        )

    def _draw(self, model: Any, prompts: list[Any]) -> Completions:
        tokenizer: Any = self.trainer.processing_class
        tokens = self.trainer._tokenize_prompts(prompts)[0]
        rows = [torch.tensor(ids, device=model.device) for ids in tokens]
        ones = [torch.ones_like(ids) for ids in rows]
        prompt_ids = pad(rows, padding_value=tokenizer.pad_token_id, padding_side="left")
        prompt_mask = pad(ones, padding_value=0, padding_side="left")
        ids = model.generate(
            input_ids=prompt_ids,
            attention_mask=prompt_mask,
            generation_config=self.trainer.generation_config,
        )
        completion = ids[:, prompt_ids.shape[1] :]
        mask = until_end(completion, self.trainer.eos_token_ids)
        attention = torch.cat([prompt_mask, mask], dim=1)
        logps, entropies = self._logps(model, ids, attention, mask.shape[1])
        with self._reference(model) as reference:
            ref_logps, _ = self._logps(reference, ids, attention, mask.shape[1])
        kl = token_kl(logps, ref_logps, estimator="k3")
        length = mask.sum(dim=1)
        kept = torch.where(mask.bool(), completion, tokenizer.pad_token_id)
        return Completions(
            texts=tokenizer.batch_decode(kept, skip_special_tokens=True),
            ids=[row[:n] for row, n in zip(completion.tolist(), length.tolist(), strict=True)],
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

    def _logps(
        self, model: Any, ids: Tensor, attention: Tensor, count: int
    ) -> tuple[Tensor, Tensor]:
        """log p and entropy of the last ``count`` tokens [batch, count], at the temperature that
        they are drawn at."""
        logps, entropies = [], []
        for rows in torch.arange(len(ids)).split(self.config.training.micro_batch_size):
            logits = model(
                input_ids=ids[rows], attention_mask=attention[rows], logits_to_keep=count + 1
            ).logits[:, :-1]
            scores = (logits.float() / self.config.generation.temperature).log_softmax(dim=-1)
            drawn = ids[rows, -count:, None]
            logps.append(scores.gather(-1, drawn).squeeze(-1))
            entropies.append(-(scores.exp() * scores).sum(dim=-1))
        return torch.cat(logps), torch.cat(entropies)

    def values(self, drawn: Completions) -> Values:
        """Each metric as [prompts, K]."""
        per_prompt = self.config.evaluation.samples_per_prompt
        index = [i for i in range(len(self.rows)) for _ in range(per_prompt)]
        prompts = [self.rows[i]["prompt"] for i in index]
        # Rows lack a column where others have it.
        names = dict.fromkeys(name for row in self.rows for name in row if name != "prompt")
        columns: dict[str, list[Any]] = {
            name: [self.rows[i].get(name) for i in index] for name in names
        }
        columns["completion_ids"] = drawn.ids  # as TRL passes them, instead of the data's own
        completions: list[Completion] = [
            text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
            for prompt, text in zip(prompts, drawn.texts, strict=True)
        ]
        flat: dict[str, Sequence[float | None] | Tensor] = {}
        if self.has_gold:
            flat["gold_accuracy"] = QuestionAnswer()(prompts, completions)
        total = torch.zeros(len(index))
        for term in (*self.terms, *self.others):
            scores = term.function(prompts=prompts, completions=completions, **columns)
            known = torch.tensor([math.nan if value is None else value for value in scores])
            flat[term.name] = known
            if term in self.terms:
                total = total + term.contribution(known)
        flat |= {"reward": total, "kl": drawn.kl, "entropy": drawn.entropy}
        flat["completion_length"] = drawn.length
        return {
            name: np.asarray(column, dtype=np.float64).reshape(len(self.rows), per_prompt)
            for name, column in flat.items()
        }

    def _save_completions(
        self, run: RunDirectory, step: int, texts: list[str], rewards: NDArray[np.float64]
    ) -> None:
        """samples/base.jsonl and, replaced by every later evaluation, samples/final.jsonl."""
        per_prompt = self.config.evaluation.samples_per_prompt
        lines = []
        for prompt in spread(self.categories, self.config.evaluation.shown_prompts):
            first = prompt * per_prompt
            shown = {
                "prompt": self.rows[prompt]["prompt"],
                "category": self.categories[prompt],
                "completions": texts[first : first + per_prompt],
                "rewards": plain(rewards[prompt]),
            }
            lines.append(json.dumps(shown, ensure_ascii=False) + "\n")
        run.samples.mkdir(parents=True, exist_ok=True)
        path = run.samples / ("base.jsonl" if step == 0 else "final.jsonl")
        write_durably(path, "".join(lines).encode())


def until_end(completion: Tensor, ends: Sequence[int]) -> Tensor:
    """1 for the tokens of ``completion`` [batch, tokens] up to the first of ``ends``, included."""
    is_end = torch.isin(completion, torch.tensor(ends, device=completion.device)).long()
    return (is_end.cumsum(dim=1) - is_end == 0).long()


def _is_question(prompt: Any) -> bool:
    if not isinstance(prompt, str):
        return False
    try:
        parse_question(prompt)
    except ValueError:
        return False
    return True
