"""The domains, listed here and nowhere else.

A domain is a package ``adrpo.<domain>`` with a configuration and a module ``domain``, whose
``DOOR`` the commands find by the domain's name (adrpo/cli/domains.py).
"""

import importlib

from adrpo.config.shared import Configuration

DOMAIN = "domain"
"""The key of a configuration that names its domain."""

DOMAINS = {
    "flow": "adrpo.config.flow:FlowConfig",
    "llm": "adrpo.config.llm:LanguageConfig",
    "audio": "adrpo.config.audio:AudioConfig",
}
"""Domain -> its configuration's class; the first is that of a recipe that names none."""


def form_of(domain: str) -> type[Configuration]:
    """The class of a domain's configuration, imported only here: it may lie in the domain."""
    module, _, name = DOMAINS[domain].partition(":")
    return getattr(importlib.import_module(module), name)


def domain_of(form: type[Configuration]) -> str:
    """The domain whose configuration ``form`` is."""
    return form.model_fields[DOMAIN].default
