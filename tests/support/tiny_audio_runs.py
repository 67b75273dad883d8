"""Small runs of the domain audio on a Thinker of a few ten thousand parameters."""

from pathlib import Path
from typing import Any

from adrpo.config.audio import AudioConfig
from support.tiny_thinker import tiny_processor, tiny_thinker


def letters(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
    """A number that the letters of a completion give; it needs every column of its row."""
    assert len(columns["choices"]) == len(columns["answer"]) == len(completions)
    return [float(sum(map(ord, turns[0]["content"])) % 7) for turns in completions]


def write_thinker(folder: Path, *, width: int = 16) -> Path:
    """A Thinker of ``width`` with its processor."""
    tiny_thinker(width=width).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


def tiny_audio_config(model: Path, /, **sections: Any) -> AudioConfig:
    """Four questions of four answers a step, four steps, all on the CPU."""
    settings: dict[str, Any] = {
        "model": {"pretrained": str(model), "device": "cpu"},
        "prompts": {"train_size": 8, "held_out_size": 6},
        "reward": [{"name": "support.tiny_audio_runs:letters"}],
        "generation": {"max_completion_length": 6},
        "training": {
            "steps": 4, "prompts_per_step": 4, "samples_per_prompt": 4, "micro_batch_size": 8,
            "learning_rate": 1e-2,
        },
        "evaluation": {"every": 2, "samples_per_prompt": 2, "shown_prompts": 3},
        "checkpoint": {"every": 1, "keep": 20},
    }  # fmt: skip
    for name, section in sections.items():
        parts = isinstance(section, dict)
        settings[name] = (settings.get(name) or {}) | section if parts else section
    return AudioConfig.model_validate(settings)
