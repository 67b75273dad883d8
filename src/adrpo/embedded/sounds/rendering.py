"""The sound of a clip, drawn from its meaning and a seed."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from adrpo.embedded.sounds.meaning import Clip, Event
from adrpo.embedded.sounds.synthesis import INSTRUMENTS, Wave, notes, sound
from adrpo.embedded.sounds.words import RATE, word_bank

SHORTEST, LONGEST = 1.0, 3.0
"""Seconds of a clip, the ends included."""

ONSET, ENDING = (0.03, 0.3), (0.03, 0.6)
"""Seconds of background before the first event and after the last, so that the length of a clip
tells little of what is in it."""

NOISE_DECIBELS = (-38.0, -20.0)
"""Level of the background noise against the softest event."""

_BEAT = {"sound": 0.36, "music": 0.42}
_GAP = {"sound": 0.3, "music": 0.35}
"""Longest beat in seconds, and the silence between two events in beats."""
_WORD_GAP = (0.13, 0.17)
_SOUNDING = 2.45
"""Seconds that events and gaps take at most, where they are measured in beats."""


@dataclass(frozen=True, eq=False)
class Rendering:
    """The sound of a clip, and what was drawn with it.

    ``spans`` has the samples at which each event begins and ends; ``transposed`` is in semitones,
    0 where the clip is no music.
    """

    samples: Float32[np.ndarray, " samples"]
    spans: tuple[tuple[int, int], ...]
    transposed: float


def render(clip: Clip, seed: int) -> Float32[np.ndarray, " samples"]:
    """``clip`` as 1 to 3 s of sound at 16 kHz, within -0.9 to 0.9.

    Onset, ending, tempo, transposition (an octave, and half a semitone either way), the pitch of
    each signal, levels (1.5 dB where the clip says nothing of them), and color and level of the
    background noise are drawn from ``seed``: the same seed gives the same bytes.
    """
    return rendering_of(clip, seed).samples


def rendering_of(clip: Clip, seed: int) -> Rendering:
    """The sound that :func:`render` gives, with what was drawn for it."""
    rng = np.random.default_rng(seed)
    beat = 0.0 if clip.task == "speech" else _longest_beat(clip) * rng.uniform(0.85, 1)
    gap = rng.uniform(*_WORD_GAP) if clip.task == "speech" else _GAP[clip.task] * beat
    transposed = 0.0
    if clip.task != "speech":
        # Drawn for sounds, too, which have no pitch to transpose.
        transposed = 12 * int(rng.integers(2)) + rng.uniform(-0.5, 0.5)
    waves = _waves(clip, beat, transposed, rng)
    starts = _starts(clip, waves, round(gap * RATE), first=round(rng.uniform(*ONSET) * RATE))
    end = max(start + len(wave) for start, wave in zip(starts, waves, strict=True))
    ending = max(round(rng.uniform(*ENDING) * RATE), round(SHORTEST * RATE) - end)
    mixed = np.zeros(min(end + ending, round(LONGEST * RATE)))
    # Jitter of a level is for clips whose events all have the same.
    jitter = 0.0 if any(event.decibels for event in clip.events) else 1.5
    levels = [event.decibels + rng.uniform(-jitter, jitter) for event in clip.events]
    for start, wave, level in zip(starts, waves, levels, strict=True):
        mixed[start : start + len(wave)] += 10 ** (level / 20) * wave
    noise = 10 ** ((min(levels) + rng.uniform(*NOISE_DECIBELS)) / 20)
    mixed += noise * _background(len(mixed), rng)
    samples = (rng.uniform(0.3, 0.9) / np.abs(mixed).max() * mixed).astype(np.float32)
    spans = tuple((start, start + len(wave)) for start, wave in zip(starts, waves, strict=True))
    return Rendering(samples, spans, transposed if clip.task == "music" else 0.0)


def _waves(clip: Clip, beat: float, transposed: float, rng: np.random.Generator) -> list[Wave]:
    if clip.task == "speech":
        return [_word(event, rng) for event in clip.events]
    waves = []
    for event in clip.events:
        if event.name in INSTRUMENTS:
            pitches = [440 * 2 ** ((p + transposed - 69) / 12) for p in event.pitches]
            waves.append(notes(event.name, pitches, event.beats * beat, rng))
        else:
            waves.append(sound(event.name, event.beats * beat, rng))
    return waves


def _longest_beat(clip: Clip) -> float:
    """Seconds of the longest beat with which the clip's events fit."""
    in_turn = [event.beats for event in clip.events if event.timing == "after"]
    beats = sum(in_turn) + _GAP[clip.task] * (len(in_turn) - 1)
    return min(_BEAT[clip.task], _SOUNDING / beats)


def _word(event: Event, rng: np.random.Generator) -> Wave:
    """A word of the bank, played up to 3 % faster or slower, and so higher or lower."""
    said = word_bank()[event.name, str(event.voice)]
    places = np.arange(0, len(said) - 1, rng.uniform(0.97, 1.03))
    return np.interp(places, np.arange(len(said)), said)


def _starts(clip: Clip, waves: list[Wave], gap: int, first: int) -> list[int]:
    """The sample at which each event begins."""
    starts: list[int] = []
    free = first
    for place, (event, wave) in enumerate(zip(clip.events, waves, strict=True)):
        if event.timing == "after":
            starts.append(free)
        else:
            starts.append(starts[-1] + (len(waves[place - 1]) - len(wave)) // 2)
        free = max(free, starts[-1] + len(wave) + gap)
    return starts


def _background(samples: int, rng: np.random.Generator) -> Wave:
    """Noise with a mean square of 1, its power falling with the frequency to the power 0 to 1."""
    size = -(-samples // 1000) * 1000
    frequencies = np.maximum(np.fft.rfftfreq(size, 1 / RATE), 20.0)
    # Drawn as a spectrum: one transform, of a length without great prime factors.
    spectrum = rng.standard_normal((len(frequencies), 2)) @ (1, 1j)
    noise = np.fft.irfft(spectrum * frequencies ** -rng.uniform(0, 0.5), size)[:samples]
    return noise / np.sqrt(np.mean(noise**2))
