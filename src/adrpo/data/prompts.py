"""Prompts by the name of their source: which sources there are, and what they give."""

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from adrpo.data.base import Prompt
from adrpo.data.huggingface import has_cached
from adrpo.data.published import HUB, PUBLISHED, HubFile, check_published, read_published
from adrpo.data.rows import FILES, is_hub_id, read_prompts
from adrpo.data.shipped import SHIPPED
from adrpo.data.splits import HALVES, half, hold_out
from adrpo.data.sums import split_sums
from adrpo.embedded.questions import question_set
from adrpo.embedded.scenes import Split, caption, prompt_set
from adrpo.errors import AdrpoError


def _scenes(size: int, seed: int, *, split: Split) -> list[Prompt]:
    scenes = prompt_set(size, split=split, seed=seed)
    return [Prompt(caption(scene), scene.category) for scene in scenes]


def _questions(size: int, seed: int, *, held_out: bool) -> list[Prompt]:
    questions = question_set(size, held_out=held_out, seed=seed)
    return [Prompt(q.prompt, q.category, {"answer": q.answer}) for q in questions]


GENERATED: dict[str, Callable[[int, int], list[Prompt]]] = {
    "scenes:train": partial(_scenes, split="train"),
    "scenes:held_out": partial(_scenes, split="held_out"),
    "scenes:test": partial(_scenes, split="test"),
    "questions:train": partial(_questions, held_out=False),
    "questions:held_out": partial(_questions, held_out=True),
}
"""Name of a set of an embedded world -> what gives prompts of it, by their number and a seed."""

FINAL = "scenes:test"
"""Source that is kept for final tables, and never trained on."""

SUMS = "sums"
"""Name of the sums in words, which are split pair by pair and so have no one set of prompts."""


class _Source(NamedTuple):
    """A source taken apart: "drawbench:a.csv:train" is ("drawbench", "a.csv", "train")."""

    kind: str
    place: str
    half: str


def load_prompts(
    source: str,
    *,
    size: int | None,
    seed: int,
    column: str | None = None,
    cut_answers: bool = False,
) -> list[Prompt]:
    """The prompts of ``source``, in a fixed order, with the further columns of their rows.

    Args:
        source: one of

            - "scenes:train", "scenes:held_out", "scenes:test": the scenes world; all prompts are
              different, and no combination is in two of the three;
            - "questions:train", "questions:held_out": the questions world, with the column
              "answer"; all prompts are different;
            - "drawbench-style", "art-style": sets that ship with the package
              (:mod:`adrpo.data.shipped`);
            - "drawbench:PATH", "geneval:PATH", "partiprompts:PATH", "pickapic:PATH": a published
              set from a file as its authors give it, and "drawbench:hub", "partiprompts:hub":
              the same fetched from the Hugging Face Hub (:mod:`adrpo.data.published`, with the
              licences);
            - the path of a .txt, .jsonl, .json, .csv or .parquet file, a folder with a data set, or
              the id of one on the Hub, "owner/name" (:func:`adrpo.data.rows.read_prompts`).

            Paths are relative to the working folder. All but the scenes and the questions take
            ":train" or ":held_out" at the end, for one of two fixed halves without a prompt in
            common (:func:`adrpo.data.splits.half`): "art-style:train", "drawbench:a.csv:held_out".
        size: number of prompts; of scenes and questions only, all others are read whole.
        seed: which prompts; of scenes and questions only.
        column: the column of the prompts in a file or a data set of the user's own; None: the
            data set's own, else "prompt".
        cut_answers: as of :func:`~adrpo.data.rows.read_prompts`.

    Raises:
        AdrpoError: an unknown source, a file that is missing, empty, not UTF-8 or of another
            form, a data set that can't be fetched, no size or more prompts than there are of
            scenes or questions, or an empty half.
    """
    check_source(source)
    if source in GENERATED:
        return _generated(source, size, seed)
    kind, place, part = _parse(source)
    if kind in SHIPPED:
        prompts = SHIPPED[kind]()
    elif kind in PUBLISHED:
        prompts = read_published(kind, place)
    else:
        prompts = read_prompts(place, prompt=column, cut_answers=cut_answers)
    if not part:
        return prompts
    chosen = half(prompts, held_out=part == "held_out")
    if not chosen:
        raise AdrpoError(
            f"{source}: expected a category of two or more different prompts, to hold half of it "
            f"out; received none; name a source with more prompts"
        )
    return chosen


def load_both(
    source: str,
    *,
    share: float,
    seed: int,
    train_size: int | None,
    held_out_size: int | None,
    column: str | None = None,
    cut_answers: bool = False,
) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to train on and prompts that training never sees, of one source.

    Args:
        source: a source of :func:`load_prompts`, of which a share is held out
            (:func:`adrpo.data.splits.hold_out`); or one that is split in its own way: "sums"
            (:func:`adrpo.data.sums.split_sums`), or "questions" and "scenes", by combination.
        share: how much of the different prompts is held out; questions and scenes have none.
        seed: which of the possible splits.
        train_size: prompts to train on at most, the first ones; None takes all that there are.
        held_out_size: the same of the held-out ones.
        column, cut_answers: as for :func:`load_prompts`.

    Raises:
        AdrpoError: as :func:`load_prompts`, or a share that leaves a part without a prompt.
    """
    if training_source(source) != source:
        train = _generated(f"{source}:train", train_size, seed)
        held_out = _generated(f"{source}:held_out", held_out_size, seed)
    elif source in GENERATED:
        raise AdrpoError(
            f"expected {source.partition(':')[0]!r}, which comes with a held-out part of its own, "
            f"received {source!r}"
        )
    elif source == SUMS:
        train, held_out = split_sums(share, seed=seed)
    else:
        prompts = load_prompts(source, size=None, seed=seed, column=column, cut_answers=cut_answers)
        train, held_out = hold_out(prompts, share, seed=seed)
    return train[:train_size], held_out[:held_out_size]


def training_source(source: str) -> str:
    """The part to train on of a ``source`` that comes with a held-out part of its own: of
    "questions" it is "questions:train"; any other ``source`` is trained on as it is."""
    return f"{source}:train" if f"{source}:train" in GENERATED else source


def load_all(
    source: str,
    *,
    size: int | None,
    seed: int,
    column: str | None = None,
    cut_answers: bool = False,
) -> list[Prompt]:
    """All that can be trained on of a ``source`` of :func:`load_both`, where what is held out is
    another one; arguments and errors as of :func:`load_prompts`."""
    if source == SUMS:
        return [prompt for part in split_sums(0.5, seed=seed) for prompt in part]
    return load_prompts(
        training_source(source), size=size, seed=seed, column=column, cut_answers=cut_answers
    )


def _generated(source: str, size: int | None, seed: int) -> list[Prompt]:
    if size is None:
        raise AdrpoError(f"{source}: expected a number of prompts, received none; set the size")
    try:
        return GENERATED[source](size, seed)
    except ValueError as error:
        raise AdrpoError(f"{source}: {error}; lower the size") from None


def check_source(source: str) -> str:
    """``source``, if it can name prompts; a file or a data set itself is not looked at.

    Raises:
        AdrpoError: none of the forms that :func:`load_prompts` lists.
    """
    if source in GENERATED:
        return source
    kind, place, _ = _parse(source)
    if kind in PUBLISHED:
        check_published(kind, place, source=source)
    elif kind not in SHIPPED and not _is_own(place):
        published = (f"{name}:PATH" for name in PUBLISHED)
        raise AdrpoError(
            f"expected {', '.join([*GENERATED, *SHIPPED, *published])}, the path of a "
            f"{', '.join(FILES)} file, or a data set (a folder or 'owner/name' on the Hub), "
            f"received {source!r}{_hint(source)}"
        )
    return source


def is_unfetched(source: str) -> bool:
    """True where ``source`` is a file or a data set of the Hub that no cache on this machine has;
    nothing is asked of the Hub."""
    from huggingface_hub import try_to_load_from_cache

    if source in GENERATED or source == SUMS:
        return False
    kind, place, _ = _parse(source)
    if (file := _file_on_the_hub(kind, place)) is not None:
        found = try_to_load_from_cache(
            file.repository, file.name, repo_type="dataset", revision=file.revision
        )
        return not isinstance(found, str)
    return not kind and is_hub_id(place) and not has_cached(place)


def hub_place(source: str) -> tuple[str, str]:
    """The repository of the Hub that an unfetched ``source`` comes from, and its one file there;
    an empty name of a file means all."""
    kind, place, _ = _parse(source)
    file = _file_on_the_hub(kind, place)
    return (place, "") if file is None else (file.repository, file.name)


def folder_of(source: str) -> Path:
    """The folder that paths in a source's columns start from: that of its file, the data set's own,
    and the working folder for what is neither."""
    if source in GENERATED or source == SUMS:
        return Path()
    place = Path(_parse(source).place)
    return place if place.is_dir() else place.parent if place.is_file() else Path()


def _file_on_the_hub(kind: str, place: str) -> HubFile | None:
    return PUBLISHED[kind].hub if kind in PUBLISHED and place == HUB else None


def _is_own(place: str) -> bool:
    """True where ``place`` has the form of a user's own file or data set."""
    if Path(place).suffix in FILES:
        return True
    return bool(place) and ":" not in place and ("/" in place or Path(place).is_dir())


def share_prompts(first: str, second: str) -> bool:
    """True where two sources have prompts in common, as far as their names tell.

    They have, where both are of one set and not its two halves: "art-style" holds all of
    "art-style:held_out". Two paths are compared as text.
    """
    one, two = _parse(first), _parse(second)
    if (one.kind, Path(one.place)) != (two.kind, Path(two.place)):
        return False
    return one.half == two.half or not (one.half and two.half)


def _parse(source: str) -> _Source:
    """A file of the user's own has kind ""."""
    body, _, last = source.rpartition(":")
    part = last if body and last in HALVES else ""
    rest = body if part else source
    kind, _, place = rest.partition(":")
    if kind in PUBLISHED:
        return _Source(kind, place, part)
    return _Source(rest, "", part) if rest in SHIPPED else _Source("", rest, part)


def _hint(source: str) -> str:
    whole = [*GENERATED, *SHIPPED, *(f"{name}:{part}" for name in SHIPPED for part in HALVES)]
    near = difflib.get_close_matches(source, whole, n=1)
    if not near:
        name, colon, place = source.partition(":")
        # 0.8: "prompts.csv" is a path, not a misspelt "partiprompts".
        names = difflib.get_close_matches(name, PUBLISHED, n=1, cutoff=0.8)
        near = [f"{known}:{place if colon else 'PATH'}" for known in names]
    return f"; did you mean {near[0]!r}?" if near else ""
