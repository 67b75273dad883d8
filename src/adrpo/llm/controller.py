"""A controller of beta_0 that holds the token KL of a run near a target."""

from collections.abc import Mapping

from adrpo.core.controller import controlled


class KLController:
    """beta_0 of a run; with a target, it moves by :func:`controlled` after each generated batch.

    The divergence is the mean KL over the tokens that were trained on since the last move.

    Args:
        beta_0: where it starts.
        target: KL(pi || pi_ref) to hold, in nats per token; None keeps beta_0.
    """

    def __init__(self, beta_0: float, *, target: float | None) -> None:
        self.beta_0 = beta_0
        self.target = target
        self._kl_sum = 0.0
        self._tokens = 0.0

    def observe(self, kl_sum: float, tokens: float) -> None:
        """Take in the KL summed over ``tokens`` tokens of all processes."""
        self._kl_sum += kl_sum
        self._tokens += tokens

    def move(self) -> None:
        """Move beta_0 by what was observed since the last call; nothing observed, no move."""
        if self.target is not None and self._tokens:
            kl = self._kl_sum / self._tokens
            self.beta_0 = controlled(self.beta_0, divergence=kl, target=self.target)
        self._kl_sum, self._tokens = 0.0, 0.0

    def state(self) -> dict[str, float]:
        return {"beta_0": self.beta_0, "kl_sum": self._kl_sum, "tokens": self._tokens}

    def load(self, state: Mapping[str, float]) -> None:
        self.beta_0 = state["beta_0"]
        self._kl_sum, self._tokens = state["kl_sum"], state["tokens"]
