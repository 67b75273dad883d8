"""Rows of every source of questions, under one set of names: audio, question, choices, answer."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adrpo.audio.benchmarks.benchmarks import benchmark_named
from adrpo.audio.benchmarks.questions import read_questions
from adrpo.audio.data.clips import kept_clip
from adrpo.audio.data.questions import Located
from adrpo.config.audio_prompts import AudioColumnsSection, place_and_split
from adrpo.data.base import Row
from adrpo.data.files import no_prompt, read_jsonl
from adrpo.data.huggingface import TRAIN, read_dataset
from adrpo.data.rows import is_hub_id
from adrpo.errors import AdrpoError

NEEDED = ("audio", "question", "choices", "answer")
"""Names that every row has; "category" is one that a row may have."""


@dataclass(frozen=True)
class KnownSet:
    """A published data set: the names of its columns that are others, and how it is laid out."""

    columns: dict[str, str] = field(default_factory=dict[str, str])
    manifest: str | None = None
    """File with the rows, beside folders of clips; None: the rows hold their clips."""
    of_video: bool = False
    """True where the questions were asked about videos, whose sound is all that is left."""


KNOWN_SETS = {
    # The sound of AVQA's videos (mn.cs.tsinghua.edu.cn/avqa), as R1-AQA and NeMo RL train on it
    # (nemo_rl/data/datasets/response_datasets/avqa.py): splits train and validation, columns audio
    # (WAV), question ("How many ... in the video?\nChoices:\nA. 3\nB. One\n...") and answer
    # ("B. One"); both say "audio" in the place of "video".
    "gijs/avqa-processed": KnownSet(of_video=True),
    # 19,480 questions in data.jsonl, with folders of WAV and MP3 beside it (NeMo RL, audiomcq.py
    # beside the former): source_dataset, id, question_type (sound, music, speech, temporal),
    # audio_path, question, choices (four texts), answer (a text), and thoughts.
    "Harland/AudioMCQ-StrongAC-GeminiCoT": KnownSet(
        columns={"audio": "audio_path", "category": "question_type"}, manifest="data.jsonl"
    ),
}
"""Hub id of a data set -> how it is read; a folder of its name is taken for a copy of it."""


def read_source(
    source: str, *, columns: AudioColumnsSection, audio_folder: str | None
) -> list[Located]:
    """(where it stands, the row) for each question of a file or a data set.

    A row has the columns of NEEDED, "category" where the source has one, and its further columns;
    a column of one of these five names gives way to the one that is named for it. "audio" is a
    path, or an array with its rate: clips that a data set holds become files
    (:func:`adrpo.audio.data.clips.kept_clip`).

    Args:
        source: a .jsonl file; a folder or the Hub id of a data set, with ":SPLIT" at its end for
            another split than "train"; KNOWN_SETS lists those whose columns are known.
        columns: names of the columns.
        audio_folder: folder that relative paths start from; None: that of the file or data set.

    Raises:
        AdrpoError: no such source, or a row without one of the columns.
    """
    place, split = place_and_split(source)
    known = {Path(name).name: one for name, one in KNOWN_SETS.items()}.get(Path(place).name)
    known = known or KnownSet()
    names = {name: known.columns.get(name, name) for name in (*NEEDED, "category")}
    names |= {name: own for name, own in columns.model_dump().items() if own is not None}
    rows, beside = _rows(place, split, known)
    folder = beside if audio_folder is None else Path(audio_folder)
    found: list[Located] = []
    for where, given in rows:
        row = _renamed(given, names, where, known)
        found.append((where, row | {"audio": _clip(row["audio"], folder, where)}))
    if not found:
        raise no_prompt(source)
    return found


def read_benchmark(source: str) -> list[Located]:
    """The questions of a benchmark in its authors' file: "mmau:FILE or FOLDER", "mmar:...".

    The category of a question is its task (its modality in MMAR); "sub_category", "difficulty" and
    "id" are further columns.

    Raises:
        AdrpoError: as :func:`adrpo.audio.benchmarks.questions.read_questions`, or a question
            without a sound.
    """
    kind, _, place = source.partition(":")
    found = read_questions(benchmark_named(kind), Path(place))
    rows: list[Located] = []
    for question, stratum in zip(found.questions, found.strata, strict=True):
        where = f"{found.path}, question {question.id}"
        groups = {name.replace("-", "_"): ", ".join(of) for name, of in question.groups.items()}
        row = {
            "audio": _clip(question.audio, found.path.parent, where),
            "question": question.text,
            "choices": list(question.choices),
            "answer": question.answer,
            "category": stratum,
            "id": question.id,
        }
        rows.append((where, groups | row))
    return rows


def _rows(place: str, split: str, known: KnownSet) -> tuple[Iterator[Located], Path]:
    """The rows as the source has them, and the folder that their clips are in."""
    path = Path(place)
    if path.suffix == ".jsonl":
        if split != TRAIN:
            raise AdrpoError(f"{place}: a file has no split {split!r}; name the file of that split")
        return read_jsonl(path), path.parent
    if not (path.is_dir() or is_hub_id(place)):
        raise AdrpoError(
            f"expected a .jsonl file, a folder, or the id of a data set on the Hub "
            f"('owner/name'), received {place!r}"
        )
    if known.manifest is None:
        return read_dataset(place, split=split), path
    folder = path if path.is_dir() else _fetched(place)
    return _rows(str(folder / known.manifest), split, known)


def _fetched(name: str) -> Path:
    """The folder with all files of a data set of the Hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, repo_type="dataset"))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise AdrpoError(
            f"{name}: expected a data set that can be fetched: {' '.join(str(error).split())[:300]}"
        ) from error


def _renamed(row: Row, names: dict[str, str], where: str, known: KnownSet) -> Row:
    """``row`` under the names of this module, with the choices apart from the question."""
    found = {name: row[own] for name, own in names.items() if own in row}
    if "choices" not in found and isinstance(found.get("question"), str):
        # As data sets of gijs have it: the choices stand behind the question.
        question, between, listed = found["question"].partition("\nChoices:\n")
        if between:
            found |= {"question": question, "choices": listed.strip().splitlines()}
    # R1-AQA's own lines say where they come from.
    of_video = known.of_video or row.get("dataset_name") == "AVQA"
    if of_video and isinstance(found.get("question"), str):
        found["question"] = found["question"].replace("video", "audio")
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise AdrpoError(
            f"{where}: expected a column {names[missing[0]]!r} with the {missing[0]}, received the "
            f"columns {', '.join(map(str, row)) or 'of no object':.120}; name it in "
            f"prompts.columns.{missing[0]}"
        )
    others = {name: value for name, value in row.items() if name not in names.values()}
    return others | found


def _clip(cell: Any, folder: Path, where: str) -> Any:
    """The clip of a row: a path as it stands from here, or an array with its rate.

    Raises AdrpoError for what names no clip.
    """
    if isinstance(cell, dict) and cell.get("bytes") is not None:
        return str(kept_clip(cell["bytes"], Path(cell.get("path") or "").suffix))
    if isinstance(cell, dict) and cell.get("array") is not None:
        return cell
    path = cell.get("path") if isinstance(cell, dict) else cell
    if not isinstance(path, str) or not path.strip():
        raise AdrpoError(
            f"{where}: expected a clip: the path of a file or what datasets' Audio holds, received "
            f"{cell!r:.60}; name the column of the clips in prompts.columns.audio"
        )
    return str(folder / path)
