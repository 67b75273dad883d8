"""The command line: ``adrpo`` and ``python -m adrpo``."""

from adrpo.cli.app import app, main

__all__ = ["app", "main"]
