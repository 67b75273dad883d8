"""Published prompt sets, read from their authors' files; none of them is bundled.

A set is read from a file that the user has, or fetched from the Hugging Face Hub at a fixed
revision where somebody keeps it there in a form that needs no further package.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adrpo.data.base import Prompt, Row, prompts_of
from adrpo.data.files import no_prompt, numbered_lines, parse_object, read_table, read_text
from adrpo.data.rows import first_of_each
from adrpo.errors import AdrpoError

CATEGORY = "Category"
"""The column of categories in the tables."""


def read_drawbench(path: Path) -> list[Prompt]:
    """DrawBench (Saharia et al., arXiv 2205.11487): 200 prompts in 11 categories.

    A .csv with the columns Prompts (in some copies Prompt) and Category, as the authors' sheet
    exports it; the sheet's "Gary Marcus et al. " ends in a space, which is stripped. The authors
    gave no licence; the copy on the Hub says Apache-2.0. The paper's models are trained and
    evaluated on the same prompts: name a split to keep the two apart.
    """
    return _from_table(path, prompt=("Prompts", "Prompt"), delimiter=",", quotes=True)


def read_geneval(path: Path) -> list[Prompt]:
    """GenEval (Ghosh et al., arXiv 2310.11513): 553 prompts with 6 tags, category = tag.

    prompts/evaluation_metadata.jsonl of github.com/djghosh13/geneval, MIT. Flow-GRPO's training
    and test sets (dataset/geneval of github.com/yifan123/flow_grpo, MIT) have the same form.
    """
    return _from_objects(path, category="tag")


def read_partiprompts(path: Path) -> list[Prompt]:
    """PartiPrompts (Yu et al., arXiv 2206.10789): 1,632 prompts in 12 categories.

    PartiPrompts.tsv of github.com/google-research/parti, Apache-2.0: tab-separated, and a
    quotation mark is part of the prompt, not of the format.
    """
    return _from_table(path, prompt=("Prompt",), delimiter="\t", quotes=False)


def read_pickapic(path: Path) -> list[Prompt]:
    """Pick-a-Pic (Kirstain et al., arXiv 2305.01569): users' prompts, without categories.

    A .txt with one prompt a line, as Flow-GRPO publishes it (dataset/pickscore/{train,test}.txt
    of github.com/yifan123/flow_grpo: 25,432 and 2,048), or a .jsonl with the column "caption" of
    the Hub's yuvalkirstain/pickapic_v1_no_images, which has one row per pair of images: repeated
    prompts are read once, with the columns of their first row. The data set names no licence, and
    holds prompts for pictures that are not safe for work.
    """
    texts = path.suffix == ".txt"
    return first_of_each(
        prompts_of(read_text(path)) if texts else _from_objects(path, prompt="caption")
    )


def _from_objects(
    path: Path, *, prompt: str = "prompt", category: str | None = None
) -> list[Prompt]:
    """A JSON object a line, with the text ``prompt`` and, if it is named, the text ``category``."""
    fields = [prompt] if category is None else [prompt, category]
    expected = f'an object with "{prompt}", a text'
    if category is not None:
        expected = f'an object with "{prompt}" and "{category}", both text'
    rows: list[tuple[str, Row]] = []
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        row = parse_object(line, where, expected)
        texts = [row.pop(name, None) for name in fields]
        if not all(isinstance(text, str) for text in texts) or not str(texts[0]).strip():
            raise AdrpoError(f"{where}: expected {expected}, received {line.strip()[:60]}")
        found = dict(zip(("prompt", "category"), texts, strict=False))
        rows.append((where, row | found | {"prompt": str(texts[0]).strip()}))
    return prompts_of(rows)


def _from_table(
    path: Path, *, prompt: tuple[str, ...], delimiter: str, quotes: bool
) -> list[Prompt]:
    """A table whose column of prompts has one of the names ``prompt``, beside "Category"."""
    header, rows = read_table(path, delimiter=delimiter, quotes=quotes)
    named = [name for name in prompt if name in header]
    if not named or CATEGORY not in header:
        raise AdrpoError(
            f"{path}, line 1: expected the columns {' or '.join(prompt)} and {CATEGORY}, "
            f"received {', '.join(header)[:60] or 'an empty line'}"
        )
    located: list[tuple[str, Row]] = []
    for number, fields in rows:
        where = f"{path}, line {number}"
        row: Row = dict(zip(header, fields, strict=True))
        found = {"prompt": row.pop(named[0]).strip(), "category": row.pop(CATEGORY).strip()}
        if not all(found.values()):
            missing = CATEGORY if found["prompt"] else named[0]
            raise AdrpoError(f"{where}: expected a {missing}, received an empty field")
        located.append((where, row | found))
    if not located:
        raise no_prompt(path)
    return prompts_of(located)


@dataclass(frozen=True)
class HubFile:
    """A file of a data set on the Hugging Face Hub, at a commit."""

    repository: str
    name: str
    revision: str


@dataclass(frozen=True)
class PublishedSet:
    """A published set: the function that reads it, and the home of its file."""

    read: Callable[[Path], list[Prompt]]
    suffixes: tuple[str, ...]
    home: str
    hub: HubFile | None = None


PUBLISHED = {
    "drawbench": PublishedSet(
        read_drawbench,
        (".csv",),
        "https://huggingface.co/datasets/sayakpaul/drawbench",
        HubFile(
            "sayakpaul/drawbench",
            "DrawBench Prompts - Sheet1.csv",
            "ad794cba698c253ffdb6d18eff3fc87b004c1135",
        ),
    ),
    "geneval": PublishedSet(read_geneval, (".jsonl",), "https://github.com/djghosh13/geneval"),
    "partiprompts": PublishedSet(
        read_partiprompts,
        (".tsv",),
        "https://github.com/google-research/parti",
        HubFile(
            "nateraw/parti-prompts",
            "PartiPrompts.tsv",
            "944b156abfdad7627c3221b5ec4f6a6fb060a197",
        ),
    ),
    "pickapic": PublishedSet(
        read_pickapic, (".txt", ".jsonl"), "https://github.com/yifan123/flow_grpo"
    ),
}
"""Name of a published set -> how it is read."""

HUB = "hub"
"""Stands for the path where the file shall come from the Hub."""


def check_published(name: str, place: str, *, source: str) -> None:
    """Refuse a ``place`` that can't be the file of the set ``name``; the file is not looked at.

    ``source`` is what the user wrote, for the message.

    Raises:
        AdrpoError: a path of another suffix, or "hub" for a set that has no file there.
    """
    known = PUBLISHED[name]
    if known.hub if place == HUB else Path(place).suffix in known.suffixes:
        return
    forms = f"{name}:PATH of a {' or '.join(known.suffixes)} file"
    if known.hub:
        forms += f" or {name}:{HUB}"
    raise AdrpoError(f"expected {forms}, received {source!r}; see {known.home}")


def read_published(name: str, place: str) -> list[Prompt]:
    """The prompts of the set ``name`` from ``place``, which :func:`check_published` lets pass.

    Raises:
        AdrpoError: a file that is missing, empty, not UTF-8 or of another form, or that can't be
            fetched.
    """
    known = PUBLISHED[name]
    path = _fetch(name, known.hub) if place == HUB and known.hub else Path(place)
    return known.read(path)


def _fetch(name: str, file: HubFile) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(
            file.repository, file.name, repo_type="dataset", revision=file.revision
        )
    except OSError as error:  # every error of the Hub and of the way to it
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise AdrpoError(
            f"{name}:{HUB}: expected to fetch {file.name!r} of the data set {file.repository}, "
            f"which failed: {reason}; get the file another way and name it as {name}:PATH"
        ) from error
    return Path(path)
