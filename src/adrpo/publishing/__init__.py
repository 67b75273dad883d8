"""A finished run as a repository on the Hub: the weights of ``final/``, and a card out of the run's
files. ``final/`` itself has that card, too, without what only a publication knows.

The card is the same for all domains. Nothing in it is guessed: what neither the run nor the base's
own card says is left out, and the card says so.
"""

from adrpo.publishing.base import Base, base_of
from adrpo.publishing.card import card
from adrpo.publishing.final import write_card
from adrpo.publishing.folder import check_publishable, compose, unknown_base
from adrpo.publishing.hub import check_name, check_token, upload

__all__ = [
    "Base",
    "base_of",
    "card",
    "check_name",
    "check_publishable",
    "check_token",
    "compose",
    "unknown_base",
    "upload",
    "write_card",
]
