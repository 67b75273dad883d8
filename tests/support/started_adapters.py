"""What a test starts once for each process: it trains by the recipes it is given, and says of each
run with which adapter this process began, and which one is its reference."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from torch import Tensor

from adrpo.config import load_recipe
from adrpo.llm.run import LanguageRun
from adrpo.runs.processes import end_process


def digest(values: Mapping[str, Tensor]) -> str:
    """Of an adapter's tensors, in the order of their names."""
    flat = [values[name].detach().cpu().float().flatten() for name in sorted(values)]
    return hashlib.sha256(torch.cat(flat).numpy().tobytes()).hexdigest()


def say(domain: str, **found: str) -> None:
    line = json.dumps({"domain": domain, "rank": int(os.environ["RANK"]), **found})
    # One write, so that lines of two processes are not torn.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def train_flow(config: Any, folder: Path) -> None:
    from adrpo.flow.domain import build_trainer

    trainer = build_trainer(config)
    policy: Any = trainer.policy
    found = {"policy": digest(policy.adapter_state())}
    with policy.reference():
        found["reference"] = digest(policy.adapter_state())
    say("flow", **found)
    trainer.train(folder, progress=False)


def train_language(config: Any, folder: Path) -> None:
    begin = LanguageRun._begin

    def telling(run: LanguageRun, trainer: Any) -> None:
        begin(run, trainer)
        model = trainer.accelerator.unwrap_model(trainer.model)
        names = {"policy": "default", "reference": "ref"}
        states = {
            what: get_peft_model_state_dict(model, adapter_name=name)
            for what, name in names.items()
        }
        say("llm", **{what: digest(state) for what, state in states.items()})

    LanguageRun._begin = telling  # type: ignore[method-assign]
    LanguageRun(config).train(folder, progress=False)


if __name__ == "__main__":
    for recipe in map(Path, sys.argv[1:]):
        settings: Any = load_recipe(recipe)
        train = train_flow if settings.domain == "flow" else train_language
        train(settings, recipe.with_suffix(""))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    end_process(0)
