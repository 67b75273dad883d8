"""Messages of TRL that tell what is told elsewhere."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_messages(text: str) -> Iterator[None]:
    """Keep TRL's GRPO trainer from logging messages that contain ``text``."""

    def other(record: logging.LogRecord) -> bool:
        return text not in record.getMessage()

    logger = logging.getLogger("trl.trainer.grpo_trainer")
    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)
