"""Malformed adapters: to begin with, and to be drawn with."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from tools.faults.inputs.cases import Case, Spoil, both, edited, trained, write
from tools.faults.inputs.weights import KIND, weight_files


def adapter_cases() -> Iterator[Case]:
    """Adapters of every domain, spoilt."""
    for domain in ("flow", "llm", "audio"):
        flow = domain == "flow"
        file = "lora/pytorch_lora_weights.safetensors" if flow else "lora/adapter_model.safetensors"
        spoilt: dict[str, Spoil] = {
            "an empty folder": both(lambda: shutil.rmtree("lora"), lambda: Path("lora").mkdir()),
            "no folder": lambda: shutil.rmtree("lora"),
            "a file": both(lambda: shutil.rmtree("lora"), write("lora", "hello")),
            **weight_files(file),
        }
        if not flow:
            config = "lora/adapter_config.json"
            spoilt |= {
                "no config": lambda: Path("lora/adapter_config.json").unlink(),
                "a broken config": write(config, "{"),
                "a config that is a list": write(config, "[]"),
                "a config without anything": write(config, "{}"),
                "another rank": edited(config, r=7),
                "a rank of 0": edited(config, r=0),
                "a rank of text": edited(config, r="x"),
                "no layers": edited(config, target_modules=[]),
                "layers that are a number": edited(config, target_modules=7),
                "other layers": edited(config, target_modules=["no_such"]),
                "another kind": edited(config, peft_type="PREFIX_TUNING"),
                "a kind that is none": edited(config, peft_type="NO_SUCH"),
                "an unknown key": edited(config, no_such_key=7),
            }
        valid = {
            "whole numbers as weights": "they are read as numbers",
            "an unknown key": "PEFT leaves out keys of later versions",
            "no layers": "the tensors name theirs",
            "other layers": "the tensors name theirs",
            "layers that are a number": "the tensors name theirs",
            "no config": "beside a run the scale is the recipe's",
        }
        for what, spoil in spoilt.items():
            both_spoilt = both(_unsealed, spoil)
            yield Case(
                KIND, domain, f"adapter.start_from, {what}", trained("adapter.start_from=./lora"),
                ["lora", "adapter.start_from"], both_spoilt, valid.get(what, ""),
            )  # fmt: skip
            yield Case(
                KIND, domain, f"evaluate --lora, {what}",
                ["evaluate", "./model", "--recipe", "recipe.yaml", "--lora", "lora",
                 "--output-dir", "new"],
                ["lora"], both_spoilt, valid.get(what, ""),
            )  # fmt: skip
            if flow:
                yield Case(
                    KIND, domain, f"sample --lora, {what}",
                    ["sample", "./model", "--recipe", "recipe.yaml", "--lora", "lora", "-p", "a"],
                    ["lora"], both_spoilt, valid.get(what, ""),
                )  # fmt: skip


def _unsealed() -> None:
    """The adapter of the run, without the checksums that would tell of everything else."""
    shutil.copytree("run/final", "lora")
    Path("lora/manifest.json").unlink(missing_ok=True)
