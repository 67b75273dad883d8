"""Foreign text in Markdown: whatever it holds, it arrives as text."""

import re
from collections.abc import Sequence

SPECIAL = re.compile(r"([\\`*_\[\]|~$#])")
"""Characters that mean something anywhere in a line of Markdown."""

OPENING = re.compile(r"^(\d*)([-+.)](?=\s|$)|[>=])")
"""The mark of a list, a quotation or a heading, which begins a line."""


def escaped(text: object) -> str:
    """``text`` in one line of Markdown: without a break, a link, a tag or a mark."""
    line = " ".join(str(text).split())
    line = SPECIAL.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;"))
    return OPENING.sub(r"\1\\\2", line)


def fenced(text: str, language: str = "") -> str:
    """``text`` as a block of code, whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; the first row is its head."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
