"""The evidence's cells: pairs that differ in what they are compared by, and nothing else."""

from pathlib import Path

import pytest

from adrpo.config import load_flow_config
from adrpo.runs.resuming import flatten

ROOT = Path(__file__).parents[3]
CELLS = ROOT / "benchmarks/evidence"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.chdir(ROOT)


def settings(part: str, cell: str) -> dict[str, object]:
    from evidence_parts import PARTS, SHARED

    overrides = [*SHARED, *PARTS[part].overrides]
    return flatten(load_flow_config(str(CELLS / f"{cell}.yaml"), overrides).model_dump())


def differing(part: str, one: str, other: str) -> set[str]:
    first, second = settings(part, one), settings(part, other)
    names = {key for key in {*first, *second} if first.get(key) != second.get(key)}
    return names - {"description", "source"}


PAIRS = [
    ("headline", "headline/base-adaptive", "headline/base-fixed"),
    ("headline", "headline/moving-adaptive", "headline/moving-fixed"),
    ("map", "map/adaptive-few", "map/fixed-few"),
    ("map", "map/adaptive-fast", "map/fixed-fast"),
    ("flattering", "flattering/adaptive", "flattering/fixed"),
    *(("fronts", f"fronts/adaptive-{b}", f"fronts/fixed-{b}") for b in ("0.1", "1", "3")),
    *(
        ("clips", f"clips/adaptive-{b}-clip-{b}", f"clips/fixed-{b}-clip-{b}")
        for b in ("0.1", "0.3", "3")
    ),
]


@pytest.mark.parametrize(("part", "adaptive", "fixed"), PAIRS)
def test_a_pair_differs_in_its_penalty_alone(part: str, adaptive: str, fixed: str):
    # Keys that fixed_beta has not.
    own = {
        f"algorithm.{key}"
        for key in ("coefficient.schedule", "allow_negative_beta", "only_positive")
    }
    assert differing(part, adaptive, fixed) - own == {"algorithm.method"}


@pytest.mark.parametrize(
    ("cell", "keys"),
    [
        ("fronts/adaptive-0.1", {"algorithm.beta_0"}),
        ("clips/adaptive-3-clip-3", {"algorithm.beta_0", "algorithm.advantage_clip"}),
        ("ideas/held-divergence", {"algorithm.target_divergence"}),
        ("ideas/copied-anchor", {"algorithm.anchor"}),
        ("directions/sign-gated", {"algorithm.coefficient.schedule"}),
    ],
)
def test_a_cell_changes_what_it_is_named_after(cell: str, keys: set[str]):
    before = "moving" if cell.startswith(("ideas", "directions")) else "base"
    assert differing("headline", f"headline/{before}-adaptive", cell) == keys


def test_every_cell_of_a_folder_shares_all_that_a_comparison_takes_as_equal():
    from evidence_parts import PARTS, command

    for part in PARTS:
        words = command(part)
        cells = [word for word in words if word.endswith(".yaml")]
        shared = {"training.steps", "training.learning_rate_schedule", "algorithm.shared_points"}
        seen = set()
        for cell in cells:
            found = settings(part, str(Path(cell).relative_to("benchmarks/evidence"))[:-5])
            seen.add(tuple(sorted((key, found[key]) for key in shared)))
        assert len(seen) == 1 and len(cells) >= 4, part
