"""Trials of the arithmetic that training rests on, with the user's model, number type and device.

A GPU's kernels, a number type or a model's code can be wrong without an error. Each trial measures
one difference that ought to be rounding alone, and holds it against a limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from adrpo.errors import AdrpoError
from adrpo.runs.findings import Findings


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A measurement beside its limit: ``what`` was measured, and what ``remedy`` is worth a try
    where it does not hold. A measurement that is not a number does not hold."""

    what: str
    value: float
    limit: float
    remedy: str

    @property
    def holds(self) -> bool:
        return self.value <= self.limit

    def __str__(self) -> str:
        return f"{self.value:.2g} (limit {self.limit:.2g})"


def tell(findings: Findings, trials: Sequence[Trial]) -> None:
    """Say each trial's measurement and limit, and of those that do not hold what to change."""
    for trial in trials:
        if trial.holds:
            findings.ok(trial.what, str(trial))
        else:
            findings.bad(trial.what, f"{trial}; {trial.remedy}")


def check_trials(trials: Sequence[Trial], *, otherwise: str = "") -> None:
    """Raise AdrpoError for the first of ``trials`` that does not hold; ``otherwise`` is what else
    helps than its remedy."""
    for trial in trials:
        if not trial.holds:
            raise AdrpoError(
                f"{trial.what}: expected at most {trial.limit:.2g} before the first step, received "
                f"{trial.value:.2g}; {trial.remedy}{otherwise}"
            )
