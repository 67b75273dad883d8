"""The columns of a user's own file reach rewards beside their own prompt, whatever the file's
format, in training, in evaluations of seen and held-out prompts, and in a run that goes on."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from adrpo.data.prompts import load_prompts
from adrpo.errors import AdrpoError
from adrpo.flow.domain import build_trainer
from adrpo.llm.run import LanguageRun
from support.tiny_language_runs import tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS
from support.tiny_runs import darkness, tiny_config, whole_and_resumed

ROWS: list[dict[str, Any]] = [
    {
        "prompt": f"{letter} {number} kites",
        "category": f"{number % 2}",
        "count": None if number == 3 else number,
        "share": number / 4,
        "wanted": number % 2 == 0,
        "words": ["a"] * number,
        "box": {"left": number, "top": None},
    }
    for number, letter in enumerate("abcdefgh")
]
"""Every kind of value; one of the numbers is missing."""


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=2), encoding="utf-8")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)  # pyright: ignore


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    "jsonl": write_jsonl, "json": write_json, "csv": write_csv, "parquet": write_parquet,
}  # fmt: skip


def as_written(value: Any, form: str) -> Any:
    """As the format has it: a .csv file has texts, and an empty one for what is missing."""
    return value if form != "csv" else "" if value is None else str(value)


def told(rows: list[dict[str, Any]], form: str) -> dict[str, str]:
    """Prompt -> its columns; as text, since 1 == 1.0 == True."""
    return {
        row["prompt"]: repr([as_written(row[name], form) for name in list(row)[2:]]) for row in rows
    }


@pytest.mark.parametrize("form", WRITERS)
def test_values_keep_their_types(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"prompts.{form}"
    WRITERS[form](path, ROWS)
    found = load_prompts(str(path), size=1, seed=0)
    assert {prompt.text: repr([*prompt.columns.values()]) for prompt in found} == told(ROWS, form)
    assert [prompt.category for prompt in found] == [row["category"] for row in ROWS]
    halves = [load_prompts(f"{path}:{half}", size=1, seed=0) for half in ("train", "held_out")]
    assert sum(map(len, halves)) == len(ROWS) and all(halves)


@pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
def test_a_column_that_a_row_lacks_is_none(form: str, tmp_path: Path) -> None:
    rows = [{"prompt": "a", "side": "left"}, {"prompt": "b"}]
    path = tmp_path / f"prompts.{form}"
    if form == "csv":  # whose rows all have the same fields
        rows[1]["side"] = ""
    WRITERS[form](path, rows)
    found = [prompt.columns["side"] for prompt in load_prompts(str(path), size=1, seed=0)]
    assert found == ["left", "" if form == "csv" else None]


class Asked:
    """A reward that keeps which columns it was given beside which prompt."""

    __name__ = "asked"

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    def __call__(self, prompts: list[str], **columns: Any) -> list[float | None]:
        names = ("count", "share", "wanted", "words", "box")
        lists = [columns[name] for name in names]
        assert all(len(values) == len(prompts) for values in lists)
        self.rows += [
            (prompt, repr(list(values))) for prompt, *values in zip(prompts, *lists, strict=True)
        ]
        if "images" in columns:
            return darkness(prompts, columns["images"])
        return [float(len(text)) for text in columns["completions"]]


@pytest.mark.parametrize("form", WRITERS)
def test_pictures_that_are_gone_on_with(form: str, tmp_path: Path) -> None:
    train, held_out = tmp_path / f"train.{form}", tmp_path / f"new.{form}"
    WRITERS[form](train, ROWS[:5])
    WRITERS[form](held_out, ROWS[5:])
    config = tiny_config(
        prompts={"train": str(train), "held_out": str(held_out)},
        evaluation={"seen_prompts": 2, "every": 2},
    )
    reward = Asked()
    whole_and_resumed(config, reward, tmp_path)
    expected = told(ROWS, form)
    assert {*reward.rows} == {*expected.items()}


class TestLanguage:
    pytestmark = LANGUAGE_MARKS

    @pytest.mark.parametrize("form", WRITERS)
    def test_completions(self, form: str, tmp_path: Path) -> None:
        material = write_material(tmp_path)
        path = tmp_path / f"own.{form}"
        WRITERS[form](path, ROWS)
        config = tiny_language_config(
            material,
            prompts={
                "source": str(path), "train_size": None, "held_out_size": None,
                "held_out_share": 0.4,
            },
            training={"steps": 2},
            evaluation={"seen_prompts": 2},
        )  # fmt: skip
        reward = Asked()
        LanguageRun(config, reward=reward).train(tmp_path / "run", progress=False)
        expected, found = {*told(ROWS, form).items()}, {*reward.rows}
        # Of five prompts to train on, two steps of four may leave one out.
        assert found <= expected and len(found) >= len(ROWS) - 1

    def test_a_column_that_only_held_out_prompts_have(self, tmp_path: Path) -> None:
        """Found before the base is evaluated, and nothing is left."""
        material = write_material(tmp_path)
        write_jsonl(tmp_path / "train.jsonl", [{"prompt": row["prompt"]} for row in ROWS[:5]])
        write_jsonl(tmp_path / "new.jsonl", ROWS[5:])
        config = tiny_language_config(
            material,
            prompts={
                "source": str(tmp_path / "train.jsonl"), "held_out": str(tmp_path / "new.jsonl"),
                "train_size": None, "held_out_size": None,
            },
        )  # fmt: skip
        calls: list[int] = []

        def sided(prompts: list[str], completions: list[str], share: list[float], **_: Any) -> Any:
            calls.append(len(prompts))
            return [1.0] * len(prompts)

        with pytest.raises(AdrpoError) as caught:
            LanguageRun(config, reward=sided).train(tmp_path / "run", progress=False)
        assert lacks("share") in str(caught.value) and not calls
        assert not (tmp_path / "run").exists()


def lacks(name: str) -> str:
    return f"give {name!r} a default, or the data a column of that name"


@pytest.mark.parametrize("method", ["adrpo", "flow_grpo", "dpo"])
@pytest.mark.parametrize("lacking", ["train", "held_out"])
def test_a_column_that_one_of_two_files_lacks(lacking: str, method: str, tmp_path: Path) -> None:
    """One line, before anything is drawn or written, whichever of the two it is."""
    files = {"train": ROWS[:5], "held_out": ROWS[5:]}
    prompts = {}
    for name, rows in files.items():
        kept = [{"prompt": row["prompt"]} for row in rows] if name == lacking else rows
        write_jsonl(tmp_path / f"{name}.jsonl", kept)
        prompts[name] = str(tmp_path / f"{name}.jsonl")
    algorithm = {"method": method} | ({"pairs_samples": 2} if method == "dpo" else {})
    config = tiny_config(prompts=prompts, algorithm=algorithm, sampling={"steps": 3})
    calls: list[int] = []

    def sided(prompts: list[str], images: list[Any], share: list[float], **_: Any) -> Any:
        calls.append(len(prompts))
        return darkness(prompts, images)

    with pytest.raises(AdrpoError) as caught:
        build_trainer(config, reward=sided).train(tmp_path / "run", progress=False)
    assert lacks("share") in str(caught.value) and "\n" not in str(caught.value)
    if lacking == "train" or method != "dpo":  # whose pairs are drawn before the first evaluation
        assert not calls and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("p.json", '{"prompt": "a"}', "expected a list of JSON objects with the prompts, received"),
        ("p.json", '[\n{"prompt": "a"},\n]', "p.json, line 3, column 1: expected a list of JSON"),
        ("p.json", "[]", "expected at least one prompt, received an empty file"),
        ("p.json", '["a"]', "p.json, item 1: expected a column 'prompt' with the prompt"),
        ("p.json", '[{"prompt": ""}]', "p.json, item 1, column 'prompt': expected a text that"),
        ("p.parquet", "no table", "p.parquet: expected a Parquet file, which can't be loaded"),
    ],
)
def test_damaged_files_are_one_line(name: str, content: str, line: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(AdrpoError) as caught:
        load_prompts(str(tmp_path / name), size=1, seed=0)
    assert line in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(AdrpoError, match="No such file"):
        load_prompts(str(tmp_path / f"other-{name}"), size=1, seed=0)
