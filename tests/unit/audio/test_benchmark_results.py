"""Files of questions and predictions, and what the result of a model holds."""

import hashlib
import json
from collections.abc import Callable
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adrpo.audio.benchmarks.benchmarks import BENCHMARKS
from adrpo.audio.benchmarks.pairing import mcnemar
from adrpo.audio.benchmarks.questions import read_questions
from adrpo.audio.benchmarks.results import score_predictions
from adrpo.errors import AdrpoError
from adrpo.evaluation import mean_over_seeds, paired_difference
from adrpo.report.benchmark import benchmark_lines

FILE = Path(__file__).parent / "mmau-test-mini.json"


def published_rows() -> list[dict[str, Any]]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def answered(rows: list[dict[str, Any]], *, missing: int = 0, wrong: int = 0) -> list[Any]:
    """The rows with their answers as outputs, but ``wrong`` wrong ones first, and none for the
    last ``missing``."""
    for place, row in enumerate(rows[: len(rows) - missing]):
        row["model_output"] = "none of them" if place < wrong else row["answer"]
    return rows


def written(path: Path, value: Any) -> Path:
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(row) + "\n" for row in value)
    else:
        text = json.dumps(value)
    path.write_text(text, encoding="utf-8")
    return path


def scored(folder: Path, rows: Any, name: str = "result", **more: Any) -> dict[str, Any]:
    """The summary of the predictions ``rows``, whose result lies in ``folder / name``."""
    path = rows if isinstance(rows, Path) else written(folder / f"{name}.json", rows)
    return score_predictions("mmau", FILE.parent, path, folder / name, **more)


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(AdrpoError) as refused:
        call()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_folder_holds_what_is_returned(tmp_path: Path):
    summary = scored(tmp_path, answered(published_rows(), missing=2, wrong=3), command="adrpo x")
    folder = tmp_path / "result"
    assert sorted(path.name for path in folder.iterdir()) == ["rows.jsonl", "summary.json"]
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert summary["command"] == "adrpo x" and summary["environment"]["packages"]
    assert summary["data"]["sha256"] == hashlib.sha256(FILE.read_bytes()).hexdigest()
    predictions = (tmp_path / "result.json").read_bytes()
    assert summary["predictions"]["sha256"] == hashlib.sha256(predictions).hexdigest()
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [row["id"] for row in published_rows()]
    for scorer, grouping in (("official", "all"), ("official", "task"), ("strict", "category")):
        for name, told in summary["scores"][scorer][grouping].items():
            within = [row for row in rows if grouping == "all" or name in row[grouping]]
            values = [row[scorer] for row in within if row[scorer] is not None]
            assert (told["n"], told["right"]) == (len(values), sum(values))
    assert summary["scores"]["official"]["all"]["all"]["n"] == 12
    assert summary["scores"]["official_missing_wrong"]["all"]["all"]["n"] == 14


def test_a_list_of_categories_is_each_of_its_groups(tmp_path: Path):
    groups = scored(tmp_path, answered(published_rows()))["scores"]["strict"]["category"]
    # s-03, s-05 and v-01 have the list of one, m-02 that of two.
    assert {name: told["n"] for name, told in groups.items()} == {
        "Information Extraction": 8,
        "Reasoning": 7,
    }


def test_intervals_are_those_of_the_house_within_tasks(tmp_path: Path):
    rows = answered(published_rows(), missing=2, wrong=3)
    scores = scored(tmp_path, rows)["scores"]["official"]
    values = np.array([[0.0] * 3 + [1.0] * 9])
    expected = mean_over_seeds(values, [row["task"] for row in rows[:12]])
    told = scores["all"]["all"]
    assert (told["mean"], told["low"], told["high"]) == (
        expected.mean,
        expected.low,
        expected.high,
    )
    # One question has no interval, a group without an answer no mean.
    assert scores["sub-category"]["Loudness"] == {
        "mean": 1.0,
        "low": None,
        "high": None,
        "n": 1,
        "right": 1,
    }
    assert scores["sub-category"]["Speakers"]["mean"] is None


def test_jsonl_and_the_published_form_say_the_same(tmp_path: Path):
    rows = answered(published_rows(), missing=1, wrong=2)
    known = [row for row in rows if "model_output" in row]
    forms = {
        "published": rows,
        "rows": [{"id": row["id"], "model_output": row["model_output"]} for row in known],
        "pairs": [{row["id"]: row["model_output"]} for row in known],
    }
    found = []
    for name, form in forms.items():
        suffix = ".json" if name == "published" else ".jsonl"
        found.append(scored(tmp_path, written(tmp_path / f"{name}{suffix}", form), name))
    for other in found[1:]:
        assert other["scores"] == found[0]["scores"]
        assert other["noticed"] == found[0]["noticed"]


def test_what_a_reader_should_know_is_named(tmp_path: Path):
    rows = answered(published_rows(), missing=1)
    rows[0]["answer"] = "a door"
    rows[1]["choices"] = ["birds", "a siren"]
    rows.append({"id": "x-99", "model_output": "rain"})
    summary = scored(tmp_path, rows)
    assert summary["noticed"] == {
        "missing": ["v-04"],
        "unknown": ["x-99"],
        "other_version": ["s-01", "s-02"],
        "answer_is_no_choice": ["m-05"],
        "repeated_choices": ["m-03"],
    }
    lines = benchmark_lines(summary)
    for name in ("v-04", "x-99", "s-01, s-02", "m-05", "m-03"):
        assert [line for line in lines if line.endswith(f": {name}")], name
    assert summary["data"]["sha256"] in lines[0]
    # The answer of the data counts, not that of the row.
    assert summary["scores"]["official"]["all"]["all"]["right"] == 13


def test_letters_are_read_in_the_order_that_the_rows_show(tmp_path: Path):
    rows = published_rows()
    for row in rows:
        row["choices"] = row["choices"][::-1]
        row["model_output"] = "B"
    summary = scored(tmp_path, rows)
    assert summary["noticed"]["other_version"] == []
    right = [row for row in rows if row["choices"][1] == row["answer"]]
    assert [row["id"] for row in right] == ["s-03", "m-01", "m-03", "v-01"]
    assert summary["scores"]["strict"]["all"]["all"]["right"] == len(right)


def test_two_results_differ_question_by_question(tmp_path: Path):
    theirs = answered(published_rows(), missing=1, wrong=5)
    ours = answered(published_rows(), missing=2, wrong=1)
    ours[6]["model_output"] = "nothing"
    scored(tmp_path, theirs, "theirs")
    summary = scored(tmp_path, ours, "ours", against=tmp_path / "theirs")
    told = summary["against"]["differences"]["official"]["all"]["all"]
    # Twelve are answered by both: s-02 to s-05 are ours alone, m-02 theirs.
    first = [[0.0, 1, 1, 1, 1, 1, 0, *[1] * 5]]
    second = [[0.0] * 5 + [1.0] * 7]
    expected = paired_difference(first, second, [row["task"] for row in ours[:12]])
    assert (told["mean"], told["low"], told["high"]) == (
        expected.mean,
        expected.low,
        expected.high,
    )
    assert (told["n"], told["only_ours"], told["only_theirs"]) == (12, 4, 1)
    # Five tosses of a coin with one head or fewer, and the same of tails.
    assert told["mcnemar_p"] == pytest.approx(2 * (comb(5, 0) + comb(5, 1)) / 2**5)
    none = summary["against"]["differences"]["official"]["sub-category"]["Speakers"]
    assert (none["n"], none["mean"], none["mcnemar_p"]) == (0, None, None)
    missing = summary["against"]["differences"]["official_missing_wrong"]["all"]["all"]
    assert (missing["n"], missing["only_theirs"]) == (14, 2)
    assert any("theirs, paired by question" in line for line in benchmark_lines(summary))


def test_mcnemar_is_two_sided_and_at_most_one():
    assert mcnemar(0, 0) == mcnemar(4, 4) == 1
    for first, second in ((0, 6), (2, 9), (7, 8)):
        tail = sum(comb(first + second, k) for k in range(min(first, second) + 1))
        expected = min(1, 2 * tail / 2 ** (first + second))
        assert mcnemar(first, second) == mcnemar(second, first) == pytest.approx(expected)


def test_mmar_is_read_by_its_own_keys(tmp_path: Path):
    rows = published_rows()[:6]
    for row in rows:
        row["modality"] = "mix-sound-speech" if row["id"] == "m-01" else row.pop("task")
        row["category"] = "Signal Layer"
    data = written(tmp_path / "MMAR-meta.jsonl", rows)
    lines = [{"id": row["id"], "answer_prediction": row["answer"]} for row in rows[:5]]
    predictions = written(tmp_path / "mmar.jsonl", lines)
    summary = score_predictions("mmar", tmp_path, predictions, tmp_path / "result")
    assert summary["data"]["file"] == str(data)
    groups = summary["scores"]["official"]["modality"]
    assert {name: told["n"] for name, told in groups.items()} == {
        "mix-sound-speech": 0,
        "sound": 5,
    }
    assert "difficulty" not in summary["scores"]["official"]
    # A file in MMAU's form has none of its answers.
    named = written(tmp_path / "other.json", answered(rows))
    message = refusal(lambda: score_predictions("mmar", data, named, tmp_path / "other"))
    assert "'answer_prediction'" in message and "model_output" in message


def changed(**values: Any) -> list[Any]:
    rows = published_rows()
    rows[2] |= values
    return rows


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ({"id": 1}, "JSON list"),
        ([], "without any"),
        (["a"], "row 0"),
        (changed(choices="['a', 'b']"), "row 2: expected 'choices'"),
        (changed(choices=["a"]), "2 to 26"),
        (changed(choices=["a", 1]), "2 to 26"),
        (changed(answer=4), "row 2: expected 'answer' as a text; received 4"),
        (changed(id=17), "row 2: expected 'id'"),
        (changed(id="s-01"), "'s-01' twice"),
        (changed(id="s\ud800"), "row 2: expected 'id' as a printable text"),
        (changed(category=[1]), "row 2: expected 'category'"),
        (changed(category="Reason\ning"), "row 2: expected 'category'"),
        ([{"id": "a", "question": "?", "choices": ["a", "b"]}], "withheld"),
    ],
)
def test_questions_that_are_none_are_named(tmp_path: Path, rows: Any, named: str):
    path = written(tmp_path / "mmau-test-mini.json", rows)
    message = refusal(lambda: read_questions(BENCHMARKS["mmau"], tmp_path))
    assert named in message and str(path) in message


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("p.json", "[{", "not JSON"),
        ("p.json", '{"id": "s-01"}\n{"id": "s-02"}', "not JSON"),
        ("p.json", "\xff", "no id that one of them has"),
        ("p.jsonl", '{"s-01": "a dog"}\n{"s-01": "a door"}', "several of s-01"),
        ("p.jsonl", '{"s-01": null}', "line 1: expected 'model_output' as a text; received None"),
        ("p.jsonl", '{"s-01": "a dog"}\n\n{"id": "s-02", "model_output": 3}', "line 3"),
        ("p.jsonl", '{"model_output": "a dog"}', "'id'"),
        ("p.jsonl", "[1]", "line 1: expected a JSON object"),
        ("p.jsonl", '{"s\\ud800": "a dog"}', "line 1: expected 'id' as a printable text"),
        ("p.jsonl", '{"x-1": "a dog"}', "no id that one of them has"),
        ("p.jsonl", '{"id": "s-01", "model_prediction": "a dog"}', "model_prediction"),
        ("p.jsonl", '{"id": "s-01", "model_output": "a", "choices": "a"}', "'choices'"),
    ],
)
def test_predictions_that_are_none_are_named(tmp_path: Path, name: str, text: str, named: str):
    path = tmp_path / name
    if text == "\xff":
        path.write_bytes(b"[\n\xff]")
        named = "line 2: expected UTF-8"
    else:
        path.write_text(text, encoding="utf-8")
    assert named in refusal(lambda: scored(tmp_path, path))
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_and_another_result_that_do_not_fit_are_named(tmp_path: Path):
    own = read_questions(BENCHMARKS["mmau"], FILE)
    assert own == read_questions(BENCHMARKS["mmau"], FILE.parent)
    assert "mmau-test-mini.json" in refusal(lambda: read_questions(BENCHMARKS["mmau"], tmp_path))
    rows = answered(published_rows())
    scored(tmp_path, rows, "theirs")

    def again(folder: str) -> str:
        return refusal(lambda: scored(tmp_path, rows, "ours", against=tmp_path / folder))

    assert "summary.json" in again("nowhere")
    theirs = tmp_path / "theirs"
    text = (theirs / "rows.jsonl").read_text()
    (theirs / "rows.jsonl").write_text(text.replace('"strict": 1', '"strict": 7', 1))
    assert "for s-01" in again("theirs")
    (theirs / "rows.jsonl").write_text(text.partition("\n")[2])
    assert "for s-01" in again("theirs")
    summary = json.loads((theirs / "summary.json").read_text())
    summary["data"]["sha256"] = "0" * 64
    (theirs / "summary.json").write_text(json.dumps(summary))
    assert "000000000000..." in again("theirs")
    (theirs / "summary.json").write_text("[]")
    assert "JSON object" in again("theirs")
    assert not (tmp_path / "ours").exists()
