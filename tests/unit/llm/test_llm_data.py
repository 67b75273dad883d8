"""Rows for language models: their sources, their splits, and what is refused."""

import hashlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, Features, Value
from datasets import List as ListOf

from adrpo.data.rows import load_rows, split_rows
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
        load_rows(source, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line.replace(f"{folder}/", "") if folder else line


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# Files


def test_jsonl_rows_have_equal_columns_and_the_prompt_first(tmp_path: Path) -> None:
    rows = [
        {"answer": 3, "question": " what is 1 + 2? "},
        {"question": [user("a"), {"role": "assistant", "content": ""}, user("b")], "tags": ["x"]},
    ]
    text = "\n".join(json.dumps(row) for row in rows)
    path = write(tmp_path / "p.jsonl", f"\ufeff\n{text}\n\n")
    loaded = load_rows(path, prompt="question")
    assert loaded == [
        {"prompt": " what is 1 + 2? ", "answer": 3, "tags": None},
        {"prompt": rows[1]["question"], "answer": None, "tags": ["x"]},
    ]
    assert all(next(iter(row)) == "prompt" for row in loaded)
    assert load_rows(str(path), prompt="question") == loaded


def test_csv_rows_are_texts_and_may_hold_line_breaks(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", 'answer,prompt\n3,"1 + 2,\nor 2 + 1?"\n,\n"4","2 + 2"\n')
    assert load_rows(path) == [
        {"prompt": "1 + 2,\nor 2 + 1?", "answer": "3"},
        {"prompt": "2 + 2", "answer": "4"},
    ]


def test_repeated_prompts_stay_unless_they_shall_go(tmp_path: Path) -> None:
    rows = [{"prompt": p, "n": n} for n, p in enumerate(["a", "b", "a", "A", "b"])]
    path = write(tmp_path / "p.jsonl", "\n".join(json.dumps(row) for row in rows))
    assert load_rows(path) == rows
    # The first of each, in the order of the file.
    assert load_rows(path, unique=True) == [rows[0], rows[1], rows[3]]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("p.jsonl", "", "p.jsonl: expected at least one prompt, received an empty file"),
        (
            "p.jsonl",
            '{"prompt": "a"}\n{"text": "b", "n": 1}\n',
            "p.jsonl, line 2: expected a column 'prompt' with the prompt, received the columns "
            "text, n; name it in the option 'prompt'",
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
    assert "received 'prompts.txt'" in refusal("prompts.txt")


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
    rows = load_rows(PAPER_SET, revision="abc")
    assert calls == [(PAPER_SET, None, {"split": "train", "revision": "abc"})]
    assert [row["prompt"][-1]["content"] for row in rows] == ["a", "b", "c"]
    assert rows[0] == {
        "prompt": [user("hello"), {"role": "assistant", "content": "yes?"}, user("a")],
        "dataset": "capybara",
        "context": "a",
        "id": "0",
    }
    assert rows == load_rows(tmp_path / "saved", prompt="context_messages", unique=True)
    assert len(load_rows(PAPER_SET, unique=False)) == 4


def test_saved_splits(tmp_path: Path) -> None:
    parts = {
        "train": Dataset.from_list([{"prompt": "a"}]),
        "test": Dataset.from_list([{"prompt": "b"}]),
    }
    DatasetDict(**parts).save_to_disk(tmp_path / "both")
    parts["train"].save_to_disk(tmp_path / "one")
    assert load_rows(tmp_path / "both") == [{"prompt": "a"}]
    assert load_rows(tmp_path / "both", split="test") == [{"prompt": "b"}]
    assert load_rows(tmp_path / "one") == [{"prompt": "a"}]
    assert "received train, test" in refusal(tmp_path / "both", split="dev")
    assert "expected the split 'test', received train" in refusal(tmp_path / "one", split="test")


def test_a_folder_of_files_as_the_hub_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    rlhflow(["a", "b"]).to_parquet(folder / "train-00000-of-00001.parquet")
    rows = load_rows(folder, prompt="context_messages")
    assert [row["prompt"][-1] for row in rows] == [user("a"), user("b")]
    message = refusal(folder, tmp_path, split="test")
    assert "set: expected a data set with the split 'test'" in message


def test_keys_that_only_other_messages_have_are_left_out(tmp_path: Path) -> None:
    rows = [{"prompt": [user("a"), {"role": "tool", "content": "b", "name": "f"}]}]
    data = Dataset.from_list(rows)
    # Arrow adds the key to every message.
    assert data[0]["prompt"][0] == {**user("a"), "name": None}
    data.save_to_disk(tmp_path / "saved")
    assert load_rows(tmp_path / "saved") == rows


def test_hub_out_of_reach_says_what_to_do() -> None:
    # The suite is offline, and no such set is cached.
    message = refusal("nobody/no-such-set-of-prompts")
    assert "nobody/no-such-set-of-prompts" in message and ".jsonl" in message


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install '.[llm]' in the folder of adrpo" in refusal(PAPER_SET)


# Splits


def rows_of(texts: list[str]) -> list[dict[str, Any]]:
    return [{"prompt": text, "n": n} for n, text in enumerate(texts)]


def test_the_held_out_part_is_the_lowest_hashes() -> None:
    texts = [f"prompt {n}" for n in range(50)]
    train, held_out = split_rows(rows_of(texts), seed=3)
    assert len(held_out) == 5
    assert sorted([*train, *held_out], key=lambda row: row["n"]) == rows_of(texts)

    def rank(text: str) -> str:
        return hashlib.sha256(f'3\n[["", "{text}"]]'.encode()).hexdigest()

    assert {row["prompt"] for row in held_out} == set(sorted(texts, key=rank)[:5])


def test_the_split_depends_on_the_seed_and_not_on_the_order() -> None:
    texts = [f"prompt {n}" for n in range(100)]
    parts = [{row["prompt"] for row in split_rows(rows_of(texts), seed=0)[1]}]
    for seed in range(1, 4):
        random.Random(seed).shuffle(texts)
        train, held_out = split_rows(rows_of(texts), seed=0)
        assert {row["prompt"] for row in held_out} == parts[0]
        assert [row["n"] for row in train] == sorted(row["n"] for row in train)
        parts.append({row["prompt"] for row in split_rows(rows_of(texts), seed=seed)[1]})
    assert len({frozenset(part) for part in parts}) == 4


def test_rows_of_one_prompt_stay_on_one_side() -> None:
    forms = [form for n in range(40) for form in (f"Prompt {n}", f"prompt  {n}", f"PROMPT {n}\n")]
    chats = [{"prompt": [user(form)], "n": n} for n, form in enumerate(forms)]
    for rows in (rows_of(forms), chats):
        train, held_out = split_rows(rows, seed=1, held_out=0.25)
        # Ten prompts in three spellings each.
        assert len(held_out) == 30 and len(train) == 90
        numbers = [
            {json.dumps(row["prompt"]).lower().split()[-1].strip('\\n"}]') for row in part}
            for part in (train, held_out)
        ]
        assert not numbers[0] & numbers[1]


def test_whose_turn_it_is_tells_prompts_apart() -> None:
    chats = [
        {"prompt": [user("a"), user("b")]},
        {"prompt": [user("a b")]},
        {"prompt": [user("a"), {"role": "system", "content": "b"}]},
        {"prompt": "a b"},
    ]
    train, held_out = split_rows(chats, seed=0, held_out=0.5)
    assert len(train) == len(held_out) == 2


@pytest.mark.parametrize(("held_out", "count"), [(0.0, 10), (1.0, 10), (-0.1, 10), (0.1, 4)])
def test_a_part_without_a_row_is_refused(held_out: float, count: int) -> None:
    with pytest.raises(AdrpoError, match=f"of {count} different prompts"):
        split_rows(rows_of([str(n) for n in range(count)]), seed=0, held_out=held_out)
