"""Sound as a data set gives it, and its samples at the rate that a model hears."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from adrpo.errors import AdrpoError

SOURCES = (
    "a path, {'path': ...}, {'bytes': ...} or {'array': floats, 'sampling_rate': hertz} "
    "(datasets' Audio with decode=False)"
)


def sources_of(cell: Any) -> list[Any]:
    """Clips of one row of the column ``audio``: none, one, or a list of them."""
    if cell is None:
        return []
    return list(cell) if isinstance(cell, list | tuple) else [cell]


def compact(cell: Any) -> Any:
    """Row of the column ``audio`` whose arrays are NumPy's instead of lists of floats.

    accelerate walks through a list float by float, which takes longer than the training step.
    """
    if isinstance(cell, list | tuple):
        return [compact(source) for source in cell]
    if isinstance(cell, Mapping) and cell.get("array") is not None:
        return {**cell, "array": np.asarray(cell["array"])}
    return cell


def key_of(source: Any) -> tuple[Any, ...]:
    """Identity of a source: equal keys have equal sound, so that it is heard once.

    A file is known by its path, for the time of one batch.

    Raises AdrpoError for what is no source.
    """
    if isinstance(source, str | Path):
        return ("path", str(source))
    if isinstance(source, Mapping):
        if source.get("array") is not None:
            samples, rate = _given_samples(source)
            return ("array", rate, samples.shape, hashlib.sha256(samples.tobytes()).digest())
        if source.get("bytes") is not None:
            return ("bytes", hashlib.sha256(source["bytes"]).digest())
        if source.get("path") is not None:
            return ("path", str(source["path"]))
    raise AdrpoError(f"audio: expected {SOURCES}, received {_shown(source)}")


def seconds_of(source: Any) -> float:
    """Length of ``source``, of a file by its header alone; errors as of :func:`waveform`."""
    if key_of(source)[0] == "array":
        samples, rate = _given_samples(source)
        return len(samples) / rate if rate > 0 else 0.0
    file, name = _file(source)
    try:
        return float(soundfile.info(file).duration)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise _unreadable(name, error) from error


def waveform(source: Any, rate: int) -> Float32[np.ndarray, " samples"]:
    """Samples of ``source`` in mono (the mean of its channels) at ``rate`` hertz.

    Files are read by soundfile (WAV, FLAC, OGG, MP3) and resampled by soxr.

    Raises:
        AdrpoError: as :func:`recorded`.
    """
    return at_rate(*recorded(source), rate)


def at_rate(samples: np.ndarray, own_rate: int, rate: int) -> Float32[np.ndarray, " samples"]:
    """The ``samples``, recorded at ``own_rate``, at ``rate`` hertz."""
    if own_rate != rate:
        samples = soxr.resample(samples, own_rate, rate)
    return np.ascontiguousarray(samples, dtype=np.float32)


def recorded(source: Any) -> tuple[np.ndarray, int]:
    """Samples of ``source`` in mono as they are recorded, and their rate in hertz.

    Raises:
        AdrpoError: no source, a file that is missing or no sound, an impossible rate, no sample,
            or a sample that is not finite.
    """
    kind, *_ = key_of(source)
    if kind == "array":
        samples, own_rate = _given_samples(source)
        name = "an array"
    else:
        samples, own_rate, name = _read(source)
    if own_rate <= 0:
        raise AdrpoError(f"audio: expected a sampling rate above 0, received {own_rate} in {name}")
    if not len(samples):
        raise AdrpoError(f"audio: expected sound, received {name} without a sample")
    if not np.isfinite(samples).all():
        raise AdrpoError(f"audio: expected finite samples, received NaN or infinity in {name}")
    return samples, own_rate


def _given_samples(source: Mapping[str, Any]) -> tuple[np.ndarray, int]:
    samples = np.asarray(source["array"])
    if samples.ndim != 1 or (samples.size and samples.dtype.kind != "f"):
        raise AdrpoError(
            "audio: expected an array of floats with one dimension (mono, full scale at +-1), "
            f"received {samples.dtype} of shape {samples.shape}"
        )
    rate = source.get("sampling_rate")
    if not isinstance(rate, int | np.integer):
        raise AdrpoError(f"audio: expected a sampling_rate beside the array, received {rate!r}")
    return samples.astype(np.float32), int(rate)


def _read(source: Any) -> tuple[np.ndarray, int, str]:
    """Samples, rate and name of an encoded file."""
    file, name = _file(source)
    try:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise _unreadable(name, error) from error
    return samples.mean(axis=1), rate, name


def _file(source: Any) -> tuple[str | io.BytesIO, str]:
    """An encoded file as soundfile takes it, and its name."""
    encoded = source.get("bytes") if isinstance(source, Mapping) else None
    path = source.get("path") if isinstance(source, Mapping) else source
    name = "bytes" if path is None else str(path)
    if encoded is None and not Path(str(path)).is_file():
        raise AdrpoError(f"audio: expected a file of sound, received {name}: there is no such file")
    return (str(path) if encoded is None else io.BytesIO(encoded)), name


def _unreadable(name: str, error: Exception) -> AdrpoError:
    return AdrpoError(
        f"audio: expected WAV, FLAC, OGG or MP3, received {name}, which can't be read ({error})"
    )


def _shown(source: Any) -> str:
    if isinstance(source, Mapping):
        return f"a mapping with {sorted(map(str, source))}"
    return f"a {type(source).__name__}"
