"""The table of ``mixture.py``: its settings at the last step and at equal gains."""

from typing import Any

import numpy as np

from adrpo.evaluation.intervals import over_seeds

TITLES = {
    "reward": "mean reward",
    "divergence": "divergence",
    "modes_alive": "modes > 1 %",
    "largest_mode": "largest mode",
    "off_modes": "off the modes",
    "divergence_at_0.5": "divergence at gain 0.5",
    "divergence_at_1": "at gain 1",
    "least_mode_at_1": "least mode at gain 1",
}
AT_GAINS = {
    "divergence_at_0.5": ("divergence", 0.5),
    "divergence_at_1": ("divergence", 1.0),
    "least_mode_at_1": ("least_mode", 1.0),
}
METRICS = (*TITLES, "least_mode", "sliced_w2")


def at_gain(rows: list[dict[str, Any]], metric: str, level: float) -> float | None:
    """``metric`` where the gain first reaches ``level``; None where it never does.

    Between two rows it is linear in the gain, and so is the root of a divergence, which grows like
    the gain's square.
    """
    gain = np.array([row["gain"] for row in rows])
    reached = np.flatnonzero(gain >= level)
    if not len(reached):
        return None
    # The first row has gain 0, below every level.
    pair = slice(reached[0] - 1, reached[0] + 1)
    power = 0.5 if metric == "divergence" else 1.0
    values = [row[metric] ** power for row in rows[pair]]
    return float(np.interp(level, gain[pair], values)) ** (1 / power)


def at_gains(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    return {name: at_gain(rows, metric, level) for name, (metric, level) in AT_GAINS.items()}


def summarise(runs: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """metric -> {mean, low, high, seeds} of one setting's runs at their last step."""
    finals = [{**rows[-1], **at_gains(rows)} for rows in runs]
    summary = {}
    for metric in METRICS:
        by_seed: list[Any] = [final[metric] for final in finals]
        if None in by_seed:
            summary[metric] = {"mean": None, "low": None, "high": None, "seeds": by_seed}
            continue
        estimate = over_seeds(by_seed)
        summary[metric] = {
            "mean": estimate.mean,
            "low": estimate.low,
            "high": estimate.high,
            "seeds": by_seed,
        }
    return summary


def table(settings: dict[str, dict[str, Any]], tilts: list[dict[str, float]]) -> str:
    lines = [
        f"| setting | {' | '.join(TITLES.values())} |",
        "|---|" + "---|" * len(TITLES),
    ]

    def cell(metric: dict[str, Any]) -> str:
        if metric["mean"] is None:
            reached = sum(value is not None for value in metric["seeds"])
            return f"reached by {reached} of {len(metric['seeds'])}"
        return f"{metric['mean']:.3g} [{metric['low']:.3g}, {metric['high']:.3g}]"

    for name, metrics in settings.items():
        lines.append(f"| {name} | {' | '.join(cell(metrics[metric]) for metric in TITLES)} |")
    tilt = at_gains(tilts)
    cells = [f"{tilt[metric]:.3g}" if metric in tilt else "" for metric in TITLES]
    lines.append(f"| exact tilt p_1 exp(d x) | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rounded(row: Any) -> Any:
    """Five significant digits: more would be noise, and the rows' file stays small."""
    if isinstance(row, float):
        return float(f"{row:.5g}")
    if isinstance(row, dict):
        return {key: rounded(value) for key, value in row.items()}
    return [rounded(value) for value in row] if isinstance(row, list) else row
