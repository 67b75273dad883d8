"""GenEval's rules on hand-built detections: verdicts, positions and the graded verdict."""

import random
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adrpo.rewards.detection import Box, Detection
from adrpo.rewards.geneval import (
    COLORS,
    RELATIONS,
    Requirement,
    Task,
    confident_objects,
    is_satisfied,
    relations,
    satisfied_share,
)


def thing(label: str, score: float = 0.95, x: float = 0, y: float = 0, color: str = "red"):
    """A detection whose color is told by the width of its box."""
    width = 10 + COLORS.index(color)
    return Detection(label, score, (x, y, x + width, y + 10))


def told(label: str, objects: Sequence[Detection]) -> list[str]:
    return [COLORS[int(found.box[2] - found.box[0]) - 10] for found in objects]


def verdict(task: Task, *detections: Detection) -> bool:
    return is_satisfied(task, confident_objects(detections, task.tag), told)


def share(task: Task, *detections: Detection) -> float:
    return satisfied_share(task, confident_objects(detections, task.tag), told)


def need(label: str, count: int = 1, **more: Any) -> Requirement:
    return Requirement(label, count, **more)


SINGLE = Task("single_object", (need("cow"),))
TWO = Task("two_object", (need("cow"), need("dog")))
COUNT = Task("counting", (need("cow", 3),), (need("cow", 4),))
COLOR = Task("colors", (need("cow", color="blue"),))
POSITION = Task("position", (need("dog"), need("cow", position=("left of", 0))))
COLOR_PAIR = Task("color_attr", (need("cow", color="blue"), need("dog", color="pink")))


@pytest.mark.parametrize(
    ("task", "detections", "expected"),
    [
        (SINGLE, [thing("cow")], True),
        (SINGLE, [thing("dog")], False),
        (SINGLE, [], False),
        # The threshold itself is not enough; more objects than asked for do no harm.
        (SINGLE, [thing("cow", 0.3)], False),
        (SINGLE, [thing("cow", 0.301)], True),
        (SINGLE, [thing("cow")] * 5, True),
        (TWO, [thing("cow"), thing("dog")], True),
        (TWO, [thing("cow"), thing("cow")], False),
        (COUNT, [thing("cow")] * 3, True),
        (COUNT, [thing("cow")] * 2, False),
        (COUNT, [thing("cow")] * 4, False),
        # Counts are of surer objects.
        (COUNT, [*[thing("cow")] * 2, thing("cow", 0.9)], False),
        (COUNT, [*[thing("cow")] * 3, thing("cow", 0.9)], True),
        (COUNT, [*[thing("cow")] * 3, thing("cow", 0.901)], False),
        (COLOR, [thing("cow", color="blue")], True),
        (COLOR, [thing("cow", color="green")], False),
        # The surest cow decides.
        (COLOR, [thing("cow", 0.8, color="green"), thing("cow", 0.7, color="blue")], False),
        (COLOR, [thing("cow", 0.7, color="green"), thing("cow", 0.8, color="blue")], True),
        (POSITION, [thing("cow"), thing("dog", x=30)], True),
        (POSITION, [thing("cow", x=30), thing("dog")], False),
        (POSITION, [thing("cow", y=30), thing("dog")], False),
        (POSITION, [thing("cow")], False),
        (POSITION, [thing("cow", 0.6), thing("cow", 0.7, x=60), thing("dog", x=30)], False),
        (POSITION, [thing("cow"), thing("dog", 0.6), thing("dog", 0.7, x=30)], True),
        (COLOR_PAIR, [thing("cow", color="blue"), thing("dog", color="pink")], True),
        (COLOR_PAIR, [thing("cow", color="pink"), thing("dog", color="blue")], False),
        (COLOR_PAIR, [thing("cow", color="blue"), thing("dog", color="blue")], False),
    ],
)
def test_verdicts_by_tag(task: Task, detections: list[Detection], expected: bool) -> None:
    assert verdict(task, *detections) is expected


def test_counts_above_one_ask_for_all_colors_and_all_pairs() -> None:
    both = Task("colors", (need("cow", 2, color="blue"),))
    blue, red = thing("cow", 0.8, color="blue"), thing("cow", 0.7, color="red")
    assert verdict(both, blue, thing("cow", 0.75, color="blue"), red)
    assert not verdict(both, blue, red)
    rows = Task("position", (need("dog", 2), need("cow", 2, position=("above", 0))))
    dogs = [thing("dog", y=60), thing("dog", x=5, y=60)]
    assert verdict(rows, *dogs, thing("cow"), thing("cow", x=5))
    assert not verdict(rows, *dogs, thing("cow"), thing("cow", x=5, y=80))


def test_a_position_relative_to_an_unmet_requirement_is_unmet() -> None:
    dog = need("dog", color="blue")
    task = Task("position", (dog, need("cow", position=("left of", 0))))
    assert verdict(task, thing("cow"), thing("dog", x=40, color="blue"))
    assert not verdict(task, thing("cow"), thing("dog", x=40, color="red"))
    assert share(task, thing("cow"), thing("dog", x=40, color="red")) == 0.5


def test_only_the_sixteen_surest_objects_of_a_class_count() -> None:
    cows = [thing("cow", 0.5 + i / 100, x=i) for i in range(17)]
    kept = confident_objects([*cows, thing("dog", 0.4)], "two_object")
    assert kept["cow"] == cows[:0:-1]
    assert len(kept["dog"]) == 1
    crowd = Task("counting", (need("cow", 16),), (need("cow", 17),))
    sure = [thing("cow", 0.91 + i / 1000) for i in range(17)]
    # The seventeenth is never seen, so that 17 can't be reached.
    assert verdict(crowd, *sure)
    assert verdict(crowd, *sure[:16])
    assert not verdict(crowd, *sure[:15])


def test_detectors_names_become_genevals() -> None:
    found = [thing("sofa", 0.5), thing("couch", 0.6), thing("mouse"), thing("tvmonitor")]
    kept = confident_objects(found, "two_object")
    assert {label: len(same) for label, same in kept.items()} == {
        "couch": 2,
        "computer mouse": 1,
        "tv": 1,
    }


def test_excluded_classes_bound_the_number_alone() -> None:
    task = Task("two_object", (need("cow"),), (need("dog", 2),))
    assert verdict(task, thing("cow"), thing("dog"))
    assert not verdict(task, thing("cow"), thing("dog"), thing("dog", 0.4))
    assert share(task, thing("cow"), thing("dog")) == 1
    assert share(task, thing("cow"), thing("dog"), thing("dog", 0.4)) == 0.5
    assert verdict(Task("single_object", (), (need("dog", 1),)))


# Position


def square(x: float, y: float, size: float = 10) -> Box:
    return x, y, x + size, y + size


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        # Two squares of size 10: the margin is 2 on each axis, and along one axis d pixels leave
        # (d - 2) / d, which passes 1/2 beyond 4.
        (0, 0, set()),
        (-2, 0, set()),
        (-4, 0, set()),
        (-4.5, 0, {"left of"}),
        (4.5, 0, {"right of"}),
        (0, -4.5, {"above"}),
        (0, 4.5, {"below"}),
        # (12 - 2) / 15 and (9 - 2) / 15; (8 - 2) / 10 and (6 - 2) / 10.
        (12, 9, {"right of"}),
        (-6, 8, {"below"}),
        # On the diagonal both components pass 1/2 far out, and none near by.
        (30, -30, {"right of", "above"}),
        (-5, -5, set()),
    ],
)
def test_relations_need_half_of_the_shortened_offset(
    x: float, y: float, expected: set[str]
) -> None:
    assert relations(square(x, y), square(0, 0)) == expected


boxes = st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 40)] * 2).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)


@settings(deadline=None)
@given(boxes, boxes)
def test_relations_in_exact_arithmetic(box: Box, other: Box) -> None:
    offset = [Fraction(int(box[i] + box[i + 2] - other[i] - other[i + 2]), 2) for i in (0, 1)]
    sizes = [int(box[i + 2] - box[i] + other[i + 2] - other[i]) for i in (0, 1)]
    excess = [abs(d) - Fraction(size, 10) for d, size in zip(offset, sizes, strict=True)]
    # excess / |offset| > 1/2, squared: no root is taken.
    norm = offset[0] ** 2 + offset[1] ** 2
    margins = [4 * e**2 - norm if e > 0 else Fraction(-1) for e in excess]
    expected = {
        names[d > 0]
        for margin, d, names in zip(
            margins, offset, [("left of", "right of"), ("above", "below")], strict=True
        )
        if margin > 0
    }
    # At exactly 1/2 rounding decides.
    if 0 not in margins:
        assert relations(box, other) == expected


@settings(deadline=None)
@given(boxes, boxes, st.integers(-50, 50), st.integers(-50, 50))
def test_relations_follow_translations_and_reverse_with_the_order(
    box: Box, other: Box, x: int, y: int
) -> None:
    held = relations(box, other)
    moved = [(b[0] + x, b[1] + y, b[2] + x, b[3] + y) for b in (box, other)]
    assert relations(*moved) == held
    opposite: dict[str, str] = dict(
        zip(RELATIONS, [RELATIONS[i] for i in (1, 0, 3, 2)], strict=True)
    )
    assert relations(other, box) == {opposite[name] for name in held}


# The graded verdict


@pytest.mark.parametrize(
    ("task", "detections", "expected"),
    [
        (COUNT, [thing("cow")] * 3, 1),
        (COUNT, [thing("cow")] * 2, 2 / 3),
        (COUNT, [thing("cow")] * 4, 2 / 3),
        (COUNT, [thing("cow")] * 12, 0),
        # Exact numbers only, unlike the verdict.
        (SINGLE, [thing("cow")] * 2, 0),
        (TWO, [thing("cow")], 1 / 2),
        (COLOR, [thing("cow", color="blue")], 1),
        (COLOR, [thing("cow", color="green")], 1 / 2),
        (COLOR, [thing("cow", color="blue")] * 2, 0),
        (POSITION, [thing("cow"), thing("dog", x=30)], 1),
        (POSITION, [thing("cow", x=30), thing("dog")], 2 / 3),
        (POSITION, [thing("cow")], 1 / 3),
        (COLOR_PAIR, [thing("cow", color="pink"), thing("dog", color="pink")], 3 / 4),
        (COLOR_PAIR, [thing("dog", color="pink")], 1 / 2),
    ],
)
def test_shares_by_tag(task: Task, detections: list[Detection], expected: float) -> None:
    # Sums of a few fractions.
    assert share(task, *detections) == pytest.approx(expected, abs=1e-12)


def test_colors_count_one_by_one_in_the_share() -> None:
    task = Task("colors", (need("cow", 4, color="blue"),))
    herd = [thing("cow", x=i, color="blue" if i else "red") for i in range(4)]
    assert share(task, *herd) == (1 + 3 / 4) / 2
    assert not verdict(task, *herd)


scenes = st.lists(
    st.builds(
        thing,
        st.sampled_from(["cow", "dog"]),
        st.sampled_from([0.2, 0.31, 0.6, 0.91, 0.95]),
        st.integers(0, 60),
        st.integers(0, 60),
        st.sampled_from(["blue", "pink"]),
    ),
    max_size=6,
)


@settings(deadline=None)
@given(scenes, st.sampled_from([SINGLE, TWO, COUNT, COLOR, POSITION, COLOR_PAIR]))
def test_a_full_share_is_a_verdict_and_the_order_of_detections_is_nothing(
    detections: list[Detection], task: Task
) -> None:
    graded, strict = share(task, *detections), verdict(task, *detections)
    assert 0 <= graded <= 1
    assert strict or graded < 1
    mixed = random.Random(0).sample(detections, len(detections))
    assert (share(task, *mixed), verdict(task, *mixed)) == (graded, strict)
