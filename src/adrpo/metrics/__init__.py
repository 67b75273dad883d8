"""Every metric once: the columns of a run's files, and what there is to say of each.

Tables, figures, pages and documents speak of metrics by what stands here: adding one edits this
package and the file that computes it. Columns whose names follow from another's are not listed:

- ``<metric>_low``, ``<metric>_high``, ``<metric>_change``, ``<metric>_change_low`` and
  ``<metric>_change_high`` of an evaluation's metric, its interval and its paired change;
- ``<metric>_<category>`` of a metric that is marked ``by_category``;
- ``<reward>`` in evaluations.jsonl and ``reward_<reward>_mean`` in metrics.jsonl, for rewards
  without a short name.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from adrpo.metrics.evaluations import (
    EVALUATIONS,
    EXCLUDED,
    MEASURED,
    PLACES,
    SEEN,
    SPLITS,
    UNSEEN,
)
from adrpo.metrics.metric import Better, File, Metric, Role
from adrpo.metrics.rewards import REWARDS
from adrpo.metrics.steps import STEPS, TERM

METRICS = (*STEPS, *PLACES, *EVALUATIONS)
"""All of them, in the order in which documents, tables and pages have them."""

TOTAL = "reward"
"""The reward of a sample, all terms together."""

SAMPLE_KL = "kl"
"""The KL of whole samples to the base, where it is known."""

INTERVAL = ("_low", "_high")
CHANGE = "_change"


def known(name: str, file: File = "evaluations", domain: str = "") -> Metric | None:
    """The metric of a column as ``domain`` writes it, or any domain where none is named."""
    return next(iter(_candidates(name, file, domain)), None)


def describe(name: str, file: File = "evaluations", domain: str = "") -> Metric:
    """The metric of a column, whatever its name.

    A name that stands here only for other domains keeps its label; what it means in ``domain`` is
    left open where they differ. Another one, such as a reward's of the user, says what its name
    says.
    """
    found = _candidates(name, file, domain) or _candidates(name, file)
    if len(found) > 1:
        return replace(found[0], meaning="", note="")
    if found:
        return found[0]
    of_category = category(name)
    return Metric(
        name=name,
        file=file,
        domains=(),
        meaning="",
        role="reward",
        better="higher" if of_category is None else of_category[0].better,
        label=(name if of_category is None else of_category[1]).replace("_", " "),
    )


def _candidates(name: str, file: File, domain: str = "") -> list[Metric]:
    return [
        metric
        for metric in METRICS
        if (metric.name, metric.file) == (name, file)
        and (domain == "" or metric.written_by(domain))
    ]


def with_role(*roles: Role, file: File = "evaluations") -> tuple[Metric, ...]:
    """The metrics of a file that have one of these roles."""
    return tuple(metric for metric in METRICS if metric.file == file and metric.role in roles)


def trained_judges(rewards: Iterable[str]) -> tuple[str, ...]:
    """The judges that a run is trained on whose rewards have these names: short ones, or the paths
    of adrpo's own classes. They are called "trained on" wherever they are shown.

    >>> trained_judges(["clip_score", "adrpo.rewards.scene_judge:SceneJudge"])
    ('gold_accuracy',)
    """
    given = set(rewards)
    found: dict[str, None] = {}
    for reward in REWARDS:
        known_as = {reward.name, f"{_module(reward)}:{_class(reward)}"}
        if given & {*known_as, f"{_module(reward)}.{_class(reward)}"}:
            found |= dict.fromkeys(reward.decides)
    return tuple(found)


def _module(reward: Metric) -> str:
    return reward.formula.removeprefix("src/").removesuffix(".py").replace("/", ".")


def _class(reward: Metric) -> str:
    return reward.name.title().replace("_", "")


def marked(label: str, trained: bool) -> str:
    """A metric's name as a reader has it, who is told where a judge is ``trained`` on."""
    return f"{label} (trained on)" if trained else label


def names(metrics: Iterable[Metric]) -> tuple[str, ...]:
    """The names of ``metrics``, each once."""
    return tuple(dict.fromkeys(metric.name for metric in metrics))


def ordered(found: Collection[str], first: Iterable[str] = ()) -> list[str]:
    """Metrics of an evaluation in the order of tables: those of ``first`` in front, and those of no
    known name last, by name."""
    listed = [name for name in dict.fromkeys([*first, *names(EVALUATIONS)]) if name in found]
    return listed + sorted(set(found).difference(listed))


def category(column: str) -> tuple[Metric, str] | None:
    """The metric and the category of a column such as ``gold_accuracy_color``."""
    if known(column) is not None or without_ending(column) != column:
        return None
    for metric in EVALUATIONS:
        prefix = f"{metric.name}_"
        if metric.by_category and column.startswith(prefix):
            return metric, column.removeprefix(prefix)
    return None


def without_ending(column: str) -> str:
    """The metric's own column of an interval's or a change's: ``kl`` of ``kl_change_low``."""
    for ending in INTERVAL:
        column = column.removesuffix(ending)
    return column.removesuffix(CHANGE)


def unlisted(
    columns: Iterable[str],
    file: File,
    domain: str,
    *,
    rewards: Collection[str] = (),
    categories: Collection[str] = (),
) -> list[str]:
    """The ``columns`` of a row that neither stand here nor follow from what does.

    Args:
        columns: keys of a row.
        file: that the row is of.
        domain: that wrote it.
        rewards: names of the rewards that the run measures.
        categories: of its prompts.
    """
    before, after = TERM.name.split("<term>")
    terms = {f"{before}{name}{after}" for name in rewards} if file == "metrics" else set(rewards)

    def stands_here(column: str) -> bool:
        if known(column, file, domain) is not None or column in terms:
            return True
        if file == "metrics":
            return False
        name = without_ending(column)
        of_category = category(name)
        return (
            (known(name, file, domain) is not None and name not in names(PLACES))
            or name in terms
            or (of_category is not None and of_category[1] in categories)
        )

    return sorted(column for column in columns if not stands_here(column))


__all__ = [
    "CHANGE",
    "EVALUATIONS",
    "EXCLUDED",
    "INTERVAL",
    "MEASURED",
    "METRICS",
    "PLACES",
    "REWARDS",
    "SAMPLE_KL",
    "SEEN",
    "SPLITS",
    "STEPS",
    "TERM",
    "TOTAL",
    "UNSEEN",
    "Better",
    "File",
    "Metric",
    "Role",
    "category",
    "describe",
    "known",
    "marked",
    "names",
    "ordered",
    "trained_judges",
    "unlisted",
    "with_role",
    "without_ending",
]
