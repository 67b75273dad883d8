"""What the evaluations of a run say: the headline, the table of metrics, and number formats."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

METRICS = {
    "gold_accuracy": ("Gold accuracy", "share that the gold judge accepts"),
    "reward": ("Reward", "the weighted sum that is trained on"),
    "clip_score_evaluation": ("CLIP score, second CLIP", "100 cos; never trained against"),
    "clip_score": ("CLIP score, reward CLIP", "100 cos; the model that rewards"),
    "clip_novelty": ("CLIP novelty, reward CLIP", "distance to the prompt’s others; rewards, too"),
    "aesthetic": ("Aesthetic", "LAION’s predictor, about 1 to 10; the prompt is ignored"),
    "blip_score": ("BLIPScore", "cosine by BLIP"),
    "image_reward": ("ImageReward", "learnt preference, near 0 ± 1"),
    "pick_score": ("PickScore", "100 cos by a CLIP of users’ choices"),
    "clip_diversity": ("CLIP diversity", "mean 100 (1 − cos) between pictures of a prompt"),
    "clip_diversity_l2": ("CLIP diversity, L2", "mean distance of the same unit embeddings"),
    "clip_diversity_right": ("CLIP diversity, right pictures", "between accepted pictures alone"),
    "divergence": ("Divergence", "mean |v − v_ref|² from the reference"),
    "velocity_norm_ratio": ("Norm ratio", "mean |v| / |v_ref|; 1 for the reference"),
    "edge_density": ("Edge density", "share of pixels on an edge"),
    "color_entropy": ("Color entropy", "bits; of an 8 × 8 × 8 histogram"),
    "kl": ("KL", "nats a completion, from the reference"),
    "entropy": ("Entropy", "nats a token, of the policy"),
    "completion_length": ("Length", "tokens"),
}
"""Label and explanation of the known metrics, in the table's order."""

IN_SENTENCE = {
    "gold_accuracy": "gold accuracy",
    "reward": "the reward",
    "clip_score_evaluation": "the second CLIP’s score",
    "clip_score": "CLIP score",
    "clip_diversity": "CLIP diversity",
    "divergence": "the divergence",
}
SPLITS = ("unseen", "seen")
SAMPLES = {"flow": "pictures", "llm": "completions"}
"""Domain -> what its samples are."""

CATEGORY_PREFIX = "gold_accuracy_"


@dataclass(frozen=True)
class Estimate:
    """A formatted number with its formatted 95 % interval."""

    value: str
    interval: str


@dataclass(frozen=True)
class MetricRow:
    key: str
    label: str
    note: str
    base: Estimate | None
    final: Estimate | None
    change: Estimate | None
    verb: str
    """rose, fell or unchanged; empty where there is no change to speak of."""


@dataclass(frozen=True)
class MetricTable:
    split: str
    prompts: str
    samples: str
    final_step: int | None
    metrics: list[MetricRow]
    categories: list[MetricRow]


def finite(row: Row | None, key: str) -> float | None:
    """``row[key]`` as a number; None where it is missing, null, NaN or infinite."""
    value = row.get(key) if row is not None else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def decimals(half_widths: Iterable[float | None]) -> int:
    """Decimal places that show two significant digits of the narrowest half-width (0 to 4)."""
    positive = [width for width in half_widths if width is not None and width > 0]
    if not positive:
        return 3
    return min(4, max(0, 1 - math.floor(math.log10(min(positive)))))


def fixed(value: float, places: int, *, sign: bool = False) -> str:
    """``value`` with ``places`` decimals, a true minus sign, and no negative zero."""
    text = f"{value:+,.{places}f}" if sign else f"{value:,.{places}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def compact(value: float) -> str:
    """Three significant digits for running text, thousands separated."""
    if value == 0 or abs(value) >= 100:
        return fixed(value, 0)
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return fixed(value, places) if places <= 5 else f"{value:.1e}".replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 90:
        return f"{compact(seconds)} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def metric_table(evaluations: Sequence[Row], split: str) -> MetricTable | None:
    """Base, latest evaluation and paired change of one split; None where it has no rows."""
    rows = [row for row in evaluations if row.get("split") == split]
    base = next((row for row in rows if row.get("step") == 0), None)
    tuned = [row for row in rows if row.get("step") != 0]
    final = max(tuned, key=lambda row: row["step"]) if tuned else None
    if base is None and final is None:
        return None
    latest = final or base
    keys = _metric_keys([row for row in (base, final) if row is not None])
    split_rows = [_metric_row(key, base, final) for key in keys]
    return MetricTable(
        split=split,
        prompts=_count(latest, "prompts"),
        samples=_count(latest, "samples"),
        final_step=final["step"] if final else None,
        metrics=[row for row in split_rows if not row.key.startswith(CATEGORY_PREFIX)],
        categories=[row for row in split_rows if row.key.startswith(CATEGORY_PREFIX)],
    )


def headline(table: MetricTable | None) -> list[tuple[str, bool]]:
    """The result in one sentence, as (text, whether it is an interval)."""
    if table is None or not table.metrics:
        return [("No evaluation has been written yet.", False)]
    first = table.metrics[0]
    place = f"{table.prompts} {table.split}".strip()
    parts = [(f"On {place} prompts, ", False), *_clause(first)]
    second = next((row for row in table.metrics[1:] if row.key == "clip_diversity"), None)
    if second is not None and first.verb and second.verb:
        joint = " and " if second.verb == first.verb else ", while "
        parts += [(joint, False), *_clause(second)]
    return [*parts, (".", False)]


def _clause(row: MetricRow) -> list[tuple[str, bool]]:
    name = IN_SENTENCE.get(row.key, row.label)
    base, final = row.base, row.final
    if base is None or final is None:
        only = base or final
        if only is None:
            return [(f"{name} could not be measured", False)]
        who = "of the base model" if base else "of the fine-tuned model"
        return [(f"{name} {who} is {only.value} ", False), (only.interval, True)]
    values = [(f"{base.value} ", False), (base.interval, True)]
    after = [(f"{final.value} ", False), (final.interval, True)]
    if row.verb == "unchanged":
        return [(f"{name} is unchanged within its 95 % interval: ", False), *values,
                (" before, ", False), *after, (" after", False)]  # fmt: skip
    verb = row.verb or "went"
    return [(f"{name} {verb} from ", False), *values, (" to ", False), *after]


def _count(row: Row | None, key: str) -> str:
    value = finite(row, key)
    return "" if value is None else fixed(value, 0)


def _metric_keys(rows: list[Row]) -> list[str]:
    """Names with an interval beside them: the known ones first, then by name."""
    found = {
        key
        for row in rows
        for key in row
        if f"{key}_low" in row and f"{key}_high" in row and not key.endswith("_change")
    }
    known = [key for key in METRICS if key in found]
    return known + sorted(found.difference(known))


def _metric_row(key: str, base: Row | None, final: Row | None) -> MetricRow:
    if key in METRICS:
        label, note = METRICS[key]
    else:
        label, note = key.removeprefix(CATEGORY_PREFIX).replace("_", " "), ""
    change = f"{key}_change"
    places = decimals((_half_width(base, key), _half_width(final, key)))
    # A paired change can be far narrower than its sides; one more digit than theirs will do.
    change_places = min(places + 1, decimals([_half_width(final, change)]))
    return MetricRow(
        key=key,
        label=label,
        note=note,
        base=_estimate(base, key, places),
        final=_estimate(final, key, places),
        change=_estimate(final, change, change_places, sign=True),
        verb=_verb(final, change),
    )


def _half_width(row: Row | None, key: str) -> float | None:
    low, high = finite(row, f"{key}_low"), finite(row, f"{key}_high")
    return None if low is None or high is None else (high - low) / 2


def _estimate(row: Row | None, key: str, places: int, *, sign: bool = False) -> Estimate | None:
    value, low, high = (finite(row, key + end) for end in ("", "_low", "_high"))
    if value is None:
        return None
    interval = ""
    if low is not None and high is not None:
        interval = f"[{fixed(low, places, sign=sign)}, {fixed(high, places, sign=sign)}]"
    return Estimate(fixed(value, places, sign=sign), interval)


def _verb(row: Row | None, change: str) -> str:
    low, high = finite(row, f"{change}_low"), finite(row, f"{change}_high")
    if low is None or high is None:
        return ""
    if low > 0:
        return "rose"
    return "fell" if high < 0 else "unchanged"
