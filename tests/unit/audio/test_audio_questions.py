"""Choices and answers of questions about sound: what is refused, and the balance of letters."""

import warnings
from collections import Counter
from typing import Any

import pytest

from adrpo.audio.data.questions import Located, checked, in_balanced_order
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.rewards.multiple_choice import MultipleChoice
from support.sound_files import question


def located(*rows: dict[str, Any]) -> list[Located]:
    return [(f"a.jsonl, line {number}", row) for number, row in enumerate(rows, 1)]


def one(**changed: Any) -> dict[str, Any]:
    return checked(located(question(**changed)), faulty="refuse")[0][1]


@pytest.mark.parametrize("answer", ["cow", "C", "(c)", "C. cow", 2, " cow"])
def test_an_answer_is_a_text_a_letter_or_a_number(answer: Any) -> None:
    assert one(answer=answer)["answer"] == "cow"


@pytest.mark.parametrize("label", ["A. {}", "(A) {}", "A) {}"])
def test_labels_of_choices_go(label: str) -> None:
    labelled = [label.replace("A", letter).format("x" + letter) for letter in "ABCD"]
    row = one(choices=labelled, answer=labelled[1])
    assert (row["choices"], row["answer"]) == (["xA", "xB", "xC", "xD"], "xB")


REFUSED = [
    ({"answer": "horse"}, "expected as answer one of ['dog', 'cat', 'cow', 'hen'], received 'hors"),
    ({"answer": "E"}, "expected as answer one of"),
    ({"answer": None}, "received None"),
    ({"choices": ["dog", "cat", "Dog.", "hen"]}, "choices that differ, received 'dog' and 'Dog.'"),
    ({"choices": ["cat"]}, "expected as choices 2 to 26 texts, received ['cat']"),
    ({"choices": "['cat', 'dog']"}, "expected as choices 2 to 26 texts"),
    ({"choices": [1, 2], "answer": 1}, "expected as choices 2 to 26 texts"),
    ({"choices": ["cat", " "]}, "expected as choices 2 to 26 texts"),
    ({"choices": None}, "expected as choices 2 to 26 texts, received None"),
    ({"question": " "}, "expected a question in words, received ' '"),
    ({"question": 3}, "expected a question in words, received 3"),
]


@pytest.mark.parametrize(("changed", "message"), REFUSED)
def test_a_faulty_question_is_refused_with_its_row(changed: dict[str, Any], message: str) -> None:
    rows = located(question(), question(**changed), question(answer="mouse"))
    with pytest.raises(AdrpoError) as caught:
        checked(rows, faulty="refuse")
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("a.jsonl, line 2: ")
    assert message in line
    assert line.endswith(" (1 more of 3 questions are refused)")


@pytest.mark.parametrize(("changed", "message"), REFUSED)
def test_a_faulty_question_is_left_out_with_a_warning(changed: Any, message: str) -> None:
    rows = located(question(0), question(1, **changed), question(2))
    with pytest.warns(AdrpoWarning) as caught:
        kept = checked(rows, faulty="leave_out")
    assert [row["audio"] for _, row in kept] == ["clips/0.wav", "clips/2.wav"]
    told = str(caught[0].message)
    assert told.startswith("1 of 3 questions are left out: a.jsonl, line 2: ")
    assert message in told
    with pytest.raises(AdrpoError, match="line 1"):
        checked(located(question(**changed)), faulty="leave_out")


def test_a_benchmark_has_a_repeated_text_as_one_choice() -> None:
    rows = located(
        question(choices=["dog", "cat", " Dog", "hen"], answer="dog"),
        question(choices=["cat", "cat"]),
        question(choices=["cat", "cat?"]),
    )
    with pytest.warns(AdrpoWarning, match="1 of 3 questions are left out"):
        kept = checked(rows, faulty="leave_out", merge=True)
    assert [row["choices"] for _, row in kept] == [["dog", "cat", "hen"], ["cat", "cat?"]]


def letters(rows: list[Located]) -> list[tuple[int, int]]:
    """(number of choices, place of the right one) of each question."""
    return [(len(row["choices"]), row["choices"].index(row["answer"])) for _, row in rows]


def test_each_letter_is_right_equally_often_to_within_one() -> None:
    """Of four and of five choices, mixed; at every length, since a set may be cut."""
    names = "dog cat cow hen fox".split()
    rows = located(*(question(n, choices=names[: 4 + n % 3 % 2], answer="dog") for n in range(75)))
    for seed in range(3):
        ordered = in_balanced_order(rows, seed=seed)
        for length in range(1, len(rows) + 1):
            counts = Counter(letters(ordered[:length]))
            for choices in (4, 5):
                found = [counts[choices, place] for place in range(choices)]
                assert max(found) - min(found) <= 1


def test_an_order_is_drawn_from_the_seed_and_keeps_choices_and_answer() -> None:
    rows = located(*(question(n, answer="dog") for n in range(400)))
    first = in_balanced_order(rows, seed=0)
    assert first == in_balanced_order(rows, seed=0)
    assert first != in_balanced_order(rows, seed=1)
    for (where, row), (now, ordered) in zip(rows, first, strict=True):
        assert where == now
        assert sorted(ordered["choices"]) == sorted(row["choices"])
        assert {**ordered, "choices": None} == {**row, "choices": None}
    # All 24 orders, none much rarer than another (expected 17 of 400 each).
    orders = Counter(tuple(row["choices"]) for _, row in first)
    assert len(orders) == 24
    assert min(orders.values()) >= 4


def test_a_letter_scores_by_the_order_shown() -> None:
    row = in_balanced_order(located(*(question(n) for n in range(4))), seed=1)
    for _, shown in row:
        letter = "ABCD"[shown["choices"].index("cat")]
        scores = MultipleChoice()(
            [""] * 4,
            [f"<answer>{one}</answer>" for one in "ABCD"],
            choices=[shown["choices"]] * 4,
            answer=[shown["answer"]] * 4,
        )
        assert scores == [float(one == letter) for one in "ABCD"]


@pytest.mark.parametrize("choice", ["none of the above", "Both A and B", "A, or C"])
def test_choices_that_speak_of_their_places_keep_them(choice: str) -> None:
    names = ["dog", "cat", "cow", choice]
    rows = located(*(question(choices=names) for _ in range(20)), question())
    with pytest.warns(AdrpoWarning, match="20 of 21 questions keep the order .*: a.jsonl, line 1"):
        ordered = in_balanced_order(rows, seed=0)
    assert [row["choices"] for _, row in ordered[:20]] == [names] * 20


def test_a_sound_set_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        in_balanced_order(checked(located(question()), faulty="leave_out"), seed=0)
