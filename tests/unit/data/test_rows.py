"""Prompts from the rows of files and data sets, with their columns, and the share held out."""

import hashlib
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Features, Value
from datasets import List as ListOf

from adrpo.data import Prompt
from adrpo.data.rows import read_prompts
from adrpo.data.splits import hold_out
from adrpo.errors import AdrpoError

PAPER_SET = "RLHFlow/test_generation_2k"
# The layout of RLHFlow's data sets on the Hub.
FEATURES = Features(
    {
        "dataset": Value("string"),
        "context": Value("string"),
        "context_messages": ListOf({"content": Value("string"), "role": Value("string")}),
        "id": Value("string"),
    }
)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def rlhflow(texts: list[str]) -> Dataset:
    turns = [user("hello"), {"role": "assistant", "content": "yes?"}]
    rows = [
        {
            "dataset": "capybara",
            "context": text,
            "context_messages": [*turns, user(text)],
            "id": str(number),
        }
        for number, text in enumerate(texts)
    ]
    return Dataset.from_list(rows, features=FEATURES)


def refusal(source: Any, folder: Path | None = None, **options: Any) -> str:
    with pytest.raises(AdrpoError) as caught:
        read_prompts(str(source), **options)
    line = str(caught.value)
    assert "\n" not in line
    return line.replace(f"{folder}/", "") if folder else line


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# Files


def test_jsonl_rows_have_equal_columns_and_their_prompts_their_form(tmp_path: Path) -> None:
    rows = [
        {"answer": 3, "question": " what is 1 + 2? "},
        {"question": [user("a"), {"role": "assistant", "content": ""}, user("b")], "tags": ["x"]},
    ]
    text = "\n".join(json.dumps(row) for row in rows)
    path = write(tmp_path / "p.jsonl", f"\ufeff\n{text}\n\n")
    assert read_prompts(str(path), prompt="question") == [
        Prompt(" what is 1 + 2? ", "", {"answer": 3, "tags": None}),
        Prompt(rows[1]["question"], "", {"answer": None, "tags": ["x"]}),
    ]


def test_csv_rows_are_texts_and_may_hold_line_breaks(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", 'answer,prompt\n3,"1 + 2,\nor 2 + 1?"\n,\n"4","2 + 2"\n')
    assert read_prompts(str(path)) == [
        Prompt("1 + 2,\nor 2 + 1?", "", {"answer": "3"}),
        Prompt("2 + 2", "", {"answer": "4"}),
    ]


def test_repeated_prompts_stay_unless_they_shall_go(tmp_path: Path) -> None:
    texts = ["a", "b", "a", "A", "b"]
    rows = [{"prompt": text, "n": n} for n, text in enumerate(texts)]
    path = write(tmp_path / "p.jsonl", "\n".join(json.dumps(row) for row in rows))
    prompts = read_prompts(str(path))
    assert prompts == numbered(texts)
    # The first of each, in the order of the file.
    assert read_prompts(str(path), unique=True) == [prompts[0], prompts[1], prompts[3]]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("p.jsonl", "", "p.jsonl: expected at least one prompt, received an empty file"),
        (
            "p.jsonl",
            '{"prompt": "a"}\n{"text": "b", "n": 1}\n',
            "p.jsonl, line 2: expected a column 'prompt' with the prompt, received the columns "
            "text, n; rename it (a recipe of language models can name it: prompts.column)",
        ),
        ("p.jsonl", '["a"]', "p.jsonl, line 1: expected a column 'prompt'"),
        ("p.jsonl", '{"prompt": "a"\n', "p.jsonl, line 1, column 15: expected a JSON object"),
        ("p.jsonl", '\n{"prompt": " "}', "p.jsonl, line 2, column 'prompt': expected a text"),
        ("p.jsonl", '{"prompt": []}', "p.jsonl, line 1, column 'prompt': expected a text"),
        ("p.jsonl", '{"prompt": null}', 'list of messages {"role", "content"}, received None'),
        (
            "p.jsonl",
            '{"prompt": [{"role": "user", "content": "a"}, {"role": "user"}]}',
            'p.jsonl, line 1, column \'prompt\', message 1: expected {"role", "content"}, both '
            "texts, received {'role': 'user'}",
        ),
        ("p.csv", "prompt,n\na,1\n,2\n", "p.csv, line 3, column 'prompt': expected a text"),
        ("p.csv", "prompt,n\na\n", "p.csv, line 2: expected 2 fields, received 1"),
        ("p.csv", "n,n\n1,2\n", "p.csv, line 1: expected different names of columns"),
        ("p.csv", "text\na\n", "p.csv, line 2: expected a column 'prompt'"),
        ("p.csv", "", "p.csv: expected at least one prompt, received an empty file"),
        ("p.csv", "prompt\n", "p.csv: expected at least one prompt, received an empty file"),
    ],
)
def test_files_of_another_form_are_named(
    tmp_path: Path, name: str, content: str, expected: str
) -> None:
    assert expected in refusal(write(tmp_path / name, content), tmp_path)


def test_other_mistakes_about_files(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", '{"prompt": "a", "question": "b"}')
    assert "'question' and 'prompt'" in refusal(path, tmp_path, prompt="question")
    assert "no split 'test'" in refusal(path, tmp_path, split="test")
    assert "No such file" in refusal(tmp_path / "q.csv", tmp_path)
    write(tmp_path / "p.yaml", "- a")
    expected = "expected a .txt, .jsonl, .json, .csv, .parquet file, a folder, or the id of a data "
    assert expected in refusal(tmp_path / "p.yaml")
    assert "received 'prompts.arrow'" in refusal("prompts.arrow")


# Data sets


def test_the_paper_s_set_from_its_original_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rlhflow(["a", "b", "a", "c"])
    whole.save_to_disk(tmp_path / "saved")
    calls: list[tuple[Any, ...]] = []

    def load_dataset(source: str, config: str | None, **options: Any) -> Dataset:
        calls.append((source, config, options))
        return whole

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    prompts = read_prompts(PAPER_SET, revision="abc")
    assert calls == [(PAPER_SET, None, {"split": "train", "revision": "abc"})]
    assert [prompt.text for prompt in prompts] == ["a", "b", "c"]
    assert prompts[0] == Prompt(
        [user("hello"), {"role": "assistant", "content": "yes?"}, user("a")],
        "",
        {"dataset": "capybara", "context": "a", "id": "0"},
    )
    saved = str(tmp_path / "saved")
    assert prompts == read_prompts(saved, prompt="context_messages", unique=True)
    assert len(read_prompts(PAPER_SET, unique=False)) == 4


def test_saved_splits(tmp_path: Path) -> None:
    parts = {
        "train": Dataset.from_list([{"prompt": "a"}]),
        "test": Dataset.from_list([{"prompt": "b"}]),
    }
    DatasetDict(**parts).save_to_disk(tmp_path / "both")
    parts["train"].save_to_disk(tmp_path / "one")
    assert read_prompts(str(tmp_path / "both")) == [Prompt("a")]
    assert read_prompts(str(tmp_path / "both"), split="test") == [Prompt("b")]
    assert read_prompts(str(tmp_path / "one")) == [Prompt("a")]
    assert "received train, test" in refusal(tmp_path / "both", split="dev")
    assert "expected the split 'test', received train" in refusal(tmp_path / "one", split="test")


def test_a_folder_of_files_as_the_hub_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    rlhflow(["a", "b"]).to_parquet(folder / "train-00000-of-00001.parquet")
    prompts = read_prompts(str(folder), prompt="context_messages")
    assert [prompt.content[-1] for prompt in prompts] == [user("a"), user("b")]
    message = refusal(folder, tmp_path, split="test")
    assert "set: expected a data set with the split 'test'" in message


def test_keys_that_only_other_messages_have_are_left_out(tmp_path: Path) -> None:
    content = [user("a"), {"role": "tool", "content": "b", "name": "f"}]
    data = Dataset.from_list([{"prompt": content}])
    # Arrow adds the key to every message.
    assert data[0]["prompt"][0] == {**user("a"), "name": None}
    data.save_to_disk(tmp_path / "saved")
    assert read_prompts(str(tmp_path / "saved")) == [Prompt(content)]


def test_hub_out_of_reach_says_what_to_do() -> None:
    # The suite is offline, and no such set is cached.
    message = refusal("nobody/no-such-set-of-prompts")
    assert "nobody/no-such-set-of-prompts" in message and ".jsonl" in message


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install '.[llm]' in the folder of adrpo" in refusal(PAPER_SET)


# Splits


def numbered(contents: Sequence[Any]) -> list[Prompt]:
    return [Prompt(content, columns={"n": n}) for n, content in enumerate(contents)]


def test_the_held_out_part_is_the_lowest_hashes() -> None:
    texts = [f"prompt {n}" for n in range(50)]
    train, held_out = hold_out(numbered(texts), 0.1, seed=3)
    assert len(held_out) == 5
    assert sorted([*train, *held_out], key=lambda p: p.columns["n"]) == numbered(texts)

    def rank(text: str) -> str:
        return hashlib.sha256(f'3\n[["", "{text}"]]'.encode()).hexdigest()

    assert {prompt.text for prompt in held_out} == set(sorted(texts, key=rank)[:5])


def test_the_split_depends_on_the_seed_and_not_on_the_order() -> None:
    texts = [f"prompt {n}" for n in range(100)]
    parts = [{prompt.text for prompt in hold_out(numbered(texts), 0.1, seed=0)[1]}]
    for seed in range(1, 4):
        random.Random(seed).shuffle(texts)
        train, held_out = hold_out(numbered(texts), 0.1, seed=0)
        assert {prompt.text for prompt in held_out} == parts[0]
        places = [prompt.columns["n"] for prompt in train]
        assert places == sorted(places)
        parts.append({prompt.text for prompt in hold_out(numbered(texts), 0.1, seed=seed)[1]})
    assert len({frozenset(part) for part in parts}) == 4


def test_prompts_of_one_text_stay_on_one_side() -> None:
    """Whatever their spelling, and whatever answers stand beside them."""
    forms = [form for n in range(40) for form in (f"Prompt {n}", f"prompt  {n}", f"PROMPT {n}\n")]
    for prompts in (numbered(forms), numbered([[user(form)] for form in forms])):
        train, held_out = hold_out(prompts, 0.25, seed=1)
        # Ten prompts in three spellings each.
        assert len(held_out) == 30 and len(train) == 90
        numbers = [{prompt.text.split()[-1] for prompt in part} for part in (train, held_out)]
        assert not numbers[0] & numbers[1]


def test_whose_turn_it_is_tells_prompts_apart() -> None:
    contents = [
        [user("a"), user("b")],
        [user("a b")],
        [user("a"), {"role": "system", "content": "b"}],
        "a b",
    ]
    train, held_out = hold_out(numbered(contents), 0.5, seed=0)
    assert len(train) == len(held_out) == 2


@pytest.mark.parametrize(("share", "count"), [(0.0, 10), (1.0, 10), (-0.1, 10), (0.1, 4)])
def test_a_part_without_a_prompt_is_refused(share: float, count: int) -> None:
    with pytest.raises(AdrpoError, match=f"of {count} different prompts"):
        hold_out(numbered([str(n) for n in range(count)]), share, seed=0)


ANSWERED = [
    {"role": "user", "content": "What is 2 + 3?"},
    {"role": "assistant", "content": "5"},
]


def test_a_conversation_with_its_answer_is_refused_with_its_line(tmp_path: Path):
    """Of two rows the second has the answer in the prompt."""
    path = tmp_path / "chat.jsonl"
    rows = [{"prompt": ANSWERED[:1]}, {"prompt": ANSWERED}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(AdrpoError, match=r"line 2, .*assistant.*'5'.*prompts\.cut_answers=true"):
        read_prompts(str(path))
    cut = read_prompts(str(path), cut_answers=True)
    assert [prompt.content for prompt in cut] == [ANSWERED[:1], ANSWERED[:1]]


def test_a_conversation_of_answers_alone_asks_nothing(tmp_path: Path):
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"prompt": ANSWERED[1:]}) + "\n", encoding="utf-8")
    with pytest.raises(AdrpoError, match=r"line 1, .*leave the row out"):
        read_prompts(str(path), cut_answers=True)
