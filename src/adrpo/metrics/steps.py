"""The columns of metrics.jsonl, in the order in which documents and pages have them."""

from adrpo.metrics.metric import ALL, IMAGES, LANGUAGE, SHARE, SOUND, Metric, Role

EQUATIONS = "docs/method/equations.md#equation-by-equation"
OTHERS = "docs/method/equations.md#the-other-methods"


def _column(
    name: str,
    meaning: str,
    unit: str = "",
    *,
    role: Role = "state",
    domains: tuple[str, ...] = ALL,
    label: str = "",
    note: str = "",
    healthy: str = "",
    formula: str = "",
    least: float | None = None,
    alarm: float | None = None,
) -> Metric:
    """One column; one that has a note is drawn."""
    return Metric(
        name=name,
        file="metrics",
        domains=domains,
        meaning=meaning,
        unit=unit,
        role=role,
        label=label or name.replace("_", " ").capitalize(),
        note=note,
        formula=formula,
        healthy=healthy,
        drawn=bool(note),
        least=least,
        alarm=alarm,
    )


STEPS = (
    _column("step", "updates done", role="place"),
    _column(
        "reward_mean",
        "mean of the step's rewards: of the sum, after each term's weight and `logistic`",
        "the reward's",
        label="Reward",
        note="over the samples of a step",
        healthy="rises",
    ),
    _column(
        "reward_std",
        "population standard deviation of the step's rewards",
        "the reward's",
        healthy="stays above 0",
    ),
    _column(
        "advantage_std",
        "standard deviation of A = R - V after `advantage_scale` and before the clip; so 1 with "
        "`batch`, and less with `global`",
        "the reward's, or none where scaled",
        domains=IMAGES,
        formula=EQUATIONS,
        healthy="about the clip's size: far below it, ADRPO is fixed beta; far above, A is a sign",
    ),
    _column(
        "weight_mean",
        "mean weight of |v - u_t|², or of Flow-GRPO's policy gradient, over the samples; for ADRPO "
        "the mean of the clipped A",
        "the reward's",
        domains=IMAGES,
        formula=OTHERS,
        healthy="near 0 for advantages, 1 for RAFT and for ORW with `weight_mean: one`",
    ),
    _column(
        "divergence",
        "mean of |v - v_ref|² over the rows whose beta is not 0; v_ref is the anchor's "
        "(`algorithm.anchor`)",
        "velocity²",
        domains=IMAGES,
        label="Divergence from the reference",
        note="mean |v − v_ref|² in the update",
        formula=EQUATIONS,
        healthy="0 at first, then small against |u_t|² (about 2)",
        # A tenth of |u_t|²: what holds the policy is lost in what it learns.
        alarm=0.2,
    ),
    _column(
        "divergence",
        "mean token KL to the reference over the samples in the reference pass",
        "nats a token",
        domains=LANGUAGE,
        label="Divergence from the reference",
        note="mean KL of a token, in nats",
        formula="src/adrpo/core/divergences.py",
        healthy="small against the entropy",
        # More than the entropy of what is drawn: a token of the policy's is seven times rarer in
        # the reference, and k3's own variance begins to rule the gradient.
        alarm=2.0,
    ),
    _column(
        "divergence_positive", "the same over samples with A > 0", "nats a token", domains=LANGUAGE
    ),
    _column(
        "divergence_negative", "the same over samples with A < 0", "nats a token", domains=LANGUAGE
    ),
    _column(
        "weighted_divergence", "mean of beta KL over all tokens", "nats a token", domains=LANGUAGE
    ),
    _column(
        "beta_0",
        "the baseline of the coefficient, which a controller may move",
        domains=LANGUAGE,
        label="Baseline β₀",
    ),
    _column(
        "beta_mean",
        "mean of beta over the step's samples, which is beta_0 - A for ADRPO "
        "(`algorithm.coefficient`)",
        label="Coefficient β",
        note="how tightly each sample is held",
        formula=EQUATIONS,
        healthy="near beta_0",
    ),
    _column("beta_min", "the least beta", healthy=">= 0 unless negative ones are allowed"),
    _column("beta_max", "the greatest beta"),
    _column(
        "beta_negative_fraction", "share of samples with beta < 0", SHARE, domains=LANGUAGE,
        healthy="0",
    ),
    _column(
        "kl",
        "Flow-GRPO: mean KL of a noisy step to the anchor",
        "nats an element",
        domains=IMAGES,
        label="KL of a step",
        formula=OTHERS,
    ),
    _column(
        "informative_fraction",
        "FDFO: share of scored pairs whose two rewards differ; the others teach nothing",
        SHARE,
        domains=IMAGES,
        label="Informative pairs",
        note="share of pairs whose rewards differ",
        formula=OTHERS,
        healthy="near 1: with a reward of 0 or 1 most near images have the same",
        least=0.0,
    ),
    _column(
        "ratio_clipped_fraction",
        "Flow-GRPO: share of noisy steps whose ratio of densities is clipped; FDFO: share of "
        "points whose ratio is farther from 1 than `clip_range`",
        SHARE,
        domains=IMAGES,
        formula=OTHERS,
    ),
    _column(
        "margin",
        "DPO: mean of (d_l - d_l^ref) - (d_w - d_w^ref)",
        "velocity²",
        domains=IMAGES,
        formula=OTHERS,
        healthy="rises above 0",
    ),
    _column(
        "pair_accuracy", "DPO: share of pairs whose margin is positive", SHARE, domains=IMAGES,
        formula=OTHERS, healthy="above 0.5",
    ),
    _column(
        "advantage_clipped_fraction",
        "share of scored samples with A outside [A_min, A_max]; of a language model, in the "
        "coefficient",
        SHARE,
        label="Clipped advantages",
        note="share of samples at a clip bound",
        healthy="between 0.1 and 0.9",
        least=0.0,
    ),
    _column(
        "degenerate_fraction", "share of groups whose rewards are all equal", SHARE,
        domains=LANGUAGE, healthy="far from 1",
    ),
    _column(
        "entropy",
        "mean token entropy of the policy",
        "nats a token",
        domains=LANGUAGE,
        label="Entropy of the policy",
        note="nats a token, in training",
        healthy="falls slowly",
    ),
    _column(
        "completion_length",
        "mean length of a completion",
        "tokens",
        domains=LANGUAGE,
        label="Length of completions",
        note="tokens, in training",
    ),
    _column(
        "completions_cut_fraction", "share of completions cut at `max_completion_length`", SHARE,
        domains=LANGUAGE,
    ),
    _column(
        "loss",
        "what is minimised: the mean of eq. 6, or of the method's own loss",
        "velocity²; of a language model none",
        label="Loss",
        note="as minimized",
        formula=EQUATIONS,
        healthy="no target value: A has mean 0 within a prompt",
    ),
    _column(
        "grad_norm",
        "L2 norm of the gradient before clipping",
        label="Gradient norm",
        note="before clipping",
        healthy="finite",
        least=0.0,
    ),
    _column("learning_rate", "of the next step"),
    _column("samples", "samples of the step", role="count", label="Training samples"),
    _column(
        "samples_excluded", "samples without a score", role="count", label="Samples excluded",
        healthy="0",
    ),
    _column(
        "reward_error",
        "the first exception that a reward raised in the step, as text, or that an image is not "
        "finite; only where there is one",
        healthy="absent",
    ),
    _column(
        "model_calls",
        "samples x network evaluations of the step, reference included; guidance counts twice",
        role="count",
        domains=IMAGES,
        label="Model calls",
    ),
    _column(
        "reference_rows", "rows for which v_ref was computed", role="count", domains=IMAGES,
        label="Reference rows",
    ),
    _column(
        "reference_fraction", "share of samples in the reference pass", SHARE, domains=LANGUAGE,
        healthy="about a half at the paper's clip",
    ),
    _column(
        "encoder_calls", "clips that the audio encoder ran on", role="count", domains=SOUND,
        label="Encoder calls",
    ),
    _column(
        "seconds_sampling", "solver and decoding", "s", role="phase", domains=IMAGES,
        label="Sampling",
    ),
    _column("seconds_scoring", "rewards", "s", role="phase", domains=IMAGES, label="Scoring"),
    _column(
        "seconds_policy", "forward, backward, optimizer", "s", role="phase", domains=IMAGES,
        label="Policy update",
    ),
    _column(
        "seconds_reference", "v_ref, adapter off", "s", role="phase", domains=IMAGES,
        label="Reference",
    ),
    _column(
        "seconds_other", "the rest of the step", "s", role="phase", domains=IMAGES, label="Other",
        healthy="a few per cent",
    ),
    _column("seconds_step", "the whole step", "s", role="timing"),
    _column("samples_per_second", "samples over the step's seconds", "1/s", role="timing"),
    _column("wall_seconds", "since the run began", "s", role="timing"),
)  # fmt: skip

TERM = _column(
    "reward_<term>_mean",
    "mean of one term as its function returned it, before its weight and `logistic`",
    "the term's",
)
"""The column of each term of the reward, by the name of the term."""
