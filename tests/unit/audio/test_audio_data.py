"""Questions about sound as prompts: the embedded world, files, forms, and what is held out."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from adrpo.audio.data import load_held_out, load_train
from adrpo.audio.data.forms import asked
from adrpo.config.audio_prompts import AudioPromptsSection
from adrpo.data import Prompt
from adrpo.embedded.sounds.meaning import prompt_text
from adrpo.embedded.sounds.rendering import render
from adrpo.embedded.sounds.sets import question_set
from adrpo.errors import AdrpoError
from support.sound_files import question, tone, write_clip, write_lines


def own(folder: Path, rows: list[dict[str, Any]]) -> str:
    """A file of questions, each of whose clips is another tone."""
    for number, name in enumerate(dict.fromkeys(row["audio"] for row in rows)):
        write_clip(folder / name, tone(300 + number))
    return str(write_lines(folder / "questions.jsonl", rows))


def test_the_world_is_asked_in_the_form_of_the_embedded_model_with_its_own_clip() -> None:
    section = AudioPromptsSection(train_size=9, held_out_size=3, split_seed=5)
    for prompts, split in ((load_train(section), "train"), (load_held_out(section), "held_out")):
        questions = question_set(len(prompts), split=split, seed=5)  # type: ignore[arg-type]
        for prompt, wanted in zip(prompts, questions, strict=True):
            assert prompt.content == [{"role": "user", "content": prompt_text(wanted)}]
            assert prompt.category == wanted.task
            assert prompt.columns["choices"] == list(wanted.choices)
            assert prompt.columns["answer"] == wanted.answer
            assert prompt.columns["sub_category"] == wanted.sub_category
            assert prompt.columns["difficulty"] == wanted.difficulty
            samples, rate = soundfile.read(io.BytesIO(prompt.columns["audio"]["bytes"]))
            assert rate == 16_000
            # 16 bits: half a step of 1 / 32768, and a full scale of 32767.
            sound = render(wanted.clip, wanted.seed)
            assert np.abs(samples - sound).max() < 1.5 / 32768


def test_a_world_that_is_held_out_is_its_test_part() -> None:
    section = AudioPromptsSection(held_out="sounds:test", held_out_size=3)
    wanted = question_set(3, split="test", seed=0)
    assert [prompt.columns["answer"] for prompt in load_held_out(section)] == [
        one.answer for one in wanted
    ]


def test_more_questions_than_the_world_has_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise ValueError("expected at most 7 questions; received 8")

    monkeypatch.setattr("adrpo.audio.data.world.question_set", full)
    with pytest.raises(AdrpoError, match=r"sounds:train: expected at most 7 .*; lower the size"):
        load_train(AudioPromptsSection(train_size=8))


def test_a_turn_of_the_system_stands_first() -> None:
    first = load_train(AudioPromptsSection(train_size=3, system="Listen."))[0]
    assert [turn["role"] for turn in first.content] == ["system", "user"]  # type: ignore[index]
    assert first.content[0] == {"role": "system", "content": "Listen."}


CHOICES = ["a dog", "{choices}", "a cat"]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("plain", "Who {is} it?\na dog\n{choices}\na cat\n"),
        ("{question} {lettered}!", "Who {is} it? A. a dog\nB. {choices}\nC. a cat!"),
        ("{choices}|{question}|{choices}", None),
    ],
)
def test_a_form_places_question_and_choices_as_they_are(form: str, text: str | None) -> None:
    shown = "a dog\n{choices}\na cat"
    text = text or f"{shown}|Who {{is}} it?|{shown}"
    assert asked("Who {is} it?", CHOICES, form=form) == text


def test_the_forms_with_tags_ask_for_what_the_reward_of_that_format_wants() -> None:
    for form, tags in (("answer", ["answer"]), ("think", ["think", "answer"])):
        text = asked("Who is it?", CHOICES, form=form)
        assert "A. a dog\nB. {choices}\nC. a cat\n" in text
        for tag in ("think", "answer"):
            assert (f"<{tag}>" in text and f"</{tag}>" in text) == (tag in tags)


def test_a_files_rows_keep_their_columns_and_their_clips(tmp_path: Path) -> None:
    rows = [question(n, category="farm", take=n) for n in range(4)]
    source = own(tmp_path, rows)
    section = AudioPromptsSection(source=source, held_out="sounds:held_out", held_out_size=1)
    prompts = load_train(section)
    for number, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        assert prompt.text.startswith(row["question"] + "\n")
        assert prompt.category == "farm"
        assert prompt.columns["take"] == number
        assert prompt.columns["audio"] == str(tmp_path / row["audio"])
        assert prompt.columns["source_row"] == f"{source}, line {number + 1}"
        assert sorted(prompt.columns["choices"]) == sorted(row["choices"])
        assert prompt.columns["answer"] == "cat"


def test_columns_and_the_folder_of_clips_can_have_other_names(tmp_path: Path) -> None:
    rows = [
        {
            "file": f"{n}.wav", "ask": f"{n}?", "options": ["one", "two"], "right": "B",
            "kind": "k", "audio": "not this", "prompt": "nor this",
        }
        for n in range(3)
    ]  # fmt: skip
    for n in range(3):
        write_clip(tmp_path / "elsewhere" / f"{n}.wav", tone(300 + n))
    section = AudioPromptsSection.model_validate(
        {
            "source": str(write_lines(tmp_path / "a.jsonl", rows)),
            "columns": {"audio": "file", "question": "ask", "choices": "options",
                        "answer": "right", "category": "kind"},
            "audio_folder": str(tmp_path / "elsewhere"),
            "held_out_share": 0.3,
            "shuffle_choices": False,
        }
    )  # fmt: skip
    prompts = load_train(section) + load_held_out(section)
    assert sorted(p.columns["audio"] for p in prompts) == [
        str(tmp_path / "elsewhere" / f"{n}.wav") for n in range(3)
    ]
    for prompt in prompts:
        assert prompt.text.endswith("?\none\ntwo\n")
        assert prompt.category == "k"
        assert prompt.columns["answer"] == "two"
        assert prompt.columns.keys() == {"audio", "choices", "answer", "source_row"}


def clip_bytes(prompts: list[Prompt]) -> set[bytes]:
    return {Path(prompt.columns["audio"]).read_bytes() for prompt in prompts}


def test_all_questions_of_one_sound_stand_on_one_side(tmp_path: Path) -> None:
    """Known by its content: each clip lies there under two names, and has four questions."""
    rows = [question(n, question=f"{n} {m}?") for n in range(12) for m in range(4)]
    source = own(tmp_path, rows)
    for number, row in enumerate(rows):
        if number % 2:
            copy = tmp_path / row["audio"].replace("clips", "copies")
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes((tmp_path / row["audio"]).read_bytes())
            row["audio"] = str(copy)
    write_lines(Path(source), rows)
    parts = set[str]()
    for seed in range(3):
        section = AudioPromptsSection(source=source, held_out_share=0.25, split_seed=seed)
        train, held_out = load_train(section), load_held_out(section)
        assert (len(train), len(held_out)) == (36, 12)
        assert {p.text.partition("\n")[0] for p in train + held_out} == {
            row["question"] for row in rows
        }
        assert not clip_bytes(train) & clip_bytes(held_out)
        parts.add(str(sorted(prompt.text.partition("\n")[0] for prompt in held_out)))
    assert len(parts) == 3  # the seed decides


def test_sizes_cut_each_part(tmp_path: Path) -> None:
    source = own(tmp_path, [question(n) for n in range(8)])
    whole = AudioPromptsSection(source=source, held_out_share=0.5, shuffle_choices=False)
    cut = whole.model_copy(update={"train_size": 3, "held_out_size": 2})
    assert load_train(cut) == load_train(whole)[:3]
    assert load_held_out(cut) == load_held_out(whole)[:2]
    assert len(load_train(whole)) == 4


def test_what_only_measures_does_not_read_what_is_trained_on(tmp_path: Path) -> None:
    section = AudioPromptsSection(
        source=str(tmp_path / "missing.jsonl"), held_out=own(tmp_path, [question()])
    )
    assert len(load_held_out(section)) == 1
    with pytest.raises(AdrpoError, match=r"missing\.jsonl: expected a file of prompts"):
        load_train(section)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (lambda: [question()], "received 0.1 of 1 different clips"),
        (lambda: [{"question": "?"}], "line 1: expected a column 'audio' with the audio, received"
         " the columns question; name it in prompts.columns.audio"),
        (lambda: [question(audio=None)], "line 1: expected a clip: .* received None"),
        (lambda: [question(audio=3)], "line 1: expected a clip: .* received 3"),
        (lambda: ["text"], "line 1: expected a column 'audio'"),
    ],
)  # fmt: skip
def test_a_source_without_what_it_needs_is_one_line(
    tmp_path: Path, rows: Callable[[], list[Any]], message: str
) -> None:
    write_clip(tmp_path / "clips" / "0.wav")
    source = write_lines(tmp_path / "a.jsonl", rows())
    with pytest.raises(AdrpoError, match=message) as caught:
        load_train(AudioPromptsSection(source=str(source)))
    assert "\n" not in str(caught.value)


def test_a_missing_clip_is_named_before_the_split(tmp_path: Path) -> None:
    source = own(tmp_path, [question(n) for n in range(4)])
    (tmp_path / "clips" / "2.wav").unlink()
    with pytest.raises(AdrpoError, match=r"questions\.jsonl, line 3: .*2\.wav: No such file"):
        load_train(AudioPromptsSection(source=source))
