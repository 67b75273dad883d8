"""Each loss of a comparison under beta_0 - A less the same under a fixed beta, in pairs.

``recomputed.recomputed`` draws the table of a comparison whose recipes are named LOSS-adaptive and
LOSS-fixed; ``python benchmarks/comparison_tables.py pairs NAME`` writes it to
benchmarks/results/NAME/pairs.md.
"""

from adrpo.comparison.collect import Results
from adrpo.evaluation.intervals import Estimate, complete_prompts, paired_difference
from adrpo.metrics import UNSEEN

FILE = "pairs.md"
ADAPTIVE, FIXED = "-adaptive", "-fixed"
METRICS = {
    # name: what the table calls it, decimals
    "gold_accuracy": ("gold accuracy", 3),
    "clip_diversity_right": ("diversity among right images", 2),
    "divergence": ("divergence", 5),
}


def losses_of(results: Results) -> list[str]:
    """The losses that a comparison has under both penalties."""
    names = [name.removesuffix(FIXED) for name in results.methods if name.endswith(FIXED)]
    return [name for name in names if name + ADAPTIVE in results.methods]


def table(results: Results) -> str:
    """Differences on unseen prompts, over seeds and prompts; each 95 %, without a correction for
    their number, and beside gold accuracy the difference that would have been told."""
    labels = [label for label, _ in METRICS.values()]
    lines = [
        f"| adaptive less fixed | {' | '.join(labels)} | gold accuracy told from |",
        "|---" * (len(METRICS) + 2) + "|",
    ]
    for loss in losses_of(results):
        found = {metric: difference(results, loss, metric) for metric in METRICS}
        cells = [interval(found[metric], decimals) for metric, (_, decimals) in METRICS.items()]
        gold = found["gold_accuracy"]
        # Where each image is judged alike there is nothing to tell a difference by.
        detectable = f"{gold.detectable:.3f}" if gold.low < gold.high else "no verdict differs"
        lines.append(f"| {loss} | {' | '.join(cells)} | {detectable} |")
    return "\n".join(lines) + "\n"


def difference(results: Results, loss: str, metric: str) -> Estimate:
    pair = [results.methods[loss + penalty].splits[UNSEEN] for penalty in (ADAPTIVE, FIXED)]
    kept = complete_prompts([part.final[metric] for part in pair], pair[0].categories)
    if kept is None:
        raise ValueError(f"{loss}: expected {metric} of one prompt at least, found none")
    arrays, strata = kept
    return paired_difference(*arrays, strata)


def interval(estimate: Estimate, decimals: int) -> str:
    mean, low, high = (
        f"{value:+.{decimals}f}" for value in (estimate.mean, estimate.low, estimate.high)
    )
    return f"{mean} [{low}, {high}]"
