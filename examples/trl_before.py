"""A script of TRL's, GRPO on a reward of letters: before ADRPO (trl_after.py).

python examples/trl_before.py [MODEL]
"""

import sys
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

PROMPTS = ["Name a fruit.", "Name an animal.", "Name a city.", "Name a colour."]


def brevity(completions: list[str], **columns: Any) -> list[float]:
    """Minus the number of letters, in hundreds."""
    return [-len(completion) / 100 for completion in completions]


def main(model: str, folder: str, **options: Any) -> GRPOTrainer:
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=brevity,
        args=GRPOConfig(output_dir=folder, beta=0.04, **options),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
    )
    trainer.train()
    return trainer


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "Qwen/Qwen3-0.6B", "runs/trl")
