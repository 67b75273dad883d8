"""Checks of what a script does to the trainer: options that are told of, ``beta`` that is set from
outside, methods that a subclass replaces."""

import math
import warnings
from typing import Any

from adrpo.config.llm_options import may_be_negative
from adrpo.errors import AdrpoError, AdrpoWarning

OURS = ("adrpo.", "trl.", "transformers.")
"""Beginnings of the modules whose losses know the batch as it is."""


def warn_about(args: Any) -> None:
    """Tell, as AdrpoWarnings, of options of an ADRPOConfig that have no or a dangerous effect."""
    if args.beta == 0 and args.coefficient != "fixed":
        _warn(
            "beta is 0: this is plain GRPO, without a KL term, a reference or a coefficient; set "
            "beta above 0 for ADRPO (the paper's is 0.04), or coefficient='fixed' to say so."
        )
    if args.beta > 0 and args.negative_coefficient == "allow" and args.may_be_negative():
        bound = "nothing" if args.log_ratio_bound is None else "log_ratio_bound"
        _warn(
            f"advantage_clip {args.advantage_clip} above beta_0 = {args.beta} makes the KL "
            "coefficients of the best samples negative: the loss rewards their distance from the "
            f"reference, which {bound} bounds. Watch adrpo/frac_negative_coef and adrpo/kl_pos."
        )
    if args.kl_estimator == "k1" and not args.use_bias_correction_kl and args.beta > 0:
        _warn(
            "kl_estimator 'k1' without use_bias_correction_kl has a gradient of mean 0 at a "
            "constant coefficient: it penalises nothing. Set use_bias_correction_kl=True, or use "
            "'k2' or 'k3'."
        )


def _warn(text: str) -> None:
    warnings.warn(text, AdrpoWarning, stacklevel=4)


def check_beta(args: Any, beta: float, *, has_reference: bool) -> None:
    """Look at a ``beta`` that a callback, say, has set on a trainer.

    Raises AdrpoError for one that is no number from 0 on, one above 0 where the trainer was made
    without a reference, or one below a fixed ``advantage_clip``, with which coefficients can be
    negative and are to be refused.
    """
    if not (math.isfinite(beta) and beta >= 0):
        raise AdrpoError(f"trainer.beta: expected a number >= 0, received {beta}")
    if beta > 0 and not has_reference:
        raise AdrpoError(
            f"trainer.beta: expected 0, with which the trainer was made without a reference; "
            f"received {beta}; begin with ADRPOConfig(beta=...) above 0"
        )
    refused = beta > 0 and args.negative_coefficient == "refuse"
    if refused and may_be_negative(args, kind=args.coefficient, beta_0=beta):
        raise AdrpoError(
            f"trainer.beta: expected at least advantage_clip = {args.advantage_clip}, received "
            f"{beta}, with which beta - A can be negative; leave advantage_clip out, so that it "
            f"follows, or set negative_coefficient to floor or allow"
        )


def has_own_loss(trainer: Any) -> bool:
    """True where the class of ``trainer`` computes its loss in a method of its own."""
    methods = [getattr(type(trainer), name) for name in ("_compute_loss", "compute_loss")]
    return any(not method.__module__.startswith(OURS) for method in methods)
