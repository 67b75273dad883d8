"""Options of ADRPO for language models: each is described, bounded and checked here and only here.

The section ``algorithm`` of the domain llm, ``adrpo.llm.ADRPOConfig`` and the table in
docs/use/llm.md are made of them. Two have another name in a recipe, where all domains call them
alike: ``beta`` is ``beta_0`` there, and ``coefficient`` is ``method``.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from adrpo.config.fields import NonNegativeNumber, PositiveNumber, Section, Switch, conflict
from adrpo.config.messages import describe
from adrpo.errors import AdrpoError

CoefficientKind = Literal["adaptive", "sign_gated", "reward_adaptive", "fixed"]
NegativeCoefficient = Literal["refuse", "floor", "allow"]
KLEstimator = Literal["k1", "k2", "k3"]
ReferenceRows = Literal["needed", "all"]

COEFFICIENTS: dict[str, CoefficientKind] = {
    "adrpo": "adaptive",
    "sign_gated": "sign_gated",
    "reward_adaptive": "reward_adaptive",
    "fixed_beta": "fixed",
}
"""``algorithm.method`` -> ``ADRPOConfig.coefficient``."""

BETA_0 = (
    "beta_0, the KL coefficient of a sample with A = 0; 0, without KL and reference, goes with a "
    "fixed coefficient only. Paper: 0.04."
)
KIND = (
    "KL coefficient of a sample: beta_0 - A, A clipped; or 0, beta_0 or 2 beta_0 by the sign of A, "
    "which the first becomes once every A reaches the clip; or 1e-4 to beta_0 by (A / c + 1) / 2, "
    "which holds good samples tightly (CRD's, arXiv 2603.14128); or beta_0, stock GRPO."
)
REWARD_ADAPTIVE_CLIP, REWARD_ADAPTIVE_LEAST = 5.0, 1e-4
"""CRD's clip of A, in standard deviations, and its coefficient of a sample at the clip's lower
end."""


class CoefficientSection(Section):
    """Options that have one name in a recipe and in ``ADRPOConfig``."""

    advantage_clip: PositiveNumber | None = Field(
        default=None,
        description="A is clipped to +- this in the coefficient, in the units of A and beta_0; "
        "without it to beta_0, so that coefficients lie in [0, 2 beta_0]. Paper: beta_0, and it "
        "tries a half and twice that. reward_adaptive: c, without it 5, as CRD's.",
    )
    clip_policy_advantage: Switch = Field(
        default=False,
        description="Whether the policy gradient uses the clipped A, too, which shrinks it about "
        "25 times at the paper's clip. Ours.",
    )
    negative_coefficient: NegativeCoefficient = Field(
        default="refuse",
        description="Where advantage_clip > beta_0 makes coefficients negative, which reward "
        "distance from the reference: refuse is an error, floor counts them as 0, allow keeps them "
        "with a warning, k3 being bounded below by log_ratio_bound alone. Ours.",
    )
    kl_estimator: KLEstimator = Field(
        default="k3",
        description="Estimator of the token KL; adrpo.token_kl says what their gradients are. "
        "GRPO: k3.",
    )
    log_ratio_bound: PositiveNumber | None = Field(
        default=20.0,
        description="Greatest |log pi_ref - log pi| in the KL, in nats, applied before the "
        "exponential: a token beyond it has no KL gradient. Without it there is no bound. Ours.",
    )
    kl_on_degenerate_groups: Switch = Field(
        default=True,
        description="Whether groups whose rewards are all equal, which have no policy gradient, "
        "have the KL term, with beta_0. GRPO: true.",
    )
    target_kl: PositiveNumber | None = Field(
        default=None,
        description="KL to the reference, in nats per token, that a controller of beta_0 holds "
        "(arXiv 1909.08593), by at most 2 percent for each batch; without it beta_0 stays. Ours.",
    )


class TrainerOptions(CoefficientSection):
    """Options that ``ADRPOConfig`` adds to TRL's, under its names."""

    # In a script infinity is a way to say "no clip"; in a recipe it is a mistake.
    model_config = ConfigDict(allow_inf_nan=True)

    beta: NonNegativeNumber = Field(
        default=0.04,
        description="beta_0, the KL coefficient of a sample with A = 0; 0 is plain GRPO, without "
        "KL and reference, and is said once. Paper: 0.04.",
    )
    coefficient: CoefficientKind = Field(default="adaptive", description=KIND)
    reference_rows: ReferenceRows = Field(
        default="needed",
        description="needed leaves samples whose coefficient is 0 out of the reference pass, the "
        "loss being the same; all leaves none out, so that the KL metrics cover all samples. "
        "Evaluation, target_kl, images and sharded models compute all.",
    )
    try_arithmetic: Switch = Field(
        default=True,
        description="Whether the arithmetic that training rests on (padding, generation against "
        "scoring, the reference, gradients) is tried on two prompts before the first step, in "
        "seconds, and refused where it is wrong. Not of a model that sees, one in shards, prompt "
        "tuning, or environments. Ours.",
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.beta == 0 and self.target_kl is None:
            return self  # plain GRPO, with no coefficient that could be wrong
        wrong = wrong_combination(self, kind=self.coefficient, beta_0=self.beta, beta="beta")
        if wrong is not None:
            raise conflict(wrong)
        return self


HELP = {
    name: str(TrainerOptions.model_fields[name].description)
    for name in (
        "beta",
        "coefficient",
        *CoefficientSection.model_fields,
        "reference_rows",
        "try_arithmetic",
    )
}
"""Option of ``ADRPOConfig`` -> its meaning."""


def may_be_negative(options: CoefficientSection, *, kind: CoefficientKind, beta_0: float) -> bool:
    """Tell whether beta_0 - A can fall below 0, before any floor."""
    if kind != "adaptive" or options.advantage_clip is None:
        return False
    # A controller may lower beta_0 below any clip that does not follow it.
    return options.advantage_clip > beta_0 or options.target_kl is not None


def wrong_combination(
    options: CoefficientSection, *, kind: CoefficientKind, beta_0: float, beta: str = "beta_0"
) -> str | None:
    """Name the first options that exclude each other, as "key: expected ..."; None where none do.

    Args:
        options: those that are no argument of their own.
        kind: the coefficient that a sample has.
        beta_0: the coefficient at A = 0.
        beta: the key that holds it.
    """
    if beta_0 == 0 and (kind != "fixed" or options.target_kl is not None):
        return (
            f"{beta}: expected a number above 0, received 0, which goes with a fixed coefficient "
            f"and without target_kl only: GRPO without a reference"
        )
    if kind == "reward_adaptive" and beta_0 < REWARD_ADAPTIVE_LEAST:
        return (
            f"{beta}: expected at least {REWARD_ADAPTIVE_LEAST:g}, the least coefficient of "
            f"reward_adaptive, received {beta_0:g}"
        )
    if options.negative_coefficient == "refuse" and may_be_negative(
        options, kind=kind, beta_0=beta_0
    ):
        moving = "" if options.target_kl is None else ", which target_kl may lower"
        return (
            f"advantage_clip: expected at most beta_0 = {beta_0}{moving}, received "
            f"{options.advantage_clip}, with which beta_0 - A can be negative; lower it, leave it "
            f"out, or set negative_coefficient to floor or allow"
        )
    return None


def checked_options(values: Mapping[str, Any]) -> TrainerOptions:
    """The options of an ``ADRPOConfig``; AdrpoError for values that are impossible alone or
    together."""
    try:
        return TrainerOptions.model_validate(values)
    except ValidationError as error:
        raise AdrpoError(describe(error, {}, "ADRPOConfig", TrainerOptions)) from None
