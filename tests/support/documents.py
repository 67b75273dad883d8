"""What README and docs tell their readers to type: commands, Python, recipes."""

import ast
import builtins
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PAGES.remove(ROOT / "CHANGELOG.md")  # of its days
STARTERS = ("adrpo", "python", "make", "pip", "accelerate", "torchrun")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.M | re.S)
INLINE = re.compile(rf"`((?:{'|'.join(STARTERS)}) [^`]+)`")
CREATES = re.compile(r"# [\w./-]+\.(py|yaml)\n")
"""First line of a block that is a file."""


@dataclass(frozen=True)
class Typed:
    """A command of a page; ``inline`` where it stands in a sentence."""

    page: str
    words: tuple[str, ...]
    inline: bool

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def commands(page: Path) -> Iterator[Typed]:
    """The commands of ``page`` in its order: those of blocks without a language, of ``bash``, and
    of indented ones, then those of its sentences."""
    name, text = page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")
    blocks = [body for language, body in FENCE.findall(text) if language in ("", "bash")]
    prose = FENCE.sub("", text)
    blocks += re.findall(r"(?:^ {4}.*\n)+", prose, flags=re.M)
    for block in blocks:
        for line in _lines(block):
            words = shlex.split(line, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                del words[0]  # of the environment
            if words and words[0] in STARTERS:
                yield Typed(name, tuple(words), inline=False)
    for text in INLINE.findall(re.sub(r"^ {4}.*\n", "", prose, flags=re.M)):
        yield Typed(name, tuple(shlex.split(text)), inline=True)


def _lines(block: str) -> Iterator[str]:
    """The lines of a shell, with what a backslash or a quote goes on with."""
    line = ""
    for part in block.splitlines():
        if not line and not part.strip().startswith((*STARTERS, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ")):
            continue  # no command: a formula, a tree of files
        line += part
        if line.endswith("\\"):
            line = line[:-1]
            continue
        try:
            shlex.split(line, comments=True)
        except ValueError:
            line += "\n"
            continue
        yield line
        line = ""


def blocks(language: str) -> list[tuple[str, str]]:
    """Page and text of each block of a language that is no file."""
    return [
        (page.relative_to(ROOT).as_posix(), body)
        for page in PAGES
        for found, body in FENCE.findall(page.read_text(encoding="utf-8"))
        if found == language and not CREATES.match(body)
    ]


def undefined(source: str) -> set[str]:
    """Names that ``source`` reads and nowhere defines."""
    read, defined = set[str](), set(dir(builtins))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.alias):
            defined.add((node.asname or node.name).split(".")[0])
    return read - defined
