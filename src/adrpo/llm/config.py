"""Options of ADRPO on TRL, beside those of TRL's GRPOConfig."""

import textwrap
from dataclasses import dataclass, field

from trl import GRPOConfig

from adrpo.config.llm_options import (
    HELP,
    REWARD_ADAPTIVE_CLIP,
    CoefficientKind,
    KLEstimator,
    NegativeCoefficient,
    ReferenceRows,
    TrainerOptions,
    checked_options,
    may_be_negative,
)
from adrpo.errors import AdrpoError

OPTIONS = TrainerOptions.model_fields
"""Each option with the default that it has everywhere."""
WORDS = {name: {"help": text} for name, text in HELP.items()}


@dataclass
class ADRPOConfig(GRPOConfig):
    """GRPOConfig with the options of ADRPO (eq. 7, arXiv 2510.18053).

    Everything that GRPOConfig has keeps its meaning and its default, but for ``beta``, whose
    default is the paper's 0.04 instead of 0. TRL's default use_bias_correction_kl=True changes the
    KL's gradient, and the paper is older: set False to reproduce it (docs/use/llm.md).

    Raises:
        AdrpoError: at construction, for values that are impossible alone or together.

    Parameters:
    """

    beta: float = field(default=OPTIONS["beta"].default, metadata=WORDS["beta"])
    coefficient: CoefficientKind = field(
        default=OPTIONS["coefficient"].default, metadata=WORDS["coefficient"]
    )
    advantage_clip: float | None = field(
        default=OPTIONS["advantage_clip"].default, metadata=WORDS["advantage_clip"]
    )
    clip_policy_advantage: bool = field(
        default=OPTIONS["clip_policy_advantage"].default, metadata=WORDS["clip_policy_advantage"]
    )
    negative_coefficient: NegativeCoefficient = field(
        default=OPTIONS["negative_coefficient"].default, metadata=WORDS["negative_coefficient"]
    )
    kl_estimator: KLEstimator = field(
        default=OPTIONS["kl_estimator"].default, metadata=WORDS["kl_estimator"]
    )
    log_ratio_bound: float | None = field(
        default=OPTIONS["log_ratio_bound"].default, metadata=WORDS["log_ratio_bound"]
    )
    kl_on_degenerate_groups: bool = field(
        default=OPTIONS["kl_on_degenerate_groups"].default,
        metadata=WORDS["kl_on_degenerate_groups"],
    )
    target_kl: float | None = field(
        default=OPTIONS["target_kl"].default, metadata=WORDS["target_kl"]
    )
    reference_rows: ReferenceRows = field(
        default=OPTIONS["reference_rows"].default, metadata=WORDS["reference_rows"]
    )
    try_arithmetic: bool = field(
        default=OPTIONS["try_arithmetic"].default, metadata=WORDS["try_arithmetic"]
    )

    taken = False
    """True from where an ADRPOTrainer has it."""

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Steps of the warm-up, which a trainer asks for when it begins to train.

        Raises AdrpoError where that is no ADRPOTrainer.
        """
        if not self.taken:
            raise AdrpoError(
                "args: expected a GRPOConfig, received an ADRPOConfig, whose coefficient an "
                "ADRPOTrainer alone has; train by adrpo.llm.ADRPOTrainer, by the same arguments"
            )
        return super().get_warmup_steps(num_training_steps)

    def __post_init__(self) -> None:
        self._checked_options()
        super().__post_init__()

    def clip_at(self, beta_0: float) -> float:
        """c, the greatest |A| in the coefficient while the controller is at ``beta_0``."""
        if self.advantage_clip is not None:
            return self.advantage_clip
        return REWARD_ADAPTIVE_CLIP if self.coefficient == "reward_adaptive" else beta_0

    def may_be_negative(self) -> bool:
        """True where the options let beta_0 - A fall below 0, before any floor."""
        return may_be_negative(self._checked_options(), kind=self.coefficient, beta_0=self.beta)

    def _checked_options(self) -> TrainerOptions:
        return checked_options({name: getattr(self, name) for name in HELP})


ADRPOConfig.__doc__ = str(ADRPOConfig.__doc__).rstrip() + "".join(
    f"\n        {name} (defaults to `{OPTIONS[name].default!r}`):\n"
    + textwrap.fill(text, 100, initial_indent=" " * 12, subsequent_indent=" " * 12)
    for name, text in HELP.items()
)
