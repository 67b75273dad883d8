"""Options of ADRPO on TRL, beside those of TRL's GRPOConfig."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from trl import GRPOConfig

from adrpo.core.divergences import KLEstimator
from adrpo.errors import AdrpoError
from adrpo.llm.coefficient import CoefficientKind, NegativeCoefficient

ReferenceRows = Literal["needed", "all"]

_CHOICES: dict[str, Any] = {
    "coefficient": CoefficientKind,
    "negative_coefficient": NegativeCoefficient,
    "kl_estimator": KLEstimator,
    "reference_rows": ReferenceRows,
}


@dataclass
class ADRPOConfig(GRPOConfig):
    """GRPOConfig with the options of ADRPO (eq. 7, arXiv 2510.18053).

    Everything that GRPOConfig has keeps its meaning and its default, but for ``beta``, whose
    default is the paper's 0.04 instead of 0. Under ``use_bias_correction_kl``, TRL's default, the
    KL's gradient is not the one of the paper's time; docs/use/llm.md has the settings that are.

    Parameters:
        beta (`float`, defaults to `0.04`):
            beta_0, the coefficient of a sample with A = 0. 0, no KL and no reference model, goes
            with ``coefficient="fixed"`` only.
        coefficient (`str`, defaults to `"adaptive"`):
            ``"adaptive"``: beta_0 - A, A clipped. ``"sign_gated"``: 0 for A > 0, 2 beta_0 for
            A < 0, beta_0 for A = 0; what ``adaptive`` becomes once every A reaches the clip.
            ``"fixed"``: beta_0 for all, stock GRPO.
        advantage_clip (`float`, *optional*):
            A is clipped to +- this in the coefficient, in GRPO's units, like ``beta``. None: to
            beta_0, as in the paper, so that coefficients lie in [0, 2 beta_0].
        clip_policy_advantage (`bool`, defaults to `False`):
            Whether the policy-gradient term uses the clipped A too. At the paper's clip it
            shrinks that term about 25 times.
        negative_coefficient (`str`, defaults to `"refuse"`):
            What holds where ``advantage_clip`` > beta_0 makes coefficients negative, which reward
            distance from the reference. ``"refuse"``: an error. ``"floor"``: they count as 0.
            ``"allow"``: they stay, with a warning; k3 is then bounded below by
            ``log_ratio_bound`` alone.
        kl_estimator (`str`, defaults to `"k3"`):
            Estimator of the token KL, ``"k1"``, ``"k2"`` or ``"k3"``; see :func:`adrpo.token_kl`
            for what their gradients are.
        log_ratio_bound (`float`, *optional*, defaults to `20.0`):
            Greatest |log pi_ref - log pi| in the KL, in nats; beyond it a token has no KL
            gradient. Until a token reaches it, it changes no bit. None: no bound.
        kl_on_degenerate_groups (`bool`, defaults to `True`):
            Whether groups whose rewards are all equal have the KL term, with beta_0. They have no
            policy gradient: with it they pull to the reference, without it they do nothing.
        target_kl (`float`, *optional*):
            KL to the reference, in nats per token, that a controller of beta_0 holds; None keeps
            beta_0. It moves beta_0 by at most 2 % for each generated batch.
        reference_rows (`str`, defaults to `"needed"`):
            ``"needed"``: samples whose coefficient is 0 are left out of the reference pass; the
            loss and its gradient are the same. ``"all"``: none are, so that the KL metrics cover
            all samples. Evaluation, ``target_kl``, images and sharded models (FSDP, DeepSpeed)
            compute all.

    Raises:
        AdrpoError: at construction, for values that are impossible alone or together.
    """

    beta: float = field(
        default=0.04,
        metadata={"help": "beta_0, the KL coefficient of a sample with advantage 0."},
    )
    coefficient: CoefficientKind = field(
        default="adaptive",
        metadata={
            "help": "KL coefficient of a sample: 'adaptive' (beta_0 - A), 'sign_gated' (0 for "
            "A > 0, 2 beta_0 for A < 0) or 'fixed' (beta_0, stock GRPO).",
        },
    )
    advantage_clip: float | None = field(
        default=None,
        metadata={
            "help": "A is clipped to +- this in the coefficient, in the same units as `beta`. "
            "None: to beta_0, as in the paper."
        },
    )
    clip_policy_advantage: bool = field(
        default=False,
        metadata={"help": "Whether the policy-gradient term uses the clipped A too."},
    )
    negative_coefficient: NegativeCoefficient = field(
        default="refuse",
        metadata={
            "help": "What holds where `advantage_clip` above beta_0 makes coefficients negative: "
            "'refuse' (an error), 'floor' (they count as 0) or 'allow' (with a warning).",
        },
    )
    kl_estimator: KLEstimator = field(
        default="k3",
        metadata={
            "help": "Estimator of the token KL: 'k1', 'k2' or 'k3'.",
        },
    )
    log_ratio_bound: float | None = field(
        default=20.0,
        metadata={
            "help": "Greatest |log pi_ref - log pi| in the KL, in nats, applied before the "
            "exponential. None: no bound."
        },
    )
    kl_on_degenerate_groups: bool = field(
        default=True,
        metadata={"help": "Whether groups whose rewards are all equal have the KL term."},
    )
    target_kl: float | None = field(
        default=None,
        metadata={
            "help": "KL to the reference, in nats per token, that a controller of beta_0 holds. "
            "None keeps beta_0."
        },
    )
    reference_rows: ReferenceRows = field(
        default="needed",
        metadata={
            "help": "'needed': samples whose coefficient is 0 are left out of the reference "
            "pass, the loss being the same. 'all': none are, for KL metrics over all samples.",
        },
    )

    def __post_init__(self) -> None:
        self._check_values()
        self._check_combinations()
        super().__post_init__()

    def clip_at(self, beta_0: float) -> float:
        """c, the greatest |A| in the coefficient while the controller is at ``beta_0``."""
        return beta_0 if self.advantage_clip is None else self.advantage_clip

    def may_be_negative(self) -> bool:
        """Whether the options let beta_0 - A fall below 0, before any floor."""
        if self.coefficient != "adaptive" or self.advantage_clip is None:
            return False
        # A controller may lower beta_0 below any clip that does not follow it.
        return self.advantage_clip > self.beta or self.target_kl is not None

    def _check_values(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in get_args(choices):
                expected = ", ".join(map(repr, get_args(choices)))
                raise AdrpoError(f"{name}: expected one of {expected}, received {value!r}")
        for name in ("advantage_clip", "log_ratio_bound", "target_kl"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise AdrpoError(f"{name}: expected a number above 0 or None, received {value}")
        if not self.beta >= 0:
            raise AdrpoError(f"beta: expected a number of at least 0, received {self.beta}")

    def _check_combinations(self) -> None:
        if self.beta == 0 and (self.coefficient != "fixed" or self.target_kl is not None):
            raise AdrpoError(
                f"beta: expected beta_0 > 0 for coefficient {self.coefficient!r} and target_kl "
                f"{self.target_kl}, received 0; for GRPO without a reference set "
                "coefficient='fixed' and target_kl=None"
            )
        if self.negative_coefficient == "refuse" and self.may_be_negative():
            moving = "" if self.target_kl is None else ", which target_kl may lower"
            raise AdrpoError(
                f"advantage_clip: expected at most beta_0 = {self.beta}{moving}, received "
                f"{self.advantage_clip}, with which beta_0 - A can be negative; leave it out, or "
                "set negative_coefficient to 'floor' or 'allow'"
            )
