"""The first sentence of a docstring names its subject, so that it stands alone in ``help()``.

"Which rows belong to a group" answers a question that the reader has not asked; "Mask of the rows
that belong to a group" says what the function returns. A predicate says "True where ...".
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "benchmarks", "tools", "examples")
SUBJECTLESS = re.compile(
    r"(Those|These|Which|Of|What|Whether|Where|When|Who|Whose|Why|How|As|It|Its|They|Their)\b"
    r"|The same(?= (as|by|for|in|of|on|to|with|within)\b|\W*$|[.,;:])"
)


def docstrings(source: str) -> Iterator[tuple[int, str, str]]:
    """Line, name and text of each docstring: of modules, classes, functions, and of names that are
    assigned in a module or a class."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, getattr(node, "name", "the module"), text
        if isinstance(node, ast.Module | ast.ClassDef):
            for before, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(before, ast.Assign | ast.AnnAssign) and (
                    isinstance(after, ast.Expr)
                    and isinstance(after.value, ast.Constant)
                    and isinstance(after.value.value, str)
                ):
                    yield after.lineno, ast.unparse(before).split("=")[0], after.value.value


def without_subject(source: str) -> list[str]:
    return [
        f"line {line}, {name}: {text.splitlines()[0]}"
        for line, name, text in docstrings(source)
        if SUBJECTLESS.match(text)
    ]


FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]


def test_a_docstring_without_a_subject_is_found():
    source = '''"""Where things lie."""
NAMES = ()
"""Those of the fields."""
OTHERS = ()
"""The same within a sentence."""
class Rows:
    """What a file has."""
    first: int
    """Of the file."""
    second: int
    """The same number of the next."""
    def _is_empty(self):
        """Whether it has none."""
        def whichever():
            """Whichever row comes first."""
'''
    assert len(list(docstrings(source))) == 8
    assert [line.split(":")[0].split(", ")[1] for line in without_subject(source)] == [
        *("the module", "NAMES ", "OTHERS ", "Rows", "first", "_is_empty")
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_first_sentence_of_a_docstring_names_its_subject(name: str):
    assert without_subject((ROOT / name).read_text(encoding="utf-8")) == []
