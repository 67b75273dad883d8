"""The primary comparison: one metric and one pair of methods, declared before any run.

It alone is tested at 5 % without a correction. All other differences of a comparison describe what
was found; their p-values are corrected by Holm's method for their number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adrpo.errors import AdrpoError
from adrpo.metrics import describe, names, with_role

JUDGES = names(with_role("judge"))
"""Metrics that everything is judged by, in the order in which one of them is the primary metric;
one that a method is trained on comes after the others."""


@dataclass(frozen=True)
class Primary:
    """``method`` - the reference in ``metric``."""

    metric: str | None
    """None for the rule: the first judge that the runs have, otherwise a reward that is measured
    and not trained on, otherwise the reward itself."""
    method: str | None
    """None where there is one method."""
    declared: bool = True
    """False for a comparison whose runs began before anything was declared."""

    @classmethod
    def parse(cls, text: str | None, methods: Sequence[str], reference: str) -> "Primary":
        """``METRIC=METHOD`` as it is given on the command line; None is the rule's metric, of the
        first of ``methods`` that is not the reference.

        Raises AdrpoError for another form, a method that is not compared, or the reference.
        """
        others = [method for method in methods if method != reference]
        if text is None:
            return cls(None, others[0] if others else None)
        metric, equals, method = text.partition("=")
        if not equals or not metric or method not in others:
            raise AdrpoError(
                f"compare: expected --primary METRIC=METHOD with METHOD one of "
                f"{', '.join(others) or 'no other method'}; received {text!r}"
            )
        return cls(metric, method)

    def check_metric(self, domain: str, rewards: Sequence[str]) -> None:
        """Raise AdrpoError where no evaluation of ``domain`` with the ``rewards`` that all
        methods have has the metric, or where neither more nor less of it is better."""
        if self.metric is None or self.metric in rewards:
            return
        roles = ("judge", "total", "diversity", "price")
        metrics = names(metric for metric in with_role(*roles) if metric.written_by(domain))
        if self.metric not in metrics:
            raise AdrpoError(
                f"compare: expected --primary to name one of {', '.join((*metrics, *rewards))}; "
                f"received {self.metric!r}, which these runs don't measure or nothing is better "
                f"by; add a reward under evaluation.rewards to measure it"
            )

    def sentence(self, reference: str, domain: str) -> str:
        """The declaration in words, as it is printed before the first run of ``domain``."""
        if self.method is None:
            return "Primary comparison: none, since there is one method."
        judges = names(metric for metric in with_role("judge") if metric.written_by(domain))
        last = " (a judge that is trained on after the others)" if len(judges) > 1 else ""
        rule = f"the first of {', '.join(judges)}{last} and the rewards that are only measured"
        metric = rule if self.metric is None else describe(self.metric).in_sentence
        when = "" if self.declared else " It was not declared before the runs: it describes too."
        return (
            f"Primary comparison: {self.method} against {reference} in {metric}. All other "
            f"differences describe; Holm's correction is over all of them.{when}"
        )

    def to_json(self) -> dict[str, Any]:
        return {"metric": self.metric, "method": self.method, "declared": self.declared}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Primary":
        """The declaration of a record; one without it has none before its runs."""
        written = found.get("primary")
        if not isinstance(written, dict):
            return cls(None, None, declared=False)
        return cls(written["metric"], written["method"], bool(written["declared"]))
