"""The columns beside a prompt: what rewards are given, and what can't be a column."""

import json
from pathlib import Path

import pytest

from adrpo.data import Prompt, columns_of, load_prompts
from adrpo.data.base import TAKEN
from adrpo.data.prompts import load_both
from adrpo.data.splits import evaluated, half
from adrpo.embedded.questions import parse_question, question_set
from adrpo.errors import AdrpoError


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def load(source: str) -> list[Prompt]:
    return load_prompts(source, size=None, seed=0)


def test_rewards_are_given_every_column_and_none_where_a_row_lacks_it():
    conversation = [{"role": "system", "content": "s"}, {"role": "user", "content": "b"}]
    prompts = [
        Prompt("a", "letters", {"answer": 1}),
        Prompt(conversation),
        Prompt("a", "letters", {"answer": "one", "tags": ["x"]}),
    ]
    assert columns_of([*prompts, prompts[0]]) == {
        "prompts": ["a", conversation, "a", "a"],
        "category": ["letters", "", "letters", "letters"],
        "answer": [1, None, "one", 1],
        "tags": [None, None, ["x"], None],
    }
    assert [prompt.text for prompt in prompts] == ["a", "b", "a"]


def test_a_csv_and_a_jsonl_file_of_one_content_give_the_same_prompts(tmp_path: Path):
    rows = [
        {"prompt": "a dog, left", "category": "pets", "side": "left", "n": "1"},
        {"prompt": "a dog, left", "category": "", "side": "right", "n": "2"},
    ]
    table = write(
        tmp_path / "p.csv",
        'side,prompt,category,n\nleft,"a dog, left", pets ,1\nright,"a dog, left",,2\n',
    )
    lines = write(tmp_path / "p.jsonl", "\n".join(json.dumps(row) for row in rows))
    expected = [
        Prompt("a dog, left", "pets", {"side": "left", "n": "1"}),
        Prompt("a dog, left", "", {"side": "right", "n": "2"}),
    ]
    assert load(table) == load(lines) == expected
    assert expected[0] != Prompt("a dog, left", "pets", {"side": "right", "n": "1"})


def test_every_prompt_of_a_source_has_all_its_columns(tmp_path: Path):
    """So that a batch of prompts without an answer still says that it has none."""
    rows = [{"prompt": "a"}, {"prompt": "b", "answer": 3}]
    prompts = load(write(tmp_path / "p.jsonl", "\n".join(json.dumps(row) for row in rows)))
    assert columns_of(prompts[:1]) == {"prompts": ["a"], "category": [""], "answer": [None]}


@pytest.mark.parametrize(("written", "category"), [("3", "3"), ("2.5", "2.5"), ("null", "")])
def test_a_category_is_a_text(tmp_path: Path, written: str, category: str):
    path = write(tmp_path / "p.jsonl", f'{{"prompt": "a", "category": {written}}}')
    assert load(path) == [Prompt("a", category)]


@pytest.mark.parametrize("name", sorted(TAKEN))
def test_a_column_can_t_have_the_name_of_what_rewards_are_given(tmp_path: Path, name: str):
    path = write(tmp_path / "p.csv", f"prompt,{name}\na,b\n")
    with pytest.raises(AdrpoError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}, line 2: expected another name for the column {name!r}, since rewards are given "
        "something else by that name; rename it"
    )


def test_rows_of_one_text_stay_together_whatever_their_columns():
    texts = [f"prompt {n}" for n in range(20)]
    prompts = [Prompt(t, columns={"answer": n}) for n in range(3) for t in texts]
    train, held_out = half(prompts, held_out=False), half(prompts, held_out=True)
    assert len(train) == len(held_out) == 30  # three answers each of ten texts
    assert not {prompt.text for prompt in train} & {prompt.text for prompt in held_out}
    # Conversations are told apart by who speaks, too.
    chats = [Prompt([{"role": role, "content": "a"}]) for role in ("user", "system") * 2]
    assert len(half(chats, held_out=True)) == len(half(chats, held_out=False)) == 2


def test_the_splits_that_a_run_is_evaluated_on():
    train, held_out = [Prompt("a"), Prompt("b"), Prompt("c")], [Prompt("d")]
    assert evaluated(train, held_out, seen=2) == {"unseen": held_out, "seen": train[:2]}
    assert evaluated(train, held_out, seen=0) == {"unseen": held_out}
    assert evaluated(train, held_out, seen=9) == {"unseen": held_out, "seen": train}


# One source for both parts


def test_questions_are_split_by_what_they_ask():
    train, held_out = load_both("questions", share=0.5, seed=4, train_size=30, held_out_size=9)
    for prompts, size, which in ((train, 30, False), (held_out, 9, True)):
        questions = question_set(size, held_out=which, seed=4)
        assert [parse_question(prompt.text) for prompt in prompts] == questions
        assert [prompt.category for prompt in prompts] == [q.category for q in questions]
        assert [prompt.columns for prompt in prompts] == [{"answer": q.answer} for q in questions]
    assert load_prompts("questions:held_out", size=9, seed=4) == held_out


def test_each_part_is_cut_to_its_own_size():
    named = {"share": 0.25, "seed": 1}
    train, held_out = load_both("art-style", **named, train_size=None, held_out_size=None)
    few = load_both("art-style", **named, train_size=7, held_out_size=4)
    assert few == (train[:7], held_out[:4])


def test_a_share_of_any_other_source_is_held_out():
    train, held_out = load_both(
        "art-style", share=0.25, seed=1, train_size=None, held_out_size=None
    )
    assert len(held_out) == 56 and sorted(map(repr, [*train, *held_out])) == sorted(
        map(repr, load("art-style"))
    )
    first = load_both("art-style", share=0.25, seed=1, train_size=7, held_out_size=3)
    assert first == (train[:7], held_out[:3])


@pytest.mark.parametrize(
    ("source", "size", "message"),
    [
        ("questions", None, "questions:train: expected a number of prompts, received none"),
        ("questions", 800, "questions:train: expected at most .*; lower the size"),
        ("questions:train", 5, "expected 'questions', which comes with a held-out part of its own"),
        ("sums:train", 5, "received 'sums:train'"),
    ],
)
def test_what_can_t_be_both_parts(
    monkeypatch: pytest.MonkeyPatch, source: str, size: int | None, message: str
):
    # Only a + b - c of one digit each, of which there are fewer than 9 x 9 x 9.
    monkeypatch.setattr("adrpo.embedded.questions.CATEGORIES", ("two-step",))
    monkeypatch.setattr("adrpo.embedded.questions.LEVELS", (1,))
    with pytest.raises(AdrpoError, match=message):
        load_both(source, share=0.1, seed=0, train_size=size, held_out_size=size)
