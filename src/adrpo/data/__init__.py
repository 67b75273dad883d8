"""Prompt sets and their loaders."""

from adrpo.data.base import Prompt, columns_of
from adrpo.data.prompts import load_prompts

__all__ = ["Prompt", "columns_of", "load_prompts"]
