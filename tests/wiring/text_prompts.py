"""The keys of the section ``prompts`` of the domains llm and audio.

What is trained on and what is held out is what a run keeps of them; that training asks the first
and evaluations the second is in text_run.py.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adrpo.errors import AdrpoError
from support.sound_files import question, tone, write_clip, write_lines
from wiring.table import Seen, Table
from wiring.text_steps import Laboratory

LETTERS = "abcdefghijkl"


def parts(lab: Laboratory, **prompts: Any) -> tuple[list[Any], list[Any]]:
    """What is trained on and what is held out, with those keys of the section alone."""
    run = lab.form(lab.config().model_copy(update={"prompts": section(lab, **prompts)}))
    return list(run.prompts), list(run.held_out)


def section(lab: Laboratory, **prompts: Any) -> Any:
    return type(lab.config().prompts).model_validate(prompts)


def words(found: list[Any]) -> list[str]:
    return [prompt.text for prompt in found]


# --- language ---


def lines(lab: Laboratory, name: str, rows: list[Any]) -> str:
    folder = lab.folder / "prompts"
    folder.mkdir(exist_ok=True)
    return str(write_lines(folder / name, rows))


def texts(lab: Laboratory, name: str = "twelve.jsonl", first: str = "a") -> str:
    """A file of twelve prompts."""
    return lines(lab, name, [{"prompt": f"{first} {x}"} for x in LETTERS])


def other_texts(lab: Laboratory) -> str:
    return texts(lab, "others.jsonl", first="d")


def reads_the_source(lab: Laboratory, value: str) -> None:
    train, held_out = parts(lab, source=texts(lab, value), train_size=None, held_out_size=None)
    assert sorted(words(train + held_out)) == [f"a {letter}" for letter in LETTERS]


def reads_the_column(lab: Laboratory, value: str) -> None:
    """Without the key the file has no prompts."""
    source = lines(lab, "named.jsonl", [{value: f"b {letter}"} for letter in LETTERS])
    train, held_out = parts(lab, source=source, column=value)
    assert sorted(words(train + held_out)) == [f"b {letter}" for letter in LETTERS]
    with pytest.raises(AdrpoError, match="prompt"):
        parts(lab, source=source)


def cuts_the_answer(lab: Laboratory, value: bool) -> None:
    rows = [
        {
            "prompt": [
                {"role": "user", "content": f"a {letter}"},
                {"role": "assistant", "content": "b"},
            ]
        }
        for letter in LETTERS
    ]
    source = lines(lab, "answered.jsonl", rows)
    train, held_out = parts(lab, source=source, cut_answers=value)
    assert {prompt.content[-1]["role"] for prompt in train + held_out} == {"user"}
    with pytest.raises(AdrpoError, match="cut_answers"):
        parts(lab, source=source)


def reads_held_out(lab: Laboratory, value: str) -> None:
    other = texts(lab, value, first="c")
    train, held_out = parts(lab, source=texts(lab), held_out=other)
    assert (words(train), words(held_out)) == (
        [f"a {letter}" for letter in LETTERS],
        [f"c {letter}" for letter in LETTERS],
    )


def holds_out(source: Callable[[Laboratory], str]) -> Callable[[Laboratory, float], None]:
    def effect(lab: Laboratory, value: float) -> None:
        train, held_out = parts(lab, source=source(lab), held_out_share=value)
        assert (len(train), len(held_out)) == (9, 3)
        assert not set(words(train)) & set(words(held_out))

    return effect


def seeds_the_split(source: Callable[[Laboratory], str]) -> Callable[[Laboratory, int], None]:
    def effect(lab: Laboratory, value: int) -> None:
        named = {"source": source(lab), "held_out_share": 0.25}
        ours, theirs = parts(lab, split_seed=value, **named), parts(lab, **named)
        first = [{text.partition("\n")[0] for text in words(p)} for p in (ours[1], theirs[1])]
        assert first[0] != first[1]

    return effect


def cuts_to(
    key: str, source: Callable[[Laboratory], str], apart: Callable[[Laboratory], str]
) -> Callable[[Laboratory, int], None]:
    """The first so many, of one source or of two; and so many of a world's."""

    def effect(lab: Laboratory, value: int) -> None:
        place = ("train_size", "held_out_size").index(key)
        for other in ({"held_out_share": 0.5}, {"held_out": apart(lab)}):
            named = {"source": source(lab)} | other
            whole = parts(lab, **{**named, key: None})[place]
            cut = parts(lab, **{**named, key: value})[place]
            assert words(cut) == words(whole)[:value] and len(whole) > value
        few = {"train_size": 2, "held_out_size": 2}
        assert len(parts(lab, **{**few, key: value})[place]) == value

    return effect


TEXTS: Table = {
    "prompts.source": Seen("own.jsonl", reads_the_source),
    "prompts.column": Seen("other", reads_the_column),
    "prompts.cut_answers": Seen(True, cuts_the_answer),
    "prompts.held_out": Seen("apart.jsonl", reads_held_out),
    "prompts.held_out_share": Seen(0.25, holds_out(texts)),
    "prompts.split_seed": Seen(5, seeds_the_split(texts)),
    "prompts.train_size": Seen(4, cuts_to("train_size", texts, other_texts)),
    "prompts.held_out_size": Seen(4, cuts_to("held_out_size", texts, other_texts)),
}

# --- sounds ---


def heard(
    lab: Laboratory, name: str = "heard.jsonl", clips: range = range(12), **changed: Any
) -> str:
    """A file of questions about ``clips``, which lie beside it."""
    folder = lab.folder / "sounds"
    rows = [question(number, **changed) for number in clips]
    for number, row in zip(clips, rows, strict=True):
        clip = folder / row["audio"]
        if not clip.exists():
            write_clip(clip, tone(200 + 40 * number))
    return str(write_lines(folder / name, rows))


def other_sounds(lab: Laboratory) -> str:
    return heard(lab, "others.jsonl", range(20, 32))


def reads_the_sounds(lab: Laboratory, value: str) -> None:
    train, held_out = parts(lab, source=heard(lab, value))
    rows = [json.loads(line) for line in Path(heard(lab, value)).read_text().splitlines()]
    firsts = sorted(text.partition("\n")[0] for text in words(train + held_out))
    assert firsts == sorted(row["question"] for row in rows)


def reads_held_out_sounds(lab: Laboratory, value: str) -> None:
    other = heard(lab, value, range(20, 23), question="Which else?")
    train, held_out = parts(lab, source=heard(lab), held_out=other)
    assert (len(train), len(held_out)) == (12, 3)
    assert all(text.startswith("Which else?") for text in words(held_out))


def reads_from_the_folder(lab: Laboratory, value: str) -> None:
    folder = lab.folder / value
    source = heard(lab)
    for clip in sorted((lab.folder / "sounds").rglob("*.wav")):
        target = folder / clip.relative_to(lab.folder / "sounds")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(clip.read_bytes())
    train, _ = parts(lab, source=source, audio_folder=str(folder))
    assert all(Path(prompt.columns["audio"]).is_relative_to(folder) for prompt in train)


def leaves_out(lab: Laboratory, value: str) -> None:
    source = Path(heard(lab, "faulty.jsonl"))
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    rows[3]["answer"] = "none of them"
    write_lines(source, rows)
    with pytest.raises(AdrpoError, match="faulty"):
        parts(lab, source=str(source))
    with pytest.warns(Warning, match="1 of 12"):
        train, held_out = parts(lab, source=str(source), faulty=value)
    kept = {text.partition("\n")[0] for text in words(train + held_out)}
    assert kept == {row["question"] for row in rows} - {rows[3]["question"]}


def asks_in_the_form(lab: Laboratory, value: str) -> None:
    """The row's words and choices stand where the form has them."""
    train, _ = parts(lab, source=heard(lab), form=value)
    for prompt in train:
        asked, choices = prompt.text, prompt.columns["choices"]
        assert asked.startswith("Say: ") and asked.endswith(" Of: " + "\n".join(choices))


def begins_with_the_system(lab: Laboratory, value: str) -> None:
    train, _ = parts(lab, source=heard(lab), system=value)
    for prompt in train:
        assert prompt.content[0] == {"role": "system", "content": value}


def keeps_the_order(lab: Laboratory, value: bool) -> None:
    """By default a source of one's own gets another one."""
    orders = []
    for named in ({"shuffle_choices": value}, {}):
        train, _ = parts(lab, source=heard(lab), **named)
        orders.append([tuple(prompt.columns["choices"]) for prompt in train])
    assert set(orders[0]) == {tuple(question()["choices"])} != set(orders[1])


def reads_the_name(key: str) -> Callable[[Laboratory, str], None]:
    """The column of the other name is read, where the usual one holds something else."""

    def effect(lab: Laboratory, value: str) -> None:
        source = Path(heard(lab, f"{key}.jsonl"))
        rows = [json.loads(line) for line in source.read_text().splitlines()]
        plain = parts(lab, source=str(source), shuffle_choices=False)
        for row in rows:
            row["category"] = "one"
            row[value] = row.pop(key) if key != "category" else "another"
        write_lines(source, rows)
        named = {"source": str(source), "shuffle_choices": False, "columns": {key: value}}
        found = parts(lab, **named)
        for ours, theirs in zip(found[0], plain[0], strict=True):
            assert (ours.content, ours.category) == (
                theirs.content,
                "another" if key == "category" else "one",
            )
            for column in ("audio", "choices", "answer"):
                assert ours.columns[column] == theirs.columns[column]

    return effect


SOUNDS: Table = {
    "prompts.source": Seen("own.jsonl", reads_the_sounds),
    "prompts.held_out": Seen("apart.jsonl", reads_held_out_sounds),
    "prompts.held_out_share": Seen(0.25, holds_out(heard)),
    "prompts.split_seed": Seen(5, seeds_the_split(heard)),
    "prompts.train_size": Seen(4, cuts_to("train_size", heard, other_sounds)),
    "prompts.held_out_size": Seen(4, cuts_to("held_out_size", heard, other_sounds)),
    "prompts.audio_folder": Seen("elsewhere", reads_from_the_folder),
    "prompts.faulty": Seen("leave_out", leaves_out),
    "prompts.form": Seen("Say: {question} Of: {choices}", asks_in_the_form),
    "prompts.system": Seen("Listen.", begins_with_the_system),
    "prompts.shuffle_choices": Seen(False, keeps_the_order),
    **{
        f"prompts.columns.{key}": Seen("another_name", reads_the_name(key))
        for key in ("audio", "question", "choices", "answer", "category")
    },
}
