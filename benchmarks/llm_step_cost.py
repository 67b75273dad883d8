"""The time of an ADRPO step over stock GRPO's, with and without the reference rows left out.

``python benchmarks/llm_step_cost.py [--rounds 5] [--output benchmarks/results/llm_step_cost]``

Three trainers with the same settings (beta 0.04, the loss of the recipe ``llm/embedded``) take
turns in one process, round after round: TRL's GRPOTrainer, ADRPOTrainer with the reference pass
over all rows, and ADRPOTrainer as it is, which leaves out rows whose coefficient is 0. Two models:
the embedded one with its questions, and a random one of 4 million parameters with completions of
48 tokens, where the passes weigh more against the rest. A step's cost is the CPU time of its
process on one thread, so that other load on the machine does not count; the first step of a round
is left out. Reported is the median over rounds of the ratio of median steps within a round.
"""

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from adrpo.embedded.questions import question_set
from adrpo.embedded.weights import weights_path
from adrpo.llm import ADRPOConfig, ADRPOTrainer
from adrpo.rewards.questions import QuestionAnswer
from adrpo.runs.environment import environment_record

STEPS = 6
VARIANTS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "grpo": (GRPOTrainer, GRPOConfig, {}),
    "adrpo, all reference rows": (ADRPOTrainer, ADRPOConfig, {"reference_rows": "all"}),
    "adrpo": (ADRPOTrainer, ADRPOConfig, {}),
}


class Stopwatch(TrainerCallback):
    """Seconds of each step by ``clock``, from one end of a step to the next."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(self.clock())

    def seconds(self) -> list[float]:
        return [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)]


def letters(completions: list[str], **_: Any) -> list[float]:
    """A reward that a random model's completions differ in."""
    return [sum(map(str.isalpha, text)) / 48 for text in completions]


def answers(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    return QuestionAnswer()(prompts, completions)


def save_random_model(folder: Path, **sizes: Any) -> Path:
    """A model of ``sizes``, by default of 4 million parameters, with the embedded model's
    tokenizer, on the current default device and in the current default type."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(weights_path("language_model"))
    made = {
        "vocab_size": len(tokenizer), "hidden_size": 256, "intermediate_size": 768,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
        "max_position_embeddings": 256, **sizes,
    }  # fmt: skip
    config = Qwen3Config(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **made
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def stepped(
    variant: str,
    model: Path,
    tokens: int,
    reward: Any,
    folder: Path,
    *,
    steps: int = STEPS,
    clock: Callable[[], float] = time.process_time,
    **settings: Any,
) -> tuple[list[float], dict[str, Any]]:
    """Seconds by ``clock`` of the steps of one trainer after its first, and what TRL logged of the
    last; ``settings`` are TRL's."""
    trainer_class, config_class, options = VARIANTS[variant]
    made = {
        "beta": 0.04, "loss_type": "grpo", "use_bias_correction_kl": False,
        "per_device_train_batch_size": 32, "num_generations": 8, "max_completion_length": tokens,
        "learning_rate": 1e-5, "max_steps": steps, "logging_steps": steps, "save_strategy": "no",
        "report_to": "none", "disable_tqdm": True, "log_level": "error", "use_cpu": True,
        "bf16": False, "gradient_checkpointing": False, "seed": 0, **options, **settings,
    }  # fmt: skip
    arguments = config_class(str(folder), **made)
    rows = [{"prompt": question.prompt} for question in question_set(200, held_out=False, seed=0)]
    stopwatch = Stopwatch(clock)
    trainer = trainer_class(
        model=str(model), reward_funcs=reward, args=arguments,
        train_dataset=Dataset.from_list(rows), callbacks=[stopwatch],
    )  # fmt: skip
    trainer.train()
    logged = next((row for row in trainer.state.log_history if "loss" in row), {})
    del trainer
    gc.collect()
    return stopwatch.seconds(), logged


def compare(model: Path, tokens: int, reward: Any, rounds: int, folder: Path) -> dict[str, Any]:
    """Median CPU seconds of each variant, and the ratios to GRPO within rounds."""
    medians: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for place in range(rounds):
        # Every variant comes first, second and last as often as the others.
        names = [*VARIANTS]
        for variant in names[place % 3 :] + names[: place % 3]:
            seconds, _ = stepped(variant, model, tokens, reward, folder)
            medians[variant].append(statistics.median(seconds))
            print(f"  {variant}: {medians[variant][-1]:.3f} s of CPU a step", flush=True)
    ratios = {
        variant: [own / stock for own, stock in zip(values, medians["grpo"], strict=True)]
        for variant, values in medians.items()
    }
    return {
        variant: {
            "cpu_seconds_median": statistics.median(values),
            "ratio_median": statistics.median(ratios[variant]),
            "ratios": ratios[variant],
        }
        for variant, values in medians.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/llm_step_cost"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing", FutureWarning)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        random_model = save_random_model(folder / "random")
        for name, model, tokens, reward in (
            ("embedded", weights_path("language_model"), 8, answers),
            ("random, 4 million parameters", random_model, 48, letters),
        ):
            print(name, flush=True)
            result[name] = compare(model, tokens, reward, arguments.rounds, folder / "run")
    arguments.output.mkdir(parents=True, exist_ok=True)
    record = {
        "command": " ".join(["python", *sys.argv]),
        "models": result,
        "environment": environment_record(),
    }
    text = json.dumps(record, indent=1) + "\n"
    (arguments.output / "summary.json").write_text(text, encoding="utf-8")
    for name, rows in result.items():
        for variant, row in rows.items():
            print(f"{name}, {variant}: {row['ratio_median']:.3f} of GRPO's step")


if __name__ == "__main__":
    main()
