"""Packages of the extras, and whether they are there."""

import importlib.util

LANGUAGE_PACKAGES = ("trl", "datasets")
"""What the extra ``llm`` installs."""


def missing_language_packages() -> list[str]:
    """Those of LANGUAGE_PACKAGES that cannot be found."""
    return [name for name in LANGUAGE_PACKAGES if importlib.util.find_spec(name) is None]
