"""Multiple-choice questions about sound, as prompts to train on and to evaluate on."""

from adrpo.audio.data.loading import load_held_out, load_train

__all__ = ["load_held_out", "load_train"]
