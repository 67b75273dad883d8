"""Silence for what libraries print while they load."""

import warnings


def silence_loading() -> None:
    """Switch off the progress bars of loading and saving weights; warnings and errors stay, but for
    one that no user can act on."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    # TRL still uses transformers' old name of activation checkpointing.
    warnings.filterwarnings(
        "ignore", r"`(is_)?gradient_checkpointing\w*` is deprecated", FutureWarning
    )
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
