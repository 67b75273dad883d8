"""The check of clips before training: what is heard, refused and remembered."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from adrpo.audio.data import (
    by_clip_and_words,
    by_content,
    check_clips,
    clips,
    warn_of_shared_clips,
)
from adrpo.data import Prompt
from adrpo.data.identity import digest
from adrpo.errors import AdrpoError, AdrpoWarning
from support.sound_files import RATE, tone, write_clip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "adrpo"


def prompts_of(*found: Any) -> list[Prompt]:
    return [
        Prompt("?", columns={"audio": str(one) if isinstance(one, Path) else one,
                             "source_row": f"a.jsonl, line {number}"})
        for number, one in enumerate(found, 1)
    ]  # fmt: skip


def check(prompts: list[Prompt], **options: Any) -> list[Prompt]:
    return check_clips(prompts, **{"longest": 2.0, "progress": False} | options)


def encoded(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {"subtype": "PCM_U8"}),
        ("a.wav", {"subtype": "PCM_16"}),
        ("a.wav", {"subtype": "PCM_24"}),
        ("a.wav", {"subtype": "FLOAT"}),
        ("a.flac", {}),
        ("a.ogg", {}),
        ("a.mp3", {}),
    ],
)
@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_files_of_every_form_are_accepted_and_measured(
    tmp_path: Path, name: str, options: dict[str, str], rate: int, cache: Path
) -> None:
    stereo = np.stack([tone(rate=rate), tone(rate=rate)], axis=1)
    prompts = prompts_of(write_clip(tmp_path / name, stereo, rate, **options))
    assert check(prompts) == prompts
    ((seconds, silent),) = json.loads((cache / "clips.json").read_text()).values()
    assert abs(seconds - 0.5) < 0.1  # MP3 adds silence at both ends
    assert not silent


def broken_rate() -> bytes:
    content = bytearray(encoded(tone()))
    content[24:28] = bytes(4)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "received FILE: No such file or directory; name the column of the clips in"),
        (b"", "received FILE, which is empty"),
        (encoded(np.zeros(0)), "received FILE without a sample"),
        (b"RIFF and nothing more", "received FILE, which can't be read"),
        (encoded(tone())[:30], "received FILE, which can't be read"),
        (broken_rate(), "received FILE, which can't be read"),
        (encoded(tone(seconds=2.1)), "expected 0.03 to 2 s, which the model hears, received 2.100"),
        (encoded(tone(seconds=0.02)), "received 0.020 s in FILE; cut or drop the clip"),
    ],
)
def test_a_file_that_cant_be_heard_is_named_with_its_row(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    good, bad = write_clip(tmp_path / "good.wav"), tmp_path / "bad.wav"
    if content is not None:
        bad.write_bytes(content)
    prompts = prompts_of(good, bad, good, bad)
    for _ in range(2):  # the second check has remembered what it could hear
        with pytest.raises(AdrpoError) as caught:
            check(prompts)
        line = str(caught.value)
        assert "\n" not in line
        assert line.startswith("a.jsonl, line 2: audio: ")
        assert message.replace("FILE", str(bad)) in line
        assert line.endswith("(1 more of 4 clips are refused)")
    with pytest.warns(AdrpoWarning, match="2 of 4 clips are left out: a.jsonl, line 2: "):
        assert check(prompts, faulty="leave_out") == [prompts[0], prompts[2]]


@pytest.mark.parametrize("text", ["A dog barks.\nA cat answers.", "a\0b", "very long " * 900])
def test_a_column_of_texts_that_name_no_files_is_one_line(text: str) -> None:
    with pytest.raises(AdrpoError) as caught:
        check(prompts_of(text))
    line = str(caught.value)
    assert line.isprintable() or "\0" in text
    assert "\n" not in line
    assert len(line) < 500
    assert line.startswith("a.jsonl, line 1: audio: expected a file of sound, received ")
    assert "name the column of the clips in prompts.columns.audio" in line


def test_an_array_without_a_rate_is_refused() -> None:
    """And a folder, which is a path that names no file."""
    for rate, message in ((0, "a sampling rate above 0, received 0"), (None, "received None")):
        bad = {"array": tone(), "sampling_rate": rate}
        with pytest.raises(AdrpoError, match=f"line 1: audio: expected .*{message}"):
            check(prompts_of(bad))
    with pytest.raises(AdrpoError, match=r"line 1: audio: .*received /: Is a directory"):
        check(prompts_of(Path("/")))


def test_a_silent_clip_warns_by_name_and_stays(tmp_path: Path) -> None:
    silent = write_clip(tmp_path / "silent.wav", 0 * tone())
    # The tone's largest sample is 0.5: just below and just above 80 dB under full scale.
    below = write_clip(tmp_path / "below.wav", 1.9e-4 * tone(), subtype="FLOAT")
    above = write_clip(tmp_path / "above.wav", 2.1e-4 * tone(), subtype="FLOAT")
    prompts = prompts_of(above, silent, below)
    for _ in range(2):
        with pytest.warns(AdrpoWarning) as caught:
            assert check(prompts) == prompts
        told = [str(warning.message) for warning in caught]
        named = f"a.jsonl, line 2, {silent}; a.jsonl, line 3, {below}"
        assert told == [f"2 of 3 clips are silent: {named}"]


def test_a_clip_of_a_false_rate_is_refused_before_it_becomes_hours_of_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resampled(*given: Any) -> None:
        raise AssertionError("8000 s of sound at the model's rate are 128 million samples")

    monkeypatch.setattr(soxr, "resample", resampled)
    soundfile.write(tmp_path / "slow.wav", np.full(8000, 0.5), samplerate=1)
    with pytest.raises(AdrpoError, match=r"expected 0\.03 to 2 s.*received 8000\.000 s in .*slow"):
        check(prompts_of(tmp_path / "slow.wav"))


def test_a_second_check_reads_no_sound_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the file's name is now; another content is another clip."""
    heard: list[str] = []
    hear = clips.recorded
    monkeypatch.setattr(clips, "recorded", lambda clip: heard.append(clip) or hear(clip))
    one, two = write_clip(tmp_path / "1.wav", tone(300)), write_clip(tmp_path / "2.wav", tone(310))
    check(prompts_of(one, two))
    assert sorted(heard) == [str(one), str(two)]
    moved = one.rename(tmp_path / "3.wav")
    check(prompts_of(moved, two))
    assert len(heard) == 2
    with pytest.raises(AdrpoError, match=r"received 0\.500 s"):
        check(prompts_of(moved), longest=0.4)  # the limit is not remembered
    write_clip(two, tone(320, seconds=0.6))
    check(prompts_of(two))
    check(prompts_of(moved, two))
    assert heard[2:] == [str(two)]


def test_a_clip_that_was_kept_in_part_is_written_again(cache: Path) -> None:
    """A file system that ran full leaves such a file; its name is its content's checksum."""
    path = clips.kept_clip(b"a whole clip", ".wav")
    path.write_bytes(b"a whole")
    assert clips.kept_clip(b"a whole clip", ".wav") == path
    assert path.read_bytes() == b"a whole clip"
    assert [file.name for file in (cache / "clips").iterdir()] == [path.name]


def test_a_file_of_the_cache_that_is_damaged_is_made_again(tmp_path: Path, cache: Path) -> None:
    prompts = prompts_of(write_clip(tmp_path / "1.wav"))
    for damage in ("{", "[]", '{"a": 3}'):
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "clips.json").write_text(damage)
        assert check(prompts) == prompts
        assert list(json.loads((cache / "clips.json").read_text()).values()) == [[0.5, False]]


def test_a_cache_that_cant_be_written_is_told_and_the_check_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    prompts = prompts_of(write_clip(tmp_path / "1.wav"))
    with pytest.warns(AdrpoWarning, match="what was heard is not remembered"):
        assert check(prompts) == prompts
    with pytest.raises(AdrpoError, match="set XDG_CACHE_HOME to a folder with room"):
        clips.kept_clip(b"sound", ".wav")


def test_clips_of_the_world_are_heard_and_leave_nothing_behind(cache: Path) -> None:
    prompts = prompts_of({"bytes": encoded(tone())}, {"bytes": encoded(0 * tone())})
    with pytest.warns(AdrpoWarning, match="1 of 2 clips are silent: a.jsonl, line 2"):
        assert check(prompts) == prompts
    assert not cache.exists()
    with pytest.raises(AdrpoError, match="received bytes, which can't be read"):
        check(prompts_of({"bytes": b"no sound"}))


def test_a_clip_of_two_sources_warns_whatever_its_name(tmp_path: Path) -> None:
    train = prompts_of(write_clip(tmp_path / "1.wav"), {"bytes": encoded(tone(310))})
    same, other = write_clip(tmp_path / "2.wav"), write_clip(tmp_path / "3.wav", tone(320))
    told = "1 of 2 held-out questions are on clips of training: a.jsonl, line 2"
    with pytest.warns(AdrpoWarning, match=told):
        warn_of_shared_clips(train, prompts_of(other, same))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_shared_clips(train, prompts_of(other))


def test_the_check_shows_a_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(prompts_of(write_clip(tmp_path / "1.wav")), progress=True)
    assert "Checking clips" in capsys.readouterr().out
    check(prompts_of(write_clip(tmp_path / "1.wav")))
    assert not capsys.readouterr().out


def test_a_question_is_its_sound_and_its_words_in_any_order(tmp_path: Path) -> None:
    """Whatever its clip is called, wherever it stands, and however its choices are shuffled."""
    clip, copy = write_clip(tmp_path / "a.wav"), write_clip(tmp_path / "b.wav")
    other = write_clip(tmp_path / "c.wav", tone(300))

    def asked(words: str, sound: Path, row: int) -> Prompt:
        return Prompt(words, columns={"audio": str(sound), "source_row": f"line {row}"})

    first, moved = asked("What? cat dog", clip, 1), asked("What? cat dog", copy, 2)
    shuffled, elsewhere = asked("what?  Dog cat", copy, 3), asked("What? cat dog", other, 1)
    known = [by_clip_and_words(prompt) for prompt in (first, moved, shuffled, elsewhere)]
    assert known[0] == known[1] == known[2] != known[3]
    assert digest(by_content(first)) == digest(by_content(moved))
    assert digest(by_content(first)) not in {
        digest(by_content(shuffled)),
        digest(by_content(elsewhere)),
    }
