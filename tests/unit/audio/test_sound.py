"""Clips read from files, bytes and arrays, and what is refused."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from adrpo import AdrpoError
from adrpo.audio.sound import key_of, sources_of, waveform
from support.sound_files import RATE, tone


def loudest(samples: np.ndarray) -> float:
    """Frequency of the highest peak, in hertz at 16 kHz."""
    return float(np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples))


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("a.wav", "PCM_U8"),
        ("a.wav", "PCM_16"),
        ("a.wav", "PCM_24"),
        ("a.wav", "FLOAT"),
        ("a.flac", "PCM_16"),
        ("a.ogg", "VORBIS"),
        ("a.mp3", "MPEG_LAYER_III"),
    ],
)
@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_a_file_is_heard_in_mono_at_the_models_rate(
    tmp_path: Path, name: str, subtype: str, rate: int
) -> None:
    # In stereo, the second channel silent: the mean halves the tone and keeps its pitch.
    sound = tone(440, rate)
    file = tmp_path / name
    soundfile.write(file, np.stack([sound, 0 * sound], axis=1), rate, subtype=subtype)
    heard = waveform(str(file), RATE)
    assert heard.dtype == np.float32
    assert abs(len(heard) - 0.5 * RATE) < 0.1 * RATE
    assert abs(loudest(heard) - 440) < 4
    middle = heard[len(heard) // 4 : -len(heard) // 4]
    assert abs(np.abs(middle).max() - 0.25) < 0.03


def test_every_form_of_one_clip_gives_the_same_samples(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    soundfile.write(file, tone(440, RATE), RATE, subtype="FLOAT")
    encoded = file.read_bytes()
    forms: list[Any] = [
        file,
        str(file),
        {"path": str(file), "bytes": None},
        {"path": "elsewhere.wav", "bytes": encoded},
        {"array": tone(440, RATE).tolist(), "sampling_rate": RATE},
    ]
    for form in forms:
        np.testing.assert_array_equal(waveform(form, RATE), tone(440, RATE))


def test_resampling_leaves_nothing_above_the_new_limit() -> None:
    """A tone above half the new rate would come back as another one."""
    clip = {"array": tone(10_000, 44_100) + tone(1_000, 44_100), "sampling_rate": 44_100}
    spectrum = np.abs(np.fft.rfft(waveform(clip, RATE)[400:-400]))
    assert abs(loudest(waveform(clip, RATE)) - 1_000) < 4
    alias = round(6_000 * (len(spectrum) - 1) * 2 / RATE)
    assert spectrum[alias - 3 : alias + 4].max() < 1e-3 * spectrum.max()


def test_keys_tell_sounds_apart_and_know_an_equal_one() -> None:
    one = {"array": tone(440, RATE), "sampling_rate": RATE}
    same = {"array": tone(440, RATE).tolist(), "sampling_rate": RATE}
    slower = {"array": tone(440, RATE), "sampling_rate": 8_000}
    other = {"array": tone(441, RATE), "sampling_rate": RATE}
    assert key_of(one) == key_of(same)
    assert len({key_of(one), key_of(slower), key_of(other), key_of("a.wav"), key_of("b.wav")}) == 5
    assert key_of("a.wav") == key_of({"path": "a.wav", "bytes": None})


def test_a_cell_holds_no_clip_one_or_several() -> None:
    assert sources_of(None) == []
    assert sources_of("a.wav") == ["a.wav"]
    assert sources_of([{"path": "a"}, "b"]) == [{"path": "a"}, "b"]


def written(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3.5, "expected a path, .* received a float"),
        ({"sound": 1}, r"received a mapping with \['sound'\]"),
        ("missing.wav", "received missing.wav: there is no such file"),
        ({"bytes": b"RIFF nothing"}, "received bytes, which can't be read"),
        ({"bytes": written(np.zeros(0))}, "received bytes without a sample"),
        ({"array": [], "sampling_rate": RATE}, "received an array without a sample"),
        ({"array": [0.1, float("nan")], "sampling_rate": RATE}, "received NaN or infinity"),
        ({"array": [0.1], "sampling_rate": 0}, "a sampling rate above 0, received 0"),
        ({"array": [0.1]}, "expected a sampling_rate beside the array, received None"),
        ({"array": [[0.1], [0.2]], "sampling_rate": RATE}, r"float64 of shape \(2, 1\)"),
        ({"array": [100, -100], "sampling_rate": RATE}, "array of floats .* received int64"),
    ],
)
def test_what_is_no_sound_is_refused(source: Any, message: str) -> None:
    with pytest.raises(AdrpoError, match=message):
        waveform(source, RATE)
