"""From a configuration to what :class:`ADRPOTrainer` takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from adrpo.config import (
    LanguageAdapterSection,
    LanguageAlgorithmSection,
    LanguageTrainingSection,
)
from adrpo.config.llm import CompletionConfig, CompletionModelSection
from adrpo.config.llm_options import COEFFICIENTS
from adrpo.errors import AdrpoError
from adrpo.llm.config import ADRPOConfig
from adrpo.llm.pretrained import gguf_file, loading_options
from adrpo.runs.directory import RunDirectory

SCHEDULES = {"constant": "constant_with_warmup"}
"""``training.learning_rate_schedule`` -> its name in transformers, where that is another."""


def trainer_arguments(
    config: CompletionConfig, run: RunDirectory, *, processes: int = 1
) -> ADRPOConfig:
    """The arguments of the run; its checkpoints go to ``checkpoints/checkpoint-N``.

    Each of several ``processes`` has an equal part of a step's completions.

    Raises AdrpoError where there are no equal parts.
    """
    training = config.training
    own = completions_of_a_process(training, processes)
    micro = min(training.micro_batch_size, own)
    # Without a GPU processes talk by Gloo, which transformers has for the CPU only.
    on_cpu = processes > 1 and not torch.cuda.is_available()
    return ADRPOConfig(
        output_dir=str(run.checkpoints),
        model_init_kwargs=_initialization(config.model),
        bf16=config.model.autocast == "bfloat16",
        fp16=False,
        gradient_checkpointing=config.model.gradient_checkpointing,
        use_cpu=on_cpu or config.model.device == "cpu",
        dataloader_pin_memory=torch.cuda.is_available(),
        chat_template_kwargs=dict(config.model.chat_template_kwargs) or None,
        **_algorithm(config.algorithm),
        try_arithmetic=False,  # the run does, before its first evaluation
        # One batch of completions a step, in parts of equal size.
        max_steps=training.steps,
        num_generations=training.samples_per_prompt,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=own // micro,
        max_completion_length=config.generation.max_completion_length,
        temperature=config.generation.temperature,
        top_p=config.generation.top_p,
        # The optimizer.
        learning_rate=training.learning_rate,
        lr_scheduler_type=SCHEDULES.get(
            training.learning_rate_schedule, training.learning_rate_schedule
        ),
        warmup_steps=training.warmup_steps,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        seed=training.seed,
        # What is kept and told.
        logging_steps=1,
        logging_first_step=True,
        # The filter would log an earlier loss in the place of NaN, which the recorder looks for.
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.checkpoint.every,
        # The recorder removes old ones, when the new one is whole.
        save_total_limit=None,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )


SCALES = {"none": "none", "group": "group", "global": "batch"}
"""Our name of a standard deviation -> TRL's, whose batch is the spread of all rewards."""


def _algorithm(algorithm: LanguageAlgorithmSection) -> dict[str, Any]:
    return {
        "beta": algorithm.beta_0,
        "coefficient": COEFFICIENTS[algorithm.method],
        "advantage_clip": algorithm.advantage_clip,
        "clip_policy_advantage": algorithm.clip_policy_advantage,
        "negative_coefficient": algorithm.negative_coefficient,
        "kl_estimator": algorithm.kl_estimator,
        "log_ratio_bound": algorithm.log_ratio_bound,
        "kl_on_degenerate_groups": algorithm.kl_on_degenerate_groups,
        "target_kl": algorithm.target_kl,
        "scale_rewards": SCALES[algorithm.advantage_scale],
        "loss_type": algorithm.loss_type,
        "use_bias_correction_kl": algorithm.bias_correction,
    }


def completions_of_a_process(training: LanguageTrainingSection, processes: int) -> int:
    """Completions of a step that one of ``processes`` has.

    Raises AdrpoError where there are no equal parts.
    """
    batch = training.prompts_per_step * training.samples_per_prompt
    own, rest = divmod(batch, processes)
    if rest:
        raise AdrpoError(
            f"training.prompts_per_step x samples_per_prompt: expected a multiple of {processes}, "
            f"the number of processes; received {batch}"
        )
    if own % min(training.micro_batch_size, own):
        raise AdrpoError(
            f"training.micro_batch_size: expected a divisor of {own}, the completions that each of "
            f"{processes} processes has of a step; received {training.micro_batch_size}"
        )
    return own


def _initialization(model: CompletionModelSection) -> dict[str, Any]:
    options = loading_options(model)
    if gguf_file(model) is not None:
        from transformers import AutoModelForCausalLM

        # TRL looks for the class in a config.json, which a GGUF file stands in for.
        options["architecture"] = AutoModelForCausalLM
    return options


@contextmanager
def naming_modules(adapter: LanguageAdapterSection | None) -> Iterator[None]:
    """A block in which an adapter is added; AdrpoError where PEFT finds no layer for it."""
    try:
        yield
    except ValueError as error:
        if adapter is None or "arget modules" not in str(error):
            raise
        raise AdrpoError(
            f"adapter.target_modules: expected endings of the names of the language model's linear "
            f"layers, as q_proj; received {list(adapter.target_modules or ())}, which it has not"
        ) from error


def lora(adapter: LanguageAdapterSection | None) -> Any:
    """PEFT's configuration of the adapter; None where all weights are trained."""
    if adapter is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # pyright: ignore[reportArgumentType]
        target_modules=list(adapter.target_modules),
        task_type="CAUSAL_LM",
    )
