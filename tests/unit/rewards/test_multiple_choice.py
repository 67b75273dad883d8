"""Multiple choice: what names a choice, and that nothing else does."""

import pytest

from adrpo.rewards.multiple_choice import MultipleChoice
from support.text_reward_calls import CITIES, one, refusal


@pytest.mark.parametrize(
    "text",
    [
        "<answer>B</answer>",
        "<answer>b</answer>",
        "<answer>(B)</answer>",
        "<answer>B.</answer>",
        "<answer>**B**</answer>",
        "<answer>london</answer>",
        "<answer>B. London</answer>",
        "<answer>(B) London.</answer>",
        "<answer>Option B</answer>",
        "<think>Is the answer A? The answer is A.</think><answer>B</answer>",
        "The answer is B",
        "The answer is B.",
        "The answer is (B) London.",
        "Paris is in France. So the answer is London.",
        "**Answer:** B",
        "Reasons.\nFinal answer: B",
        "The answer is A.\nNo. The answer is B.",
    ],
)
def test_the_right_choice_is_accepted(text: str) -> None:
    for answer in ("B", "London", 1, "B. London"):
        assert one(MultipleChoice(), text, answer=answer, choices=CITIES) == 1
    labelled = [f"{letter}. {city}" for letter, city in zip("ABCD", CITIES, strict=True)]
    assert one(MultipleChoice(), text, answer="London", choices=labelled) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "B",
        "London",
        "<answer></answer>",
        "<answer>A</answer>",
        "<answer>B or C</answer>",
        "<answer>A, B</answer>",
        "<answer>not B</answer>",
        "<answer>B. Paris</answer>",
        "<answer>London or Paris</answer>",
        "<answer>London, England</answer>",
        "<answer>Lond</answer>",
        "<answer>E</answer>",
        "<answer>B",
        "<answer>B</answer><answer>A</answer>",
        "<answer>what?</answer> The answer is B",
        "<answer>what The answer is B",
        "<think>The answer is B",
        "The answer is not B",
        "The answer is B or C",
        "The answer is B, or is it",
        "I doubt that the answer is B",
        "Why would anybody say the answer is B",
        "The answer is b",
        "The answer is unknown.\nB",
        "The answer is B.\nNo. The answer is C.",
        "The answer is B. The answer is C.",
    ],
)
def test_anything_else_is_not(text: str) -> None:
    assert one(MultipleChoice(), text, answer="London", choices=CITIES) == 0


def test_each_choice_is_told_from_the_others_in_each_spelling() -> None:
    for right in range(len(CITIES)):
        for said, city in enumerate(CITIES):
            letter = "ABCD"[said]
            for text in (letter, letter.lower(), f"({letter}) {city}", city.upper(), f"{city}."):
                score = one(
                    MultipleChoice(), f"<answer>{text}</answer>", answer=right, choices=CITIES
                )
                assert score == (said == right), (text, right)


def test_a_cut_off_article_is_no_letter() -> None:
    """ "The answer is a" is the beginning of "a Roman town"."""
    assert one(MultipleChoice(), "The answer is a", answer="Paris", choices=CITIES) == 0
    text = "The answer is a Roman town"
    assert one(MultipleChoice(), text, answer="D", choices=CITIES) == 1


def test_a_letter_that_is_also_a_text_is_ambiguous() -> None:
    choices = ["B", "A", "C"]
    said = "<answer>A</answer>"
    assert [one(MultipleChoice(), said, answer=i, choices=choices) for i in range(3)] == [0, 0, 0]
    assert one(MultipleChoice(), "<answer>B. A</answer>", answer="A", choices=choices) == 1
    assert one(MultipleChoice(), "<answer>C</answer>", answer="C", choices=choices) == 1


def test_choices_of_one_normal_form_are_never_accepted_by_it() -> None:
    choices = ["the well", "the we'll", "other"]
    assert one(MultipleChoice(), "<answer>the well</answer>", answer=0, choices=choices) == 0
    assert one(MultipleChoice(), "<answer>A</answer>", answer=0, choices=choices) == 1


def test_without_choices_letters_are_compared() -> None:
    reward = MultipleChoice(answer="label")
    assert one(reward, "<answer>(c)</answer>", label="C") == 1
    assert one(reward, "<answer>C. Rome</answer>", label="C") == 0
    assert one(reward, "<answer>C</answer>", label=None) is None


def test_wrong_choices_and_answers_are_named() -> None:
    reward = MultipleChoice()
    said = "<answer>A</answer>"
    assert "received 'Rome'" in refusal(lambda: one(reward, said, answer="Rome", choices=CITIES))
    assert "received 4" in refusal(lambda: one(reward, said, answer=4, choices=CITIES))
    assert "received True" in refusal(lambda: one(reward, said, answer=True, choices=CITIES))
    assert "list of 2 to 26" in refusal(lambda: one(reward, said, answer="A", choices="A, B"))
    message = refusal(lambda: one(reward, said, label="A", choices=CITIES))
    assert "column 'answer'" in message and "choices, label" in message


def test_a_whole_text_is_a_claim_where_that_is_asked_for() -> None:
    reward = MultipleChoice(whole=True)
    right = ["B", "b", "(B)", "London", "london.", "B. London", "<think>A?</think> London"]
    for text in right:
        assert one(reward, text, answer="London", choices=CITIES) == 1, text
        assert one(MultipleChoice(), text, answer="London", choices=CITIES) == 0, text
    wrong = ["", "A", "London or Paris", "I think London", "<think>London", "London\nNo, Paris"]
    # A claim goes before the whole, and a tag before both.
    wrong += ["London\nThe answer is A", "<answer>A</answer> London", "The answer is a"]
    for text in wrong:
        assert one(reward, text, answer="London", choices=CITIES) == 0, text
