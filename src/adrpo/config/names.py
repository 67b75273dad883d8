"""Full names of settings, and the one that a word may mean."""

from typing import get_origin

from pydantic import BaseModel

from adrpo.config.domains import DOMAINS, form_of
from adrpo.config.fields import sections_in

FIRST = "training"
"""The section that is meant where several have a key of the name."""


def leaves(form: type[BaseModel], prefix: str = "") -> list[str]:
    """The full name of every key of ``form`` that is no section, in its order."""
    paths: list[str] = []
    for name, field in form.model_fields.items():
        inner = sections_in(field.annotation)
        # A term of the reward has an index, which no suggestion can know.
        if get_origin(field.annotation) is tuple and inner:
            continue
        if not inner:
            paths.append(f"{prefix}{name}")
        for section in inner:
            paths += leaves(section, f"{prefix}{name}.")
    return list(dict.fromkeys(paths))


def setting_names() -> list[str]:
    """The full names of the settings of all domains."""
    forms = [form_of(domain) for domain in DOMAINS]
    return list(dict.fromkeys(path for form in forms for path in leaves(form)))


def settings_called(word: str) -> list[str]:
    """The full names of the settings that ``word`` may mean, of whichever domain.

    Args:
        word: a setting's last key, or its full name, with ``-`` or ``_``: ``steps``,
            ``learning-rate``, ``training.steps``.

    Returns:
        The one of ``training`` alone where it has such a key; an empty list where none is called
        so.
    """
    wanted = word.replace("-", "_")
    called = [path for path in setting_names() if wanted in (path, path.rpartition(".")[2])]
    meant = f"{FIRST}.{wanted}"
    return [meant] if meant in called else called
