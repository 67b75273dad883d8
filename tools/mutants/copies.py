"""Scratch copies of the tree, in which faults are planted and tests are run."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tools.mutants import worker
from tools.mutants.faults import Fault
from tools.mutants.record import RECORD

LISTS = Path("tools/mutants/lists")
PASSED, FAILED = 0, 1
"""Exit codes of pytest; with any other it could not run the tests."""


@dataclass(kw_only=True)
class Ran:
    """The end of one call of pytest; ``code`` is None where it was ended after its time."""

    code: int | None
    seconds: float
    cpu_seconds: float
    output: str


class Tree:
    """The tree at ``root``: what git tracks there or does not ignore."""

    def __init__(self, root: Path) -> None:
        self.root = root
        asked = self._git("ls-files", "-z", "-co", "--exclude-standard").split("\0")
        self.files = sorted({name for name in asked if name and (root / name).is_file()})
        # The record of the run before, or of this one's part before, is no change of the tree.
        changed = self._git("diff", "--name-only", "HEAD", "--", ".", f":(exclude){RECORD}")
        self.commit = self._git("rev-parse", "HEAD").strip() + ("-dirty" if changed else "")
        self._sums = {name: sha256((root / name).read_bytes()).digest() for name in self.files}
        # Other tests and documents change no outcome, and the lists' faults are asked one by one.
        self._common = sha256()
        for name, checksum in self._sums.items():
            if not (
                re.search(r"/test_[^/]*\.py$|\.md$", name)
                or name.startswith((LISTS.as_posix(), RECORD.as_posix()))
            ):
                self._common.update(name.encode() + checksum)

    def digest(self, tests: list[str]) -> str:
        """A mark of all that the outcome of ``tests`` follows from, beside a fault."""
        found = self._common.copy()
        for name in sorted({test.partition("::")[0] for test in tests}):
            found.update(name.encode() + self._sums.get(name, b""))
        return found.hexdigest()[:16]

    def mark(self, name: str) -> str:
        """A mark of the text of the file ``name``, as ``faults.mark`` makes it."""
        return self._sums[name].hex()[:16]

    def copy(self, folder: Path) -> "Copy":
        """The tree in the new folder ``folder``."""
        for name in self.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.root / name, folder / name)
        return Copy(folder)

    def _git(self, *words: str) -> str:
        asked = ["git", "-C", str(self.root), *words]
        return subprocess.run(asked, check=True, capture_output=True, text=True).stdout


class Copy:
    """A copy of the tree below ``folder``, which holds one fault at a time, and the process that
    runs its tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._worker: subprocess.Popen[str] | None = None

    def run(self, tests: list[str], *, limit: float) -> Ran:
        """Run ``tests`` up to the first that fails, for at most ``limit`` seconds."""
        if self._worker is None:
            self._worker = subprocess.Popen(
                [sys.executable, "-m", "tools.mutants.worker", *worker.PRELOADED],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        asked, answers = self._worker.stdin, self._worker.stdout
        assert asked is not None and answers is not None
        asked.write(json.dumps({"tests": tests, "limit": limit}) + "\n")
        asked.flush()
        return Ran(**json.loads(answers.readline()))

    def close(self) -> None:
        """End the process of the copy."""
        if self._worker is not None:
            self._worker.communicate()
            self._worker = None

    def _environment(self) -> dict[str, str]:
        # Before an editable installation of the package, which is of another tree, and with this
        # one's tools at the end, since a copy may be of a tree that has none.
        own = Path(__file__).parents[2]
        path = [self.folder / "src", self.folder, own]
        return os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            # Plugins that are installed and not asked for cost a second each time.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            # As in tests/conftest.py, which comes too late for what is imported already.
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }

    def run_with(self, fault: Fault, *, limit: float) -> Ran:
        """Plant ``fault``, run its tests, and take it out again."""
        path, planted = self.folder / fault.file, fault.planted(self.folder)
        kept = path.read_text(encoding="utf-8")
        try:
            self._write(path, planted)
            return self.run(fault.tests, limit=limit)
        finally:
            self._write(path, kept)

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        # Python takes a compiled file for that of a source of the same second and length.
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()
