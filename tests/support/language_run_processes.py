"""Runs of language models that a test starts once for each process, whose completions while
training depend on the prompt and their place in its group alone; and a reward that fails in one."""

import os
import sys
from pathlib import Path
from typing import Any

import torch

from adrpo.config import load_recipe
from adrpo.llm.run import LanguageRun
from adrpo.llm.trainer import ADRPOTrainer
from adrpo.runs.processes import end_process
from adrpo.runs.seeding import generator
from support.tiny_language_model import LETTERS
from support.tiny_language_runs import share_of_a

FIRST_LETTER = 5
"""Token of the first letter of the tiny model."""


def short_in_second(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """Returns a value too few in the second process, which is an error of that process alone."""
    return share_of_a(prompts, completions, **columns)[int(os.environ["RANK"]) :]


def told(trainer: Any, prompt_ids: Any, images: Any, fields: Any, size: int, *_: Any) -> Any:
    """In the place of TRL's generation: three to eight letters."""
    first = trainer.accelerator.process_index * len(prompt_ids)
    completions = []
    for row, prompt in enumerate(prompt_ids):
        stream = generator(0, str(prompt), (first + row) % size)
        length = int(torch.randint(3, 9, (), generator=stream))
        letters = torch.randint(len(LETTERS), (length,), generator=stream) + FIRST_LETTER
        completions.append(letters.tolist())
    return completions, None


if __name__ == "__main__":
    ADRPOTrainer._generate_single_turn = told
    for recipe in map(Path, sys.argv[1:]):
        config: Any = load_recipe(recipe)
        LanguageRun(config).train(recipe.with_suffix(""), progress=False)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    end_process(0)
