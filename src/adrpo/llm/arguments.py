"""From a configuration to what :class:`ADRPOTrainer` takes."""

from typing import Any

import torch

from adrpo.config import LanguageAdapterSection, LanguageConfig, LanguageModelSection
from adrpo.config.llm_options import COEFFICIENTS
from adrpo.llm.config import ADRPOConfig
from adrpo.llm.pretrained import loading_options
from adrpo.runs.directory import RunDirectory

SCHEDULES = {"constant": "constant_with_warmup"}
"""``training.learning_rate_schedule`` -> its name in transformers, where that is another."""


def trainer_arguments(config: LanguageConfig, run: RunDirectory) -> ADRPOConfig:
    """The arguments of the run; its checkpoints go to ``checkpoints/checkpoint-N``."""
    training, algorithm = config.training, config.algorithm
    batch = training.prompts_per_step * training.samples_per_prompt
    micro = min(training.micro_batch_size, batch)
    return ADRPOConfig(
        output_dir=str(run.checkpoints),
        model_init_kwargs=_initialization(config.model),
        bf16=config.model.autocast == "bfloat16",
        fp16=False,
        gradient_checkpointing=config.model.gradient_checkpointing,
        use_cpu=config.model.device == "cpu",
        dataloader_pin_memory=torch.cuda.is_available(),
        chat_template_kwargs=dict(config.model.chat_template_kwargs) or None,
        # The algorithm.
        beta=algorithm.beta_0,
        coefficient=COEFFICIENTS[algorithm.method],
        advantage_clip=algorithm.advantage_clip,
        clip_policy_advantage=algorithm.clip_policy_advantage,
        negative_coefficient=algorithm.negative_coefficient,
        kl_estimator=algorithm.kl_estimator,
        log_ratio_bound=algorithm.log_ratio_bound,
        kl_on_degenerate_groups=algorithm.kl_on_degenerate_groups,
        target_kl=algorithm.target_kl,
        scale_rewards=algorithm.advantage_scale,
        loss_type=algorithm.loss_type,
        use_bias_correction_kl=algorithm.bias_correction,
        # One batch of completions a step, in parts of equal size.
        max_steps=training.steps,
        num_generations=training.samples_per_prompt,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=batch // micro,
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
        save_total_limit=config.checkpoint.keep,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )


def _initialization(model: LanguageModelSection) -> dict[str, Any]:
    options = loading_options(model)
    if model.gguf_file is not None:
        from transformers import AutoModelForCausalLM

        # TRL looks for the class in a config.json, which a GGUF file stands in for.
        options["architecture"] = AutoModelForCausalLM
    return options


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
