"""The authors' rule against a second statement of it, and what the chosen option is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adrpo.audio.benchmarks.benchmarks import BENCHMARKS
from adrpo.audio.benchmarks.measuring import first_choice_verdicts, scores_of
from adrpo.audio.benchmarks.questions import Question, read_questions
from adrpo.audio.benchmarks.scorers import agrees, chosen, verdicts

FILE = Path(__file__).parent / "mmau-test-mini.json"
SET = read_questions(BENCHMARKS["mmau"], FILE)
BY_ID = {question.id: question for question in SET.questions}


def published_match(answer: str, prediction: str, choices: list[str]) -> bool:
    """The published rule, stated once more: conditions one after another, over lists."""
    said = re.findall(r"\b\w+\b", prediction.lower())
    right = re.findall(r"\b\w+\b", answer.lower())
    if not said:
        return False
    forbidden = []
    for choice in choices:
        of_choice = re.findall(r"\b\w+\b", choice.lower())
        if sorted(set(of_choice)) != sorted(set(right)):
            forbidden += [word for word in of_choice if word not in right]
    has_all = all(word in said for word in right)
    return has_all and not any(word in forbidden for word in said)


def published_counts(rows: list[dict[str, Any]], key: str) -> dict[str, dict[str, list[int]]]:
    """[right, total] of each group, as the published driver counts: a row without the key is
    passed over before anything is counted."""
    counts: dict[str, dict[str, list[int]]] = {}
    for row in rows:
        if key not in row:
            continue
        right = published_match(row["answer"], row[key], row["choices"])
        for grouping in ("all", "task", "difficulty", "sub-category"):
            group = "all" if grouping == "all" else row[grouping]
            count = counts.setdefault(grouping, {}).setdefault(group, [0, 0])
            count[0] += right
            count[1] += 1
    return counts


def published_rows() -> list[dict[str, Any]]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def outputs_of(kind: str) -> list[dict[str, Any]]:
    """The rows with outputs of many forms, some of them without one."""
    rows = published_rows()
    for place, row in enumerate(rows):
        choices, answer = row["choices"], row["answer"]
        number = choices.index(answer) if answer in choices else 0
        several = ["", answer, choices[0], " ".join(choices), "?!", answer + " perhaps"]
        forms = {
            "answers": answer,
            "prefixed": f"The answer is {answer}.",
            "lettered": f"({'ABCDE'[number]}) {answer}",
            "shouted": answer.upper(),
            "one before": choices[number - 1],
            "mixed": several[place % 6],
        }
        if not (kind == "mixed" and place % 5 == 3):
            row["model_output"] = forms[kind]
    return rows


KINDS = ["answers", "prefixed", "lettered", "shouted", "one before", "mixed"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_official_score_is_the_published_one_in_every_group(kind: str):
    rows = outputs_of(kind)
    judged = [
        verdicts(question, row.get("model_output"))
        for question, row in zip(SET.questions, rows, strict=True)
    ]
    scores = scores_of(SET, judged)["official"]
    expected = published_counts(rows, "model_output")
    assert len(expected["all"]) == 1 and len(expected["sub-category"]) > 5
    for grouping, groups in expected.items():
        counted = {name: told for name, told in scores[grouping].items() if told["n"]}
        assert {name: [told["right"], told["n"]] for name, told in counted.items()} == groups
        for name, (right, total) in groups.items():
            assert counted[name]["mean"] == right / total


def test_the_forms_of_outputs_tell_the_scorers_apart():
    totals = {}
    for kind in KINDS:
        rows = outputs_of(kind)
        judged = [
            verdicts(question, row.get("model_output"))
            for question, row in zip(SET.questions, rows, strict=True)
        ]
        scores = scores_of(SET, judged)
        totals[kind] = [scores[scorer]["all"]["all"]["right"] for scorer in scores]
    asked = len(SET.questions)
    # m-05's answer is none of its choices.
    assert totals["answers"] == [asked, asked, asked - 1]
    # "(A) birds" of s-02 has a word of another choice, "a siren".
    assert totals["lettered"] == [asked - 1, asked - 1, asked - 1]
    # s-03 and v-01: the other choice has the same words in another order.
    assert totals["one before"] == [2, 2, 0]
    assert totals["mixed"][0] == totals["mixed"][1] > 0


WORDS = st.sampled_from(["a", "dog", "Dog", "then", "cat", "3/4", "é", "ß", "_", "-", "?", "B."])
TEXTS = st.lists(WORDS, max_size=4).map(" ".join)


@given(answer=TEXTS, prediction=TEXTS, choices=st.lists(TEXTS, min_size=2, max_size=5))
def test_the_rule_agrees_with_its_second_statement(
    answer: str, prediction: str, choices: list[str]
):
    assert agrees(prediction, answer, choices) == published_match(answer, prediction, choices)


@given(answer=st.text(), prediction=st.text(), choices=st.lists(st.text(), min_size=2))
def test_the_rule_agrees_on_any_text(answer: str, prediction: str, choices: list[str]):
    for said in (prediction, answer, f"{prediction} {answer}", choices[0]):
        assert agrees(said, answer, choices) == published_match(answer, said, choices)


def test_a_missing_output_leaves_the_count_and_an_empty_one_is_wrong():
    question = BY_ID["s-01"]
    assert verdicts(question, None) == {
        "official": None,
        "official_missing_wrong": 0,
        "strict": 0,
    }
    assert set(verdicts(question, "").values()) == {0}
    assert set(verdicts(question, "a dog").values()) == {1}


@pytest.mark.parametrize(
    ("name", "said", "official", "strict"),
    [
        ("s-01", "A", 0, 1),
        ("s-01", "<think>A bell?</think><answer>A</answer>", 0, 1),
        ("v-03", "(B) the man", 1, 1),
        ("m-02", "A. C major", 0, 0),
        ("v-03", "(C) the man", 1, 0),
        # The order of the words.
        ("s-03", "dog then cat", 1, 0),
        ("s-03", "cat then dog", 1, 1),
        ("v-01", "first: anger, second: joy", 1, 0),
        ("v-04", "ninety-one", 0, 0),
        ("v-04", "The answer is ninety.", 1, 1),
        # The fifth choice, and numbers.
        ("s-04", "C", 0, 1),
        ("s-04", "E", 0, 0),
        ("m-04", "6/8", 1, 1),
        ("m-04", "8/6", 1, 0),
        # A repeated text is one choice, by either letter.
        ("m-03", "calm", 1, 1),
        ("m-03", "A", 0, 1),
        ("m-03", "C", 0, 1),
        ("m-03", "B", 0, 0),
        # An answer that is none of the choices.
        ("m-05", "a fast roll", 0, 0),
        ("m-05", "a roll", 1, 0),
        ("m-05", "A", 0, 0),
    ],
)
def test_the_two_rules_on_one_output(name: str, said: str, official: int, strict: int):
    judged = verdicts(BY_ID[name], said)
    assert (judged["official"], judged["strict"]) == (official, strict)
    assert judged["official_missing_wrong"] == official


def test_an_orphan_answer_makes_the_choices_right_that_the_authors_rule_accepts():
    question = Question("x", "?", ("Two dogs.", "one dog"), "two dogs", {})
    assert not question.answer_is_a_choice
    assert verdicts(question, "A")["strict"] == 1
    assert verdicts(question, "B")["strict"] == 0


def test_a_letter_is_that_of_the_order_that_was_shown():
    question = BY_ID["s-01"]
    shown = tuple(reversed(question.choices))
    assert chosen("D", shown) == "a dog"
    assert verdicts(question, "D", shown)["strict"] == 1
    assert verdicts(question, "A", shown)["strict"] == 0


def test_the_first_choice_is_right_where_the_answer_stands_first():
    scores = scores_of(SET, first_choice_verdicts(SET))
    first = sum(question.answer == question.choices[0] for question in SET.questions)
    assert first == 3
    assert scores["strict"]["all"]["all"]["right"] == first
    # Two more by their words in another order.
    assert scores["official"]["all"]["all"]["right"] == first + 2
