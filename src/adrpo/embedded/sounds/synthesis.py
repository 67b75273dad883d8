"""The single sounds: kinds of noise and signal, and the notes of instruments.

Each function returns a float64 wave at ``RATE`` whose mean square is 1 (a click: 1/4).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from adrpo.embedded.sounds.words import RATE

Wave = Float64[np.ndarray, " samples"]

CLICK_SECONDS = 0.03
RAMP_SECONDS = 0.01

BANDS = {
    "rumble": (30, 120),
    "low tone": (180, 300),
    "rising sweep": (350, 1700),
    "falling sweep": (350, 1700),
    "siren": (450, 950),
    "ring": (1050, 1300),
    "high tone": (2000, 3000),
    "hiss": (4000, 8000),
}
"""Hertz within which a kind has its energy."""

KINDS = (*BANDS, "buzz", "click")

INSTRUMENTS = ("flute", "clarinet", "violin", "guitar", "bell", "organ")

_PARTIALS: dict[str, dict[float, float]] = {
    "flute": {1: 1.0, 2: 0.25, 3: 0.06},
    "clarinet": {1: 1.0, 3: 0.6, 5: 0.4, 7: 0.25, 9: 0.15},
    "violin": {k: 1 / k for k in range(1, 11)},
    "guitar": {k: 1 / k for k in range(1, 9)},
    "bell": {1: 1.0, 2.76: 0.6, 5.4: 0.4, 8.93: 0.25},
    "organ": {1: 1.0, 2: 0.8, 4: 0.6, 8: 0.4},
}
"""Instrument -> multiples of the fundamental and their amplitudes."""

_ATTACK = {"flute": 0.05, "clarinet": 0.03, "violin": 0.06}
_VIBRATO = {"flute": 0.004, "violin": 0.006}
"""Greatest deviation of the frequency, as a share of it."""
_DECAY = {"guitar": 3.0, "bell": 3.5}
"""Rate at which the note dies away, a second."""


def sound(kind: str, seconds: float, rng: np.random.Generator) -> Wave:
    """A sound of one of ``KINDS``; its pitch and speed are drawn."""
    if kind == "click":
        seconds = CLICK_SECONDS
    time = np.arange(round(seconds * RATE)) / RATE
    wave = _SOUNDS[kind](time, rng)
    if kind == "click":
        return 0.5 * _unit(wave)
    return _unit(_faded(wave, RAMP_SECONDS))


def notes(
    instrument: str, frequencies: list[float], seconds: float, rng: np.random.Generator
) -> Wave:
    """Notes of one instrument, begun together; ``frequencies`` in hertz."""
    time = np.arange(round(seconds * RATE)) / RATE
    wave = sum(_unit(_note(instrument, frequency, time, rng)) for frequency in frequencies)
    return _unit(_faded(np.asarray(wave), _ATTACK.get(instrument, RAMP_SECONDS)))


def _note(instrument: str, frequency: float, time: Wave, rng: np.random.Generator) -> Wave:
    depth = _VIBRATO.get(instrument, 0.0) * rng.uniform(0.4, 1)
    rate, phase = rng.uniform(4.5, 6.5), rng.uniform(0, 2 * np.pi)
    cycles = frequency * (
        time + depth / (2 * np.pi * rate) * np.sin(2 * np.pi * rate * time + phase)
    )
    wave = np.zeros_like(time)
    for multiple, amplitude in _PARTIALS[instrument].items():
        if multiple * frequency < 0.48 * RATE:
            wave += amplitude * np.sin(2 * np.pi * (multiple * cycles + rng.random()))
    return wave * np.exp(-_DECAY.get(instrument, 0.0) * time)


def _tone(low: float, high: float) -> Callable[[Wave, np.random.Generator], Wave]:
    return lambda time, rng: np.sin(2 * np.pi * rng.uniform(low, high) * time)


def _noise(low: float, high: float) -> Callable[[Wave, np.random.Generator], Wave]:
    def drawn(time: Wave, rng: np.random.Generator) -> Wave:
        spectrum = np.fft.rfft(rng.standard_normal(len(time)))
        frequencies = np.fft.rfftfreq(len(time), 1 / RATE)
        spectrum[(frequencies < low) | (frequencies > high)] = 0
        return np.fft.irfft(spectrum, len(time))

    return drawn


def _rising(time: Wave, rng: np.random.Generator) -> Wave:
    start, ratio = rng.uniform(370, 500), rng.uniform(2.6, 3.3)
    growth = np.log(ratio) / (time[-1] + 1 / RATE)
    return np.sin(2 * np.pi * start * np.expm1(growth * time) / growth)


def _siren(time: Wave, rng: np.random.Generator) -> Wave:
    center, rate, phase = rng.uniform(600, 750), rng.uniform(5, 7), rng.uniform(0, 2 * np.pi)
    swing = 0.22 * center / rate * np.sin(2 * np.pi * rate * time + phase)
    return np.sin(2 * np.pi * center * time + swing)


def _ring(time: Wave, rng: np.random.Generator) -> Wave:
    pulse = np.sin(2 * np.pi * rng.uniform(22, 30) * time + rng.uniform(0, 2 * np.pi))
    return (0.65 + 0.35 * pulse) * np.sin(2 * np.pi * rng.uniform(1080, 1270) * time)


def _buzz(time: Wave, rng: np.random.Generator) -> Wave:
    cycles = rng.uniform(90, 130) * time
    # A polynomial of the phase: a saw whose corner is rounded by the average of four samples.
    return np.convolve(2 * (cycles % 1) - 1, np.ones(4) / 4, mode="same")


def _click(time: Wave, rng: np.random.Generator) -> Wave:
    return rng.standard_normal(len(time)) * np.exp(-time / rng.uniform(0.002, 0.004))


_SOUNDS: dict[str, Callable[[Wave, np.random.Generator], Wave]] = {
    "rumble": _noise(*BANDS["rumble"]),
    "low tone": _tone(*BANDS["low tone"]),
    "rising sweep": _rising,
    "falling sweep": lambda time, rng: _rising(time, rng)[::-1],
    "siren": _siren,
    "ring": _ring,
    "high tone": _tone(*BANDS["high tone"]),
    "hiss": _noise(*BANDS["hiss"]),
    "buzz": _buzz,
    "click": _click,
}


def _faded(wave: Wave, seconds: float) -> Wave:
    """``wave`` with a ramp of ``seconds`` at its start and of 10 ms at its end."""
    up, down = (min(round(s * RATE), len(wave) // 2) for s in (seconds, RAMP_SECONDS))
    faded = wave.copy()
    faded[:up] *= np.sin(np.linspace(0, np.pi / 2, up)) ** 2
    faded[len(wave) - down :] *= np.cos(np.linspace(0, np.pi / 2, down)) ** 2
    return faded


def _unit(wave: Wave) -> Wave:
    return wave / np.sqrt(np.mean(wave**2))
