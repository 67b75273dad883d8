"""Prompt sets and their loaders."""

from adrpo.data.prompts import Prompt, load_prompts

__all__ = ["Prompt", "load_prompts"]
