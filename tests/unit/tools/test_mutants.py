"""The command that plants faults, on a toy tree with a fault of every outcome."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tools.mutants.__main__ import LISTS, main
from tools.mutants.record import RECORD, sentence

SOURCE = "def double(x):\n    return x + x\n\n\ndef half(x):\n    return x / 2\n"
TEST = """import sys
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent))
from thing import double, half

def test_double():
    assert double(3) == 6

def test_half():
    half(4)
"""
LIST = """# A comment.

## double-square: doubles by the square
file: thing.py
tests: test_thing.py::test_double
- return x + x
+ return x * x

## half-third: half is a third, which no test sees
file: thing.py
tests: test_thing.py::test_half
  def half(x):
-     return x / 2
+     return x / 3
"""
SAME = """
## double-same: doubles by two
file: thing.py
tests: test_thing.py::test_double
equivalent: x + x is 2 x
- return x + x
+ return 2 * x
"""
ONE = """
## one: {meaning}
file: thing.py
tests: test_thing.py{test}
- {old}
+ {new}
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A toy tree under git, with the list above, whose tests need nothing."""
    monkeypatch.setattr("tools.mutants.worker.PRELOADED", ())
    root = tmp_path / "tree"
    (root / LISTS).mkdir(parents=True)
    (root / "thing.py").write_text(SOURCE)
    (root / "test_thing.py").write_text(TEST)
    (root / LISTS / "things.txt").write_text(LIST)
    name = ["-c", "user.name=a", "-c", "user.email=a@b"]
    (root / ".gitignore").write_text("/build/\n__pycache__/\n")
    for words in (["init", "-q"], ["add", "."], [*name, "commit", "-q", "-m", "a"]):
        git(root, *words)
    return root


def git(root: Path, *words: str) -> str:
    asked = ["git", "-C", str(root), *words]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


def outcomes(root: Path) -> dict[str, str]:
    lines = (root / "build" / "mutants.jsonl").read_text().splitlines()
    return {row["id"]: row["outcome"] for row in map(json.loads, lines) if "id" in row}


def test_killed_and_surviving(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / LISTS / "others.txt").write_text(SAME)
    assert main([], tree) == 1
    assert outcomes(tree) == {
        "double-square": "killed",
        "half-third": "survived",
        "double-same": "equivalent",
    }
    said = capsys.readouterr().out
    assert "survived: half-third (things.txt:9): half is a third" in said
    assert "equivalent: double-same: x + x is 2 x" in said
    assert said.endswith("3 faults: 1 equivalent, 1 killed, 1 survived\n")
    assert (tree / "thing.py").read_text() == SOURCE

    # The outcomes are of this tree and these faults: they are kept, and made again after a change.
    (tree / LISTS / "things.txt").write_text(LIST.replace("x / 3", "x // 0"))
    assert main(["--jobs", "2"], tree) == 0
    said = capsys.readouterr().out
    assert "2 outcomes are kept" in said and "killed" in said and "double-square" not in said
    (tree / "thing.py").write_text(SOURCE + "\n")
    assert main(["--only", "double"], tree) == 0
    said = capsys.readouterr().out
    assert "kept" not in said and said.endswith("2 faults: 1 equivalent, 1 killed\n")


def record(root: Path) -> tuple[dict[str, str], dict[str, Any]]:
    lines = (root / RECORD / "rows.jsonl").read_text().splitlines()
    summary = json.loads((root / RECORD / "summary.json").read_text())
    return {row["id"]: row["outcome"] for row in map(json.loads, lines)}, summary


def test_record_in_parts(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each part adds its rows; what the tree or the list has changed is told, and tried again."""
    out = ["--out", str(tree / RECORD)]
    assert main(["--only", "double", *out], tree) == 0
    rows, summary = record(tree)
    assert rows == {"double-square": "killed"}
    assert summary["outcomes"] == {"killed": 1, "never tried": 1}
    assert summary["left"] == {"half-third": "never tried"}
    assert summary["commits"] == {git(tree, "rev-parse", "HEAD"): 1}
    assert sentence(summary) == "2 faults: 1 killed, 1 never tried"

    capsys.readouterr()
    assert main(["--left", *out], tree) == 1
    assert "double-square" not in capsys.readouterr().out
    rows, summary = record(tree)
    assert rows == {"double-square": "killed", "half-third": "survived"}
    assert summary["lists"] == {"things": {"killed": 1, "survived": 1}}
    # Its own record is no change of the tree.
    assert summary["commits"] == {git(tree, "rev-parse", "HEAD"): 2}

    # A fault of another text, and one that is no more.
    (tree / LISTS / "things.txt").write_text(LIST.replace("x / 3", "x // 0") + SAME)
    assert main(["--check", *out], tree) == 0
    said = capsys.readouterr().out
    assert ": stale: half-third\n" in said and ": never tried: double-same\n" in said
    assert main(["--left", *out], tree) == 0
    (tree / LISTS / "things.txt").write_text(LIST.replace("x / 3", "x // 0"))
    assert main(["--left", *out], tree) == 0
    assert record(tree)[0] == {"double-square": "killed", "half-third": "killed"}

    # Another text of the file makes all of its rows stale.
    (tree / "thing.py").write_text(SOURCE + "\n")
    assert main(["--check", *out], tree) == 0
    assert capsys.readouterr().out.count(": stale: ") == 2
    assert main(["--left", *out, "--only", "half"], tree) == 0
    assert record(tree)[1]["outcomes"] == {"stale": 1, "killed": 1}
    assert summary["commits"].keys() != record(tree)[1]["commits"].keys()

    # Outcomes that were made without it are taken where a commit has the tree that they are of.
    assert main(["--only", "double"], tree) == 0
    assert main(["--left", *out, "--only", "half"], tree) == 0
    assert record(tree)[1]["outcomes"] == {"stale": 1, "killed": 1}
    git(tree, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "b")
    assert main(["--only", "double", "--output", str(tree / "build" / "other")], tree) == 0
    other = ["--output", str(tree / "build" / "other")]
    assert main(["--left", *out, *other, "--only", "half"], tree) == 0
    assert record(tree)[1]["outcomes"] == {"killed": 2}


def test_an_equivalent_fault_is_tried_as_such(tree: Path) -> None:
    """What survived before its list said why is no outcome of it any more."""
    reason = "equivalent: nobody halves\n"
    assert main(["--only", "half"], tree) == 1
    (tree / LISTS / "things.txt").write_text(LIST.replace("  def half", reason + "  def half"))
    assert main(["--only", "half"], tree) == 0


@pytest.mark.parametrize(
    ("one", "error"),
    [
        ({"old": "return x - x"}, "expected the old text once in thing.py, found it 0 times"),
        ({"old": "return x"}, "found it 2 times"),
        ({"old": "return x + x", "test": "::test_third"}, "there is no test test_thing.py::test_t"),
        ({"old": "return x + x", "new": "return ("}, "what it makes is no Python"),
        ({"old": "return x + x", "new": "return x + x"}, "one changes nothing"),
    ],
)
def test_list_of_another_tree(
    tree: Path, capsys: pytest.CaptureFixture[str], one: dict[str, str], error: str
) -> None:
    (tree / LISTS / "one.txt").write_text(
        ONE.format(**{"meaning": "m", "test": "", "new": "1"} | one)
    )
    assert main([], tree) == 2
    assert error in capsys.readouterr().err
    assert not (tree / "build").exists()


def test_what_can_not_be_tried(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fault that breaks the import, or whose tests fail without it, shows nothing."""
    broken = {"meaning": "m", "test": "::test_half", "old": "def double(x):", "new": "def dou(x):"}
    (tree / LISTS / "one.txt").write_text(ONE.format(**broken))
    (tree / "test_thing.py").write_text(TEST.replace("== 6", "== 7"))
    assert main([], tree) == 1
    assert set(outcomes(tree).values()) == {"not tried"}
    said = capsys.readouterr().out
    assert "without any fault test_thing.py fails" in said

    (tree / "test_thing.py").write_text(TEST)
    assert main(["--only", "one"], tree) == 1
    assert "pytest could not run its tests" in capsys.readouterr().out


def test_hanging_tests_are_ended(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.mutants.__main__.LEAST", 5.0)
    monkeypatch.setattr("tools.mutants.__main__.TIMES", 1.0)
    hanging = {"meaning": "m", "test": "", "old": "return x + x", "new": "while True: pass"}
    (tree / LISTS / "one.txt").write_text(ONE.format(**hanging))
    assert main(["--only", "one"], tree) == 0
    assert "one: its tests ran out of time" in capsys.readouterr().out


def test_committed_lists_can_be_planted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().err


def test_committed_record_is_counted_and_quoted() -> None:
    """The counts are those of the rows, and CONTRIBUTING.md has them."""
    root = Path(__file__).parents[3]
    summary = json.loads((root / RECORD / "summary.json").read_text())
    rows = [json.loads(line) for line in (root / RECORD / "rows.jsonl").read_text().splitlines()]
    for outcome, n in summary["outcomes"].items():
        if outcome not in ("stale", "never tried"):
            assert sum(row["outcome"] == outcome for row in rows) >= n
    words = " ".join((root / "CONTRIBUTING.md").read_text().split())
    assert sentence(summary) in words
