"""What the README tells a reader to type."""

import re
from pathlib import Path
from typing import Any

import pytest
import trl
import typer

from adrpo.cli.app import app
from adrpo.config import load_recipe

README = Path("README.md").read_text(encoding="utf-8")
SMALL = (
    '"training.steps=1", "training.prompts_per_step=2", "training.samples_per_prompt=2", '
    '"sampling.steps=2", "evaluation.sampling.steps=2", "evaluation.samples_per_prompt=2", '
    '"prompts.held_out_size=2", "evaluation.strip_prompts=2"'
)


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    example, names_of_trl = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert example.count('"training.steps=20"') == 1
    monkeypatch.chdir(tmp_path)
    exec(example.replace('"training.steps=20"', SMALL), {})
    assert (tmp_path / "runs/warmth/final/pytorch_lora_weights.safetensors").is_file()
    namespace: dict[str, Any] = {}
    exec(names_of_trl, namespace)
    assert issubclass(namespace["ADRPOTrainer"], trl.GRPOTrainer)


def test_every_command_of_the_readme_exists():
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    blocks = re.findall(r"```\n(.*?)```", README, flags=re.DOTALL)
    named = re.findall(r"^adrpo (\w+)", "\n".join(blocks), flags=re.MULTILINE)
    assert len(named) >= 6
    assert set(named) <= known


def test_what_is_resumed_is_what_was_started():
    started: dict[str, Any] = {}
    for line in README.splitlines():
        if line.startswith("adrpo train") and "--output-dir" in line:
            _, _, recipe, *rest = line.partition("#")[0].split()
            folder = rest[rest.index("--output-dir") + 1]
            settings = load_recipe(recipe, [word for word in rest if "=" in word])
            assert ("--resume" in rest) == (folder in started)
            assert started.setdefault(folder, settings) == settings
    assert started
