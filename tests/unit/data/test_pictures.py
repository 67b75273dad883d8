"""Folders of pictures: what is read of them, and what is said where there is nothing to read."""

from pathlib import Path

import pytest

from adrpo.data.pictures import digest_of, pictures_in, read_picture
from adrpo.errors import AdrpoError
from support.tiny_vision import picture_folder, pictures


def test_a_folder_has_its_pictures_and_those_of_the_folders_in_it(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path / "real", 3)
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"")
    pictures(1)[0].save(folder / "LAST.JPG")
    found = pictures_in(folder, "key")
    names = [path.relative_to(folder).as_posix() for path in found]
    assert names == ["1.png", "2.png", "LAST.JPG", "inner/0.png"]
    assert read_picture(found[0]).tobytes() == pictures(3)[1].tobytes()


def test_a_digest_is_of_the_contents_alone(tmp_path: Path) -> None:
    one, other = (picture_folder(tmp_path / name, 3) for name in ("one", "other"))
    (other / "1.png").rename(other / "moved.png")
    first = digest_of(pictures_in(one, "key"))
    assert digest_of(pictures_in(other, "key")) == first
    pictures(3, seed=1)[2].save(other / "2.png")
    assert digest_of(pictures_in(other, "key")) != first
    (one / "2.png").unlink()
    assert digest_of(pictures_in(one, "key")) != first


def test_a_folder_without_pictures_is_refused_by_its_name(tmp_path: Path) -> None:
    few, file = picture_folder(tmp_path / "few", 1), tmp_path / "file.png"
    pictures(1)[0].save(file)
    for folder, words in (
        (few, f"received {few}, which has 1"),
        (file, f"received {file}, which is a file"),
        (tmp_path / "gone", f"received {tmp_path / 'gone'}, which is not there"),
    ):
        with pytest.raises(AdrpoError, match=f"^key: expected a folder .*{words}"):
            pictures_in(folder, "key")
