"""A number that runs write, and all that documents, tables and pages say of it."""

from dataclasses import dataclass
from typing import Literal

File = Literal["metrics", "evaluations"]
"""Files of a run: metrics.jsonl, a row a step; evaluations.jsonl, a row an evaluation."""

Better = Literal["higher", "lower", "neither"]

Role = Literal[
    "place", "count", "phase", "timing", "state",
    "judge", "total", "proxy", "reward", "diversity", "price", "distance", "diagnostic",
]  # fmt: skip
"""The purpose of a number.

Of a step: where it stands (``place``), what it used (``count``), the seconds of a ``phase`` and
other ``timing``s, and the ``state`` of the training.

Of an evaluation: what everything is judged by and, unless a reward ``decides`` it, nothing is
trained on (``judge``; the first that a run has is the primary metric), the sum that is trained on
(``total``), the ``proxy`` that stands for the judge, other ``reward``s, what a reward is paid with
(``diversity`` that is lost, a ``price`` that is spent), a ``distance`` of the whole set of samples
from another one, and a ``diagnostic`` of which neither more nor less is better.
"""

FLOW, LLM, AUDIO = "flow", "llm", "audio"
IMAGES = (FLOW,)
LANGUAGE = (LLM, AUDIO)
SOUND = (AUDIO,)
ALL: tuple[str, ...] = ()
"""Domains that write a number; ``ALL`` stands for every one, whichever there are. A domain that
stands on another one is added beside it here."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number of one of the two files, as documents, pages and tables speak of it."""

    name: str
    """The metric's column in the file."""
    file: File
    domains: tuple[str, ...]
    meaning: str
    """One line of Markdown: the definition."""
    unit: str = ""
    """Or the range of a number that has one."""
    role: Role
    better: Better = "neither"
    label: str
    """The reader's name, as a heading."""
    sentence: str = ""
    """The name within a sentence; the label where it is empty."""
    note: str = ""
    """A few words under the label."""
    formula: str = ""
    """The page or file that has the formula, as a path in the repository."""
    healthy: str = ""
    """Values in a run that goes well."""
    needs: str = ""
    """Requirements of a reward of this name: weights, columns, packages."""
    decides: tuple[str, ...] = ()
    """Judges that a reward of this name asks itself: a run that it rewards is trained on them."""
    drawn: bool = False
    """True where the report draws it over the steps."""
    least: float | None = None
    """Beginning of the axis of such a curve; None fits it to the values."""
    by_category: bool = False
    """True where an evaluation writes it for each category, too: ``<name>_<category>``."""
    against_base: bool = False
    """True of a distance from the model's own base, which means nothing beside another base."""
    measured_at: str = ""
    """Key of the configuration at whose value it is measured; methods of different values are not
    compared by it."""
    traded: str = ""
    """Word for the metric where a reward is weighed against it; empty where none is."""
    reference_point: float | None = None
    """Beginning of a hypervolume's axis, for a price of which the base has exactly 0."""
    alarm: float | None = None
    """Value beyond which a run has gone astray, and says so."""

    def written_by(self, domain: str) -> bool:
        """True where a run of ``domain`` may have it."""
        return self.domains == ALL or domain in self.domains

    @property
    def in_sentence(self) -> str:
        """The metric's name as it reads inside a sentence."""
        return self.sentence or self.label

    @property
    def points(self) -> float:
        """The factor that makes it points of 100."""
        return 100.0 if self.unit == SHARE else 1.0


SHARE = "0 to 1"
"""Unit of a share."""
