"""Lines that the configuration of a run gives reason for."""

import warnings

from adrpo.config import load_config
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.runs.directory import RunDirectory


def notices_of(run: RunDirectory) -> list[str]:
    """The lines that training says of the configuration of ``run`` before it begins; none of one
    that this version can't read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AdrpoWarning)  # of keys with names of before
            return load_config(run.config).notices()
    except AdrpoError:
        return []
