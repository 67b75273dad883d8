"""What the package depends on, and what its files say of it."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import adrpo

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HARMFUL = {"torchvision", "torchaudio"}

APPS = ("play", "cluster")
"""Extras whose libraries `make test-apps` installs beside the others."""


def constraints() -> dict[str, str]:
    """Canonical name -> pinned version."""
    pins: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][0-9A-Za-z.]*)", line)
            assert match, f"constraints.txt: expected name==version, found {line!r}"
            pins[canonicalize_name(match[1])] = match[2]
    return pins


def declared() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    # Gradio and the pins exclude each other: its versions are those of locks/apps.txt.
    lists = [PROJECT["dependencies"], *(extras[name] for name in extras if name not in APPS)]
    return [Requirement(text) for requirements in lists for text in requirements]


def closure(roots: list[Requirement]) -> set[str]:
    """What installing ``roots`` here brings along, by the installed packages' own metadata."""
    seen: set[tuple[str, str]] = set()
    todo = [(requirement, extra) for requirement in roots for extra in requirement.extras | {""}]
    while todo:
        requirement, extra = todo.pop()
        key = (canonicalize_name(requirement.name), extra)
        if key in seen:
            continue
        seen.add(key)
        for text in importlib.metadata.requires(requirement.name) or []:
            child = Requirement(text)
            if child.marker is None or child.marker.evaluate({"extra": extra}):
                todo += [(child, wanted) for wanted in child.extras | {""}]
    return {name for name, _ in seen}


def test_every_declared_dependency_is_pinned_within_its_bounds() -> None:
    pins = constraints()
    for requirement in declared():
        name = canonicalize_name(requirement.name)
        assert name in pins, f"constraints.txt lacks {name}"
        assert requirement.specifier.contains(pins[name]), (str(requirement), pins[name])


def test_nothing_pulls_torchvision_or_torchaudio() -> None:
    everything = closure(declared())
    assert not HARMFUL & everything
    assert not HARMFUL & constraints().keys()
    # Without this the walk could be empty and the assertions above would say nothing.
    assert {"torch", "huggingface-hub", "pydantic-core"} <= everything


def test_constraints_pin_what_is_pulled_and_nothing_else() -> None:
    # torch's CUDA libraries depend on the machine and come pinned by torch itself.
    pulled = {
        name
        for name in closure(declared())
        if not name.startswith(("nvidia-", "cuda-")) and name != "triton"
    }
    pins = constraints().keys()
    assert pulled <= pins, f"constraints.txt lacks {sorted(pulled - pins)}"
    if sys.platform == "linux" and sys.version_info[:2] == (3, 11):  # where the pins come from
        assert pins <= pulled, f"nothing pulls {sorted(pins - pulled)}"


def locked(name: str) -> dict[str, str]:
    """Canonical name -> version of a lock file, each of whose requirements must have a hash."""
    text = (ROOT / "locks" / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines
    versions: dict[str, str] = {}
    for line in lines:
        found = re.match(
            r"([a-z0-9-]+)==(\S+)(?: ; [^-]*)?(?: +--hash=sha256:[0-9a-f]{64})+$", line
        )
        assert found, f"locks/{name}: expected name==version and hashes, found {line[:80]!r}"
        versions[found[1]] = found[2]
    return versions


def test_lock_files_have_the_proven_versions_with_hashes() -> None:
    pins = {name: version for name, version in constraints().items() if name != "torch"}
    dev, alone = locked("dev.txt"), locked("adrpo.txt")
    assert {name: dev.get(name) for name in pins} == pins
    assert alone.items() <= dev.items()
    needed = closure([Requirement(text) for text in PROJECT["dependencies"]]) & pins.keys()
    assert needed <= alone.keys()
    assert "pytest" not in alone
    # What stands beside .venv in `make test-apps`, whose models are .venv's.
    apps = locked("apps.txt")
    for extra in APPS:
        (needed,) = map(Requirement, PROJECT["optional-dependencies"][extra])
        assert needed.specifier.contains(apps[needed.name])
    assert not {"accelerate", "diffusers", "numpy", "peft", "torch", "transformers"} & apps.keys()


def test_lowest_versions_are_locked() -> None:
    """What CI runs beside the proven ones are the lower bounds of pyproject.toml."""
    lists = PROJECT["optional-dependencies"]
    (trl,) = (Requirement(text) for text in lists["llm"] if text.startswith("trl"))
    audio = [Requirement(text) for text in lists["audio"]]
    names = {"soundfile", "soxr", "transformers"}
    assert locked("lowest-trl.txt") == {"trl": lowest(trl)}
    assert locked("lowest-audio.txt") == {
        one.name: lowest(one) for one in audio if one.name in names
    }


def lowest(requirement: Requirement) -> str:
    """The release that a lower bound names, with as many zeros as releases have here."""
    (bound,) = (one.version for one in requirement.specifier if one.operator == ">=")
    return ".".join([*bound.split("."), "0"][:3])


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == adrpo.__version__
    assert citation["license"] == PROJECT["license"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in changelog or f"## [{adrpo.__version__}]" in changelog


def test_gitignore_leaves_no_source_out() -> None:
    """hatchling leaves ignored files out of the wheel: `runs/` would drop src/adrpo/runs."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    # Read by itself, without what a developer's own git ignores besides.
    rules = ["--cached", "--others", "--ignored", "--exclude-from=.gitignore"]
    listed = subprocess.run(
        ["git", "ls-files", *rules, "src", "recipes"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    # __pycache__ is meant to be left out.
    assert [name for name in listed if "__pycache__" not in name] == []
