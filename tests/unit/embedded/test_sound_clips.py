"""Clips of the sounds world: they carry the answer, and are valid sound."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from adrpo.embedded.sounds import rendering
from adrpo.embedded.sounds.meaning import LEVELS, Clip, Event
from adrpo.embedded.sounds.rendering import render
from adrpo.embedded.sounds.sets import SUB_CATEGORIES, question_set, sample_question
from adrpo.embedded.sounds.words import (
    BANK,
    RATE,
    VOICES,
    WORDS,
    compress,
    expand,
    word_bank,
)
from adrpo.errors import AdrpoError
from support.listening import heard_answer


@pytest.mark.parametrize("sub_category", list(SUB_CATEGORIES))
@pytest.mark.parametrize("noise", [-38.0, -20.0], ids=["quiet", "noisy"])
def test_a_listener_hears_the_answer(monkeypatch, sub_category: str, noise: float):
    monkeypatch.setattr(rendering, "NOISE_DECIBELS", (noise, noise))
    rng = np.random.default_rng(8)
    questions = [sample_question(rng, sub_category, level) for level in LEVELS for _ in range(4)]
    heard = [heard_answer(render(q.clip, q.seed), q) for q in questions]
    assert heard == [q.answer for q in questions]


def test_a_listener_without_the_clip_does_not_know_the_answer():
    rng = np.random.default_rng(9)
    right = 0
    for name in SUB_CATEGORIES:
        questions = [sample_question(rng, name, "medium") for _ in range(12)]
        # The clip of the next question of the sub-category.
        clips = [render(q.clip, q.seed) for q in (*questions[1:], questions[0])]
        right += sum(heard_answer(w, q) == q.answer for w, q in zip(clips, questions, strict=True))
    assert right / (12 * len(SUB_CATEGORIES)) < 0.35


def test_clips_are_valid_sound_of_one_to_three_seconds():
    for question in question_set(210, split="train", seed=1):
        clip = render(question.clip, question.seed)
        assert clip.dtype == np.float32 and clip.ndim == 1
        assert RATE <= len(clip) <= 3 * RATE
        assert np.isfinite(clip).all()
        assert 0.29 < np.abs(clip).max() < 0.901


def test_the_longest_clips_fit(monkeypatch):
    """The longest words and rows of events that a question may draw, their end included."""
    monkeypatch.setattr(rendering, "ENDING", (0.03, 0.03))
    by_length = sorted(word_bank(), key=lambda key: -len(word_bank()[key]))
    # The same word may be said by four voices.
    said = tuple(Event(name=word, voice=voice) for word, voice in by_length[:4])
    seven = tuple(Event(name="buzz") for _ in range(7))
    notes = tuple(Event(name="flute", pitches=(60,), beats=2) for _ in range(5))
    for clip in (
        Clip(task="speech", events=said),
        Clip(task="sound", events=seven),
        Clip(task="music", events=notes),
    ):
        for seed in range(30):
            # Background follows the last event: nothing was cut off to fit.
            assert len(render(clip, seed)) < 3 * RATE


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_clip():
    for question in question_set(42, split="held_out", seed=2):
        clip = render(question.clip, question.seed)
        assert clip.tobytes() == render(question.clip, question.seed).tobytes()
        assert clip.tobytes() != render(question.clip, question.seed + 1).tobytes()


def test_circumstances_vary_with_the_seed():
    clip = Clip(task="music", events=(Event(name="flute", pitches=(60,), beats=1.5),))
    waves = [render(clip, seed) for seed in range(40)]
    levels = [float(np.abs(wave).max()) for wave in waves]
    onsets = [int(np.argmax(np.abs(wave) > 0.3 * np.abs(wave).max())) / RATE for wave in waves]
    spectra = [np.abs(np.fft.rfft(wave[: RATE // 2], 1 << 16)) for wave in waves]
    pitches = [np.argmax(spectrum) * RATE / (1 << 16) for spectrum in spectra]
    assert max(levels) - min(levels) > 0.4
    assert max(onsets) - min(onsets) > 0.2
    # An octave apart, and up to half a semitone either way.
    assert 1.95 < max(pitches) / min(pitches) < 2.2
    assert len({round(pitch, 1) for pitch in pitches}) > 20


def test_the_bank_has_every_word_by_every_voice_within_its_size():
    bank = word_bank()
    assert list(bank) == [(word, voice) for word in WORDS for voice in VOICES]
    for recording in bank.values():
        assert 0.1 * RATE < len(recording) < 0.6 * RATE
        assert np.isclose(np.mean(recording**2), 1, atol=1e-3)
    assert BANK.stat().st_size < 1_500_000


def test_the_card_beside_the_bank_is_of_this_file():
    card = (Path(BANK).parent / "README.md").read_text(encoding="utf-8")
    assert sha256(BANK.read_bytes()).hexdigest() in card
    assert f"{BANK.stat().st_size:,} bytes" in card


def test_eight_bits_are_as_near_as_the_docstring_says():
    wave = np.linspace(-1, 1, 20_001, dtype=np.float32)
    error = np.abs(expand(compress(wave)) - wave)
    assert np.all(error <= 0.022 * np.abs(wave) + 1e-4)


def test_a_bank_that_is_missing_or_another_s_is_named(tmp_path):
    with pytest.raises(AdrpoError, match=r"words\.npz: expected the bank of spoken words"):
        word_bank(tmp_path / "words.npz")
    np.savez(tmp_path / "other.npz", codes=np.zeros(3, np.uint8), ends=[3], names=["oui/kal"])
    with pytest.raises(AdrpoError, match="expected 20 words by 6 voices; received oui/kal"):
        word_bank(tmp_path / "other.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with pytest.raises(AdrpoError, match=r"python -m tools\.embedded words"):
        word_bank(tmp_path / "broken.npz")
