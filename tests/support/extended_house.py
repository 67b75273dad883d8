"""A copy of the checkout in which a page of docs/extend is carried out."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.structure.pages import apply, read_page

ROOT = Path(__file__).parents[2]
COPIED = ("docs", "pyproject.toml", "recipes", "tests", "tools")
WEIGHTS = Path("src", "adrpo", "embedded", "weights")


def copy_house(folder: Path) -> Path:
    """Everything that a page may edit, in ``folder``; the embedded models are linked."""
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, folder / name)
    models = {path.name for path in (ROOT / WEIGHTS).iterdir()}
    shutil.copytree(
        ROOT / "src",
        folder / "src",
        ignore=lambda path, names: models if Path(path) == ROOT / WEIGHTS else ["__pycache__"],
    )
    for model in models:
        (folder / WEIGHTS / model).symlink_to(ROOT / WEIGHTS / model)
    return folder


def carry_out(page: Path, house: Path) -> str:
    """Make the changes of ``page`` in ``house`` and run its commands, in its order; what they
    printed. Raises AssertionError with their output where one fails."""
    said = ""
    for change in read_page(page):
        if change.kind != "run":
            apply(change, house)
            continue
        done = subprocess.run(
            ["bash", "-euc", change.text],
            cwd=house,
            env=_environment(house),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{page.name}:\n{change.text}\n{done.stdout}\n{done.stderr}"
        said += done.stdout
    return said


def _environment(house: Path) -> dict[str, str]:
    """``adrpo`` and ``python`` are this interpreter, with the house's sources before all others."""
    commands = house / ".commands"
    if not commands.is_dir():
        commands.mkdir()
        for name, module in (("adrpo", "-m adrpo"), ("python", "")):
            script = commands / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
            script.chmod(0o755)
    paths = {"PATH": commands, "PYTHONPATH": house / "src"}
    return os.environ | {
        name: os.pathsep.join([str(path), os.environ.get(name, "")]) for name, path in paths.items()
    }
