"""Lists of faults: their form, how they are read, and how one is planted in a copy of the tree.

A list is a text file in ``lists``; lines between faults that begin with ``# `` are comments::

    ## flow-anchor-still: the moving anchor never follows the policy
    file: src/adrpo/flow/training/adrpo.py
    tests: tests/equivalence/test_anchors.py::test_it_follows
      grad_norm = self.apply_gradient(step, losses.loss, fallback)
    - self.anchor.update()
    + pass

``tests`` are files or node ids of pytest, parted by spaces. Lines after two spaces are text that
stays, for a place that one line does not tell; those after ``- `` go and those after ``+ `` come.
One line may be a part of a line; of several, the indentation that all have may be left out.
``equivalent: REASON`` says why no test can tell the fault from what is right.
"""

import ast
import re
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from textwrap import dedent


class ListError(Exception):
    """A list that is not of the form above, or a fault that is not of today's tree."""


def mark(text: bytes) -> str:
    """A mark of a text, which another text has not."""
    return sha256(text).hexdigest()[:16]


@dataclass(kw_only=True)
class Fault:
    """One fault: what of ``file``, relative to the root, is replaced, and who must tell it.

    ``place`` is where the fault is listed, for messages.
    """

    id: str
    meaning: str
    place: str
    file: str = ""
    tests: list[str] = field(default_factory=list)
    equivalent: str | None = None
    old: str = ""
    new: str = ""

    @property
    def list_name(self) -> str:
        """The name of the list that it is in, without ``.txt``."""
        return self.place.partition(":")[0].removesuffix(".txt")

    @property
    def digest(self) -> str:
        """A mark of all that a kept outcome rests on, beside the tree."""
        said = (self.file, self.old, self.new, self.tests)
        return mark(repr(said if self.equivalent is None else (*said, "equivalent")).encode())

    def planted(self, root: Path) -> str:
        """The text of ``file`` with the fault, or ListError where the tree has changed."""
        path = root / self.file
        if not path.is_file():
            raise ListError(f"{self.place}: {self.id}: there is no {self.file}")
        text = path.read_text(encoding="utf-8")
        found = list(re.finditer(_pattern(self.old), text))
        if len(found) != 1:
            raise ListError(
                f"{self.place}: {self.id}: expected the old text once in {self.file}, found it "
                f"{len(found)} times: write the fault again for today's code, or drop it"
            )
        for test in self.tests:
            named, _, function = test.partition("::")
            known = root / named
            if not known.is_file() or (
                function
                and f"def {function.split('::')[-1].split('[')[0]}("
                not in known.read_text(encoding="utf-8")
            ):
                raise ListError(f"{self.place}: {self.id}: there is no test {test}")
        before = found[0].groupdict().get("indentation", "")
        new = self.new.replace("\n", "\n" + before)
        planted = text[: found[0].start()] + before + new + text[found[0].end() :]
        if path.suffix == ".py":
            try:
                ast.parse(planted)
            except SyntaxError as error:
                raise ListError(
                    f"{self.place}: {self.id}: what it makes is no Python: {error}"
                ) from None
        return planted


def _pattern(old: str) -> str:
    """A regular expression for ``old``; of several lines one for any indentation of them all."""
    first, *others = map(re.escape, old.split("\n"))
    if not others:
        return first
    return rf"(?m)^(?P<indentation> *){first}" + "".join(
        rf"\n(?P=indentation){line}" if line else r"\n" for line in others
    )


def read_lists(folder: Path) -> list[Fault]:
    """All faults of the .txt files in ``folder``, in their order; ListError names the line."""
    faults: list[Fault] = []
    for path in sorted(folder.glob("*.txt")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            _read_line(line.rstrip(), faults, f"{path.name}:{number}")
    ids = [fault.id for fault in faults]
    for fault in faults:
        if ids.count(fault.id) > 1:
            raise ListError(f"{fault.place}: {fault.id} is the name of another fault, too")
        if not (fault.file and fault.tests and fault.old):
            raise ListError(f"{fault.place}: {fault.id}: expected file, tests and a line with '- '")
        fault.old, fault.new = (dedent(text).rstrip("\n") for text in (fault.old, fault.new))
        if fault.old == fault.new:
            raise ListError(f"{fault.place}: {fault.id} changes nothing")
    return faults


def _read_line(line: str, faults: list[Fault], place: str) -> None:
    if not line or line.startswith("# "):
        return
    if head := re.fullmatch(r"## ([\w.-]+): (.+)", line):
        faults.append(Fault(id=head[1], meaning=head[2], place=place))
        return
    if not faults:
        raise ListError(f"{place}: expected '## ID: MEANING' first, got {line!r}")
    fault = faults[-1]
    if line[:2] in ("- ", "+ ", "  ") or line in ("-", "+"):
        fault.old += line[2:] + "\n" if line[0] in "- " else ""
        fault.new += line[2:] + "\n" if line[0] in "+ " else ""
    elif given := re.fullmatch(r"(file|tests|equivalent): (.+)", line):
        value = given[2].split() if given[1] == "tests" else given[2]
        setattr(fault, given[1], value)
    else:
        raise ListError(
            f"{place}: expected file, tests, equivalent or a line of text, got {line!r}"
        )
