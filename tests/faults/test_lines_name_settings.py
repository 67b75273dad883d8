"""A fault in a file of prompts names the file's line, and the key that named the file."""

import json
from pathlib import Path

import pytest

from adrpo.config import config_to_yaml
from adrpo.errors import AdrpoError
from adrpo.flow.domain import build_trainer
from support.command_line import Command
from support.prompt_files import DOMAINS
from support.tiny_runs import darkness, tiny_config

KEYS = {"flow": "prompts.train", "llm": "prompts.source", "audio": "prompts.source"}


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("file", ["train.jsonl", "test.jsonl"])
def test_a_line_and_the_key_of_its_file_are_named(
    domain: str,
    file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(config_to_yaml(DOMAINS[domain]()), encoding="utf-8")
    lines = Path(file).read_text().splitlines()
    Path(file).write_text(
        "\n".join([lines[0], json.dumps({"unknown": "words"}), *lines[2:]]) + "\n"
    )
    key = KEYS[domain] if file == "train.jsonl" else "prompts.held_out"
    command = Command(monkeypatch, capsys)
    assert command("train", "recipe.yaml") == 2
    assert f"{key}: {file}, line 2: " in command.err
    command("doctor", "recipe.yaml")
    (told,) = [line for line in command.out.splitlines() if f"{file}, line 2" in line]
    # Once, as the name of what is checked.
    assert told.count(key) == 1 and told.index(key) < told.index(file)


def test_a_line_of_pairs_names_their_key(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("{\n")
    config = tiny_config(algorithm={"method": "dpo", "pairs": str(tmp_path)})
    with pytest.raises(AdrpoError, match=r"^algorithm\.pairs: .*pairs\.jsonl, line 1: "):
        build_trainer(config, reward=darkness)
