"""Listeners of the sounds world: the answer to a question, worked out from the wave alone.

The listeners know the world's definitions (bands of the kinds, partials of the instruments, the
bank of words), not the clip's meaning nor how it is rendered: energy over time, spectra, peaks, and
correlation with the bank.
"""

from collections import defaultdict
from functools import cache

import numpy as np

from adrpo.embedded.sounds.meaning import Question
from adrpo.embedded.sounds.synthesis import BANDS, KINDS
from adrpo.embedded.sounds.words import RATE, word_bank

INTERVALS = {
    1: "minor second", 2: "major second", 3: "minor third", 4: "major third",
    5: "perfect fourth", 6: "tritone", 7: "perfect fifth", 12: "octave",
}  # fmt: skip
CHORDS = {
    # Semitones above the lowest note, of the root position and the two inversions.
    (4, 7): "major", (3, 8): "major", (5, 9): "major",
    (3, 7): "minor", (4, 9): "minor", (5, 8): "minor",
    (3, 6): "diminished", (3, 9): "diminished", (6, 9): "diminished",
    (4, 8): "augmented",
}  # fmt: skip
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven")
TIMES = ("never", "once", "twice", "three times")
GAP, NOTE_GAP = 0.045, 0.025
"""Seconds of quiet that part two sounds, and two notes."""

HOP = 160
LEAST_CORRELATION = 0.7
"""Samples from frame to frame of a portrait; correlation with the bank that makes a word."""


def power(wave, seconds=0.02):
    size = round(seconds * RATE)
    return np.convolve(np.asarray(wave, float) ** 2, np.ones(size) / size, mode="same")


def runs(active, gap):
    """(start, end) of each run of True, joined over less than ``gap`` seconds of False."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(int), [0]])))
    found = []
    for start, end in edges.reshape(-1, 2):
        if found and start - found[-1][1] < gap * RATE:
            found[-1][1] = end
        else:
            found.append([start, end])
    return found


def segments(wave, gap=GAP):
    """The stretches of ``wave`` that stand out of the noise, which is what its quietest part is."""
    decibels = 10 * np.log10(power(wave) + 1e-12)
    floor = np.percentile(decibels, 5)
    loud = decibels > floor + max(9.0, 0.4 * (np.percentile(decibels, 95) - floor))
    return [wave[a:b] for a, b in runs(loud, gap) if b - a > 0.012 * RATE]


def spectrum(wave):
    """Frequencies in hertz and amplitudes of the windowed wave."""
    size = 1 << 16
    return np.fft.rfftfreq(size, 1 / RATE), np.abs(np.fft.rfft(wave * np.hanning(len(wave)), size))


def share(wave, low, high):
    frequencies, amplitudes = spectrum(wave)
    inside = (frequencies >= low) & (frequencies <= high)
    return np.sum(amplitudes[inside] ** 2) / np.sum(amplitudes**2)


def ridge(wave):
    """The strongest frequency from 300 to 1800 Hz in the first and the last fifth."""
    size = max(len(wave) // 5, 1)
    found = []
    for part in (wave[size // 4 : size // 4 + size], wave[-size - size // 4 : -size // 4]):
        frequencies, amplitudes = spectrum(part)
        inside = (frequencies > 300) & (frequencies < 1800)
        found.append(frequencies[inside][np.argmax(amplitudes[inside])])
    return found


def kind_of(wave):
    """The kind of one sound."""
    if len(wave) < 0.08 * RATE:
        return "click"
    if share(wave, 3800, 8000) > 0.6:
        return "hiss"
    if share(wave, 0, 150) > 0.85:
        return "rumble"
    for kind in ("low tone", "ring", "high tone"):
        low, high = BANDS[kind]
        if share(wave, low - 20, high + 20) > 0.8:
            return kind
    if share(wave, 70, 150) > 0.3:
        return "buzz"
    start, end = ridge(wave)
    if end > 1.7 * start:
        return "rising sweep"
    return "falling sweep" if start > 1.7 * end else "siren"


def in_band(wave, kind, *, keep=True):
    """``wave`` with the band of a kind alone, or without it."""
    low, high = BANDS[kind]
    values = np.fft.rfft(wave)
    frequencies = np.fft.rfftfreq(len(wave), 1 / RATE)
    inside = (frequencies > low - 20) & (frequencies < high + 20)
    values[inside != keep] = 0
    return np.fft.irfft(values, len(wave))


def times_of(wave, kind):
    """First and last second of the energy in a kind's band."""
    level = power(in_band(wave, kind), 0.03)
    loud = np.flatnonzero(level > 0.06 * np.percentile(level, 98))
    return loud[0] / RATE, loud[-1] / RATE


def peaks(wave, least=0.35):
    """Frequencies of the spectrum's peaks of at least ``least`` of the greatest, rising."""
    frequencies, amplitudes = spectrum(wave)
    amplitudes = np.where(frequencies > 100, amplitudes, 0)
    middle = amplitudes[1:-1]
    top = (middle > amplitudes[:-2]) & (middle >= amplitudes[2:])
    return frequencies[1:-1][top & (middle > least * amplitudes.max())]


def pitch(wave):
    """The fundamental as a MIDI number, not rounded."""
    return 69 + 12 * np.log2(peaks(wave)[0] / 440)


def tones(wave):
    """Semitones of the notes above the lowest one, within its octave."""
    found = peaks(wave)
    semitones = np.rint(12 * np.log2(found / found[0])).astype(int)
    return tuple(sorted({int(s) for s in semitones if 0 < s < 12}))


def instrument_of(wave):
    frequencies, amplitudes = spectrum(wave)
    fundamental = peaks(wave)[0]

    def partial(multiple):
        near = np.abs(frequencies / (multiple * fundamental) - 1) < 0.02
        return np.sqrt(np.sum(amplitudes[near] ** 2))

    first = partial(1)
    second, third, bell = partial(2) / first, partial(3) / first, partial(2.76) / first
    if bell > 0.3:
        return "bell"
    if second < 0.2:
        return "clarinet"
    if third < 0.2:
        return "organ" if second > 0.5 else "flute"
    part = len(wave) // 3
    return "guitar" if np.mean(wave[-part:] ** 2) < 0.6 * np.mean(wave[:part] ** 2) else "violin"


@cache
def mel_bands():
    """Weights [32, 257] of triangles, equally wide on the mel scale from 0 to 7 kHz."""
    mels = np.linspace(0, 2595 * np.log10(1 + 7000 / 700), 34)
    edges = 700 * (10 ** (mels / 2595) - 1) * 512 / RATE
    rise = (np.arange(257) - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - np.arange(257)) / np.diff(edges)[1:, None]
    return np.maximum(np.minimum(rise, fall), 0)


def portrait(wave):
    """Compressed energy [frames of 10 ms, bands] of a wave."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, 400)[::HOP] * np.hanning(400)
    return (np.abs(np.fft.rfft(frames, 512)) ** 2 @ mel_bands().T + 1e-9) ** 0.15


def unit(rows):
    rows = rows - rows.mean(axis=-1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@cache
def bank_portraits():
    """Length in frames -> the bank's entries of it, each with 40 ms of silence around it: their
    names, and unit rows [entries, frames * bands]."""
    quiet = np.zeros(640)
    alike = defaultdict(dict)
    for name, wave in word_bank().items():
        entry = portrait(np.concatenate([quiet, wave, quiet]))
        alike[len(entry)][name] = entry.ravel()
    return {n: (list(found), unit(np.stack(list(found.values())))) for n, found in alike.items()}


def words_of(wave):
    """Word and voice of each word said, in order.

    The bank is correlated with the clip at each time; the best match is a word, whose time is
    taken, and so on while there are matches.
    """
    quiet = 1e-3 * np.random.default_rng(0).standard_normal(800)
    clip = portrait(np.concatenate([quiet, wave / np.abs(wave).max(), quiet]))
    matches = []
    for length, (names, entries) in bank_portraits().items():
        if length > len(clip):
            continue
        windows = np.lib.stride_tricks.sliding_window_view(clip, length, axis=0)
        windows = np.moveaxis(windows, -1, 1).reshape(len(windows), -1)
        scores = unit(windows) @ entries.T
        matches += [
            (scores[start, number], start, start + length, names[number])
            for start, number in np.argwhere(scores > LEAST_CORRELATION).tolist()
        ]
    found = []
    for _, start, end, name in sorted(matches, reverse=True):
        # The silence around an entry may be shared.
        if all(end - 8 < a or start > b - 8 for a, b, _ in found):
            found.append((start, end, name))
    return [name for _, _, name in sorted(found)]


def neighbor(names, question, last_word):
    """What stands at the place that the question names."""
    text = question.text.removesuffix("?")
    if "right before" in text or "right after" in text:
        step = -1 if "right before" in text else 1
        return names[names.index(last_word(text)) + step]
    return names[0 if "first" in text else -1]


def sound_presence(wave, question):
    (found,) = {kind_of(part) for part in segments(wave)} & set(question.choices)
    return found


def sound_order(wave, question):
    return neighbor(
        [kind_of(part) for part in segments(wave)], question, lambda text: text.split(" the ")[1]
    )


def sound_overlap(wave, question):
    text = question.text.removesuffix("?")
    if question.difficulty == "hard":
        named = text.split(" as the ")[1]
        start, end = (round(t * RATE) for t in times_of(wave, named))
        return kind_of(in_band(wave[start:end], named, keep=False))
    one, other = text.removeprefix("How do the ").removesuffix(" lie in time").split(" and the ")
    (start, end), (other_start, other_end) = times_of(wave, one), times_of(wave, other)
    if end < other_start + 0.02:
        return f"the {one} comes first"
    if other_end < start + 0.02:
        return f"the {other} comes first"
    if abs(start - other_start) + abs(end - other_end) < 0.15:
        return "they begin and end together"
    return f"the {other} comes in the middle of the {one}"


def sound_count(wave, question):
    (named,) = [kind for kind in KINDS if f" the {kind} " in question.text]
    return NUMBERS[sum(kind_of(part) == named for part in segments(wave))]


def loudness(wave, question):
    parts = segments(wave)
    levels = [np.mean(part**2) for part in parts]
    found = int(np.argmin(levels) if "soft" in question.text else np.argmax(levels))
    if question.difficulty == "hard":
        return ("the first", "the second", "the third", "the fourth")[found]
    return kind_of(parts[found])


def interval(wave, question):
    if question.difficulty == "hard":
        return INTERVALS[tones(wave)[0]]
    first, second = (pitch(part) for part in segments(wave, NOTE_GAP))
    return INTERVALS[abs(round(first - second))]


def chord(wave, question):
    second, third = tones(segments(wave, NOTE_GAP)[-1])
    return CHORDS[second, third]


def melody(wave, question):
    ups = [step > 0 for step in np.diff([pitch(part) for part in segments(wave, NOTE_GAP)])]
    if all(ups) or not any(ups):
        return "it rises" if ups[0] else "it falls"
    return "it peaks in the middle" if ups[0] else "it dips in the middle"


def rhythm(wave, question):
    lengths = np.array([len(part) for part in segments(wave, NOTE_GAP)])
    middle = (lengths.min() + lengths.max()) / 2
    return "".join("L" if length > middle else "S" for length in lengths)


def instrument(wave, question):
    parts = segments(wave, NOTE_GAP)
    if question.difficulty == "hard":
        pitches = [pitch(part) for part in parts]
        place = np.argmax(pitches) if "highest" in question.text else np.argmin(pitches)
        return instrument_of(parts[int(place)])
    return neighbor([instrument_of(part) for part in parts], question, str)


def word_presence(wave, question):
    said = {word for word, _ in words_of(wave)}
    (found,) = (
        set(question.choices) - said
        if "not said" in question.text
        else (set(question.choices) & said)
    )
    return found


def word_order(wave, question):
    return neighbor(
        [word for word, _ in words_of(wave)], question, lambda text: text.split(" the word ")[1]
    )


def voice(wave, question):
    words, voices = zip(*words_of(wave), strict=True)
    if question.difficulty == "hard":
        return NUMBERS[len(set(voices))]
    if question.difficulty == "easy":
        return (
            f"{'same' if voices[0] == voices[1] else 'new'} voice, "
            f"{'repeated' if words[0] == words[1] else 'different'} word"
        )
    first, second, third = voices
    if first == second == third:
        return "one voice says all three"
    pair = "the first and the second" if first == second else "the second and the third"
    return f"one voice says {'the first and the third' if first == third else pair}"


def word_count(wave, question):
    words = [word for word, _ in words_of(wave)]
    if question.difficulty == "easy":
        return NUMBERS[len(words)]
    if question.difficulty == "hard":
        return NUMBERS[len(set(words))]
    return TIMES[words.count(question.text.split(" the word ")[1].split()[0])]


LISTENERS = {
    "sound presence": sound_presence,
    "sound order": sound_order,
    "sound overlap": sound_overlap,
    "sound count": sound_count,
    "loudness": loudness,
    "interval": interval,
    "chord": chord,
    "melody": melody,
    "rhythm": rhythm,
    "instrument": instrument,
    "word presence": word_presence,
    "word order": word_order,
    "voice": voice,
    "word count": word_count,
}


def heard_answer(wave, question: Question) -> str:
    """The answer that a listener gives; a text that says why, where it hears no question's clip."""
    try:
        return LISTENERS[question.sub_category](wave, question)
    except (ValueError, IndexError, KeyError) as error:
        return f"({error})"
