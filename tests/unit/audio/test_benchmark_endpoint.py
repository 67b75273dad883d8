"""Questions put to a server in a process of its own: answers, failures, going on, and the key."""

import json
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adrpo.audio.benchmarks.benchmarks import BENCHMARKS
from adrpo.audio.benchmarks.endpoint import Endpoint, endpoint_settings
from adrpo.audio.benchmarks.predictions import read_predictions
from adrpo.audio.benchmarks.questions import QuestionSet, read_questions
from adrpo.errors import AdrpoError
from support import reward_server
from support.command_line import Command
from support.reward_server import seen, start, stop

FILE = Path(__file__).parent / "mmau-test-mini.json"
QUICK = ["model=ear", "backoff=0.01", "retries=2"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    process, port = start(str(Path(reward_server.__file__)))
    yield f"http://127.0.0.1:{port}"
    stop(process)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The questions with their sounds; the frames of each are the number of the line, in what the
    server is asked, that has the answer (of the orphan the first choice)."""
    folder = tmp_path / "mmau"
    (folder / "test-mini-audios").mkdir(parents=True)
    rows = json.loads(FILE.read_text(encoding="utf-8"))
    for row in rows:
        choices = row["choices"]
        number = choices.index(row["answer"]) if row["answer"] in choices else 0
        with wave.open(str(folder / row["audio_id"]), "wb") as sound:
            sound.setparams((1, 2, 2, 0, "NONE", ""))
            sound.writeframes(b"\0\1" * (2 + number))
    (folder / FILE.name).write_bytes(FILE.read_bytes())
    return folder


def read(data: Path) -> QuestionSet:
    return read_questions(BENCHMARKS["mmau"], data)


def endpoint(url: str, data: Path, file: str = "answers.jsonl", *more: str) -> Endpoint:
    settings = endpoint_settings([*QUICK, *more])
    return Endpoint(url, settings, read(data), data.parent / file)


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(AdrpoError) as refused:
        call()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def quiet(answered: int, of: int) -> None:
    assert 1 <= answered <= of


@pytest.mark.parametrize("path", ["plain/chat", "flaky/chat", "limited/chat"])
def test_each_question_is_asked_with_its_own_sound(server: str, data: Path, path: str):
    asked = endpoint(f"{server}/{path}", data, "answers.jsonl", "concurrency=3")
    asked.ask(quiet)
    outputs = read_predictions(asked.answers, asked.questions).outputs
    for question in asked.questions.questions:
        right = question.answer if question.answer_is_a_choice else question.choices[0]
        assert outputs[question.id] == right
    assert max(entry["under_way"] for entry in seen(server, f"/{path}")) <= 3


def test_what_was_answered_outlives_a_failure_and_is_not_asked_again(server: str, data: Path):
    asked = endpoint(f"{server}/dying/chat", data, "answers.jsonl", "concurrency=1")
    assert "status 500" in refusal(lambda: asked.ask(quiet))
    kept = asked.answers.read_text()
    assert kept.count("\n") == 5
    # A kill cuts the last line short.
    asked.answers.write_text(kept + '{"id": "s-')
    before = len(seen(server, "/dying/chat"))
    again = endpoint(f"{server}/dying/chat", data)
    assert [question.id for question in again.left] == [q.id for q in again.questions.questions[5:]]
    assert again.answers.read_text() == kept
    assert len(seen(server, "/dying/chat")) == before
    # The settings of the requests alone may change, and the server that is asked may not.
    assert "endpoint" in refusal(lambda: endpoint(f"{server}/plain/rest", data))
    record = again.answers.with_name("answers.jsonl.settings.json")
    text = record.read_text()
    record.write_text(text.replace("dying/chat", "plain/rest"))
    rest = endpoint(f"{server}/plain/rest", data, "answers.jsonl", "concurrency=2")
    rest.ask(quiet)
    assert len(seen(server, "/plain/rest")) == 9
    assert len(read_predictions(rest.answers, rest.questions).outputs) == 14
    assert endpoint(f"{server}/plain/rest", data).left == []


def test_answers_of_other_settings_or_of_nobody_are_not_mixed(server: str, data: Path):
    asked = endpoint(f"{server}/plain/mixed", data)
    asked.ask(quiet)
    url = f"{server}/plain/mixed"
    for change, named in (
        ("model=nose", "model 'ear', received 'nose'"),
        ("max_tokens=3", "max_tokens"),
        ("extra_body={seed: 1}", "extra_body"),
    ):
        found = refusal(lambda change=change: endpoint(url, data, "answers.jsonl", change))
        assert named in found
    (data.parent / "own.jsonl").write_text('{"s-01": "a dog"}\n')
    assert "own.jsonl.settings.json" in refusal(lambda: endpoint(url, data, "own.jsonl"))
    assert ".jsonl" in refusal(lambda: endpoint(url, data, "own.json"))


def test_the_key_is_sent_and_written_nowhere(
    server: str, data: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("EAR_KEY", "secret-of-the-ear")
    extra = ["api_key_env=EAR_KEY", "extra_body={temperature: null, seed: 7}"]
    asked = endpoint(f"{server}/plain/key", data, "answers.jsonl", *extra)
    asked.ask(quiet)
    requests = seen(server, "/plain/key")
    assert {entry["key"] for entry in requests} == {"Bearer secret-of-the-ear"}
    body = requests[0]["body"]
    assert body["model"] == "ear" and body["seed"] == 7 and "temperature" not in body
    written = [path for path in data.parent.rglob("*") if path.is_file()]
    assert len(written) == 17
    assert not [path for path in written if b"secret" in path.read_bytes()]


def test_the_estimate_counts_what_is_left(server: str, data: Path):
    asked = endpoint(f"{server}/plain/estimate", data, "a.jsonl", "dollars_per_minute=6")
    # Two frames a second: half the sum of the frames.
    frames = 0
    for path in data.glob("*/*.wav"):
        with wave.open(str(path)) as sound:
            frames += sound.getnframes()
    said = asked.estimate()
    assert said.startswith(f"14 of 14 questions to ask: {frames / 120:.1f} minutes of audio")
    assert f"{frames / 120 * 6:.2f} dollars" in said
    asked.ask(quiet)
    assert endpoint(f"{server}/plain/estimate", data, "a.jsonl").estimate().startswith("0 of 14")
    assert len(seen(server, "/plain/estimate")) == 14


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("malformed/chat", "in JSON"),
        ("deaf/chat", "choices[0].message.content"),
        ("refused/chat", "status 400"),
        ("down/chat", "attempt 3 of 3"),
        ("moved/chat", "status 302"),
    ],
)
def test_an_endpoint_that_refuses_is_named(server: str, data: Path, path: str, named: str):
    assert named in refusal(lambda: endpoint(f"{server}/{path}", data).ask(quiet))


def test_an_answer_without_content_is_empty_and_so_wrong(server: str, data: Path):
    asked = endpoint(f"{server}/silent/chat", data)
    asked.ask(quiet)
    assert set(read_predictions(asked.answers, asked.questions).outputs.values()) == {""}


def test_sounds_are_checked_before_anything_is_asked(server: str, data: Path):
    def asked() -> str:
        return refusal(lambda: endpoint(f"{server}/plain/sounds", data))

    sound = data / "test-mini-audios" / "m-03.wav"
    sound.write_bytes(b"")
    assert "m-03.wav" in asked() and "empty" in asked()
    sound.unlink()
    assert "no file" in asked()
    rows = json.loads((data / FILE.name).read_text())
    (data.parent / "private.wav").write_bytes(b"1")
    for path, named in (("../private.wav", "within"), (None, "without a sound")):
        rows[0]["audio_id"] = path
        if path is None:
            del rows[0]["audio_id"]
        (data / FILE.name).write_text(json.dumps(rows))
        assert named in asked()
    assert seen(server, "/plain/sounds") == []
    assert not (data.parent / "answers.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "model"),
        (["model=ear", "concurency=3"], "concurrency"),
        (["model=ear", "concurrency=0"], "concurrency"),
        (["model=ear", "prompt=Listen."], "{question}"),
    ],
)
def test_wrong_settings_are_named(words: list[str], named: str):
    assert named in refusal(lambda: endpoint_settings(words))


def test_the_command_asks_then_scores(
    server: str,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(data.parent)
    command = Command(monkeypatch, capsys)
    asking = ["evaluate", "--benchmark", "mmau", "--data", "mmau", "--predictions", "ear.jsonl"]
    asking += ["--endpoint", f"{server}/plain/command?key=of-the-ear", "model=ear"]
    assert command(*asking, "dry_run=true") == 0
    assert command.out.startswith("14 of 14 questions to ask") and command.out.count("\n") == 1
    assert not Path("ear.jsonl").exists() and not Path("runs").exists()
    assert command(*asking, "--against", "nowhere") == 2
    assert seen(server, "/plain/command?key=of-the-ear") == []
    assert command(*asking, "--set", "concurrency=2") == 0
    summary = json.loads(Path("runs/evaluation/summary.json").read_text())
    assert summary["scores"]["strict"]["all"]["all"]["right"] == 13
    assert "14 of 14 answered" in command.out
    assert len(seen(server, "/plain/command?key=of-the-ear")) == 14
    written = [path.read_text() for path in [*Path("runs").rglob("*.json*"), *Path().glob("ear.*")]]
    assert len(written) == 4 and not [text for text in written if "of-the-ear" in text]
    assert command("evaluate", "embedded", *asking[1:]) == 2
    assert "'embedded'" in command.err and command.err.count("\n") == 1
