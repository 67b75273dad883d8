"""The time of ADRPOTrainer's constructor over stock GRPOTrainer's, on a large data set.

``python benchmarks/llm_constructor_cost.py [--prompts 100000] [--rounds 15]``

Both are made in turns in one process, round after round, on the same conversations and the same
random model of 4 million parameters: TRL's GRPOTrainer, and ADRPOTrainer, which also looks at every
prompt. The cost is the CPU time of the process on one thread, so that other load on the machine
does not count; the first round is left out. Reported is the median over rounds of the ratio within
a round, with beta 0.04 and the reference that it needs on both sides.
"""

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from datasets import Dataset
from llm_step_cost import letters, save_random_model
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from adrpo.llm import ADRPOConfig, ADRPOTrainer
from adrpo.runs.environment import environment_record

TRAINERS: dict[str, tuple[type, type]] = {
    "grpo": (GRPOTrainer, GRPOConfig),
    "adrpo": (ADRPOTrainer, ADRPOConfig),
}
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def conversations(count: int) -> Dataset:
    """Prompts of a few words, each other than the rest."""
    turns = ([{"role": "user", "content": f"What is {n} + 1?"}] for n in range(count))
    return Dataset.from_dict({"prompt": list(turns)})


def constructor_seconds(name: str, model: Path, data: Dataset, folder: Path) -> float:
    """CPU seconds of one constructor."""
    trainer_class, config_class = TRAINERS[name]
    arguments = config_class(
        str(folder), beta=0.04, per_device_train_batch_size=8, num_generations=8, max_steps=1,
        max_completion_length=48, report_to="none", log_level="error", use_cpu=True, bf16=False,
    )  # fmt: skip
    gc.collect()
    begun = time.process_time()
    trainer_class(model=str(model), reward_funcs=letters, args=arguments, train_dataset=data)
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results/llm_constructor_cost")
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing", FutureWarning)
    seconds: dict[str, list[float]] = {name: [] for name in TRAINERS}
    with tempfile.TemporaryDirectory() as temporary:
        model = save_random_model(Path(temporary) / "model")
        tokenizer = AutoTokenizer.from_pretrained(model)
        tokenizer.chat_template = TEMPLATE
        tokenizer.save_pretrained(model)
        data = conversations(arguments.prompts)
        for place in range(arguments.rounds + 1):
            names = [*TRAINERS]
            # Each comes first as often as the other.
            for name in names[place % 2 :] + names[: place % 2]:
                taken = constructor_seconds(name, model, data, Path(temporary) / "run")
                if place:
                    seconds[name].append(taken)
                print(f"  {name}: {taken:.3f} s of CPU", flush=True)
    pairs = zip(seconds["adrpo"], seconds["grpo"], strict=True)
    ratios = [ours / stock for ours, stock in pairs]
    record = {
        "command": " ".join(["python", *sys.argv]),
        "prompts": arguments.prompts,
        "cpu_seconds_median": {name: statistics.median(own) for name, own in seconds.items()},
        "ratio_median": statistics.median(ratios),
        "ratios": ratios,
        "environment": environment_record(),
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1) + "\n"
    (arguments.output / "summary.json").write_text(text, encoding="utf-8")
    print(f"{record['ratio_median']:.3f} of GRPO's constructor at {arguments.prompts:,} prompts")


if __name__ == "__main__":
    main()
