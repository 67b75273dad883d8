"""The section of the questions about sound: what it refuses, and in which words."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adrpo.audio.benchmarks.benchmarks import BENCHMARKS
from adrpo.config import audio_prompts
from adrpo.config.audio_prompts import AudioPromptsSection, place_and_split


def test_the_benchmarks_are_those_that_can_be_read() -> None:
    assert set(audio_prompts.BENCHMARKS) == set(BENCHMARKS)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"source": "sounds:test"}, "which is kept for final tables"),
        ({"source": "mmau:a.json"}, "which is kept for final tables"),
        ({"source": "sound"}, "expected sounds, the path of a .jsonl file"),
        ({"source": "sounds:tran", "held_out": "a/b"}, "received 'sounds:tran'"),
        ({"source": "a.txt"}, "received 'a.txt'"),
        ({"source": "sounds:train"}, "source: expected 'sounds', which comes with"),
        ({"held_out": "sounds"}, "received 'sounds'"),
        ({"held_out": "mmau:"}, "as mmau:PATH"),
        ({"held_out": "mmlu:a.json"}, "received 'mmlu:a.json'"),
        ({"held_out": "sounds:train"}, "held_out: expected a source without questions of"),
        ({"source": "a/b", "held_out": "a/b:train"}, "held_out: expected a source without"),
        ({"source": "x.jsonl", "held_out": "./x.jsonl"}, "held_out: expected a source without"),
        ({"train_size": None}, "train_size: expected a number with 'sounds'"),
        ({"held_out_size": None}, "held_out_size: expected a number with 'sounds:held_out'"),
        ({"form": "planes"}, "expected plain, answer, think, or a text of your own"),
        ({"form": "{choices}"}, "with {question}"),
        ({"form": "{question}"}, "{choices}"),
        ({"form": "{question} {choices} {answer}"}, "no other name in braces"),
        ({"columns": {"sound": "a"}}, "Extra inputs"),
        ({"shuffle_choices": "yes"}, "valid boolean"),
        ({"faulty": "ignore"}, "'refuse' or 'leave_out'"),
        ({"held_out_share": 0}, "greater than 0"),
    ],
)
def test_a_wrong_value_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AudioPromptsSection.model_validate(keys)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"source": "a.jsonl", "train_size": None, "held_out_size": None},
        {"source": "gijs/avqa-processed", "held_out": "gijs/avqa-processed:validation"},
        {"held_out": "sounds:test"},
        {"held_out": "mmau:folder", "held_out_size": None},
        {"source": "sounds:held_out", "held_out": "sounds:test"},
        {"form": "{question}: {lettered}"},
    ],
)
def test_what_fits_is_taken(keys: dict[str, Any]) -> None:
    section = AudioPromptsSection.model_validate(keys)
    assert AudioPromptsSection.model_validate(section.model_dump(mode="json")) == section


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("a/b", ("a/b", "train")),
        ("a/b:v05.15.25", ("a/b", "v05.15.25")),
        ("/a:b/c", ("/a:b/c", "train")),
        ("a:b.jsonl", ("a:b.jsonl", "train")),
    ],
)
def test_a_split_stands_behind_the_last_colon(source: str, parts: tuple[str, str]) -> None:
    assert place_and_split(source) == parts


def test_a_folder_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert AudioPromptsSection(source="mine").trained == "mine"
