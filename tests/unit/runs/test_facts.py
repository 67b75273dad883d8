"""What a domain tells of itself in a run's files, and what older runs show without it."""

from pathlib import Path

import pytest

from adrpo.errors import AdrpoError
from adrpo.runs import RunDirectory
from adrpo.runs.facts import FILE, Facts, read_facts, write_facts


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", "domain: llm\n")


def test_facts_come_back_as_they_were_written(run: RunDirectory) -> None:
    facts = Facts(domain="audio", samples="recordings", machine_keys=("a.b", "c"))
    write_facts(run, facts)
    assert read_facts(run) == facts


@pytest.mark.parametrize(
    ("file", "word"),
    [("base/00-0.png", "pictures"), ("base.jsonl", "completions"), ("prompts.json", "samples")],
)
def test_a_run_without_facts_shows_what_it_drew(run: RunDirectory, file: str, word: str) -> None:
    (run.samples / file).parent.mkdir(parents=True, exist_ok=True)
    (run.samples / file).touch()
    found = read_facts(run)
    assert (found.domain, found.samples, found.machine_keys) == ("llm", word, ("model.device",))


@pytest.mark.parametrize("text", ["[]", "{", '{"domain": "flow", "samples": "pictures"}'])
def test_other_facts_are_refused_in_a_line(run: RunDirectory, text: str) -> None:
    (run.path / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(
        AdrpoError, match=r"facts\.json: expected the keys domain, samples,"
    ) as caught:
        read_facts(run)
    assert "\n" not in str(caught.value)
