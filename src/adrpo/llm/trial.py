"""Trials of a language model's arithmetic: padding, generation, the reference, gradients."""

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from jaxtyping import Float, Int
from peft import PeftModel
from torch import Tensor, nn
from trl.trainer.utils import pad

from adrpo.data.base import Prompt
from adrpo.llm.drawing import LIKELIEST, evaluating, until_end
from adrpo.llm.prompt_batch import PromptBatch
from adrpo.runs.network_trials import base_alone, finite_trial, gradient_trials
from adrpo.runs.seeding import preserved_generators
from adrpo.runs.trials import Trial, check_trials

if TYPE_CHECKING:
    from adrpo.llm.trainer import ADRPOTrainer

PADDINGS = tuple(range(1, 65))
"""Numbers of tokens that prompts are padded by; kernels work in blocks of 8 to 64 of them."""

FEW_PADDINGS = (1, 2, 31, 32, 33, 64)
"""Paddings that a run tries before its first step."""

LOOKED_AT = 64
"""Prompts among which a short and a long one are looked for."""

TOKENS = 12
"""Tokens that are generated of each prompt."""

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.1}
"""Most that a log-probability may differ by. Of a logit of the size 20 it is four hundred roundings
in float32, whose kernels sum in another order for another batch, and three to five in the 16-bit
types, whose sums are float32. A mask that fails moves log-probabilities by whole numbers."""

ANOTHER_WAY = (
    "try model.attn_implementation=eager, another version of transformers, or a wider model.dtype"
)


SWITCH = "; ADRPOConfig(try_arithmetic=False) trains all the same"
"""The end of an error, with the way on for a script."""


def try_before_training(trainer: "ADRPOTrainer") -> None:
    """Try the arithmetic of a script's ``trainer`` on the first rows of its data set, once.

    Not that of a model that sees, of one in shards, whose layers can't be called one by one, of an
    adapter of tokens (prompt tuning), which has no layers, or of environments, which write their
    prompts themselves.

    Raises AdrpoError where a trial does not hold.
    """
    sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    of_tokens = isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning
    if sharded or of_tokens or trainer._is_vlm or trainer.environment_factories is not None:
        return
    data: Any = trainer.train_dataset
    # A stream may fetch or compute each of its rows.
    stored = isinstance(data, Dataset)
    rows: Any = data.select(range(min(LOOKED_AT, len(data)))) if stored else islice(data, 2)
    prompts = [Prompt(row["prompt"], columns=row) for row in rows if "prompt" in row]
    if prompts:
        trials = try_arithmetic(trainer, prompts, paddings=FEW_PADDINGS)
        check_trials(trials, otherwise=SWITCH)


def try_arithmetic(
    trainer: "ADRPOTrainer",
    prompts: Sequence[Prompt],
    *,
    paddings: Sequence[int] = PADDINGS,
) -> list[Trial]:
    """Try what the steps of ``trainer`` rest on, on the shortest and the longest of the first of
    ``prompts``.

    Log-probabilities are those of the trainer's own scoring. Model, generators and gradients are
    afterwards as they were.
    """
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    first = sorted(prompts[:LOOKED_AT], key=lambda prompt: len(prompt.text))
    rows = [{**prompt.columns, "prompt": prompt.content} for prompt in (first[0], first[-1])]
    trying = _Trying(trainer, model, trainer.prompt_batch(rows))
    with preserved_generators(), evaluating(model), trainer.accelerator.autocast():
        with torch.no_grad():
            found = [trying.finite(), *trying.padded(paddings), trying.generated()]
            # An adapter that training began with may be the reference, in the base's place.
            if isinstance(model, PeftModel) and "ref" not in model.peft_config:
                found.append(trying.reference())
        return [*found, *trying.gradients()]


class _Trying:
    """The trials of one model, and what they have in common."""

    def __init__(self, trainer: "ADRPOTrainer", model: Any, prompts: PromptBatch) -> None:
        self.trainer = trainer
        self.model = model
        self.prompts = prompts
        self.blank: int = trainer.processing_class.pad_token_id  # pyright: ignore
        self.ids = [torch.tensor(ids, device=model.device) for ids in prompts.ids]
        self.limit = TOLERANCE.get(_computed_in(trainer, model), TOLERANCE[torch.bfloat16])

    def scored(
        self,
        ids: Int[Tensor, "rows tokens"],
        mask: Int[Tensor, "rows tokens"],
        count: int,
        of: Sequence[int],
    ) -> Float[Tensor, "rows count"]:
        """log p of the last ``count`` tokens as training scores them; row i begins with prompt
        ``of[i]``."""
        with self.prompts.given(self.trainer, of):
            found, _, _ = self.trainer._get_per_token_logps_and_entropies(
                self.model,
                ids,
                mask,
                count,
                batch_size=self.trainer.args.per_device_train_batch_size,
            )
        return found.float()

    @cached_property
    def own(self) -> Int[Tensor, " tokens"]:
        """The first prompt with a token more, so that a single one has something to predict."""
        return self._followed(self.ids[0], 1)

    @cached_property
    def alone(self) -> Float[Tensor, " tokens"]:
        """log p of the first prompt's tokens but the first, in a batch of it alone."""
        ids = self.own[None]
        return self.scored(ids, torch.ones_like(ids), len(self.own) - 1, [0])[0]

    def finite(self) -> Trial:
        return finite_trial("log-probabilities of a prompt", self.alone)

    def padded(self, paddings: Sequence[int]) -> list[Trial]:
        """The first prompt alone, and left-padded beside itself, which a longer end follows; none
        where the context has room for no padding."""
        room = (self.trainer._room.context or math.inf) - len(self.own)
        off = {}
        for padding in (n for n in paddings if n <= room):
            ids = torch.stack([self._padded(self.own, padding), self._followed(self.own, padding)])
            mask = torch.ones_like(ids)
            mask[0, :padding] = 0
            row = self.scored(ids, mask, len(self.alone), [0, 0])[0]
            off[padding] = float((row - self.alone).abs().nan_to_num(torch.inf).max())
        if not off:
            return []
        worst = max(off, key=off.__getitem__)
        return [
            Trial(
                what=f"log-probabilities of a prompt, left-padded by {worst}",
                value=off[worst],
                limit=self.limit,
                remedy=f"the model's attention reads its padding: {ANOTHER_WAY}",
            )
        ]

    def _padded(self, ids: Int[Tensor, " tokens"], padding: int) -> Int[Tensor, " longer"]:
        return torch.cat([ids.new_full((padding,), self.blank), ids])

    def _followed(self, ids: Int[Tensor, " tokens"], more: int) -> Int[Tensor, " longer"]:
        """The last token again and again: a token of text, and no clip."""
        return torch.cat([ids, ids[-1:].expand(more)])

    def generated(self) -> Trial:
        """Log-probabilities that generation drew from, and those of scoring."""
        prompt_ids = pad(self.ids, padding_value=self.blank, padding_side="left")
        mask = pad([torch.ones_like(ids) for ids in self.ids], padding_value=0, padding_side="left")
        drawn = self.model.generate(
            input_ids=prompt_ids,
            attention_mask=mask,
            # vLLM has one of its own.
            generation_config=getattr(self.trainer, "generation_config", None),
            max_new_tokens=min(TOKENS, self.trainer.args.max_completion_length or TOKENS),
            # Sampling raises where a probability is no number.
            **LIKELIEST,
            output_logits=True,
            return_dict_in_generate=True,
            **self.prompts.inputs(),
        )
        completion = drawn.sequences[:, prompt_ids.shape[1] :]
        scores = torch.stack(drawn.logits, dim=1).float() / self.trainer.temperature
        told = scores.log_softmax(-1).gather(-1, completion[..., None])[..., 0]
        kept = until_end(completion, self.trainer.eos_token_ids)
        self.sequences, self.mask, self.count = (
            drawn.sequences, torch.cat([mask, kept], dim=1), completion.shape[1],
        )  # fmt: skip
        off = (self.completions() - told).abs()[kept.bool()]
        return Trial(
            what="log-probabilities of generation and of scoring",
            value=float(off.nan_to_num(torch.inf).max()),
            limit=self.limit,
            remedy=f"training would see other probabilities than it drew from: {ANOTHER_WAY}",
        )

    def completions(self, rows: int | None = None) -> Float[Tensor, "rows count"]:
        """log p of the completions of the first ``rows`` prompts (None: of all)."""
        of = range(len(self.ids))[:rows]
        return self.scored(self.sequences[:rows], self.mask[:rows], self.count, of)

    def reference(self) -> Trial:
        """The model without its adapter, and its layers as they were before they got one."""
        with self.trainer._reference():
            off = self.completions()
        with base_alone(self.model):
            base = self.completions()
        return Trial(
            what="log-probabilities with the adapter off, and of the base",
            value=float((off - base).abs().nan_to_num(torch.inf).max()),
            limit=self.limit,
            remedy="the KL would be to something else than the base: another version of peft",
        )

    def gradients(self) -> list[Trial]:
        """The gradient of the completions' mean log-probability, of no more rows than training
        holds at a time."""
        rows = self.trainer.args.per_device_train_batch_size
        kept = self.mask[:rows, -self.count :]
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return gradient_trials(lambda: -(self.completions(rows) * kept).sum() / kept.sum(), trained)


def _computed_in(trainer: "ADRPOTrainer", model: nn.Module) -> torch.dtype:
    """The number type of a matrix product."""
    mixed = {"fp16": torch.float16, "bf16": torch.bfloat16}
    own = next(model.parameters()).dtype
    return mixed.get(trainer.accelerator.mixed_precision, own)
