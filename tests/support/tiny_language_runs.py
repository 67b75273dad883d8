"""Small runs of the domain llm on a model of a few thousand parameters."""

import itertools
import json
from pathlib import Path
from typing import Any

from adrpo.config import LanguageConfig
from adrpo.evaluation.evaluator import Evaluator
from adrpo.llm.run import LanguageRun
from adrpo.llm.training_reward import TrainingReward
from adrpo.runs.directory import RunDirectory
from support.tiny_language_model import save_tiny_model

TIMINGS = ("seconds", "samples_per_second")


def share_of_a(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """How much of eight words is an a; TRL and the evaluation must pass the row's columns."""
    assert columns["category"] == [prompt.split()[0] for prompt in prompts]
    return [completion.split().count("a") / 8 for completion in completions]


def near_a_fifth(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """1 where a fifth of eight words is an a: it rises with the share, and falls again."""
    return [1 - abs(share - 0.2) for share in share_of_a(prompts, completions, **columns)]


def write_material(folder: Path, *, width: int = 16) -> Path:
    """A model of ``width``, and a file of 120 prompts of three letters, the first of which is the
    category."""
    save_tiny_model(folder / "model", width=width)
    rows = [
        json.dumps({"prompt": " ".join(letters), "category": letters[0]})
        for letters in itertools.permutations("abcdef", 3)
    ]
    (folder / "prompts.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def tiny_language_config(material: Path, **sections: Any) -> LanguageConfig:
    """Four prompts of four completions a step, four steps, all on the CPU."""
    settings: dict[str, Any] = {
        "model": {"pretrained": str(material / "model"), "device": "cpu"},
        "prompts": {
            "source": str(material / "prompts.jsonl"), "train_size": 50, "held_out_size": 6,
        },
        "reward": [{"name": "support.tiny_language_runs:share_of_a"}],
        "generation": {"max_completion_length": 8},
        "training": {
            "steps": 4, "prompts_per_step": 4, "samples_per_prompt": 4, "micro_batch_size": 16,
            "learning_rate": 3e-3,
        },
        "evaluation": {"every": 2},
        "checkpoint": {"every": 2},
    }  # fmt: skip
    for name, section in sections.items():
        parts = isinstance(section, dict)
        settings[name] = (settings.get(name) or {}) | section if parts else section
    return LanguageConfig.model_validate(settings)


def base_evaluator(config: LanguageConfig, folder: Path) -> Evaluator[Any]:
    """The evaluator of the untrained model, as training makes it; TRL's own files go to
    ``folder``."""
    run = LanguageRun(config)
    trainer = run._trainer(RunDirectory(folder), TrainingReward(run.terms), run.prompts)
    return run._evaluators(trainer)[0]


def metrics_without_timings(run: Path) -> list[dict[str, Any]]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [
        {key: value for key, value in row.items() if not any(name in key for name in TIMINGS)}
        for row in rows
    ]
