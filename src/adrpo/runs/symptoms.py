"""Symptoms of a training that learns little or goes astray: the words and the keys that mend it,
once for all domains.

A run tells a symptom when it has shown in so many steps one after another, or at one evaluation of
held-out prompts, and its report tells it again. Each is a section of :data:`PAGE`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adrpo.metrics import UNSEEN, File, describe, with_role
from adrpo.runs.directory import in_order

Row = Mapping[str, Any]
Settings = Mapping[str, Any]
"""The configuration of a run, its sections nested."""

PAGE = "docs/use/when-training-goes-wrong.md"

STEPS = 10
"""Steps one after another after which a symptom is told; all, of a shorter run."""

FAR_BELOW = 0.1
"""Share of the clip below which the spread of advantages is far from it."""

ALL_CLIPPED = 0.95
"""Share of clipped advantages above which A is a sign and no size: 0.9 is what a clip of half a
standard deviation gives, and still learns."""

MOST_PAIRS = 0.5
"""Share of informative pairs below which most of what was drawn teaches nothing."""

NORM = (0.85, 1.15)
"""Range of |v| / |v_ref| beyond which samples are washed out or over-driven: the sampler adds up
velocities, so that their size is that of the sample. Runs of 140 steps that go well stay within
1.05."""

DIVERSITY_KEPT = 0.7
"""Share of the base's diversity below which the samples of a prompt have become alike. Runs that go
well keep 0.9, and a run that has lost a third seldom finds back."""

ENTROPY_KEPT = 0.2
"""Share of the entropy of the first steps below which a policy hardly draws any more. Runs that go
well keep 0.4 over 300 steps; those that hacked their reward were below 0.2."""

LEAST_ENTROPY = 0.05
"""Entropy of the first steps, in nats, below which a model was sure before training."""


@dataclass(frozen=True)
class Past:
    """Settings of a run and its first rows, against which later rows are held."""

    settings: Settings
    first: list[Row] = field(default_factory=list)
    """Rows of the first STEPS steps; of evaluations the base's."""


@dataclass(frozen=True)
class Symptom:
    """A fault that a row of ``file`` ``shows``, told by ``words`` on the rows that do."""

    section: str
    """The heading in PAGE, as a link has it."""
    shows: Callable[[Row, Past], bool]
    words: Callable[[Sequence[Row], Past], str]
    file: File = "metrics"


def _excluded(row: Row, past: Past) -> bool:
    return bool(row.get("samples_excluded"))


def _excluded_words(rows: Sequence[Row], past: Past) -> str:
    lacking = sum(row["samples_excluded"] for row in rows)
    drawn = sum(row.get("samples") or 0 for row in rows)
    error = next((f" ({row['reward_error']})" for row in rows if row.get("reward_error")), "")
    return (
        f"samples had no score in each of {len(rows)} steps, {lacking} of {drawn}{error}: mend the "
        f"reward, or leave prompts out of prompts that it can't score"
    )


def _constant(row: Row, past: Past) -> bool:
    return row.get("advantage_std") == 0 or row.get("degenerate_fraction") == 1


def _constant_words(rows: Sequence[Row], past: Past) -> str:
    return (
        f"all samples of a prompt had one reward in each of {len(rows)} steps, so that nothing was "
        f"learned from them: take a reward that tells samples apart, more of "
        f"training.samples_per_prompt, or other prompts"
    )


def _small(row: Row, past: Past) -> bool:
    spread, clip = _spread(row, past.settings), _clip(past.settings)
    return spread is not None and clip is not None and 0 < spread < FAR_BELOW * clip


def _small_words(rows: Sequence[Row], past: Past) -> str:
    found = [spread for row in rows if (spread := _spread(row, past.settings)) is not None]
    return (
        f"advantages had a spread of {min(found):.2g} to {max(found):.2g} within prompts in "
        f"{len(rows)} steps, far below their clip of {_clip(past.settings):g}, so that they hardly "
        f"weigh: set algorithm.advantage_scale=group, or raise reward.0.weight"
    )


def _clipped(row: Row, past: Past) -> bool:
    """Not of a scaled advantage, whose clip was chosen in its own unit, and not of one that is
    clipped in the coefficient alone, as the paper has it for language models."""
    share = _number(row, "advantage_clipped_fraction")
    clips_all = share is not None and share >= ALL_CLIPPED
    return clips_all and _scale(past.settings) == "none" and "advantage_std" in row


def _clipped_words(rows: Sequence[Row], past: Past) -> str:
    shares = [row["advantage_clipped_fraction"] for row in rows]
    return (
        f"{100 * min(shares):.0f} to {100 * max(shares):.0f} % of advantages were beyond their "
        f"clip of {_clip(past.settings) or 0:g} in {len(rows)} steps, so that a good sample counts "
        f"as much as the best: set algorithm.advantage_scale=group, or lower reward.0.weight"
    )


def _uninformative(row: Row, past: Past) -> bool:
    share = row.get("informative_fraction")
    return isinstance(share, int | float) and share < MOST_PAIRS


def _uninformative_words(rows: Sequence[Row], past: Past) -> str:
    shares = [row["informative_fraction"] for row in rows]
    return (
        f"{100 * min(shares):.0f} to {100 * max(shares):.0f} % of pairs had two rewards that "
        f"differ in {len(rows)} steps, and the others taught nothing: take a graded reward in the "
        f"place of one of few values, or raise algorithm.churn, now "
        f"{_algorithm(past.settings).get('churn')}, so that pairs lie farther apart"
    )


def _far(file: File) -> Callable[[Row, Past], bool]:
    def shows(row: Row, past: Past) -> bool:
        found, bound = _number(row, "divergence"), _alarm(file, past.settings)
        return found is not None and bound is not None and found > bound

    return shows


def _far_words(rows: Sequence[Row], past: Past) -> str:
    found = [row["divergence"] for row in rows]
    place = "at an evaluation" if "split" in rows[0] else f"in each of {len(rows)} steps"
    file: File = "evaluations" if "split" in rows[0] else "metrics"
    return (
        f"the divergence was up to {max(found):.2g} {place}, beyond "
        f"{_alarm(file, past.settings):g}, where the reference no longer holds the policy: raise "
        f"algorithm.beta_0, now {_algorithm(past.settings).get('beta_0')}, lower "
        f"training.learning_rate, or take an earlier checkpoint (adrpo sample RUN --step N)"
    )


def _alarm(file: File, settings: Settings) -> float | None:
    return describe("divergence", file, str(settings.get("domain") or "")).alarm


def _off_norm(row: Row, past: Past) -> bool:
    ratio = _number(row, "velocity_norm_ratio")
    return ratio is not None and not NORM[0] <= ratio <= NORM[1]


def _off_norm_words(rows: Sequence[Row], past: Past) -> str:
    ratio = rows[-1]["velocity_norm_ratio"]
    grown = "larger" if ratio > 1 else "smaller"
    looks = "over-driven, too contrasty and saturated" if ratio > 1 else "washed out and blurred"
    return (
        f"the policy's velocity is {ratio:.2f} times the reference's, {grown} than "
        f"{NORM[ratio > 1]:g}, by which pictures become {looks}: raise algorithm.beta_0, now "
        f"{_algorithm(past.settings).get('beta_0')}, lower training.learning_rate, or train fewer "
        f"steps"
    )


def _alike(row: Row, past: Past) -> bool:
    return any(True for _ in _lost(row, past))


def _alike_words(rows: Sequence[Row], past: Past) -> str:
    name, now, before = next(_lost(rows[-1], past))
    return (
        f"{name} fell to {now:.3g}, {100 * now / before:.0f} % of the base's {before:.3g}: the "
        f"samples of a prompt become alike; raise algorithm.beta_0, now "
        f"{_algorithm(past.settings).get('beta_0')}, add a reward of diversity (clip_novelty, or "
        f"algorithm.advantage_novelty), or stop earlier (evaluation.early_stopping)"
    )


def _lost(row: Row, past: Past) -> Iterator[tuple[str, float, float]]:
    """The diversity metrics of an evaluation that are far below the base's: name, now, before.

    Not other forms of one, and not the entropy, which is judged by steps: there are more of them.
    """
    for metric in with_role("diversity"):
        base = _number(past.first[0], metric.name) if past.first else None
        now = _number(row, metric.name)
        if metric.traded != "diversity" or not base or now is None:
            continue
        if now < DIVERSITY_KEPT * base:
            yield metric.name, now, base


def _sure(row: Row, past: Past) -> bool:
    before, now = _first_entropy(past), _number(row, "entropy")
    return before > LEAST_ENTROPY and now is not None and now < ENTROPY_KEPT * before


def _sure_words(rows: Sequence[Row], past: Past) -> str:
    found = [row["entropy"] for row in rows]
    return (
        f"the policy's entropy was {min(found):.2g} to {max(found):.2g} nats a token in "
        f"{len(rows)} steps, less than {100 * ENTROPY_KEPT:.0f} % of the "
        f"{_first_entropy(past):.2g} it began with: it draws the same again and again, and groups "
        f"teach less and less; raise "
        f"algorithm.beta_0, now {_algorithm(past.settings).get('beta_0')}, or "
        f"generation.temperature, lower training.learning_rate, or look whether the reward is "
        f"hacked"
    )


def _first_entropy(past: Past) -> float:
    """Mean entropy of the first steps; 0 before there are enough, or where there is none."""
    found = [value for row in past.first if (value := _number(row, "entropy")) is not None]
    return sum(found) / len(found) if len(found) >= STEPS else 0.0


def _spread(row: Row, settings: Settings) -> float | None:
    """Standard deviation of the step's advantages within prompts."""
    found = row.get("advantage_std")
    # TRL logs that of rewards, the mean over prompts; by any scale advantages have another.
    if found is None and _scale(settings) == "none":
        found = row.get("reward_std")
    return found if isinstance(found, int | float) and math.isfinite(found) else None


def _clip(settings: Settings) -> float | None:
    """The greatest advantage that the clip leaves, where there is one; null is beta_0."""
    algorithm = _algorithm(settings)
    if "advantage_clip" not in algorithm:
        return None
    given = algorithm["advantage_clip"]
    given = algorithm.get("beta_0") if given is None else given
    ends = given if isinstance(given, list | tuple) else [given]
    numbers = [abs(end) for end in ends if isinstance(end, int | float)]
    return max(numbers, default=None)


def _scale(settings: Settings) -> Any:
    return _algorithm(settings).get("advantage_scale")


def _algorithm(settings: Settings) -> Mapping[str, Any]:
    found = settings.get("algorithm")
    return found if isinstance(found, Mapping) else {}


def _number(row: Row, name: str) -> float | None:
    found = row.get(name)
    return found if isinstance(found, int | float) and math.isfinite(found) else None


SYMPTOMS = (
    Symptom("samples-without-a-score", _excluded, _excluded_words),
    Symptom("one-reward-for-all-samples", _constant, _constant_words),
    Symptom("advantages-far-below-the-clip", _small, _small_words),
    Symptom("all-advantages-clipped", _clipped, _clipped_words),
    Symptom("pairs-that-teach-nothing", _uninformative, _uninformative_words),
    Symptom("a-divergence-that-runs-away", _far("metrics"), _far_words),
    Symptom("a-divergence-that-runs-away", _far("evaluations"), _far_words, "evaluations"),
    Symptom("a-velocity-of-another-size", _off_norm, _off_norm_words, "evaluations"),
    Symptom("samples-that-become-alike", _alike, _alike_words, "evaluations"),
    Symptom("an-entropy-that-collapses", _sure, _sure_words),
)


class Watch:
    """Looks at the rows of a run as they come, and tells each symptom once.

    Args:
        settings: of the run, its sections nested.
        steps: that it makes.
    """

    def __init__(self, settings: Settings, steps: int) -> None:
        self._steps = max(1, min(STEPS, steps))
        self._past: dict[File, Past] = {"metrics": Past(settings), "evaluations": Past(settings)}
        self._shown: dict[Symptom, list[Row]] = {symptom: [] for symptom in SYMPTOMS}

    def update(self, row: Row, file: File = "metrics") -> list[str]:
        """The sentences on symptoms that have shown often enough with this ``row`` of ``file``."""
        if file == "evaluations" and row.get("split") != UNSEEN:
            return []
        past = self._past[file]
        if len(past.first) < (STEPS if file == "metrics" else 1):
            past.first.append(row)
        told = []
        for symptom, rows in list(self._shown.items()):
            if symptom.file != file or symptom not in self._shown:
                continue
            if not symptom.shows(row, past):
                rows.clear()
                continue
            rows.append(row)
            if len(rows) >= (self._steps if file == "metrics" else 1):
                told.append(self._sentence(symptom, rows))
                self._forget(symptom.section)
        return told

    def _sentence(self, symptom: Symptom, rows: Sequence[Row]) -> str:
        first, last = rows[0]["step"], rows[-1]["step"]
        when = f"steps {first} to {last}" if symptom.file == "metrics" else f"step {last}"
        words = symptom.words(rows, self._past[symptom.file])
        return f"{when}: {words} ({PAGE}#{symptom.section})"

    def _forget(self, section: str) -> None:
        for symptom in [one for one in self._shown if one.section == section]:
            del self._shown[symptom]


def symptoms(
    rows: Sequence[Row], settings: Settings, steps: int, evaluations: Sequence[Row] = ()
) -> list[str]:
    """The sentences on a run with these ``rows`` of metrics.jsonl and of ``evaluations``, as
    :class:`Watch` tells them."""
    watch = Watch(settings, steps)
    written = in_order(rows, evaluations)
    return [sentence for file, row in written for sentence in watch.update(row, file)]
