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


OWN = ("algorithm.", "reward", "description", "source")
"""What the cells of a part are compared by."""
MAPPED = {"prompts.train_size", "training.learning_rate"}
"""What the map's cells are named after."""


def test_the_cells_of_a_part_differ_in_method_and_reward_alone():
    from evidence_parts import PARTS, command

    for part in PARTS:
        cells = [word for word in command(part) if word.endswith(".yaml")]
        assert len(cells) >= 4, part
        first, *others = (
            settings(part, str(Path(cell).relative_to("benchmarks/evidence").with_suffix("")))
            for cell in cells
        )
        for cell, other in zip(cells[1:], others, strict=True):
            keys = {key for key in {*first, *other} if first.get(key) != other.get(key)}
            keys = {key for key in keys if not key.startswith(OWN)}
            assert keys <= (MAPPED if part == "map" else set()), cell
