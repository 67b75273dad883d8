"""Shipped and published prompt sets, in the layouts of their files, and the fixed halves."""

import hashlib
import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from adrpo.data import Prompt, load_prompts
from adrpo.data.published import PUBLISHED
from adrpo.data.shipped import ARTISTS, OBJECTS, SHIPPED
from adrpo.data.splits import half
from adrpo.errors import AdrpoError

DRAWBENCH_CATEGORIES = {
    "Colors",
    "Conflicting",
    "Counting",
    "DALL-E",
    "Descriptions",
    "Gary Marcus et al.",
    "Misspellings",
    "Positional",
    "Rare Words",
    "Reddit",
    "Text",
}


def load(source: str) -> list[Prompt]:
    return load_prompts(source, size=1, seed=0)


def texts(prompts: list[Prompt]) -> set[str]:
    return {prompt.text for prompt in prompts}


def refusal(source: str, folder: Path | None = None) -> str:
    with pytest.raises(AdrpoError) as caught:
        load(source)
    line = str(caught.value)
    assert "\n" not in line
    return line.replace(f"{folder}/", "") if folder else line


# Shipped sets


def test_drawbench_style_has_every_category_and_no_prompt_twice():
    prompts = load("drawbench-style")
    counts = Counter(prompt.category for prompt in prompts)
    assert counts.keys() == DRAWBENCH_CATEGORIES
    assert min(counts.values()) >= 12
    assert len({prompt.text.casefold() for prompt in prompts}) == len(prompts)


def test_drawbench_style_is_plain_well_formed_text():
    for prompt in load("drawbench-style"):
        # A letter first, one full stop last, plain quotation marks, single spaces between.
        assert re.fullmatch(r"[A-Z][A-Za-z0-9',:.\- ]*\.", prompt.text), prompt
        assert "  " not in prompt.text


def test_text_prompts_quote_what_is_to_be_written():
    written = [prompt.text for prompt in load("drawbench-style") if prompt.category == "Text"]
    assert all(re.search(r"'[A-Za-z0-9 ]+'", text) for text in written)


def test_art_style_is_the_full_grid_by_artist():
    prompts = load("art-style")
    pairs = [prompt.text.split(" style ") for prompt in prompts]
    assert [artist for artist, _ in pairs] == [prompt.category for prompt in prompts]
    assert Counter(artist for artist, _ in pairs) == dict.fromkeys(ARTISTS, len(OBJECTS))
    assert Counter(thing for _, thing in pairs) == dict.fromkeys(OBJECTS, len(ARTISTS))
    assert len(texts(prompts)) == len(prompts)


def test_artists_are_long_dead():
    # 70 years before the package's first release, 2026.
    assert max(ARTISTS.values()) < 1956


@pytest.mark.parametrize("name", SHIPPED)
def test_halves_of_a_shipped_set_hold_all_categories_and_no_common_prompt(name: str):
    whole, train, held_out = load(name), load(f"{name}:train"), load(f"{name}:held_out")
    assert not texts(train) & texts(held_out)
    assert texts(train) | texts(held_out) == texts(whole)
    counts = [Counter(prompt.category for prompt in part) for part in (train, held_out)]
    for category in {prompt.category for prompt in whole}:
        assert 0 <= counts[0][category] - counts[1][category] <= 1


def test_held_out_art_is_new_combinations_of_known_things():
    train, held_out = (
        {prompt.text.split(" style ")[1] for prompt in load(f"art-style:{part}")}
        for part in ("train", "held_out")
    )
    assert train == held_out == set(OBJECTS)


# Published sets


@pytest.mark.parametrize("column", ["Prompts", "Prompt"])
def test_drawbench_as_its_sheet_exports_it(tmp_path: Path, column: str):
    path = tmp_path / "sheet.csv"
    rows = (
        f"\ufeff{column},Category\r\n"
        "A plum.,Colors\r\n"
        '"A cup, a ""blue"" one.",Gary Marcus et al. \r\n'
        ",\r\n"
        '"Two\nlines.",Text\r\n'
    )
    path.write_bytes(rows.encode())
    assert load(f"drawbench:{path}") == [
        Prompt("A plum.", "Colors"),
        Prompt('A cup, a "blue" one.', "Gary Marcus et al."),
        Prompt("Two\nlines.", "Text"),
    ]


def test_geneval_takes_the_tag_as_category_and_keeps_the_rest(tmp_path: Path):
    path = tmp_path / "evaluation_metadata.jsonl"
    rows = [
        {"tag": "counting", "include": [{"class": "kite", "count": 2}], "prompt": "two kites"},
        {"tag": "colors", "include": [{"class": "kite", "color": "red"}], "prompt": "a red kite"},
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    assert load(f"geneval:{path}") == [
        Prompt("two kites", "counting", {"include": rows[0]["include"]}),
        Prompt("a red kite", "colors", {"include": rows[1]["include"]}),
    ]


def test_quotation_marks_are_characters_in_partiprompts(tmp_path: Path):
    path = tmp_path / "PartiPrompts.tsv"
    path.write_text(
        "Prompt\tCategory\tChallenge\tNote\n"
        '"G O" painted on a wall, large. \tArts\tComplex\t\n'
        'a logo for "The Plums"\tFood & Beverage\tImagination\tAbout "plums"\n'
        'a plum, 5" wide\tProduce & Plants\tBasic\t\n',
        encoding="utf-8",
    )
    assert load(f"partiprompts:{path}") == [
        Prompt(text, category, {"Challenge": challenge, "Note": note})
        for text, category, challenge, note in [
            ('"G O" painted on a wall, large.', "Arts", "Complex", ""),
            ('a logo for "The Plums"', "Food & Beverage", "Imagination", 'About "plums"'),
            ('a plum, 5" wide', "Produce & Plants", "Basic", ""),
        ]
    ]


def test_pickapic_is_read_once_per_prompt(tmp_path: Path):
    lines, rows = tmp_path / "train.txt", tmp_path / "train.jsonl"
    captions = ["a fox, 8k", "an owl", "a fox, 8k"]
    lines.write_text("\n".join(captions), encoding="utf-8")
    rows.write_text(
        "\n".join(json.dumps({"caption": c, "pair": n}) for n, c in enumerate(captions)),
        encoding="utf-8",
    )
    assert load(f"pickapic:{lines}") == [Prompt("a fox, 8k"), Prompt("an owl")]
    first = [Prompt("a fox, 8k", "", {"pair": 0}), Prompt("an owl", "", {"pair": 1})]
    assert load(f"pickapic:{rows}") == first


@pytest.mark.parametrize(
    ("source", "content", "expected"),
    [
        (
            "drawbench:{}/p.csv",
            "Text,Category\na,b\n",
            "p.csv, line 1: expected the columns Prompts or Prompt and Category, "
            "received Text, Category",
        ),
        (
            "drawbench:{}/p.csv",
            "",
            "p.csv, line 1: expected the columns Prompts or Prompt and Category, "
            "received an empty line",
        ),
        (
            "drawbench:{}/p.csv",
            "Prompts,Category\n,\n",
            "p.csv: expected at least one prompt, received an empty file",
        ),
        (
            "drawbench:{}/p.csv",
            "Prompts,Category\na,Text\nb, \n",
            "p.csv, line 3: expected a Category, received an empty field",
        ),
        (
            "drawbench:{}/p.csv",
            "Prompts,Category\n ,Text\n",
            "p.csv, line 2: expected a Prompts, received an empty field",
        ),
        (
            "drawbench:{}/p.csv",
            "Prompts,Category\na, b,Text\n",
            "p.csv, line 2: expected 2 fields, received 3",
        ),
        (
            "drawbench:{}/p.csv",
            'Prompts,Category\n"a,Text\n',
            "p.csv, line 2: expected a table; unexpected end of data",
        ),
        (
            "partiprompts:{}/p.tsv",
            "Prompt,Category,Challenge,Note\n",
            "p.tsv, line 1: expected the columns Prompt and Category, "
            "received Prompt,Category,Challenge,Note",
        ),
        (
            "geneval:{}/p.jsonl",
            '{"prompt": "a"}\n',
            'p.jsonl, line 1: expected an object with "prompt" and "tag", both text, '
            'received {"prompt": "a"}',
        ),
        (
            "pickapic:{}/p.jsonl",
            '{"prompt": "a"}\n',
            'p.jsonl, line 1: expected an object with "caption", a text, received {"prompt": "a"}',
        ),
    ],
)
def test_file_of_another_form(tmp_path: Path, source: str, content: str, expected: str):
    source = source.format(tmp_path)
    Path(source.partition(":")[2]).write_text(content, encoding="utf-8")
    assert refusal(source, tmp_path) == expected


def test_missing_file_of_a_published_set(tmp_path: Path):
    expected = "p.csv: expected a file of prompts; No such file or directory"
    assert refusal(f"drawbench:{tmp_path}/p.csv", tmp_path) == expected


# The Hub


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("drawbench", "Prompts,Category\na,X\nb,X\n"),
        ("partiprompts", "Prompt\tCategory\tChallenge\tNote\na\tX\t\t\nb\tX\t\t\n"),
    ],
)
def test_hub_file_is_fetched_at_a_commit_and_read_as_a_local_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str
):
    file = PUBLISHED[name].hub
    assert file is not None
    calls: list[tuple[str, str, str, str]] = []

    def fetch(repo_id: str, filename: str, *, repo_type: str, revision: str) -> str:
        calls.append((repo_id, filename, repo_type, revision))
        path = tmp_path / filename
        path.write_text(content, encoding="utf-8")
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    whole = load(f"{name}:hub")
    assert [(prompt.text, prompt.category) for prompt in whole] == [("a", "X"), ("b", "X")]
    assert calls == [(file.repository, file.name, "dataset", file.revision)]
    assert Path(file.name).suffix in PUBLISHED[name].suffixes
    # A branch would change under a run that is repeated.
    assert re.fullmatch("[0-9a-f]{40}", file.revision)
    assert texts(load(f"{name}:hub:train")) ^ texts(load(f"{name}:hub:held_out")) == {"a", "b"}


def test_hub_out_of_reach_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    def fetch(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("Cannot find the file.\nMore lines.")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    assert refusal("partiprompts:hub") == (
        "partiprompts:hub: expected to fetch 'PartiPrompts.tsv' of the data set "
        "nateraw/parti-prompts, which failed: Cannot find the file; get the file another way and "
        "name it as partiprompts:PATH"
    )


# Halves


def drawn(count: int, seed: int) -> list[Prompt]:
    """``count`` different prompts in four categories of different sizes."""
    rng = random.Random(seed)
    names = rng.choices(["", "Colors", "Text", "Counting"], weights=[4, 3, 2, 1], k=count)
    return [Prompt(f"prompt {seed} {number}", name) for number, name in enumerate(names)]


def halves(prompts: list[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
    return half(prompts, held_out=False), half(prompts, held_out=True)


def test_training_half_is_the_lower_hashes_of_each_category():
    prompts = drawn(101, seed=1)
    expected: set[str] = set()
    for category in {prompt.category for prompt in prompts}:
        hashes = {
            hashlib.sha256(prompt.text.encode()).hexdigest(): prompt.text
            for prompt in prompts
            if prompt.category == category
        }
        for _ in range((len(hashes) + 1) // 2):
            expected.add(hashes.pop(min(hashes)))
    train, held_out = halves(prompts)
    assert texts(train) == expected
    assert texts(held_out) == texts(prompts) - expected


def test_order_of_the_file_does_not_move_a_prompt(tmp_path: Path):
    prompts = drawn(60, seed=2)
    sides: list[set[str]] = []
    for seed in range(3):
        random.Random(seed).shuffle(prompts)
        path = tmp_path / f"{seed}.jsonl"
        path.write_text(
            "\n".join(json.dumps({"prompt": p.text, "category": p.category}) for p in prompts),
            encoding="utf-8",
        )
        held_out = load(f"{path}:held_out")
        assert held_out == [prompt for prompt in prompts if prompt in held_out]
        sides.append(texts(held_out))
    assert sides[0] == sides[1] == sides[2]


def test_a_further_prompt_moves_at_most_one_other():
    prompts = [Prompt(f"prompt {number}", "Text") for number in range(40)]
    for count in range(2, 40):
        before, after = (texts(halves(prompts[:size])[0]) for size in (count, count + 1))
        moved = (before ^ after) - {prompts[count].text}
        assert len(moved) <= 1


def test_one_prompt_written_twice_stays_on_one_side():
    kites = [
        Prompt(form, name)
        for number in range(30)
        for form, name in [
            (f"A red Kite {number}", "Colors"),
            (f"a red  kite {number}", "Colors"),
            (f"A RED KITE {number}", "Text"),
        ]
    ]
    train, held_out = halves(kites)
    # Three spellings each of 15 prompts.
    assert len(train) == len(held_out) == 45
    numbers = [{prompt.text.split()[-1] for prompt in part} for part in (train, held_out)]
    assert not numbers[0] & numbers[1]
    # Ranked in "Colors", the first of the two categories, whichever comes first in the file.
    signs = [Prompt(f"a sign {number}", "Text") for number in range(30)]
    for prompts in (kites + signs, signs + kites[::-1]):
        assert texts(halves(prompts)[0]) == texts(train) | texts(halves(signs)[0])


def test_half_that_is_empty(tmp_path: Path):
    path = tmp_path / "p.txt"
    path.write_text("a kite\nA kite\n", encoding="utf-8")
    assert len(load(f"{path}:train")) == 2
    assert refusal(f"{path}:held_out", tmp_path) == (
        "p.txt:held_out: expected a category of two or more different prompts, to hold half of it "
        "out; received none; name a source with more prompts"
    )
