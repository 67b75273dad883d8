"""Prompt sets: where they come from, that splits stay apart, and what is refused."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from adrpo.data import Prompt, load_prompts
from adrpo.data.prompts import check_source, share_prompts
from adrpo.embedded.scenes import (
    CATEGORIES,
    TEST_CATEGORIES,
    parse_caption,
    prompt_set,
    split_of,
)
from adrpo.errors import AdrpoError


def refusal(path: Path) -> str:
    with pytest.raises(AdrpoError) as caught:
        load_prompts(str(path), size=1, seed=0)
    line = str(caught.value)
    assert "\n" not in line
    return line.replace(f"{path.parent}/", "")


@pytest.mark.parametrize(
    ("source", "categories"),
    [("train", CATEGORIES), ("held_out", CATEGORIES), ("test", TEST_CATEGORIES)],
)
def test_scenes_are_of_their_split_and_category(source: str, categories: tuple[str, ...]):
    # 120 is more than six times the ten held-out captions of one colored shape.
    prompts = load_prompts(f"scenes:{source}", size=120, seed=3)
    assert len({prompt.text for prompt in prompts}) == 120
    for prompt in prompts:
        scene = parse_caption(prompt.text)
        assert split_of(scene) == source
        assert scene.category == prompt.category
    assert Counter(prompt.category for prompt in prompts).keys() == set(categories)


def test_scenes_are_the_embedded_set_and_depend_on_the_seed():
    prompts = load_prompts("scenes:train", size=30, seed=5)
    scenes = prompt_set(30, split="train", seed=5)
    assert [parse_caption(prompt.text) for prompt in prompts] == scenes
    assert prompts == load_prompts("scenes:train", size=30, seed=5)
    assert prompts != load_prompts("scenes:train", size=30, seed=6)


def test_more_scenes_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch):
    """Only single colored shapes, to be done soon: 8 colors of 6 shapes in both splits together."""
    monkeypatch.setattr("adrpo.embedded.scenes.CATEGORIES", ("color",))
    known = {"scenes:train": 0, "scenes:held_out": 0}
    for source in known:
        with pytest.raises(AdrpoError) as caught:
            load_prompts(source, size=49, seed=0)
        found = re.fullmatch(
            f"{source}: expected at most (\\d+) prompts; received size 49; lower the size",
            str(caught.value),
        )
        assert found is not None, caught.value
        known[source] = int(found[1])
        assert len(load_prompts(source, size=known[source], seed=0)) == known[source]
    assert sum(known.values()) == 48


def test_text_file_keeps_order_and_duplicates(tmp_path: Path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffa café\r\n\r\n  a dog \na café\n".encode())
    assert load_prompts(str(path), size=1, seed=0) == [
        Prompt("a café", ""),
        Prompt("a dog", ""),
        Prompt("a café", ""),
    ]


def test_jsonl_file_keeps_columns_and_unusual_characters(tmp_path: Path):
    rows = [{"prompt": "a\u2028b", "category": "text"}, {"prompt": "c", "other": 1}]
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        "\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8"
    )
    assert load_prompts(str(path), size=1, seed=0) == [
        Prompt("a\u2028b", "text", {"other": None}),
        Prompt("c", "", {"other": 1}),
    ]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("p.txt", b"", "p.txt: expected at least one prompt, received an empty file"),
        ("p.txt", b"\n \n", "p.txt: expected at least one prompt, received an empty file"),
        (
            "p.txt",
            b"one\ntwo \xff\n",
            "p.txt, line 2: expected UTF-8 text, received byte 0xff at offset 8; "
            "save the file as UTF-8",
        ),
        (
            "p.jsonl",
            b'{"prompt": "a"}\n{"text": "b"}\n',
            "p.jsonl, line 2: expected a column 'prompt' with the prompt, received the columns "
            "text; rename it (a recipe of language models can name it: prompts.column)",
        ),
        (
            "p.jsonl",
            b'{"prompt": " "}',
            "p.jsonl, line 1, column 'prompt': expected a text that is not blank or a list of "
            'messages {"role", "content"}, received \' \'',
        ),
        (
            "p.jsonl",
            b'{"prompt": "a", "category": ["b"]}',
            "p.jsonl, line 1: expected a category that is a text or a number, received ['b']",
        ),
        (
            "p.jsonl",
            b'\n"a"',
            "p.jsonl, line 2: expected a column 'prompt' with the prompt, received the columns of "
            "no object; rename it (a recipe of language models can name it: prompts.column)",
        ),
        (
            "p.jsonl",
            b"{prompt: a}",
            "p.jsonl, line 1, column 2: expected a JSON object with the prompt; received text that "
            "is not JSON (Expecting property name enclosed in double quotes)",
        ),
    ],
)
def test_file_that_is_refused(tmp_path: Path, name: str, content: bytes, expected: str):
    path = tmp_path / name
    path.write_bytes(content)
    assert refusal(path) == expected


def test_missing_file(tmp_path: Path):
    expected = "p.txt: expected a file of prompts; No such file or directory"
    assert refusal(tmp_path / "p.txt") == expected
    (tmp_path / "pp.txt").write_text("a cat")
    assert refusal(tmp_path / "p.txt") == f"{expected}; did you mean 'pp.txt'?"


@pytest.mark.parametrize(
    "source",
    [
        "scenes:train",
        "drawbench-style",
        "drawbench-style:held_out",
        "art-style:train",
        "a/b.txt",
        "a.csv:train",
        "owner/name",
        "owner/name-v1.5:held_out",
        "../sets/mine",
        "a:b.jsonl:train",
        "drawbench:hub",
        "drawbench:a/b.csv:held_out",
        "geneval:b.jsonl",
        "partiprompts:hub:train",
        "pickapic:b.txt",
        "pickapic:b.jsonl",
    ],
)
def test_source_is_known_without_its_file(source: str):
    assert check_source(source) == source


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("scenes:valid", "; did you mean 'scenes:train'?"),
        ("scenes:trian", "; did you mean 'scenes:train'?"),
        ("scenes:train:train", "; did you mean 'scenes:train'?"),
        ("drawbench-stile", "; did you mean 'drawbench-style'?"),
        ("art-style:heldout", "; did you mean 'art-style:held_out'?"),
        ("art-style:", "; did you mean 'art-style'?"),
        ("partiprompt:a.tsv", "; did you mean 'partiprompts:a.tsv'?"),
        ("genevals", "; did you mean 'geneval:PATH'?"),
        ("prompts.tsv", ""),
        ("questions", "; did you mean 'questions:train'?"),
        ("sums", ""),
        ("owner/name:test", ""),
        ("prompts.txt:test", ""),
        (":train", "; did you mean 'scenes:train'?"),
        ("", ""),
    ],
)
def test_source_of_no_known_kind(source: str, hint: str):
    with pytest.raises(AdrpoError) as caught:
        load_prompts(source, size=1, seed=0)
    assert str(caught.value) == (
        "expected scenes:train, scenes:held_out, scenes:test, questions:train, "
        "questions:held_out, "
        "drawbench-style, art-style, drawbench:PATH, geneval:PATH, partiprompts:PATH, "
        "pickapic:PATH, the path of a .txt, .jsonl, .json, .csv, .parquet file, or a data set (a "
        f"folder or 'owner/name' on the Hub), received {source!r}{hint}"
    )


@pytest.mark.parametrize(
    ("source", "forms"),
    [
        ("drawbench", "drawbench:PATH of a .csv file or drawbench:hub"),
        ("drawbench:train", "drawbench:PATH of a .csv file or drawbench:hub"),
        ("drawbench:a.csv:test", "drawbench:PATH of a .csv file or drawbench:hub"),
        ("geneval:hub", "geneval:PATH of a .jsonl file"),
        ("partiprompts:a.csv", "partiprompts:PATH of a .tsv file or partiprompts:hub"),
        ("pickapic:a.parquet", "pickapic:PATH of a .txt or .jsonl file"),
    ],
)
def test_published_set_without_a_file_of_its_form(source: str, forms: str):
    with pytest.raises(AdrpoError) as caught:
        check_source(source)
    assert str(caught.value).startswith(f"expected {forms}, received {source!r}; see https://")


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("scenes:train", "scenes:held_out", False),
        ("scenes:train", "scenes:train", True),
        ("art-style:train", "art-style:held_out", False),
        ("art-style", "art-style:held_out", True),
        ("art-style", "drawbench-style", False),
        ("drawbench:hub:train", "drawbench:hub", True),
        ("drawbench:a.csv:train", "drawbench:./a.csv:train", True),
        ("drawbench:a.csv:train", "drawbench:b.csv:train", False),
        ("a.txt:train", "a.txt:held_out", False),
        ("owner/name", "owner/name:held_out", True),
        ("questions:train", "questions:held_out", False),
    ],
)
def test_sources_that_share_prompts(first: str, second: str, shared: bool):
    assert share_prompts(first, second) == share_prompts(second, first) == shared
