"""ADRPO for language models, as a subclass of TRL's GRPOTrainer."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from peft import PeftModel
from torch import Tensor
from trl import GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from adrpo.errors import AdrpoError
from adrpo.llm.citation import PAPER
from adrpo.llm.coefficient import degenerate_rows, edited_coefficient, kl_coefficient
from adrpo.llm.config import ADRPOConfig
from adrpo.llm.context import Room, check_columns, context_of
from adrpo.llm.controller import KLController
from adrpo.llm.metrics import KL_SUMS, coefficient_metrics, kl_sums, mean_of
from adrpo.llm.penalty import PerSampleBeta
from adrpo.llm.prompt_batch import PromptBatch
from adrpo.llm.scripts import check_beta, has_own_loss, warn_about
from adrpo.llm.trained_adapter import check_model_trains
from adrpo.llm.trained_types import check_trained_types
from adrpo.llm.trial import try_before_training
from adrpo.llm.turns import of_whole_turn, thought_opening
from adrpo.rewards.normalizing import RewardNormalizer
from adrpo.runs import checkpoints


class ADRPOTrainer(GRPOTrainer):
    """GRPO with a KL coefficient per sample (eq. 7, arXiv 2510.18053).

        L = L_PG + beta_i KL(pi || pi_ref),   beta_i = beta_0 - clip(A_i, -c, c)

    L_PG is TRL's policy-gradient term, of whichever ``loss_type``, on the advantage A_i as TRL
    computes it; beta_i is detached. It is that of the sample's score, or of the ``advantages`` and
    the ``beta`` that a subclass or a callback has set since. On policy and without
    ``use_bias_correction_kl`` the first step's gradient is a policy gradient with the advantage
    A_i + beta_i (pi_ref / pi - 1) at each token.

    It takes GRPOTrainer's arguments, with an :class:`ADRPOConfig` as ``args``. With c > beta_0 the
    coefficient can be negative, and k3, which the loss then rewards, is bounded by
    ``log_ratio_bound`` alone.

    Samples without a score (None, NaN or an infinity) and groups with equal rewards have A = 0:
    beta_0 on the KL (see ``kl_on_degenerate_groups``) and no policy gradient.

    Logged beside TRL's metrics, with ``adrpo/`` in front (docs/use/llm.md has the table):
    ``beta_0``, ``coef_mean``, ``coef_min``, ``coef_max``, ``saturated_frac``,
    ``frac_negative_coef``, ``reference_frac``, ``kl``, ``kl_pos``, ``kl_neg``, ``weighted_kl``.

    Raises:
        AdrpoError: ``args`` is no ADRPOConfig, the tokenizer has neither a pad nor an eos token,
            or a prompt does not fit the model's context.
    """

    _tag_names: ClassVar[list[str]] = ["trl", "grpo", "adrpo"]
    _name = "ADRPO"
    _paper: ClassVar[dict[str, str]] = PAPER

    args: ADRPOConfig
    # What TRL and accelerate leave open or optional.
    accelerator: Any
    beta: Any
    eos_token_ids: list[int]
    importance_sampling_level: Literal["token", "sequence"]
    model: Any
    num_generations: int
    num_generations_eval: int

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: ADRPOConfig | None = None,
        *arguments: Any,
        **named: Any,
    ) -> None:
        if args is None:
            name = model if isinstance(model, str) else model.config._name_or_path
            args = ADRPOConfig(f"{name.split('/')[-1]}-ADRPO")
        if not isinstance(args, ADRPOConfig):
            raise AdrpoError(
                f"args: expected an ADRPOConfig, received a {type(args).__name__}; it takes the "
                "same options, change the name"
            )
        args.taken = True
        # Read while TRL's constructor runs: it may already tokenize or generate.
        self._controller = KLController(args.beta, target=args.target_kl)
        self._rewards: Tensor | None = None
        self._sampler: Any = None
        self._room = Room()
        self._tried = False
        self.carried = RewardNormalizer()
        super().__init__(model, reward_funcs, args, *arguments, **named)
        warn_about(args)
        if self._tokenizer.pad_token_id is None:
            raise AdrpoError(
                "processing_class: expected a tokenizer with a pad or an eos token, received one "
                "with neither; set tokenizer.pad_token"
            )
        self.reward_funcs = [of_whole_turn(each, self._opening) for each in self.reward_funcs]
        self._room = Room(context_of(self.model.config), self.args.max_completion_length)
        check_columns(getattr(self.train_dataset, "column_names", None) or (), sees=self._is_vlm)
        self._room.check_all(self)

    def train(
        self, resume_from_checkpoint: str | bool | None = None, *arguments: Any, **named: Any
    ) -> Any:
        check_model_trains(self.accelerator.unwrap_model(self.model))
        if not (self.is_deepspeed_enabled or self.is_fsdp_enabled):  # float32 masters of their own
            check_trained_types(self.model, self.args)
        # What is resumed passed when it began.
        if self.args.try_arithmetic and not (self._tried or resume_from_checkpoint):
            try_before_training(self)
            self._tried = True
        return super().train(resume_from_checkpoint, *arguments, **named)

    @property
    def beta_0(self) -> float:
        """beta_0 of the next generated batch; moves with ``target_kl``, and with ``beta``, which a
        callback may set."""
        return self._controller.beta_0

    def _follow_beta(self) -> None:
        """Take ``beta`` over from whoever has set it, as TRL's trainer would."""
        if self.beta != self._controller.beta_0:
            policy = self.accelerator.unwrap_model(self.model)
            reference = self.ref_model is not None or isinstance(policy, PeftModel)
            check_beta(self.args, self.beta, has_reference=reference)
            self._controller.beta_0 = float(self.beta)

    # --- scoring: the coefficient, and which rows need the reference ---

    def _calculate_rewards(self, *arguments: Any, **named: Any) -> Tensor:
        rewards = super()._calculate_rewards(*arguments, **named)
        # None becomes NaN, and leaves its sample out; an infinity would void its whole group.
        rewards = rewards.masked_fill(rewards.isinf(), torch.nan)
        self._rewards = rewards
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._follow_beta()
        if self.beta == 0.0:
            return super()._generate_and_score_completions(inputs)
        if self.model.training:
            self._controller.move()
            self.beta = self._controller.beta_0
        # TRL runs the reference before it knows the advantages. With beta 0 it leaves the pass
        # out, and it can follow for the rows that turn out to need it.
        postponed = self._may_leave_rows_out()
        beta = self.beta
        self.beta = 0.0 if postponed else beta
        try:
            batch = super()._generate_and_score_completions(inputs)
        finally:
            self.beta = beta
        degenerate = self._degenerate_rows(len(batch["advantages"]))
        advantages = batch["advantages"].clone()
        advantages[degenerate] = 0
        coefficient = self._coefficient(advantages)
        if not self.args.kl_on_degenerate_groups:
            coefficient[degenerate] = 0
        # Keys of the batch are shuffled and split with it.
        batch["kl_advantages"], batch["kl_coefficient"] = advantages, coefficient
        # By which a loss sees what was edited since.
        batch["scored_advantages"] = batch["advantages"].clone()
        batch["scored_beta"] = torch.full_like(coefficient, self.beta_0, dtype=torch.float64)
        rows = torch.ones_like(degenerate)
        if postponed:
            rows = (coefficient != 0).view(len(coefficient), -1).any(1)
            batch["reference_rows"] = rows
            batch["ref_per_token_logps"] = self._reference_logps(batch, rows)
        self._log_coefficient(advantages, coefficient, rows)
        return batch

    def _coefficient(self, advantages: Tensor) -> Tensor:
        return kl_coefficient(
            advantages,
            kind=self.args.coefficient,
            beta_0=self.beta_0,
            clip=self.args.clip_at(self.beta_0),
            floor=self.args.negative_coefficient == "floor",
        )

    def _degenerate_rows(self, count: int) -> Bool[Tensor, " rows"]:
        """This process's part of :func:`degenerate_rows`; rewards are gathered from all."""
        rewards = self._rewards
        assert rewards is not None
        if self.multi_objective_aggregation == "sum_then_normalize":
            unscored = rewards.isnan().all(dim=1, keepdim=True)
            rewards = (rewards * self.reward_weights.to(rewards.device)).nansum(1, keepdim=True)
            rewards = rewards.masked_fill(unscored, torch.nan)
        group_size = self.num_generations if self.model.training else self.num_generations_eval
        first = self.accelerator.process_index * count
        return degenerate_rows(rewards, group_size=group_size)[first : first + count]

    def _may_leave_rows_out(self) -> bool:
        args = self.args
        has_zeros = args.coefficient != "fixed" or not args.kl_on_degenerate_groups
        wanted = self.model.training and args.reference_rows == "needed" and args.target_kl is None
        # Sharded models need every process in every pass; images are not one per row.
        possible = not (self.is_deepspeed_enabled or self.is_fsdp_enabled or self._is_vlm)
        # A loss of its own would read the rows that were left out.
        return has_zeros and wanted and possible and not has_own_loss(self)

    def _reference_logps(
        self, batch: dict[str, Any], rows: Bool[Tensor, " rows"]
    ) -> Float[Tensor, "rows tokens"]:
        """log pi_ref of the completions; NaN in the rows that are left out."""
        completion_ids = batch["completion_ids"]
        ids = torch.cat([batch["prompt_ids"], completion_ids], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        logps = torch.full(completion_ids.shape, torch.nan, device=ids.device)
        if not rows.any():
            return logps
        checkpointing: Any = self.args.gradient_checkpointing_kwargs
        with (
            torch.no_grad(),
            disable_gradient_checkpointing(self.model, checkpointing),
            self._reference() as model,
        ):
            computed, _, _ = self._get_per_token_logps_and_entropies(
                model,
                ids[rows],
                mask[rows],
                completion_ids.shape[1],
                batch_size=self.args.per_device_train_batch_size,
            )
        logps = logps.to(computed.dtype)
        logps[rows] = computed
        return logps

    def _complete_reference(self, inputs: dict[str, Any], coefficient: Tensor) -> None:
        """Compute what ``coefficient`` needs of the reference and the batch was scored without:
        after an edit of its advantages, or a beta that was 0."""
        computed = "ref_per_token_logps" in inputs
        needed = (coefficient != 0).view(len(coefficient), -1).any(1)
        rows = inputs.get("reference_rows", torch.full_like(needed, computed))
        missing = needed & ~rows
        if not missing.any():
            return
        if self._is_vlm:
            raise AdrpoError(
                "beta: expected a number above 0 when a batch with images is scored, received 0, "
                "and another one at its loss; set it before the batch is generated"
            )
        fresh = self._reference_logps(inputs, missing)
        if computed:
            known = inputs["ref_per_token_logps"]
            fresh = torch.where(missing.unsqueeze(1), fresh.to(known.dtype), known)
        inputs["ref_per_token_logps"], inputs["reference_rows"] = fresh, rows | missing

    @contextmanager
    def _reference(self) -> Iterator[Any]:
        """The reference as TRL defines it: a model of its own, or the adapter's base."""
        if self.ref_model is not None:
            yield self.ref_model
            return
        adapted = self.accelerator.unwrap_model(self.model)
        with use_adapter(adapted, "ref" if "ref" in adapted.peft_config else None):
            yield self.model

    # --- loss: a coefficient per sample in the place of self.beta ---

    def _get_per_token_logps_and_entropies(self, *arguments: Any, **named: Any) -> Any:
        result = super()._get_per_token_logps_and_entropies(*arguments, **named)
        if isinstance(self.beta, PerSampleBeta):
            self.beta.receive(result[0])
        return result

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self._follow_beta()
        if self.beta == 0.0:
            return super()._compute_loss(model, inputs)
        advantages, coefficient = edited_coefficient(
            inputs,
            self._coefficient,
            beta_0=self.beta_0,
            on_degenerate_groups=self.args.kl_on_degenerate_groups,
        )
        self._complete_reference(inputs, coefficient)
        # The batch is kept for further iterations: change a copy.
        inputs = dict(inputs)
        if self.args.clip_policy_advantage:
            clip = self.args.clip_at(self.beta_0)
            inputs["advantages"] = inputs["advantages"].clamp(-clip, clip)
        corrected = self.args.use_bias_correction_kl
        stand_in = PerSampleBeta(
            inputs,
            coefficient,
            estimator=self.args.kl_estimator,
            bound=self.args.log_ratio_bound,
            correction=self.importance_sampling_level if corrected else None,
        )
        beta = self.beta
        self.beta = stand_in
        try:
            loss = super()._compute_loss(model, inputs)
        finally:
            self.beta = beta
        self._log_kl(stand_in, advantages)
        return loss

    # --- metrics ---

    def _log(self, name: str, value: float) -> None:
        # A mean of nothing is left out: TRL would log None, of which TensorBoard warns every time.
        if not math.isnan(value):
            self._metrics["train" if self.model.training else "eval"][f"adrpo/{name}"].append(value)

    def _log_coefficient(self, advantages: Tensor, coefficient: Tensor, rows: Tensor) -> None:
        """Over the samples of a generated batch on all processes."""
        clip = self.args.clip_at(self.beta_0)
        self._log("beta_0", self.beta_0)
        for name, value in coefficient_metrics(
            self.accelerator, advantages, coefficient, rows, clip=clip
        ).items():
            self._log(name, value)

    def _log_kl(self, stand_in: PerSampleBeta, advantages: Tensor) -> None:
        """Over the tokens of one loss on all processes; NaN, left out of means, where none."""
        reduced = self.accelerator.reduce(kl_sums(stand_in, advantages), reduction="sum")
        sums: dict[str, float] = dict(zip(KL_SUMS, reduced.tolist(), strict=True))
        self._log("weighted_kl", mean_of(sums["weighted_kl"], sums["tokens"]))
        for name in ("kl", "kl_pos", "kl_neg"):
            self._log(name, mean_of(sums[name], sums[f"{name}_tokens"]))
        if "reference_rows" in stand_in.batch:
            # TRL's mean counts the rows without a reference as 0.
            metrics = self._metrics["train" if self.model.training else "eval"]
            metrics["kl"].pop()
            if sums["kl_tokens"]:
                metrics["kl"].append(sums["stock_kl"] / sums["kl_tokens"])
            elif not metrics["kl"]:
                del metrics["kl"]
        if self.model.training:
            self._controller.observe(sums["kl"], sums["kl_tokens"])

    # --- prompts ---

    def _opening(self) -> str:
        arguments: dict[str, Any] = {**self.chat_template_kwargs}  # pyright: ignore[reportGeneralTypeIssues]
        if self.chat_template:
            arguments.setdefault("chat_template", self.chat_template)
        return thought_opening(self.processing_class, arguments)

    def prompt_batch(self, rows: Sequence[Mapping[str, Any]]) -> PromptBatch:
        """The prompts of ``rows``, which have the columns of the data set, as in training."""
        return PromptBatch(ids=self._tokenize_prompts([row["prompt"] for row in rows])[0])

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        result = super()._tokenize_prompts(prompts)
        self._room.check(result[0], prompts)
        return result

    # --- checkpoints ---

    def _get_train_sampler(self, *arguments: Any, **named: Any) -> Any:
        self._sampler = super()._get_train_sampler(*arguments, **named)
        return self._sampler

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._follow_beta()
        super()._save_checkpoint(model, trial)
        # Last, when the random state of every process is there: a checkpoint with it is complete.
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            root, step = Path(self._get_output_dir(trial=trial)), self.state.global_step
            checkpoints.seal_checkpoint(root, step, self._controller.state() | self.carried.state())

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *more: Any) -> None:
        checkpoints.check_intact(Path(resume_from_checkpoint))  # before anything of it is unpickled
        super()._load_from_checkpoint(resume_from_checkpoint, *more)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with checkpoints.reading_state(checkpoint):
            super()._load_rng_state(checkpoint)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with checkpoints.reading_state(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        # TRL's sampler draws an order for each epoch from its own generator, which is in no
        # checkpoint: a later epoch would see the first one's order again. Streams have none.
        if self._sampler is not None:
            for _ in range(int(self.state.epoch or 0)):
                next(iter(self._sampler), None)
        path = Path(checkpoint) / checkpoints.TRANSFORMERS_STATE
        if path.exists():  # as stock GRPO's has none: beta_0 then starts at beta
            state = json.loads(path.read_text(encoding="utf-8"))
            self._controller.load(state)
            self.carried.load_state(state)
            self.beta = self._controller.beta_0
