"""Multiple-choice questions about sound, as prompts to train on and to evaluate on."""

from adrpo.audio.data.clips import (
    by_clip_and_words,
    by_content,
    check_clips,
    from_anywhere,
    warn_of_shared_clips,
)
from adrpo.audio.data.loading import load_held_out, load_train

__all__ = [
    "by_clip_and_words",
    "by_content",
    "check_clips",
    "from_anywhere",
    "load_held_out",
    "load_train",
    "warn_of_shared_clips",
]
