"""What is wrong in a command of the domain audio: one line, exit code 2, and nothing left."""

from pathlib import Path

import pytest

from adrpo.embedded.weights import weights_path
from support.command_line import Command
from support.sound_files import question, tone, write_clip, write_lines
from support.tiny_audio_trainers import AUDIO_MARKS

pytestmark = AUDIO_MARKS

QUICK = ["model.device=cpu", "evaluation.samples_per_prompt=1"]
AUDIO = ["embedded", "--recipe", "audio/embedded", *QUICK]
HEARS = f"model.pretrained={weights_path('audio_language_model')}"
READS = f"model.pretrained={weights_path('language_model')}"


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """In a folder with twelve questions, good.jsonl, and files of sound that are none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(12):
        write_clip(Path(f"clips/{number}.wav"), tone(200 + 50 * number))
    write_clip(Path("long.wav"), tone(seconds=5.0))
    write_clip(Path("silent.wav"), 0 * tone())
    Path("broken.wav").write_bytes(b"RIFF")
    rows = [question(number) for number in range(12)]
    write_lines(Path("good.jsonl"), rows)
    write_lines(Path("other.jsonl"), [row | {"answer": "wolf"} for row in rows])
    write_lines(Path("silent.jsonl"), [row | {"audio": "silent.wav"} for row in rows])
    return Command(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["train", "llm/embedded", HEARS], "a recipe of the domain audio"),
        (["evaluate", HEARS[17:], "--recipe", "llm/embedded"], "a recipe of the domain audio"),
        (["train", "audio/embedded", READS], "a recipe of the domain llm"),
        (["train", "audio/embedded", "prompts.source=other.jsonl"], "'wolf'"),
        (["train", "audio/embedded", "prompts.colums.audio=x"], "did you mean 'columns'?"),
        (["evaluate", *AUDIO, "--prompts", "sounds:tset"], "--prompts: expected"),
        (["evaluate", *AUDIO, "--prompts", "scenes:held_out"], "received 'scenes:held_out'"),
        (["sample", *AUDIO, "--prompts", "sounds"], "--prompts: expected"),
        (["evaluate", *AUDIO, "--prompts", "other.jsonl"], "other.jsonl, line 1"),
        (["evaluate", *AUDIO, "--steps", "3"], "no --steps for a model of the domain audio"),
        (["sample", *AUDIO, "--audio", "long.wav"], "expected a --prompt"),
        (["sample", *AUDIO, "-p", "Which?", "--audio", "nowhere.wav"], "nowhere.wav"),
        (["sample", *AUDIO, "-p", "Which?", "--audio", "broken.wav"], "broken.wav"),
        (["sample", *AUDIO, "-p", "Which?", "--audio", "long.wav"], "5.000 s in long.wav"),
        (["sample", "embedded", "-p", "Which?", "--audio", "long.wav"], "--recipe"),
        (
            ["sample", "embedded", "--recipe", "llm/embedded", "-p", "?", "--audio", "long.wav"],
            "no --audio for a model of the domain llm",
        ),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    command: Command, tmp_path: Path, words: list[str], named: str
) -> None:
    before = sorted(tmp_path.glob("*"))
    assert command(*words) == 2
    assert command.err.startswith("adrpo: error: ") and command.err.count("\n") == 1
    assert named in command.err
    assert {path.name for path in tmp_path.glob("*")} - {path.name for path in before} <= {"cache"}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["audio/embedded", READS], "a recipe of the domain llm"),
        (["llm/embedded", HEARS], "a recipe of the domain audio"),
        (["audio/embedded", "prompts.source=other.jsonl"], "'wolf'"),
    ],
)
def test_doctor_finds_it_before_the_run(command: Command, words: list[str], named: str) -> None:
    assert command("doctor", *words) == 1
    broken = [line for line in command.out.splitlines() if "BROKEN" in line]
    assert len(broken) == 1 and named in broken[0]


def test_a_model_is_measured_on_what_is_trained_on_as_in_every_domain(command: Command) -> None:
    few = ["--samples-per-prompt", "2"]
    assert command("evaluate", *AUDIO, *few, "--prompts", "sounds:train", "--size", "4") == 0
    sources = ["prompts.source=good.jsonl", "prompts.held_out_share=0.5"]
    assert command("evaluate", *AUDIO, *few, *sources, "--prompts", "good.jsonl") == 0
    rows = Path("runs/evaluation-2/evaluations.jsonl").read_text().splitlines()
    assert '"prompts": 12' in rows[0]


@pytest.mark.filterwarnings("default::adrpo.errors.AdrpoWarning")
def test_a_silent_file_of_ones_own_is_named(command: Command) -> None:
    assert command("sample", *AUDIO, "-p", "Which?", "--audio", "silent.wav") == 0
    assert "1 of 1 clips are silent: --audio, silent.wav" in command.err
