"""A folder is replaced as a whole: a kill leaves the old one, or none, and never a part."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from adrpo.runs.disk import disk_fault
from adrpo.runs.durable import replace_folder, write_durably
from support.disk_operations import renamed_when_synced


class Killed(BaseException):
    """No handler of Exception sees it, as none sees a kill."""


def names(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def fill(folder: Path, text: str) -> None:
    with replace_folder(folder) as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / text).write_text(text)


def test_the_new_folder_takes_the_place_of_the_old(tmp_path: Path):
    fill(tmp_path / "final", "old")
    fill(tmp_path / "final", "new")
    assert names(tmp_path) == {"final/inner/new": "new"}


@pytest.mark.parametrize("before", [{}, {"final/inner/old": "old"}])
def test_a_kill_while_it_is_filled_changes_nothing(tmp_path: Path, before: dict[str, str]):
    final = tmp_path / "final"
    if before:
        fill(final, "old")
    with pytest.raises(Killed), replace_folder(final) as partial:
        (partial / "new").write_text("ne")
        raise Killed
    assert final.exists() == bool(before)
    assert {f"final/{name}": text for name, text in names(final).items()} == before
    # What the kill left, the next time does without.
    fill(final, "new")
    assert names(tmp_path) == {"final/inner/new": "new"}


@pytest.mark.parametrize("renames", [0, 1])
def test_a_kill_between_the_renames_loses_no_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
):
    final, done, rename = tmp_path / "final", [], os.replace
    fill(final, "old")

    def killed(*paths: Any) -> None:
        if len(done) == renames:
            raise Killed
        done.append(paths)
        rename(*paths)

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(Killed):
        fill(final, "new")
    monkeypatch.undo()
    assert names(final) == ({"inner/old": "old"} if renames == 0 else {})
    assert sorted(names(tmp_path).values()) == ["new", "old"]
    fill(final, "new")
    assert names(tmp_path) == {"final/inner/new": "new"}


def test_what_takes_a_place_is_on_disk_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with renamed_when_synced(monkeypatch) as renamed:
        write_durably(tmp_path / "row", b"old")
        write_durably(tmp_path / "row", b"newer")
        fill(tmp_path / "final", "first")
        fill(tmp_path / "final", "second")
    assert renamed == [".row.partial"] * 2 + [".final.partial"] * 2


def test_a_write_that_fails_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On a full disk the system's own error names none."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "report.html").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        write_durably(tmp_path / "report.html", b"new")
    fault = disk_fault(caught.value)
    assert fault is not None and str(tmp_path / "report.html") in fault
    assert (tmp_path / "report.html").read_bytes() == b"old"


def test_a_write_that_fails_leaves_no_part_of_it(tmp_path: Path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OSError):
        write_durably(tmp_path / "report.html", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
