"""The error of a step that cannot be made."""

from adrpo.errors import AdrpoError

LOWER_RATE = "a lower training.learning_rate needs another run, in another --output-dir"
"""Advice where a training diverges; ``--resume`` keeps to the run's own rate."""


class StepFailed(AdrpoError):
    """A step can't be made; says why, and the loop adds which step and what is left to resume."""


class Diverged(StepFailed):
    """Loss, gradient or samples are not finite any more: the run's folder keeps that, too."""
