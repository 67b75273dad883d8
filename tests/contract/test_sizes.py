"""No file and no function is longer than a reader takes in at once (CONTRIBUTING.md)."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "examples", "src", "tests", "tools")
LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 60

# What is too long and is to be cut: nothing may be added.
TOO_LONG = set[str]()


def sources() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and lines of each function, from its ``def`` to its end, decorators left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def test_nothing_is_long() -> None:
    files, found = 0, set[str]()
    for path in sources():
        files += 1
        name = path.relative_to(ROOT).as_posix()
        if len(path.read_text(encoding="utf-8").splitlines()) > LINES_OF_A_FILE:
            found.add(name)
        found.update(
            f"{name}: {function}"
            for function, lines in functions(path)
            if lines > LINES_OF_A_FUNCTION
        )
    assert files > 300, "the sources were not found"
    assert found <= TOO_LONG, (
        f"expected at most {LINES_OF_A_FILE} lines a file and {LINES_OF_A_FUNCTION} a function; "
        f"part {sorted(found - TOO_LONG)}"
    )
    assert found >= TOO_LONG, f"these are short now: take {TOO_LONG - found} out of TOO_LONG"
