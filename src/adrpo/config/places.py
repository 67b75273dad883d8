"""Folders in which a reward's module of the user's own is looked for, as users expect of a command:
that of the recipe, and the working folder."""

import os
import sys
from pathlib import Path

_PLACES: dict[str, None] = {}


def note_place(folder: str | Path) -> None:
    """Look into ``folder``, too, from now on."""
    _PLACES[os.path.abspath(folder)] = None


def places() -> list[str]:
    """Noted folders in their order, and behind them the working folder."""
    return [*dict.fromkeys([*_PLACES, os.getcwd()])]


def open_places() -> None:
    """Put the places at the end of Python's path: nothing that is installed is hidden by them."""
    sys.path += [place for place in places() if place not in sys.path]
