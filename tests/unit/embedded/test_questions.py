"""The questions world: answers, their inverse, the split, and the verifier."""

from itertools import pairwise

import numpy as np
import pytest

from adrpo.embedded.questions import (
    ALPHABET,
    CATEGORIES,
    HELD_OUT_FRACTION,
    LEVELS,
    UNKNOWN,
    Question,
    is_held_out,
    parse_question,
    question_set,
    sample_question,
    sample_split,
)
from adrpo.errors import AdrpoError
from adrpo.rewards.questions import QuestionAnswer


def many(count: int, seed: int = 0) -> list[Question]:
    rng = np.random.default_rng(seed)
    return [sample_question(rng, CATEGORIES[i % len(CATEGORIES)]) for i in range(count)]


def worked_out(prompt: str) -> str:
    """The answer by other means than the module's: Python's arithmetic, and loops."""
    command, *words = prompt.removesuffix("=").split()
    if command == "sort":
        return "".join(letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter in words[0])
    if command == "reverse":
        return "".join(words[0][-place] for place in range(1, len(words[0]) + 1))
    if command == "count":
        return str(len(words[2]) - len(words[2].replace(words[0], "")))
    if command == "largest":
        return str(sorted(map(int, words))[-1])
    return str(eval(command))


def test_every_answer_is_the_one_worked_out_by_other_means():
    for question in many(2100):
        assert question.answer == worked_out(question.prompt), question


def test_parsing_a_prompt_gives_back_its_question():
    for question in many(700):
        assert parse_question(question.prompt) == question


def test_prompts_read_as_the_documentation_shows_them():
    examples = {
        "37+45=": ("82", "addition", 2),
        "82-45=": ("37", "subtraction", 2),
        "3+4-5=": ("2", "two-step", 1),
        "3*4+5=": ("17", "two-step", 2),
        "3*4+5*6=": ("42", "two-step", 3),
        "sort dbac=": ("abcd", "sorting", 2),
        "reverse lamp=": ("pmal", "reversal", 1),
        "count b in abcbb=": ("3", "counting", 1),
        "largest 17 52 38=": ("52", "largest", 2),
    }
    for prompt, expected in examples.items():
        question = parse_question(prompt)
        assert (question.answer, question.category, question.level) == expected


@pytest.mark.parametrize(
    "prompt",
    ["", "37+45", "37+45=82", "3+112=", "45-82=", "1+2-9=", "07+45=", "37 + 45=", "3*4*5=",
     "3*4-5*6=", "sort abca=", "sort ab=", "reverse l4mp=", "count ab in abcde=", "largest 52=",
     "largest 5 52=", "largest 17 52 38 41 60=", "smallest 17 52=", "37+45=\n", "37+4५="],
)  # fmt: skip
def test_other_text_is_no_question(prompt: str):
    with pytest.raises(ValueError, match="expected a question of the questions world"):
        parse_question(prompt)


def test_category_and_level_are_as_asked_for_and_use_the_alphabet_only():
    rng = np.random.default_rng(1)
    for category in CATEGORIES:
        for level in LEVELS:
            question = sample_question(rng, category, level)
            assert (question.category, question.level) == (category, level)
            assert set(question.prompt + question.answer) <= set(ALPHABET)
    with pytest.raises(ValueError, match="received 'division', 1"):
        sample_question(rng, "division", 1)


def test_the_split_is_by_combination_whatever_the_order():
    rng = np.random.default_rng(2)
    for question in many(700):
        command, *words = question.prompt.removesuffix("=").split()
        match question.category:
            case "addition":
                again = "+".join(command.split("+")[::-1]) + "="
            case "subtraction":
                continue
            case "two-step":
                # a+b-c, a*b+c and so on: the first two change places.
                again = command[2] + command[1] + command[0] + command[3:] + "="
            case "largest":
                again = f"largest {' '.join(rng.permutation(words))}="
            case "reversal":
                again = f"reverse {words[0][::-1]}="
            case "sorting":
                again = f"sort {''.join(rng.permutation(list(words[0])))}="
            case _:
                again = f"count {words[2][0]} in {''.join(rng.permutation(list(words[2])))}="
        other = parse_question(again)
        assert other.combination == question.combination
        assert is_held_out(other) == is_held_out(question)


def test_combinations_of_different_questions_differ():
    combinations = {
        parse_question(prompt).combination
        for prompt in (
            "37+45=", "37+46=", "45-37=", "3+4-5=", "3*4+5=", "3*4-5=", "3*4+5*1=", "sort abc=",
            "sort abd=", "reverse abcd=", "reverse abdc=", "count a in aabbb=", "count a in aaabb=",
            "largest 37 45=", "largest 37 46=",
        )
    }  # fmt: skip
    assert len(combinations) == 15


def test_a_fifth_of_the_combinations_is_held_out():
    combinations = {question.combination: question for question in many(7000)}
    share = np.mean([is_held_out(question) for question in combinations.values()])
    # Binomial standard error with over 4,000 combinations is below 0.007; five of them.
    assert len(combinations) > 4000
    assert abs(share - HELD_OUT_FRACTION) < 0.035


def test_question_sets_are_distinct_disjoint_and_even_over_categories_and_levels():
    train = question_set(420, held_out=False, seed=3)
    held_out = question_set(210, held_out=True, seed=3)
    assert len({question.prompt for question in train}) == 420
    assert len({question.prompt for question in held_out}) == 210
    combinations = {question.combination for question in held_out}
    assert not combinations & {question.combination for question in train}
    for category in CATEGORIES:
        for level in LEVELS:
            cell = [q for q in held_out if (q.category, q.level) == (category, level)]
            assert len(cell) == 10


def test_a_cell_that_runs_dry_leaves_its_share_to_the_others():
    questions = question_set(3000, held_out=True, seed=0)
    prompts = {q.prompt for q in questions if (q.category, q.level) == ("two-step", 1)}
    triples = [(a, b, c) for a in range(1, 10) for b in range(1, 10) for c in range(1, a + b + 1)]
    every = [parse_question(f"{a}+{b}-{c}=") for a, b, c in triples if c < 10]
    assert prompts == {question.prompt for question in every if is_held_out(question)}


def test_a_question_set_repeats_with_its_seed():
    assert question_set(30, held_out=True, seed=5) == question_set(30, held_out=True, seed=5)
    assert question_set(30, held_out=True, seed=5) != question_set(30, held_out=True, seed=6)


def test_the_verifier_accepts_exactly_the_answer():
    reward = QuestionAnswer()
    for question in many(70):
        answer = question.answer
        wrong = ["", answer + "0", answer[:-1], answer + " " + answer, UNKNOWN, question.prompt]
        wrong += [answer + letter for letter in ALPHABET if letter != " "]
        said = [answer, f" {answer}\n", *wrong]
        scores = reward(prompts=[question.prompt] * len(said), completions=said, ignored=said)
        assert scores == [1.0, 1.0, *[0.0] * len(wrong)]


def test_the_verifier_accepts_the_answer_of_no_other_question():
    questions = many(140)
    reward = QuestionAnswer()
    for question, other in pairwise(questions):
        score = reward([question.prompt], [other.answer])
        assert score == [float(question.answer == other.answer)]


def test_a_hedge_is_the_value_of_the_honest_answer_alone():
    reward = QuestionAnswer(hedge=0.5)
    assert reward(["37+45="] * 4, ["82", "?", "83", "??"]) == [1.0, 0.5, 0.0, 0.0]


def test_the_verifier_reads_conversations():
    turns = [{"role": "user", "content": "1+2-3="}, {"role": "assistant", "content": "0"}]
    asked = {"role": "user", "content": "sort dbac="}
    said = [[{"role": "assistant", "content": text}] for text in ("abcd", "0")]
    assert QuestionAnswer()([[*turns, asked]] * 2, said) == [1.0, 0.0]


@pytest.mark.parametrize("hedge", [-0.1, 1.0, float("nan")])
def test_a_hedge_worth_as_much_as_the_answer_is_refused(hedge: float):
    with pytest.raises(AdrpoError, match=r"expected hedge in \[0, 1\)"):
        QuestionAnswer(hedge=hedge)


def test_the_verifier_refuses_what_it_cannot_judge():
    reward = QuestionAnswer()
    with pytest.raises(AdrpoError, match="received 'a red circle'; take prompts from"):
        reward(["a red circle"], ["82"])
    with pytest.raises(AdrpoError, match="received 2 prompts and 1 completions"):
        reward(["37+45=", "1+2-3="], ["82"])
    with pytest.raises(AdrpoError, match="one is the user's"):
        reward([[{"role": "system", "content": "37+45="}]], ["82"])


def test_a_held_out_draw_is_never_in_training():
    rng = np.random.default_rng(4)
    assert all(is_held_out(sample_split(rng, held_out=True)) for _ in range(50))
    assert not any(is_held_out(sample_split(rng, held_out=False)) for _ in range(50))
