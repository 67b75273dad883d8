"""The columns of evaluations.jsonl, in the order in which tables and pages have them."""

from functools import partial

from adrpo.metrics.metric import ALL, IMAGES, LANGUAGE, SHARE, Metric
from adrpo.metrics.rewards import REWARDS

EQUATIONS = "docs/method/equations.md#equation-by-equation"
IMAGE_METRICS = "src/adrpo/evaluation/image_metrics.py"
DISTANCES = "src/adrpo/evaluation/distance_values.py"
IMAGE_STATISTICS = "src/adrpo/evaluation/image_statistics.py"
TOKEN_KL = "src/adrpo/core/divergences.py"

_metric = partial(Metric, file="evaluations")


def _place(name: str, meaning: str) -> Metric:
    """A column that says what a row is of, and no metric."""
    return Metric(
        name=name,
        file="evaluations",
        domains=ALL,
        meaning=meaning,
        role="place",
        label=name.replace("_", " ").capitalize(),
    )


EXCLUDED = "samples_excluded"
"""The column that counts samples without a score, of an evaluation and of a step."""

UNSEEN, SEEN = "unseen", "seen"
SPLITS = (UNSEEN, SEEN)
"""Prompts that training never sees, and some that it does: what ``split`` says."""

PLACES = (
    _place("step", "updates done; 0 is the base"),
    _place("split", f'"{UNSEEN}": prompts that training never sees; "{SEEN}": some that it does'),
    _place("prompts", "prompts of the split"),
    _place("samples", "samples of all of them"),
    _place(
        EXCLUDED,
        "samples that a reward, trained on or only measured, gave no score; their prompts are left "
        "out of that reward",
    ),
    _place("target", "what `adrpo evaluate` was given, the name of a run or a model"),
)
"""Columns that say which evaluation a row is of."""

_FIRST = (
    _metric(
        name="gold_accuracy",
        label="Gold accuracy",
        meaning=(
            "share of samples that are right by the world's own rules: images that satisfy their "
            "caption, read from the pixels without any learned part (`embedded/gold.py`), only for "
            "prompts of the scenes world; exact answers, only for prompts of `questions`; right "
            "choices, for questions about sound"
        ),
        unit=SHARE,
        role="judge",
        better="higher",
        domains=ALL,
        note="share that the gold judge accepts",
        sentence="gold accuracy",
        formula="src/adrpo/embedded/gold.py",
        drawn=True,
        by_category=True,
    ),
    _metric(
        name="reward",
        label="Reward",
        meaning="the weighted sum of the reward's terms, which is trained on",
        unit="the reward's",
        role="total",
        better="higher",
        domains=ALL,
        note="the weighted sum that is trained on",
        sentence="the reward",
        drawn=True,
    ),
    _metric(
        name="clip_score_evaluation",
        label="CLIP score, second CLIP",
        meaning=(
            "100 cos(image, text) by a second CLIP (other seed, width and data) that training "
            "never sees"
        ),
        unit="-100 to 100",
        role="judge",
        better="higher",
        domains=IMAGES,
        note="100 cos; never trained against",
        sentence="the second CLIP’s score",
        formula=IMAGE_METRICS,
        drawn=True,
    ),
)

_LAST = (
    _metric(
        name="clip_diversity",
        label="CLIP diversity",
        meaning=(
            "mean over the K (K - 1) pairs of a prompt's images of 100 (1 - cos), by the second "
            "CLIP"
        ),
        unit="0 to 200",
        role="diversity",
        better="higher",
        domains=IMAGES,
        note="mean 100 (1 − cos) between pictures of a prompt",
        formula=IMAGE_METRICS,
        drawn=True,
        traded="diversity",
    ),
    _metric(
        name="clip_diversity_l2",
        label="CLIP diversity, L2",
        meaning=(
            "the same with the distance of the unit embeddings, sqrt(2 (1 - cos)): the root of "
            "`clip_diversity` over 50, pair by pair"
        ),
        unit="0 to 2",
        role="diversity",
        better="higher",
        domains=IMAGES,
        note="mean distance of the same unit embeddings",
        formula=IMAGE_METRICS,
    ),
    _metric(
        name="clip_diversity_right",
        label="CLIP diversity, right pictures",
        meaning=(
            "`clip_diversity` over the pairs of two images that the gold scorer accepts; prompts "
            "with fewer than two such images, before or after, are left out"
        ),
        unit="0 to 200",
        role="diversity",
        better="higher",
        domains=IMAGES,
        note="between accepted pictures alone",
        formula=IMAGE_METRICS,
    ),
    _metric(
        name="divergence",
        label="Divergence",
        meaning=(
            "mean of |v - v_ref|² at one uniform t per image, on the path to the policy's own "
            "samples, policy and base both at `training.guidance_scale`, whatever the images are "
            "drawn with; v_ref is the frozen base's, whatever the anchor"
        ),
        unit=">= 0",
        role="price",
        better="lower",
        domains=IMAGES,
        note="mean |v − v_ref|² from the reference",
        sentence="the divergence",
        formula=EQUATIONS,
        against_base=True,
        measured_at="training.guidance_scale",
        traded="divergence",
        # About 5 % of |u_t|² for latents of unit variance.
        reference_point=0.1,
        alarm=0.2,
    ),
    _metric(
        name="velocity_norm_ratio",
        label="Norm ratio",
        meaning="mean of |v| / |v_ref| at the same points and guidance; 1 for the base",
        unit="> 0",
        role="diagnostic",
        better="neither",
        domains=IMAGES,
        note="mean |v| / |v_ref|; 1 for the reference",
        against_base=True,
        measured_at="training.guidance_scale",
    ),
    _metric(
        name="frechet_distance",
        label="Fréchet distance",
        meaning=(
            "Fréchet distance of all images from the pictures of `evaluation.distances.references`,"
            " by the features of its network: |mu_1 - mu_2|² + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))."
            " The FID's formula, and no FID: the network is another. Biased upward, the more the "
            "fewer images (arXiv 1706.08500)"
        ),
        unit=">= 0",
        role="distance",
        better="lower",
        domains=IMAGES,
        note="of the set, from the reference pictures; biased",
        sentence="the Fréchet distance",
        formula=DISTANCES,
    ),
    _metric(
        name="kernel_distance",
        label="Kernel distance",
        meaning=(
            "unbiased squared MMD between the same features, kernel (x . y / d + 1)³, over pairs "
            "of images of different prompts; the KID's formula for the whole set, by another "
            "network (arXiv 1801.01401)"
        ),
        unit="about >= 0",
        role="distance",
        better="lower",
        domains=IMAGES,
        note="of the set, from the reference pictures; unbiased",
        sentence="the kernel distance",
        formula=DISTANCES,
        drawn=True,
    ),
    _metric(
        name="frechet_drift",
        label="Fréchet drift",
        meaning=(
            "`frechet_distance` from the images that the frozen base draws of the same prompts and "
            "noises, where `evaluation.distances.references` is null; 0 for the base"
        ),
        unit=">= 0",
        role="distance",
        better="lower",
        domains=IMAGES,
        note="of the set, from the base’s own pictures; biased",
        sentence="the Fréchet drift",
        formula=DISTANCES,
        against_base=True,
    ),
    _metric(
        name="kernel_drift",
        label="Kernel drift",
        meaning=(
            "`kernel_distance` from the same images, in all three of its means over pairs of "
            "different prompts; 0 for the base"
        ),
        unit="about >= 0",
        role="distance",
        better="lower",
        domains=IMAGES,
        note="of the set, from the base’s own pictures; unbiased",
        sentence="the kernel drift",
        formula=DISTANCES,
        drawn=True,
        against_base=True,
    ),
    _metric(
        name="edge_density",
        label="Edge density",
        meaning=(
            "share of pixels whose luminance changes by more than 32 of 255 a pixel (central "
            "differences)"
        ),
        unit=SHARE,
        role="diagnostic",
        better="neither",
        domains=IMAGES,
        note="share of pixels on an edge",
        formula=IMAGE_STATISTICS,
    ),
    _metric(
        name="color_entropy",
        label="Color entropy",
        meaning="entropy of an 8 x 8 x 8 histogram of RGB, in bits",
        unit="0 to 9",
        role="diagnostic",
        better="neither",
        domains=IMAGES,
        note="bits; of an 8 × 8 × 8 histogram",
        formula=IMAGE_STATISTICS,
    ),
    _metric(
        name="kl",
        label="KL",
        meaning=(
            "sum over a completion's tokens of the k3 estimate of KL(pi || pi_ref): unbiased for "
            "the KL of whole completions"
        ),
        unit="nats, >= 0",
        role="price",
        better="lower",
        domains=LANGUAGE,
        note="nats a completion, from the reference",
        formula=TOKEN_KL,
        drawn=True,
        against_base=True,
        traded="divergence",
        # The reference gives such a completion 150 times less often.
        reference_point=5.0,
    ),
    _metric(
        name="entropy",
        label="Entropy",
        meaning=(
            "mean over a completion's tokens of the policy's entropy, at the temperature it is "
            "drawn at"
        ),
        unit="nats, >= 0",
        role="diversity",
        better="higher",
        domains=LANGUAGE,
        note="nats a token, of the policy",
        sentence="the entropy",
        drawn=True,
        traded="entropy",
    ),
    _metric(
        name="completion_length",
        label="Length",
        meaning="tokens, the end of sequence included",
        unit=">= 1",
        role="diagnostic",
        better="neither",
        domains=LANGUAGE,
        note="tokens",
    ),
)

MEASURED = (*_FIRST, *_LAST)
"""Metrics of an evaluation that are no reward of that name."""

EVALUATIONS = (*_FIRST, *REWARDS, *_LAST)
"""Every metric of an evaluation."""
