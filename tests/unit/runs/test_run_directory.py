"""The run directory: refuses to overwrite, survives a line cut short, and records where it ran."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

import adrpo
from adrpo.errors import AdrpoError
from adrpo.runs import RunDirectory, available_cores, environment, environment_record

CONFIG = "training: {steps: 1}  # kept word for word\n"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "deep" / "run", CONFIG)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_new_run_holds_configuration_and_environment(run: RunDirectory):
    assert set(content(run.path)) == {"config.yaml", "environment.json"}
    again = RunDirectory.open(run.path)
    assert again.read_config_yaml() == CONFIG
    assert again.read_environment() == json.loads(json.dumps(environment_record()))
    assert again.read_metrics() == again.read_evaluations() == []


def test_empty_folder_is_taken(tmp_path: Path):
    assert RunDirectory.create(tmp_path, CONFIG).read_config_yaml() == CONFIG


@pytest.mark.parametrize("name", ["config.yaml", "notes.txt", ".hidden"])
def test_folder_that_holds_anything_is_left_as_it_was(tmp_path: Path, name: str):
    (tmp_path / name).write_text("mine")
    with pytest.raises(AdrpoError, match="expected a new or empty folder") as caught:
        RunDirectory.create(tmp_path, CONFIG)
    assert repr(name) in str(caught.value) and "\n" not in str(caught.value)
    assert content(tmp_path) == {name: b"mine"}


@pytest.mark.parametrize("below", ["", "run", "deep/run"])
def test_path_through_a_file_is_refused(tmp_path: Path, below: str):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AdrpoError, match="expected a folder that can be written"):
        RunDirectory.create(tmp_path / "file" / below, CONFIG)
    assert content(tmp_path) == {"file": b"mine"}


def test_second_process_that_starts_in_the_same_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Both find the folder empty; here the other one writes first."""
    iterdir = Path.iterdir

    def empty_still(path: Path):
        found = list(iterdir(path))
        (path / "environment.json").write_text("the other's")
        return iter(found)

    monkeypatch.setattr(Path, "iterdir", empty_still)
    with pytest.raises(AdrpoError):
        RunDirectory.create(tmp_path / "run", CONFIG)
    monkeypatch.undo()
    assert content(tmp_path / "run") == {"environment.json": b"the other's"}


@pytest.mark.parametrize("name", [".", "missing"])
def test_open_refuses_what_is_no_run(tmp_path: Path, name: str):
    with pytest.raises(AdrpoError, match=r"without config\.yaml"):
        RunDirectory.open(tmp_path / name)


def test_rows_come_back_in_order_and_apart(run: RunDirectory):
    for step in (1, 2):
        run.append_metrics({"step": step, "loss": step / 3})
    run.append_evaluation({"step": 0, "split": "unseen"})
    assert run.read_metrics() == [{"step": 1, "loss": 1 / 3}, {"step": 2, "loss": 2 / 3}]
    assert run.read_evaluations() == [{"step": 0, "split": "unseen"}]


def test_row_is_on_disk_when_append_returns(run: RunDirectory):
    run.append_metrics({"step": 1})
    assert run.metrics.read_bytes() == b'{"step": 1}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_number_that_is_not_finite_is_null(run: RunDirectory, value: float):
    run.append_metrics({"step": 1, "loss": value})
    assert run.read_metrics() == [{"step": 1, "loss": None}]


@pytest.mark.parametrize("row", [{}, {"step": "1"}, {"step": 1.0}, {"step": True}])
def test_row_without_a_step_is_refused(run: RunDirectory, row: dict):
    with pytest.raises(ValueError, match="integer 'step'"):
        run.append_metrics(row)
    assert not run.metrics.exists()


LAST = b'{"step": 2, "text": "caf\xc3\xa9"}\n'


@pytest.mark.parametrize("cut", range(len(LAST) + 1))
def test_line_cut_short_at_any_byte_is_dropped(run: RunDirectory, cut: int):
    run.append_metrics({"step": 1})
    with run.metrics.open("ab") as file:
        file.write(LAST[:cut])
    rows: list[dict[str, int | str]] = [{"step": 1}]
    # Whole but for its newline, the row is there.
    if cut >= len(LAST) - 1:
        rows.append({"step": 2, "text": "café"})
    assert run.read_metrics() == rows

    run.append_metrics({"step": 3})
    assert run.read_metrics() == [*rows, {"step": 3}]
    assert run.metrics.read_bytes().count(b"\n") == len(rows) + 1


@pytest.mark.parametrize("line", [b"", b"{", b"[1]", b'{"loss": 1}', b"\x00\x00", b"\xff"])
def test_damaged_line_before_the_last_is_named(run: RunDirectory, line: bytes):
    run.metrics.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n')
    with pytest.raises(AdrpoError, match=r"metrics\.jsonl, line 2: expected a JSON object"):
        run.read_metrics()


def test_truncate_drops_later_rows_of_both_files_and_a_cut_line(run: RunDirectory):
    for step in range(1, 6):
        run.append_metrics({"step": step})
    for step in (0, 2, 4):
        run.append_evaluation({"step": step, "split": "unseen"})
    with run.metrics.open("ab") as file:
        file.write(b'{"step": 6')
    run.truncate_after(2)
    assert run.metrics.read_bytes() == b'{"step": 1}\n{"step": 2}\n'
    assert [row["step"] for row in run.read_evaluations()] == [0, 2]


def test_truncate_replaces_the_file_at_once(run: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    for step in range(1, 4):
        run.append_metrics({"step": step})
    before = run.metrics.read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run.truncate_after(1)
    assert run.metrics.read_bytes() == before
    monkeypatch.undo()
    run.truncate_after(1)
    assert run.read_metrics() == [{"step": 1}]


def test_truncate_of_a_run_without_rows_makes_no_file(run: RunDirectory):
    before = content(run.path)
    run.truncate_after(3)
    assert content(run.path) == before


@pytest.mark.parametrize("text", ["{", "[]"])
def test_damaged_environment_is_named(run: RunDirectory, text: str):
    run.environment.write_text(text)
    with pytest.raises(AdrpoError, match=r"environment\.json: expected"):
        run.read_environment()


def test_environment_record_names_this_machine():
    record = environment_record()
    assert json.loads(json.dumps(record)) == record
    assert record["adrpo"] == adrpo.__version__
    assert record["threads"] == torch.get_num_threads()
    assert record["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert record["cores"] >= 1 and record["cpu"]


def test_cores_are_those_of_the_process_or_without_masks_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 5, 7}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert available_cores() == environment_record()["cores"] == 3
    # As on macOS.
    monkeypatch.delattr("os.sched_getaffinity")
    assert available_cores() == environment_record()["cores"] == 8
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert available_cores() == 1


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that passes for adrpo's package, at src/adrpo of what may become a checkout."""
    folder = tmp_path / "checkout" / "src" / "adrpo"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    monkeypatch.setattr(environment.adrpo, "__file__", str(folder / "__init__.py"))
    return folder


def test_git_is_null_outside_a_checkout(package: Path):
    assert environment_record()["git"] is None


def test_git_is_null_in_a_checkout_of_something_else(package: Path, tmp_path: Path):
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "all")
    assert environment_record()["git"] is None


def test_git_names_the_commit_and_whether_the_tree_differs(
    package: Path, monkeypatch: pytest.MonkeyPatch
):
    checkout = package.parents[1]
    git(checkout, "init", "--quiet")
    assert environment_record()["git"] is None, "there is no commit yet"
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "all")
    commit = git(checkout, "rev-parse", "HEAD")
    assert environment_record()["git"] == {"commit": commit, "dirty": False}
    (package / "new.py").write_text("")
    assert environment_record()["git"] == {"commit": commit, "dirty": True}
    monkeypatch.setenv("PATH", "")
    assert environment_record()["git"] is None, "git is not installed"


@pytest.mark.parametrize(
    "content",
    ["[]", "null", "{}", '{"step": "x"}', '{"step": true}', "[" * 3000, "NaN", "9" * 5000],
)
def test_a_record_of_divergence_without_a_step_is_named(run: RunDirectory, content: str):
    """Pages of several runs and comparisons ask for it."""
    assert run.diverged_at() is None
    run.record_divergence(7, "received loss nan")
    assert run.diverged_at() == 7
    run.diverged.write_text(content, encoding="utf-8")
    with pytest.raises(AdrpoError, match=r"diverged\.json: expected ") as caught:
        run.diverged_at()
    assert "\n" not in str(caught.value)
