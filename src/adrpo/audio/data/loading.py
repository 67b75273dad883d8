"""Prompts of a run of the domain ``audio``, from the sources that its configuration names."""

from adrpo.audio.data.clips import ROW, checksum
from adrpo.audio.data.forms import conversation
from adrpo.audio.data.questions import Located, checked, in_balanced_order
from adrpo.audio.data.sifting import sift
from adrpo.audio.data.sources import read_benchmark, read_source
from adrpo.audio.data.world import read_world
from adrpo.config.audio_prompts import BENCHMARKS, WORLD, AudioPromptsSection
from adrpo.data.base import Prompt, Row, prompts_of
from adrpo.data.splits import hold_out_by
from adrpo.errors import of_setting


def load_train(section: AudioPromptsSection) -> list[Prompt]:
    """The questions that are trained on, in a fixed order, with their clips.

    ``content`` is the conversation that asks, without a part for the clip, which the trainer
    places before the question; ``category`` the task. Columns: "audio", which
    :mod:`adrpo.audio.sound` reads; "choices", texts in the order shown; "answer", the text of the
    right one; "source_row", where the question stands; and the further columns of its row, but one
    that has a name of these or is named "prompt".

    Raises:
        AdrpoError: a source that can't be read or is too small to hold anything out, or a
            question that ``faulty`` refuses.
    """
    source, size = section.trained, section.train_size
    with of_setting("prompts.source"):
        if section.held_out is None and _has_no_parts(section.source):
            return _prompts(_split(section)[0][:size], source, section)
        return _prompts(_read(source, section, size), source, section)


def load_held_out(section: AudioPromptsSection) -> list[Prompt]:
    """The questions that training never sees, as of :func:`load_train`.

    What is trained on is not looked at where they have a source of their own. Those of a benchmark
    that no model can answer right are left out, with a warning.
    """
    source, size = section.evaluated, section.held_out_size
    with of_setting("prompts.source" if section.held_out is None else "prompts.held_out"):
        if section.held_out is None and _has_no_parts(source):
            return _prompts(_split(section)[1][:size], source, section)
        return _prompts(_read(source, section, size), source, section)


def _has_no_parts(source: str) -> bool:
    return source.partition(":")[0] != WORLD


def _split(section: AudioPromptsSection) -> tuple[list[Located], list[Located]]:
    """The questions of the source in two parts, all of a clip on one side."""
    rows = _read(section.source, section, None)
    known = sift(
        rows,
        lambda row: checksum(row["audio"]),
        faulty=section.faulty,
        of="clips",
        parallel=True,
    )
    return hold_out_by(
        [(where, row) for where, row, _ in known],
        [key for _, _, key in known],
        section.held_out_share,
        seed=section.split_seed,
        of="clips",
    )


def _read(source: str, section: AudioPromptsSection, size: int | None) -> list[Located]:
    """The checked questions of a source, the first ``size`` of them."""
    kind = source.partition(":")[0]
    if kind == WORLD:
        return read_world(source, size=size, seed=section.split_seed)
    if kind in BENCHMARKS:
        return checked(read_benchmark(source), faulty="leave_out", merge=True)[:size]
    rows = read_source(source, columns=section.columns, audio_folder=section.audio_folder)
    return checked(rows, faulty=section.faulty)[:size]


def _prompts(rows: list[Located], source: str, section: AudioPromptsSection) -> list[Prompt]:
    ordered = section.shuffle_choices
    if ordered is None:
        ordered = source.partition(":")[0] not in (WORLD, *BENCHMARKS)
    if ordered:
        rows = in_balanced_order(rows, seed=section.split_seed)
    return prompts_of((where, _asked(where, row, section)) for where, row in rows)


def _asked(where: str, row: Row, section: AudioPromptsSection) -> Row:
    columns = {name: value for name, value in row.items() if name != "question"}
    content = conversation(
        row["question"], row["choices"], form=section.form, system=section.system
    )
    return {**columns, "prompt": content, ROW: where}
