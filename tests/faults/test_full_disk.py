"""A disk that is full at any moment, read-only, or has something else in a file's place."""

import contextlib
import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adrpo.cli.domains import door_of
from adrpo.errors import AdrpoError
from adrpo.evaluation.targets import Target
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.llm.run import LanguageRun
from adrpo.runs.checkpoints import intact_checkpoint
from adrpo.runs.directory import RunDirectory
from adrpo.runs.record import faults
from adrpo.runs.session import check_resumable
from support.command_line import Command
from support.tiny_language_runs import share_of_a, tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS
from support.tiny_runs import darkness, metrics_without_timings, tiny_config

resource = pytest.importorskip("resource")

pytestmark = [
    *LANGUAGE_MARKS,
    pytest.mark.filterwarnings("ignore::adrpo.errors.AdrpoWarning"),
]

Train = Callable[..., Path]


class FullAfter:
    """A reward after whose ``calls`` calls no file may grow beyond ``size`` bytes: what a full disk
    does to a write, where a test may not make a small disk."""

    def __init__(self, reward: Callable[..., Any], calls: int, size: int) -> None:
        # A run knows a reward by its func, and a column by its name.
        self.func, self.__name__ = reward, reward.__name__
        self.left, self.size = calls, size

    def __call__(self, *arguments: Any, **columns: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))
        return self.func(*arguments, **columns)


@contextlib.contextmanager
def room_again() -> Iterator[None]:
    """A block whose limit ends with it, and in which nothing is written into pytest's files."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            yield
        finally:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def images(calls: int = 0, size: int = 0) -> Train:
    config = tiny_config(training={"steps": 3}, checkpoint={"every": 1, "keep": 2})

    def train(folder: Path, **options: Any) -> Path:
        reward = FullAfter(darkness, calls, size) if calls else darkness
        return FlowTrainer(config, reward=reward).train(folder, progress=False, **options)

    return train


def texts(material: Path, calls: int = 0, size: int = 0) -> Train:
    config = tiny_language_config(
        material,
        training={"steps": 3},
        checkpoint={"every": 1, "keep": 2},
        evaluation={"samples_per_prompt": 2},
    )

    def train(folder: Path, **options: Any) -> Path:
        reward = FullAfter(share_of_a, calls, size) if calls else share_of_a
        return LanguageRun(config, reward=reward).train(folder, progress=False, **options)

    return train


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def wholes(material: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    return {"images": images()(folder / "images"), "texts": texts(material)(folder / "texts")}


def weights(run: Path) -> bytes:
    return next((run / "final").glob("*.safetensors")).read_bytes()


@pytest.mark.parametrize(
    ("domain", "calls", "size"),
    [
        pytest.param("images", 2, 100, id="in the evaluation of the base"),
        pytest.param("images", 4, 12_000, id="in a checkpoint"),
        pytest.param("texts", 4, 300, id="in a row"),
        pytest.param("texts", 4, 12_000, id="in a checkpoint of transformers"),
    ],
)
def test_a_full_disk_ends_a_run_in_one_line_and_it_goes_on_with_room(
    wholes: dict[str, Path], material: Path, tmp_path: Path, domain: str, calls: int, size: int
):
    run, whole = tmp_path / "run", wholes[domain]
    full = images(calls, size) if domain == "images" else texts(material, calls, size)
    with room_again(), pytest.raises(AdrpoError) as caught:
        full(run)
    message = str(caught.value)
    assert "\n" not in message and str(run) in message
    assert "a file" in message and ("--resume" in message or "begin again" in message)

    begun = (run / "config.yaml").exists()
    if begun:
        intact = intact_checkpoint(RunDirectory.open(run))
        assert intact is not None or calls == 2
    assert ("--resume" in message) == begun
    train = images() if domain == "images" else texts(material)
    train(run, resume=begun)
    assert metrics_without_timings(run) == metrics_without_timings(whole)
    assert weights(run) == weights(whole)
    assert (run / "evaluations.jsonl").read_bytes() == (whole / "evaluations.jsonl").read_bytes()
    assert faults(RunDirectory.open(run)) == []
    assert not [*run.rglob(".*partial*"), *run.rglob(".*replaced*")]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that nothing can be written into, for root as well."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    mounted = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("root writes everywhere, and may not mount here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_folder_that_cant_be_written_is_one_line(read_only: Path, command: Command):
    for arguments in (
        ("recipes", "copy", "flow/demo", str(read_only / "copy.yaml")),
        ("sample", "embedded", "--prompt", "a red circle", "--output-dir", str(read_only / "new")),
        ("train", "flow/demo", "--output-dir", str(read_only / "run")),
        ("compare", "flow/demo", "--seeds", "2", "--output-dir", str(read_only / "compared")),
    ):
        assert command(*arguments) == 2, arguments
        assert command.err.count("\n") == 1 and str(read_only) in command.err, command.err


def test_a_run_in_a_folder_that_cant_be_written_is_one_line(
    wholes: dict[str, Path], tmp_path: Path, command: Command
):
    """As root as well: a folder is in the place of a file."""
    run = tmp_path / "run"
    shutil.copytree(wholes["images"], run)
    (run / ".report.html.partial").mkdir()
    assert command("report", str(run)) == 2
    assert command.err.count("\n") == 1 and ".report.html.partial" in command.err
    (run / ".report.html.partial").rmdir()
    run.joinpath("metrics.jsonl").unlink()
    run.joinpath("metrics.jsonl").mkdir()
    assert command("report", str(run)) == 2
    assert command.err.count("\n") == 1 and "metrics.jsonl" in command.err


def test_a_flipped_byte_of_the_settings_is_never_a_traceback(
    wholes: dict[str, Path], tmp_path: Path
):
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(wholes["images"], run.path)
    text = run.config.read_bytes()
    own = tiny_config(training={"steps": 3}).model_dump(mode="json")
    refused = 0
    for position in range(0, len(text), 59):
        flipped = bytearray(text)
        flipped[position] ^= 1 << (position % 8)
        run.config.write_bytes(flipped)
        for use in (
            lambda: check_resumable(run, own),
            run.read_settings,
            lambda: Target.resolve(str(run.path), door_of),
        ):
            try:
                use()
            except AdrpoError as error:
                assert "\n" not in str(error)
                refused += 1
    assert refused > len(text) // 59
