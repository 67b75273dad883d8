"""What libraries print while they load, kept off the screen of a command."""


def silence_loading() -> None:
    """Switch off the progress bars of loading weights; warnings and errors stay."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
