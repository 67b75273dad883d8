"""Rewards of text by rules: what counts as an answer, and that nothing else does."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from adrpo.data.reasoning_gym import task_rows
from adrpo.rewards.completions import after_thought, completion_text, normal_form, tagged
from adrpo.rewards.multiple_choice import MultipleChoice
from adrpo.rewards.numbers import NumericAnswer
from adrpo.rewards.reasoning_gym import ReasoningGym
from adrpo.rewards.text import ExactAnswer, Format, Keywords, Length
from support.text_reward_calls import CITIES, one, refusal

# Both forms of a completion


@pytest.mark.parametrize(
    ("reward", "text", "columns"),
    [
        (MultipleChoice(), "<answer>B</answer>", {"answer": "London", "choices": CITIES}),
        (ExactAnswer(), "<answer>paris.</answer>", {"answer": "Paris"}),
        (NumericAnswer(), "so 1,000", {"answer": 1000}),
        (Format("answer"), "<answer>x</answer>", {}),
        (Length(target=2, slack=1), "two words", {}),
        (Keywords(["two"]), "two words", {}),
    ],
)
def test_a_conversation_scores_as_its_last_assistant_turn(
    reward: Any, text: str, columns: dict[str, Any]
) -> None:
    assert one(reward, text, **columns) == 1
    assert one(reward, "", **columns) == 0
    turns = [
        {"role": "assistant", "content": "nothing"},
        {"role": "tool", "content": "7"},
        {"role": "assistant", "content": text},
    ]
    # TRL passes more than the data's columns.
    scores = reward(
        prompts=["q"] * 2,
        completions=[turns, turns[:2]],
        completion_ids=[[1], [2]],
        trainer_state=object(),
        log_extra=print,
        **{name: [column] * 2 for name, column in columns.items()},
    )
    assert scores == [1, 0]


def test_parts_of_a_message_are_joined_and_other_types_refused() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    assert completion_text([{"role": "assistant", "content": parts}]) == "ab"
    assert completion_text([{"role": "assistant", "content": None}]) == ""
    assert completion_text([]) == ""
    assert "received 3" in refusal(lambda: completion_text(3))  # pyright: ignore[reportArgumentType]


# The tag, the thought and the normal form


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("<answer>B</answer>", "B"),
        ("<answer>\n B \n</answer> thanks", "B"),
        ("<answer>A</answer><answer>B</answer>", "B"),
        ("<answer> or <answer>B</answer>", "B"),
        ("<think><answer>A</answer></think><answer>B</answer>", "B"),
        ("<answer></answer>", ""),
        ("<answer>B", None),
        ("B</answer>", None),
        ("<answer>B</answer></answer>", None),
        ("<think><answer>B</answer>", None),
        ("<think>x</think><think><answer>B</answer>", None),
        ("<Answer>B</Answer>", None),
        ("", None),
    ],
)
def test_the_last_closed_tag_behind_the_thought_holds_the_answer(
    text: str, content: str | None
) -> None:
    assert tagged(text, "answer") == content


def test_an_open_thought_leaves_nothing() -> None:
    assert after_thought("<think>a</think> b") == " b"
    assert after_thought("b </think> c") == " c"
    assert after_thought("<think>a") == ""


@pytest.mark.parametrize(
    "same",
    [
        ["Paris", "paris", " PARIS. ", "**Paris**", '"Paris"', "(Paris)"],
        ["New York", "new-york", "New\nYork", "NewYork"],
        ["1,000.5", "1,000.5.", "$1,000.5$"],
        ["-3", "−3", " -3 "],
        ["don't", "dont", "Don’t"],
        ["é", "e\u0301", "É"],
    ],
)
def test_spaces_case_and_punctuation_do_not_count(same: list[str]) -> None:
    assert len({normal_form(text) for text in same}) == 1
    assert normal_form(same[0])


@pytest.mark.parametrize(
    "different",
    [
        ["3", "-3", "+3", ".3", "3%", "3°"],
        ["1.5", "15", "1 5", "1,5", "1/5", "1:5", "1-5"],
        ["C", "C++", "C#"],
        ["x^2", "x2"],
        ["a<b", "a>b", "a=b", "ab"],
        ["Piano 3", "Guitar 3", "Piano"],
        ["पानी", "पान"],
    ],
)
def test_what_changes_a_value_counts(different: list[str]) -> None:
    assert len({normal_form(text) for text in different}) == len(different)


# Exact answer


def test_equal_numbers_do_not_make_equal_answers() -> None:
    """A parser that reads both as 3 accepts this; so does a comparison of the digits."""
    reward = ExactAnswer()
    assert one(reward, "<answer>Piano 3</answer>", answer="Guitar 3") == 0
    assert one(reward, "<answer>piano 3.</answer>", answer="Piano 3") == 1


def test_exact_answers() -> None:
    reward = ExactAnswer(answer="gold", tag="solution")
    said = "<solution> {} </solution>"
    for text, gold, score in [
        ("Paris", "Paris", 1),
        ("Paris, France", "Paris", 0),
        ("", "Paris", 0),
        ("15", "1.5", 0),
        ("42", 42, 1),
        ("ny", ["New York", "NY"], 1),
        ("LA", ["New York", "NY"], 0),
        ("?", "?", 1),
        ("!", "?", 0),
        ("x", None, None),
        ("", "", None),
        ("x", [None], None),
    ]:
        assert one(reward, said.format(text), gold=gold) == score, (text, gold)
    assert one(reward, "Paris", gold="Paris") == 0
    assert one(reward, "<answer>Paris</answer>", gold="Paris") == 0


# Format, length, keywords


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("<think>a</think><answer>b</answer>", 1),
        (" <think>a\n\nb</think>\n<answer>b</answer>\n", 1),
        ("<think></think><answer></answer>", 1),
        ("<think>a</think><answer>b</answer> more", 0),
        ("so <think>a</think><answer>b</answer>", 0),
        ("<think>a</think> so <answer>b</answer>", 0),
        ("<answer>b</answer>", 0),
        ("<think>a</think><answer>b", 0),
        ("<think>a</think><answer>b</answer><answer>c</answer>", 0),
        ("<think>a<think>b</think></think><answer>b</answer>", 0),
        ("<think>a<answer>b</answer></think><answer>b</answer>", 0),
        ("<answer>b</answer><think>a</think>", 0),
    ],
)
def test_each_tag_stands_once_and_nothing_outside(text: str, score: float) -> None:
    assert one(Format(), text) == score


def test_a_format_of_one_s_own() -> None:
    assert one(Format("answer"), "<answer>b</answer>") == 1
    assert one(Format("answer"), "<answer>b</answer><answer>c</answer>") == 0
    assert [one(Format("[ab]+c"), text) for text in ("abac", "abacd", "ABC")] == [1, 0, 0]
    assert "regular expression" in refusal(lambda: Format("(a"))


def test_length_falls_linearly_around_the_target_and_above_the_limit() -> None:
    words = ["w " * count for count in (0, 2, 4, 6, 8, 10)]
    assert Length(target=4)([""] * 6, words) == [0, 0.5, 1, 0.5, 0, 0]
    assert Length(target=4, slack=8)([""] * 6, words) == [0.5, 0.75, 1, 0.75, 0.5, 0.25]
    assert Length(target=4, slack=0)([""] * 6, words) == [0, 0, 1, 0, 0, 0]
    assert Length(limit=4)([""] * 6, words) == [1, 1, 1, 0.5, 0, 0]
    assert Length(limit=4, slack=0)([""] * 6, words) == [1, 1, 1, 0, 0, 0]


def test_units_of_length() -> None:
    assert one(Length(target=5, slack=0, unit="characters"), "a b c") == 1
    tokens = Length(target=2, slack=0, unit="tokens")
    assert tokens(["q"] * 2, ["a b c"] * 2, completion_ids=[[7, 8], [7]]) == [1, 0]
    refused = refusal(lambda: one(tokens, "a b"))
    assert "'completion_ids'" in refused and "'unit' to words or characters" in refused


@pytest.mark.parametrize(
    "options", [{}, {"target": 3, "limit": 4}, {"limit": 0}, {"target": 3, "slack": -1}]
)
def test_wrong_lengths_are_refused(options: dict[str, Any]) -> None:
    assert "received" in refusal(lambda: Length(**options))
    assert "tokens" in refusal(lambda: Length(target=1, unit="lines"))  # pyright: ignore[reportArgumentType]


def test_keywords_are_whole_words() -> None:
    reward = Keywords(required=["art", "C++"], forbidden=["war"])
    for text, score in [
        ("Art in C++.", 1),
        ("art", 0.5),
        ("start C", 0),
        ("art, C++ and warm water", 1),
        ("art, C++ and War", 0),
        ("", 0),
    ]:
        assert one(reward, text) == score, text
    assert one(Keywords(["Art"], case_sensitive=True), "art") == 0
    assert one(Keywords(forbidden=["war"]), "peace") == 1


def test_keywords_of_each_sample_add_to_the_options() -> None:
    reward = Keywords(required=["a"])
    scores = reward(
        ["q"] * 3, ["a b", "a b", "a b"], required=[["b"], ["x"], None], forbidden=[[], [], ["b"]]
    )
    assert scores == [1, 0.5, 0]
    assert "received none" in refusal(lambda: one(Keywords(), "a"))
    assert "not empty" in refusal(lambda: Keywords(["a", " "]))
    assert "not empty" in refusal(lambda: Keywords("word"))


# reasoning-gym


class Task:
    """A stand-in with the interface of reasoning-gym's data sets; its answers are seed + index."""

    def __init__(self, size: int = 500, seed: int = 0, terms: int = 2) -> None:
        assert terms > 1, "terms must be more than 1"
        self.size, self.seed = size, seed

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        # Metadata that neither JSON nor Arrow gives back as it was.
        answer = str(self.seed + index)
        return {"question": f" q{index}? ", "answer": answer, "metadata": {(1, 2): {3: "x"}}}

    def score_answer(self, answer: str | None, entry: dict[str, Any]) -> float:
        assert entry["metadata"] == {(1, 2): {3: "x"}}
        return 0.01 if answer is None else float(answer == entry["answer"])


@pytest.fixture
def gym(monkeypatch: pytest.MonkeyPatch) -> None:
    package, factory = ModuleType("reasoning_gym"), ModuleType("reasoning_gym.factory")
    package.create_dataset = lambda name, **options: Task(**options)  # pyright: ignore[reportAttributeAccessIssue]
    factory.DATASETS = {"chain_sum": (Task, SimpleNamespace)}  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "reasoning_gym", package)
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", factory)


@pytest.mark.usefixtures("gym")
def test_the_task_s_own_scorer_gets_the_entry_and_the_tag() -> None:
    reward = ReasoningGym("chain_sum", size=3, seed=10)
    rows = task_rows(reward.task)
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert rows[1]["prompt"].startswith("q1?\n") and rows[1]["answer"] == "11"
    assert task_rows(reward.task, instruction="")[1]["prompt"] == "q1?"
    said = ["<answer>10</answer>", "<answer> 11 </answer>", "<answer>10</answer>", "12"]
    assert reward(["q"] * 4, said, index=[0, 1, 2, 2]) == [1, 1, 0, 0.01]


@pytest.mark.usefixtures("gym")
def test_tasks_that_do_not_fit_are_refused() -> None:
    assert "did you mean 'chain_sum'" in refusal(lambda: ReasoningGym("chainsum"))
    assert "more than 1" in refusal(lambda: ReasoningGym("chain_sum", options={"terms": 1}))
    assert "'term'" in refusal(lambda: ReasoningGym("chain_sum", options={"term": 3}))
    reward = ReasoningGym("chain_sum", size=3)
    assert "received 3" in refusal(lambda: one(reward, "1", index=3))
    assert "'index'" in refusal(lambda: one(reward, "1", answer="1"))


def test_a_missing_reasoning_gym_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    assert "pip install reasoning-gym" in refusal(lambda: ReasoningGym("chain_sum"))
