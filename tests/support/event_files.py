"""TensorBoard's event files, read by TensorBoard's own reader."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Events:
    """What a folder of event files holds; each item is a list of (step, value)."""

    scalars: dict[str, list[tuple[int, float]]]
    texts: dict[str, list[tuple[int, str]]]
    images: dict[str, list[tuple[int, bytes]]]
    sounds: dict[str, list[tuple[int, bytes]]]
    """Each a WAV file."""


def read_events(folder: Path) -> Events:
    """All events in ``folder``, by their steps: every file of it is one run.

    The files themselves are in no order: of one second, ...10 comes before ...9.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    everything = dict.fromkeys(("scalars", "tensors", "images", "audio"), 0)
    events: Any = EventAccumulator(str(folder), size_guidance=everything)
    events.Reload()
    return Events(
        scalars={
            tag: sorted((e.step, e.value) for e in events.Scalars(tag))
            for tag in events.Tags()["scalars"]
        },
        texts={
            tag.removesuffix("/text_summary"): sorted(
                (e.step, e.tensor_proto.string_val[0].decode()) for e in events.Tensors(tag)
            )
            for tag in events.Tags()["tensors"]
        },
        images={
            tag: sorted((e.step, e.encoded_image_string) for e in events.Images(tag))
            for tag in events.Tags()["images"]
        },
        sounds={
            tag: sorted((e.step, e.encoded_audio_string) for e in events.Audio(tag))
            for tag in events.Tags()["audio"]
        },
    )
