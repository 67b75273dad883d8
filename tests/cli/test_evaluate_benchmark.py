"""``adrpo evaluate --benchmark``: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest

from support.command_line import Command

DATA = Path(__file__).parents[1] / "unit" / "audio"
MMAU = ["--benchmark", "mmau", "--data", str(DATA)]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """In an empty folder, with the predictions of two models."""
    monkeypatch.chdir(tmp_path)
    rows = json.loads((DATA / "mmau-test-mini.json").read_text(encoding="utf-8"))
    right = [{row["id"]: row["answer"]} for row in rows]
    first = [{row["id"]: row["choices"][0]} for row in rows]
    for name, lines in (("right", right), ("first", first)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        Path(f"{name}.jsonl").write_text(text, encoding="utf-8")
    return Command(monkeypatch, capsys)


def table(text: str, end: str) -> dict[str, list[str]]:
    """Label -> numbers without their intervals, of the lines before one that begins by ``end``."""
    lines = text.partition(end)[0].splitlines()
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    return {row[0]: [cell.split(" ")[0] for cell in row[1:]] for row in cells if row}


def test_predictions_are_scored_and_compared(command: Command) -> None:
    assert command("evaluate", *MMAU, "--predictions", "first.jsonl") == 0
    assert command.err == "" and command.out.endswith("Result: runs/evaluation\n")
    printed = table(command.out, "Accuracies")
    # As often as the first choice is the answer, and twice more by words in another order.
    n, official, strict, baseline = printed["all"]
    assert n == "14" and strict == baseline
    assert float(official) == pytest.approx(5 / 14, abs=0.01)
    assert float(strict) == pytest.approx(3 / 14, abs=0.01)
    assert {"task: sound", "difficulty: hard", "sub-category: Chords"} <= printed.keys()

    both = ["--predictions", "right.jsonl", "--against", "runs/evaluation"]
    assert command("evaluate", *MMAU, *both) == 0
    summary = json.loads(Path("runs/evaluation-2/summary.json").read_text())
    told = summary["against"]["differences"]["strict"]["all"]["all"]
    assert (told["only_ours"], told["only_theirs"]) == (10, 0)
    assert told["mcnemar_p"] == pytest.approx(2 / 2**10)
    assert summary["command"].endswith("--against runs/evaluation")
    assert "Difference to runs/evaluation" in command.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "RUN_OR_MODEL, or --benchmark"),
        (["embedded", "--data", "."], "--data"),
        ([*MMAU, "--predictions", "right.jsonl", "--size", "3", "--set", "a=1"], "--size, --set"),
        (MMAU, "no --predictions"),
        (["--benchmark", "mmau", "--predictions", "right.jsonl"], "no --data"),
        (["--benchmark", "mmlu", "--data", ".", "--predictions", "right.jsonl"], "'mmlu'"),
        ([*MMAU, "--predictions", "missing.jsonl"], "missing.jsonl"),
        ([*MMAU, "--predictions", "right.jsonl", "--against", "nowhere"], "nowhere"),
        ([*MMAU, "--predictions", "right.jsonl", "--output-dir", "right.jsonl/x"], "right.jsonl"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    command: Command, tmp_path: Path, arguments: list[str], named: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert command("evaluate", *arguments) == 2
    assert command.err.startswith("adrpo: error: ") and command.err.count("\n") == 1
    assert named in command.err
    assert command.out == ""
    assert sorted(tmp_path.rglob("*")) == before
