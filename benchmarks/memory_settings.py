"""The GPU memory of the real models' recipes, and each setting's saving, by doctor's estimate.

``python benchmarks/memory_settings.py --output benchmarks/results/memory_settings``

Arithmetic on the published models' sizes (adrpo/flow/memory/estimate.py): nothing is loaded,
nothing runs. docs/use/real-models.md has these numbers. What a setting saves is told of the part
that it touches, at 8 rows and 8 images at a time; how much of it the sum loses depends on what is
then the largest.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adrpo.config import FlowConfig, load_flow_config
from adrpo.flow.memory.advice import estimate_recipe
from adrpo.flow.memory.architectures import find_architecture
from adrpo.memory import Estimate
from adrpo.runs.environment import environment_record

PROMPTS = 200
"""DrawBench's, on which the recipes train and are evaluated."""

AT_ONCE = 8

RECIPES = (
    "flow/sd3-medium-adrpo",
    "flow/sd3-medium-adrpo-4gpu",
    "flow/sd3-medium-fixed-beta",
    "flow/sd3-medium-orw-cfm-w2",
    "flow/sd3-medium-raft",
    "flow/sd3-medium-dpo",
    "flow/sd35-medium-adrpo",
    "flow/sd35-large-adrpo",
    "flow/sd35-large-adrpo-4gpu",
    "flow/sana-1.5-adrpo",
    "flow/z-image-adrpo",
    "flow/qwen-image-adrpo",
    "flow/qwen-image-edit-adrpo",
    "flow/flux2-klein-adrpo",
    "flow/wan-2.1-adrpo",
    "flow/flux-dev-adrpo",
    "flow/flux-kontext-adrpo",
    "flow/flux-dev-int8-adrpo",
)


@dataclass(frozen=True)
class Setting:
    """A setting that needs less memory, the one beside it, and the part of the sum it touches."""

    section: str
    key: str
    cheap: Any
    dear: Any
    part: str
    recipe: str = "flow/sd3-medium-adrpo"

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}={json.dumps(self.cheap)}".replace('"', "")


SETTINGS = (
    Setting("model", "encoders", "released", "resident", "text encoders"),
    Setting("model", "gradient_checkpointing", True, False, "update"),
    Setting("model", "vae_slicing", True, False, "decoding"),
    Setting("model", "vae_tiling", True, False, "decoding"),
    Setting("model", "quantization", "int8", None, "transformer"),
    Setting("model", "quantization", "int8", None, "transformer", "flow/flux-dev-adrpo"),
    Setting("model", "quantization", "nf4", None, "transformer"),
    Setting("model", "quantization", "nf4", None, "transformer", "flow/flux-dev-adrpo"),
    Setting("training", "optimizer", "adamw_8bit", "adamw", "adapter and optimizer"),
)


def estimated(config: FlowConfig) -> Estimate:
    architecture = find_architecture(config.model.pretrained)
    assert architecture is not None, config.model.pretrained
    return estimate_recipe(architecture, config, PROMPTS)


def saved(setting: Setting) -> float:
    """Bytes that ``setting`` saves of its part."""
    config = load_flow_config(
        setting.recipe,
        [
            f"training.micro_batch_size={AT_ONCE}",
            f"evaluation.batch_size={AT_ONCE}",
            "model.vae_slicing=false",
            "model.vae_tiling=false",
        ],
    )

    def part(value: Any) -> float:
        section = getattr(config, setting.section).model_copy(update={setting.key: value})
        found = estimated(config.model_copy(update={setting.section: section}))
        return (found.resident | found.working)[setting.part]

    return part(setting.dear) - part(setting.cheap)


def measure() -> dict[str, Any]:
    """``recipes``: name -> bytes; ``settings``: recipe, setting, its part, bytes saved."""
    return {
        "recipes": {name: estimated(load_flow_config(name)).total for name in RECIPES},
        "settings": [
            {"recipe": s.recipe, "setting": s.name, "part": s.part, "saves": saved(s)}
            for s in SETTINGS
        ],
    }


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def to_markdown(result: dict[str, Any]) -> str:
    lines = ["| recipe | estimate |", "|---|---|"]
    lines += [f"| `{name}` | {gigabytes(size)} |" for name, size in result["recipes"].items()]
    lines += ["", "| recipe | setting | saves | of |", "|---|---|---|---|"]
    lines += [
        f"| `{row['recipe']}` | `{row['setting']}` | {gigabytes(row['saves'])} | {row['part']} |"
        for row in result["settings"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=None, help="folder for the results")
    arguments = parser.parse_args()
    result = measure()
    print(to_markdown(result), end="")
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        result |= {
            "command": "python benchmarks/memory_settings.py",
            "environment": environment_record(),
        }
        text = json.dumps(result, indent=1) + "\n"
        (arguments.output / "summary.json").write_text(text, encoding="utf-8")
        (arguments.output / "table.md").write_text(to_markdown(result), encoding="utf-8")


if __name__ == "__main__":
    main()
