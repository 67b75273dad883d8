"""The card in ``final/`` of a run: that of a publication, before anything is published."""

import warnings
from pathlib import Path

from adrpo.errors import AdrpoError, AdrpoWarning, in_a_line
from adrpo.publishing.base import base_of
from adrpo.publishing.card import card
from adrpo.publishing.shown import shown_of
from adrpo.runs.directory import RunDirectory
from adrpo.runs.manifest import CARD
from adrpo.runs.model_folder import loads


def write_card(run: RunDirectory, folder: Path) -> None:
    """Write the card of ``run`` beside its trained weights in ``folder``, in the place of any other
    that a library left there.

    No time, no folder and nothing that only the Hub knows is in it, so that a run that was killed
    and resumed has the same. Weights of a domain that no library loads get none. Where a file of
    the run can't be read, there is none either, and a warning says so: the weights count for more.
    """
    (folder / CARD).unlink(missing_ok=True)
    if not loads(folder)[0]:
        return
    try:
        shown = shown_of(run, folder).without_files()
        text = card(run, None, base_of(run, ask=False), shown, folder)
    except Exception as error:
        # Whatever a file is at fault with, the weights of a whole training must be written.
        cause = str(error) if isinstance(error, AdrpoError) else in_a_line(error)
        warnings.warn(f"final/ gets no card ({CARD}): {cause}", AdrpoWarning, stacklevel=2)
        return
    (folder / CARD).write_text(text, encoding="utf-8")
