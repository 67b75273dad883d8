"""The stand-in for TRL's ``self.beta`` while it computes its loss."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from adrpo.core import token_kl
from adrpo.core.divergences import KLEstimator


class PerSampleBeta:
    """A coefficient per sample in the place where TRL has one number.

    TRL's GRPO loss asks ``self.beta != 0.0`` and adds ``self.beta * per_token_kl``; those two
    operations exist here, and any other fails. ``per_token_kl`` is k3 without a bound, times the
    importance ratio under ``use_bias_correction_kl``. Where that is what is wanted, TRL's own
    number is used, so that a constant coefficient repeats stock GRPO bit for bit. Otherwise the
    KL is computed here, from the log-probabilities of the same pass.

    Args:
        batch: the inputs of the loss. Where it has ``reference_rows``, the others' reference was
            not computed, and is filled in by :meth:`receive`.
        coefficient: beta, [rows] or [rows, tokens].
        estimator: of the token KL.
        bound: of the log-ratio, as in :func:`adrpo.token_kl`.
        correction: level of the importance ratio that multiplies the KL, None for none.
    """

    def __init__(
        self,
        batch: dict[str, Any],
        coefficient: Float[Tensor, " rows *tokens"],
        *,
        estimator: KLEstimator,
        bound: float | None,
        correction: Literal["token", "sequence"] | None,
    ) -> None:
        self.batch = batch
        self.coefficient = coefficient if coefficient.ndim == 2 else coefficient.unsqueeze(1)
        self.estimator: KLEstimator = estimator
        self.bound = bound
        self.correction = correction
        self.logps: Tensor | None = None
        self.stock_kl: Tensor | None = None

    def receive(self, logps: Float[Tensor, "rows tokens"]) -> None:
        """Keep log pi of the loss pass; TRL reads the reference only after it.

        A row whose coefficient is 0 has no reference. It becomes its own: the log-ratio, the KL
        and its gradient are exactly 0. Any other number could overflow to 0 * inf = NaN.
        """
        self.logps = logps
        rows = self.batch.get("reference_rows")
        if rows is not None:
            reference = self.batch["ref_per_token_logps"]
            filled = torch.where(rows.unsqueeze(1), reference, logps.detach())
            self.batch["ref_per_token_logps"] = filled

    def __ne__(self, other: object) -> bool:
        if other != 0.0:
            raise TypeError(f"a coefficient per sample compares with 0.0 only, received {other!r}")
        return True

    def __mul__(self, per_token_kl: Float[Tensor, "rows tokens"]) -> Float[Tensor, "rows tokens"]:
        self.stock_kl = per_token_kl.detach()
        if self._stock_serves():
            return self.coefficient * per_token_kl
        logps, reference = self.log_probabilities()
        kl = token_kl(logps, reference, estimator=self.estimator, bound=self.bound)
        if self.correction is not None:
            kl = kl * self._importance_ratio(logps)
        return self.coefficient * kl

    def log_probabilities(self) -> tuple[Tensor, Tensor]:
        """log pi, with its gradient, and log pi_ref of the completions' tokens."""
        if self.logps is None:
            raise RuntimeError("the loss never asked for log-probabilities: TRL has changed")
        return self.logps, self.batch["ref_per_token_logps"]

    def mask(self) -> Float[Tensor, "rows tokens"]:
        """1 at the tokens of the policy, 0 at padding and at what tools returned."""
        mask = self.batch["completion_mask"]
        return mask * self.batch["tool_mask"] if "tool_mask" in self.batch else mask

    def _stock_serves(self) -> bool:
        if self.estimator != "k3":
            return False
        if self.bound is None:
            return True
        logps, reference = self.log_probabilities()
        # Masked tokens count too: e^x = inf there would become NaN by the mask's 0.
        return not bool(((reference - logps.detach()).abs() > self.bound).any())

    def _importance_ratio(self, logps: Tensor) -> Tensor:
        """pi / pi_old per token, or its geometric mean per sequence, as TRL defines them."""
        old = self.batch.get("old_per_token_logps")
        log_ratio = logps - (logps.detach() if old is None else old)
        if self.correction == "token":
            return log_ratio.exp()
        mask = self.mask()
        mean = (log_ratio * mask).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
        return mean.exp()
