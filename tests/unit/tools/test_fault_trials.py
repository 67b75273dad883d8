"""The trials of ``make faults``: on trainings that are known, and once on a real one."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adrpo.errors import AdrpoError
from tools.faults import trials
from tools.faults.runs import Domain
from tools.faults.trials import DAMAGES, GOOD, Bench

ROOT = Path(__file__).parents[3]
STEPS = 2


class Careful(Domain):
    """A training that writes a text each step, whole or not at all, and reads all when it goes
    on."""

    def train(self, material: Path, folder: Path, *, resume: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("config.yaml", *map(str, range(STEPS))):
            path = folder / name
            if resume and path.exists() and self.intact(path):
                continue
            partial = path.with_name(".partial")
            self.write(partial, name)
            os.replace(partial, path)

    @staticmethod
    def text(name: str) -> str:
        """More than a full disk leaves room for."""
        return 300 * hashlib.sha256(name.encode()).hexdigest()

    def write(self, path: Path, name: str) -> None:
        try:
            path.write_text(self.text(name), encoding="utf-8")
        except OSError as error:
            raise AdrpoError(f"{path}: expected room, received {error}") from error

    def intact(self, path: Path) -> bool:
        if path.read_bytes() != self.text(path.name).encode():
            raise AdrpoError(f"{path}: expected what was written, received something else")
        return True


class Trusting(Careful):
    """It takes whatever is there."""

    def intact(self, path: Path) -> bool:
        return True


class Crashing(Careful):
    """It tells no one which file it was."""

    def intact(self, path: Path) -> bool:
        assert path.read_bytes() == self.text(path.name).encode()
        return True


class Torn(Trusting):
    """It writes in place, so that a full disk leaves a part."""

    def train(self, material: Path, folder: Path, *, resume: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("config.yaml", *map(str, range(STEPS))):
            path = folder / name
            if resume and path.exists():
                continue
            self.write(path, name)
            os.replace(path, path)  # an operation at which it may be killed


def outcomes(
    kind: type[Careful], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, set[str]]:
    """Trial -> outcomes of kills, full disks and every damage of a ``kind``."""

    def asked(run: Path) -> list[str]:
        domain.train(folder, run, resume=True)
        return [(run / "config.yaml").read_text(encoding="latin-1")]

    domain = kind("stub", lambda _: None)
    monkeypatch.setattr(trials, "USES", {"ask": asked})
    bench = Bench(domain, folder, seed=0)
    found: dict[str, set[str]] = {}
    for row in (*bench.kills(2), *bench.full_disks(8), *bench.damages(0)):
        found.setdefault(row["trial"], set()).add(row["outcome"])
    return found


def test_a_careful_training_passes_every_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = outcomes(Careful, tmp_path, monkeypatch)
    assert found.keys() == {"kill", "full disk", "damage, resume", "damage, ask"}
    assert set.union(*found.values()) <= set(GOOD)
    # A file that was deleted is written anew, and any other damage is told.
    assert found["damage, resume"] == found["damage, ask"] == {"named", "harmless"}
    assert {"flip", "delete"} < DAMAGES.keys()


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Trusting, {"damage, resume": "different", "damage, ask": "different"}),
        (Crashing, {"damage, resume": "traceback", "damage, ask": "traceback"}),
        (Torn, {"full disk": "different", "damage, resume": "different"}),
    ],
)
def test_what_a_training_does_wrong_is_found(
    kind: type[Careful], wrong: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = outcomes(kind, tmp_path, monkeypatch)
    for trial, outcome in wrong.items():
        assert outcome in found[trial] and outcome not in GOOD, (trial, found)


@pytest.mark.slow
def test_a_part_of_the_trials_goes_well_on_a_real_run(tmp_path: Path) -> None:
    """As ``make faults FAULTS=...``: the domain whose run is cheapest."""
    parts = {"domains": "image", "kills": 2, "full-disks": 1, "damages": 4, "inputs": -1}
    words = [f"--{name}={value}" for name, value in parts.items()]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-m", "tools.faults", *words, "--out", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        cwd=ROOT, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = (tmp_path / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    told = [row["trial"].partition(",")[0] for row in rows]
    assert told[:3] == ["kill", "kill", "full disk"] and set(told[3:]) == {"damage"}
    assert [row for row in rows if row["outcome"] not in GOOD] == []
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert sum(summary["counts"].values()) == len(rows)
