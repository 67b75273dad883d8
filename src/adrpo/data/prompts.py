"""Prompts by the name of their source: which sources there are, and what they give."""

import difflib
from pathlib import Path
from typing import NamedTuple

from adrpo.data.base import Prompt
from adrpo.data.files import read_jsonl, read_text
from adrpo.data.published import PUBLISHED, check_published, read_published
from adrpo.data.shipped import SHIPPED
from adrpo.data.splits import SPLITS, split
from adrpo.embedded.scenes import caption, prompt_set
from adrpo.errors import AdrpoError

SCENES_SETS = {"scenes:train": False, "scenes:held_out": True}
"""Name of a set of the scenes world -> whether it is the held-out split."""

FILES = {".txt": read_text, ".jsonl": read_jsonl}
"""Suffix of a file of the user's own -> how it is read."""


class _Source(NamedTuple):
    """A source taken apart: "drawbench:a.csv:train" is ("drawbench", "a.csv", "train")."""

    kind: str
    place: str
    split: str


def load_prompts(source: str, *, size: int, seed: int) -> list[Prompt]:
    """The prompts of ``source``, in a fixed order.

    Args:
        source: one of

            - "scenes:train", "scenes:held_out": the scenes world; all prompts are different;
            - "drawbench-style", "art-style": sets that ship with the package
              (:mod:`adrpo.data.shipped`);
            - "drawbench:PATH", "geneval:PATH", "partiprompts:PATH", "pickapic:PATH": a published
              set from a file as its authors give it, and "drawbench:hub", "partiprompts:hub":
              the same fetched from the Hugging Face Hub (:mod:`adrpo.data.published`, with the
              licences);
            - the path of a .txt file with one prompt a line or a .jsonl file with objects
              {"prompt": ..., "category": ...}, category optional. Blank lines are skipped.

            Paths are relative to the working folder. All but the scenes take ":train" or
            ":held_out" at the end, for one of two fixed halves without a prompt in common
            (:func:`adrpo.data.splits.split`): "art-style:train", "drawbench:a.csv:held_out".
        size: number of prompts; of a scenes set only, all others are read whole.
        seed: which prompts; of a scenes set only.

    Raises:
        AdrpoError: an unknown source, a file that is missing, empty, not UTF-8 or of another
            form, a file that can't be fetched, more prompts than the scenes' split holds, or an
            empty half.
    """
    check_source(source)
    if source in SCENES_SETS:
        return _scenes(source, size=size, seed=seed)
    kind, place, part = _parse(source)
    if kind in SHIPPED:
        prompts = SHIPPED[kind]()
    elif kind in PUBLISHED:
        prompts = read_published(kind, place)
    else:
        prompts = FILES[Path(place).suffix](Path(place))
    if not part:
        return prompts
    half = split(prompts, held_out=part == "held_out")
    if not half:
        raise AdrpoError(
            f"{source}: expected a category of two or more different prompts, to hold half of it "
            f"out; received none; name a source with more prompts"
        )
    return half


def check_source(source: str) -> str:
    """``source``, if it can name prompts; the file itself is not looked at.

    Raises:
        AdrpoError: none of the forms that :func:`load_prompts` lists.
    """
    if source in SCENES_SETS:
        return source
    kind, place, _ = _parse(source)
    if kind in PUBLISHED:
        check_published(kind, place, source=source)
    elif kind not in SHIPPED and Path(place).suffix not in FILES:
        published = (f"{name}:PATH" for name in PUBLISHED)
        raise AdrpoError(
            f"expected {', '.join([*SCENES_SETS, *SHIPPED, *published])} or the path of a "
            f"{' or '.join(FILES)} file, received {source!r}{_hint(source)}"
        )
    return source


def share_prompts(first: str, second: str) -> bool:
    """Whether two sources have prompts in common, as far as their names tell.

    They have, where both are of one set and not its two halves: "art-style" holds all of
    "art-style:held_out". Two paths are compared as text.
    """
    one, two = _parse(first), _parse(second)
    if (one.kind, Path(one.place)) != (two.kind, Path(two.place)):
        return False
    return one.split == two.split or not (one.split and two.split)


def _parse(source: str) -> _Source:
    """A file of the user's own has kind ""."""
    body, _, last = source.rpartition(":")
    part = last if body and last in SPLITS else ""
    rest = body if part else source
    kind, _, place = rest.partition(":")
    if kind in PUBLISHED:
        return _Source(kind, place, part)
    return _Source(rest, "", part) if rest in SHIPPED else _Source("", rest, part)


def _hint(source: str) -> str:
    whole = [*SCENES_SETS, *SHIPPED, *(f"{name}:{part}" for name in SHIPPED for part in SPLITS)]
    near = difflib.get_close_matches(source, whole, n=1)
    if not near:
        name, colon, place = source.partition(":")
        # 0.8: "prompts.csv" is a path, not a misspelt "partiprompts".
        names = difflib.get_close_matches(name, PUBLISHED, n=1, cutoff=0.8)
        near = [f"{known}:{place if colon else 'PATH'}" for known in names]
    return f"; did you mean {near[0]!r}?" if near else ""


def _scenes(source: str, *, size: int, seed: int) -> list[Prompt]:
    try:
        scenes = prompt_set(size, held_out=SCENES_SETS[source], seed=seed)
    except ValueError as error:
        raise AdrpoError(f"{source}: {error}; lower the size") from None
    return [Prompt(caption(scene), scene.category) for scene in scenes]
