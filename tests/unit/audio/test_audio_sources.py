"""Published sets of questions, in small files of their layout, and data sets of one's own."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset, DatasetDict

from adrpo.audio.data import check_clips, load_held_out, load_train
from adrpo.config.audio_prompts import AudioPromptsSection
from adrpo.data import Prompt
from adrpo.errors import AdrpoError, AdrpoWarning
from support.sound_files import RATE, question, tone, write_clip, write_lines

AVQA, AUDIO_MCQ = "gijs/avqa-processed", "Harland/AudioMCQ-StrongAC-GeminiCoT"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "adrpo"


def section(**keys: Any) -> AudioPromptsSection:
    given = {"train_size": None, "held_out_size": None, "shuffle_choices": False}
    return AudioPromptsSection.model_validate(given | keys)


def wav(hertz: float) -> dict[str, Any]:
    file = io.BytesIO()
    soundfile.write(file, tone(hertz), RATE, format="WAV", subtype="PCM_16")
    return {"bytes": file.getvalue(), "path": f"{hertz}.wav"}


def hears(prompt: Prompt) -> float:
    """The pitch of a prompt's clip, in hertz."""
    samples, rate = soundfile.read(prompt.columns["audio"])
    return float(np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples))


def avqa(folder: Path) -> Path:
    """Files as they lie on the Hub: parquet, with the clips in it; two questions on one clip."""
    for split, count in (("train", 3), ("validation", 2)):
        rows = [
            {
                "audio": wav(hertz),
                "question": f"How many animals are there in the video {hertz}?\n"
                "Choices:\nA. 3\nB. One\nC. 4\nD. 2",
                "answer": answer,
                "video_name": f"-{hertz}.mp4",
            }
            for hertz in (300, 310, 320)[:count]
            for answer in (("B. One", "C. 4") if hertz == 300 else ("D. 2",))
        ]
        (folder / "data").mkdir(parents=True, exist_ok=True)
        # Cast, since writing sound as sound wants torchcodec.
        table = Dataset.from_list(rows).cast_column("audio", Audio(sampling_rate=RATE))
        table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize("place", ["copy", "Hub"])
def test_avqa_is_read_as_others_train_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, cache: Path
) -> None:
    folder = avqa(tmp_path / "avqa-processed")
    source = str(folder)
    if place == "Hub":
        import datasets

        load = datasets.load_dataset
        monkeypatch.setattr(
            datasets, "load_dataset", lambda name, *a, **k: load({AVQA: str(folder)}[name], *a, **k)
        )
        source = AVQA
    keys = section(source=source, held_out=f"{source}:validation")
    train, held_out = load_train(keys), load_held_out(keys)
    assert [round(hears(prompt)) for prompt in train] == [300, 300, 310, 320]
    assert [round(hears(prompt)) for prompt in held_out] == [300, 300, 310]
    assert train[0].text == "How many animals are there in the audio 300?\n3\nOne\n4\n2\n"
    assert train[0].columns["choices"] == ["3", "One", "4", "2"]
    assert [prompt.columns["answer"] for prompt in train] == ["One", "4", "2", "2"]
    assert train[2].columns["video_name"] == "-310.mp4"
    assert train[2].columns["source_row"] == f"{source}, row 2"
    # Each clip is kept once, in the cache, however many questions and splits have it.
    assert len(list((cache / "clips").iterdir())) == 3
    assert check_clips(train, longest=1, progress=False) == train


def test_avqa_in_the_lines_of_r1_aqa_is_the_same_question(tmp_path: Path) -> None:
    """xiaomi-research/r1-aqa, README: the answer is the number of a choice."""
    row = {
        "id": 300,
        "video_name": "-300",
        "question_text": "How many animals are there in the video 300?",
        "multi_choice": ["3", "One", "4", "2"],
        "answer": 1,
        "question_relation": "View",
        "dataset_name": "AVQA",
        "audio_path": str(write_clip(tmp_path / "300.wav", tone(300))),
    }
    names = {"audio": "audio_path", "question": "question_text", "choices": "multi_choice"}
    keys = {"source": str(write_lines(tmp_path / "train.jsonl", [row])), "columns": names}
    (prompt,) = load_train(section(**keys, held_out="sounds:held_out", held_out_size=1))
    other = load_train(section(source=str(avqa(tmp_path / "avqa-processed")), held_out="a/b"))[0]
    assert prompt.content == other.content
    assert prompt.columns["answer"] == other.columns["answer"] == "One"


def test_a_clip_of_a_data_set_is_on_one_side_of_its_split(tmp_path: Path) -> None:
    keys = section(source=str(avqa(tmp_path / "mine")), held_out_share=0.34)
    for seed in range(4):
        drawn = keys.model_copy(update={"split_seed": seed})
        sides = [{hears(p) for p in part} for part in (load_train(drawn), load_held_out(drawn))]
        assert [len(side) for side in sides] == [2, 1]
        assert not sides[0] & sides[1]


def audio_mcq(folder: Path) -> Path:
    rows = [
        {
            "source_dataset": "AudioCaps",
            "id": str(number),
            "question_type": kind,
            "audio_path": f"AudioCaps/{number}.{suffix}",
            "question": "What does the video of water show?",
            "answer": "Water splashing",
            "choices": ["Water pouring", "Water splashing", "Water boiling", "Dripping"],
            "gemini_cot": "I hear water.",
        }
        for number, (kind, suffix) in enumerate([("sound", "wav"), ("music", "mp3")])
    ]
    for number, row in enumerate(rows):
        write_clip(folder / row["audio_path"], tone(300 + 10 * number, seconds=1.0))
    write_lines(folder / "data.jsonl", rows)
    return folder


@pytest.mark.parametrize("place", ["copy", "file", "Hub"])
def test_audio_mcq_is_read_from_its_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = audio_mcq(tmp_path / "AudioMCQ-StrongAC-GeminiCoT")
    keys: dict[str, Any] = {"source": str(folder)}
    if place == "Hub":
        fetched = {(AUDIO_MCQ, "dataset"): str(folder)}
        monkeypatch.setattr(
            "huggingface_hub.snapshot_download", lambda name, *, repo_type: fetched[name, repo_type]
        )
        keys = {"source": AUDIO_MCQ}
    elif place == "file":
        keys = {
            "source": str(folder / "data.jsonl"),
            "columns": {"audio": "audio_path", "category": "question_type"},
        }
    prompts = load_train(section(**keys, held_out="sounds:held_out", held_out_size=1))
    assert [round(hears(prompt), -1) for prompt in prompts] == [300, 310]
    assert [prompt.category for prompt in prompts] == ["sound", "music"]
    # Questions of this set were asked about sound: "video" stays.
    assert prompts[0].text.startswith("What does the video of water show?\nWater pouring\n")
    assert prompts[0].columns["answer"] == "Water splashing"
    assert prompts[0].columns["gemini_cot"] == "I hear water."


def test_a_set_that_cant_be_fetched_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no\nnetwork")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(
        AdrpoError, match=f"^prompts.source: {AUDIO_MCQ}: expected .* fetched: no network"
    ):
        load_train(section(source=AUDIO_MCQ))


def test_a_set_of_ones_own_is_read_from_what_datasets_saved(tmp_path: Path) -> None:
    """With files as its Audio, and with paths as texts."""
    for n in range(3):
        write_clip(tmp_path / "clips" / f"{n}.wav", tone(300 + 10 * n))
    rows = Dataset.from_list([question(n, audio=f"{tmp_path}/clips/{n}.wav") for n in range(3)])
    DatasetDict({"train": rows}).save_to_disk(tmp_path / "paths")
    DatasetDict({"train": rows.cast_column("audio", Audio())}).save_to_disk(tmp_path / "audio")
    for name in ("paths", "audio"):
        keys = section(source=str(tmp_path / name), held_out="sounds:test", held_out_size=1)
        assert [round(hears(prompt)) for prompt in load_train(keys)] == [300, 310, 320]


def test_a_data_set_without_audio_is_one_line(tmp_path: Path) -> None:
    rows = [{name: value for name, value in question().items() if name != "audio"}]
    Dataset.from_list(rows).save_to_disk(tmp_path / "text")
    with pytest.raises(AdrpoError) as caught:
        load_train(section(source=str(tmp_path / "text")))
    assert str(caught.value) == (
        f"prompts.source: {tmp_path}/text, row 0: expected a column 'audio' with the audio, "
        "received the columns "
        "question, choices, answer; name it in prompts.columns.audio"
    )


def test_a_file_has_no_split(tmp_path: Path) -> None:
    with pytest.raises(AdrpoError, match="a file has no split 'validation'"):
        load_train(section(source=f"{write_lines(tmp_path / 'a.jsonl', [question()])}:validation"))


def mmau(folder: Path) -> Path:
    rows = [
        {
            "id": f"q{number}",
            "audio_id": f"./test-mini-audios/q{number}.wav",
            "question": "Which instrument?",
            "choices": choices,
            "answer": answer,
            "dataset": "ours",
            "task": "music",
            "split": "test-mini",
            "category": ["Reasoning", "Recognition"],
            "sub-category": "Instrumentation",
            "difficulty": "easy",
        }
        for number, (choices, answer) in enumerate(
            [
                (["Piano", "Violin", "Harp", "Lute"], "Harp"),
                (["Piano", "Violin", "Violin", "Lute"], "Violin"),
                (["Piano", "Violin", "Harp", "Lute"], "Drum"),
                (["All of the above", "Piano"], "Piano"),
            ]
        )
    ]
    for number, row in enumerate(rows):
        write_clip(folder / row["audio_id"], tone(300 + 10 * number))
    (folder / "mmau-test-mini.json").write_text(json.dumps(rows))
    return folder


def test_mmau_is_held_out_in_its_own_order(tmp_path: Path) -> None:
    keys = AudioPromptsSection(held_out=f"mmau:{mmau(tmp_path)}", form="answer")
    with pytest.warns(AdrpoWarning) as caught:
        prompts = load_held_out(keys)
    assert [str(warning.message) for warning in caught] == [
        f"1 of 4 questions are left out: {tmp_path}/mmau-test-mini.json, question q2: expected as "
        "answer one of ['Piano', 'Violin', 'Harp', 'Lute'], received 'Drum'; correct the row, or "
        "set prompts.faulty: leave_out"
    ]
    assert [prompt.columns["id"] for prompt in prompts] == ["q0", "q1", "q3"]
    assert [round(hears(prompt)) for prompt in prompts] == [300, 310, 330]
    assert [prompt.category for prompt in prompts] == ["music"] * 3
    first, second, _ = prompts
    assert first.columns["choices"] == ["Piano", "Violin", "Harp", "Lute"]
    assert first.columns["sub_category"] == "Instrumentation"
    assert first.columns["difficulty"] == "easy"
    assert second.columns["choices"] == ["Piano", "Violin", "Lute"]
    assert "A. Piano\nB. Violin\nC. Harp\nD. Lute\n" in first.text
