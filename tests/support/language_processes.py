"""What a test starts once for each process: stock GRPO and ADRPO, trained one after the other by
all of them, under the engine that the environment names."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

from adrpo.llm import ADRPOConfig, ADRPOTrainer
from adrpo.runs.processes import end_process

PROMPTS = Dataset.from_dict({"prompt": ["a b c", "d e f", "g h", "i j k l"]})
VARIANTS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "stock": (GRPOTrainer, GRPOConfig, {}),
    "fixed": (ADRPOTrainer, ADRPOConfig, {"coefficient": "fixed"}),
    "needed": (ADRPOTrainer, ADRPOConfig, {}),
    "all": (ADRPOTrainer, ADRPOConfig, {"reference_rows": "all"}),
}


def some_a(completions: list[str], **columns: Any) -> list[float]:
    """In the size of beta_0: without a scale some coefficients reach the clip and others don't."""
    return [0.06 * text.split().count("a") for text in completions]


def let_engines_run_on_cpus() -> None:
    """accelerate knows FSDP and DeepSpeed on accelerators only; both run on CPUs as well."""

    def set_device(state: Any) -> None:
        state.device = torch.device("cpu")

    PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)  # type: ignore[method-assign]
    PartialState.set_device = set_device  # type: ignore[method-assign]


def train(folder: Path, name: str, *, use_cpu: bool, adapter: bool) -> None:
    trainer_class, config_class, options = VARIANTS[name]
    config = config_class(
        str(folder / name),
        beta=0.04,
        scale_rewards="none",
        # A group of eight lies on both processes.
        per_device_train_batch_size=4,
        num_generations=8,
        max_completion_length=5,
        max_steps=4,
        learning_rate=1e-2,
        use_cpu=use_cpu,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        **options,
    )
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"]) if adapter else None
    trainer = trainer_class(str(folder / "model"), some_a, config, PROMPTS, peft_config=lora)
    scored: list[dict[str, Any]] = []
    if name == "needed":
        record(trainer, scored)
    trainer.train()
    # model_wrapped is what the engine made of the model.
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    rank = trainer.accelerator.process_index
    if rank == 0:
        torch.save({key: value.cpu() for key, value in weights.items()}, folder / f"{name}.pt")
    if scored:
        (folder / f"scored-{rank}.json").write_text(json.dumps(scored))
        (folder / "engine.txt").write_text(str(trainer.accelerator.distributed_type.value))


def record(trainer: Any, scored: list[dict[str, Any]]) -> None:
    """Keep the rewards of all processes, and this one's coefficients and rows."""
    generate = trainer._generate_and_score_completions

    def recording(inputs: Any) -> Any:
        batch = generate(inputs)
        scored.append(
            {
                "rewards": trainer._rewards.flatten().tolist(),
                "coefficients": batch["kl_coefficient"].tolist(),
                "reference_rows": batch.get("reference_rows", torch.ones(4)).tolist(),
            }
        )
        return batch

    trainer._generate_and_score_completions = recording


if __name__ == "__main__":
    folder, engine = Path(sys.argv[1]), sys.argv[2]
    on_cpu = engine in ("ddp", "lora")
    if not on_cpu:
        let_engines_run_on_cpus()
    for variant in VARIANTS:
        train(folder, variant, use_cpu=on_cpu, adapter=engine == "lora")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    end_process(0)
