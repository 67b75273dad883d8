"""The card in ``final/``: that of a publication, without what only a publication knows."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.llm.facts import FACTS as LANGUAGE
from adrpo.publishing import base_of, compose, write_card
from adrpo.runs.directory import RunDirectory
from adrpo.runs.manifest import check_weights, seal
from support.published_runs import language_run, published_run

# PEFT asks transformers by a name that it gives up.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is:FutureWarning")

COMPLETIONS = [{"prompt": "1+1=", "completions": ["2"], "rewards": [1.0], "clips": ["clip-0.flac"]}]


def written(run: RunDirectory) -> str:
    """The card of ``run``, as training writes it: before its weights take the name ``final/``."""
    partial = run.path / ".final.partial"
    run.final.rename(partial)
    write_card(run, partial)
    seal(partial)
    partial.rename(run.final)
    return (run.final / "README.md").read_text(encoding="utf-8")


def spoken(folder: Path, model: str) -> RunDirectory:
    """A run with completions to a clip, and PEFT's own card in its ``final/``."""
    run = language_run(folder, model, facts=LANGUAGE)
    run.samples.mkdir(exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in COMPLETIONS)
    for name in ("base.jsonl", "final.jsonl"):
        (run.samples / name).write_text(text)
    (run.samples / "clip-0.flac").write_bytes(b"sound")
    assert "More Information Needed" in (run.final / "README.md").read_text()
    return run


def test_the_card_is_that_of_a_publication(tmp_path: Path, model: str) -> None:
    run = spoken(tmp_path / "run", model)
    own = written(run)
    folder = compose(run, "tester/words", base_of(run, ask=False), tmp_path / "to")
    theirs = (folder / "README.md").read_text(encoding="utf-8")
    name = Path(model).name
    expected = (
        theirs.replace("# words\n", f"# {name}, fine-tuned\n")
        .replace('"tester/words"', '"path/to/final"')
        .replace(", [clip 1](samples/clip-0-0.flac)", "")
    )
    line = next(line for line in expected.splitlines() if line.startswith("It is put on"))
    added = next(text for text in own.splitlines() if text.startswith(line))
    assert "name of the repository" in added
    assert own == expected.replace(line, added)
    assert "was not known where this card was written" in own
    assert ModelCard(own).data.to_dict()["library_name"] == "peft"


def test_it_shows_no_file_that_does_not_lie_beside_it(tmp_path: Path) -> None:
    run = published_run(tmp_path / "run")
    own = written(run)
    card = ModelCard(own)
    assert not re.search(r"\]\((?!http)", card.text) and "widget" not in card.data.to_dict()
    assert card.text.strip().startswith("# adrpo's embedded model, fine-tuned")
    assert card.data.to_dict()["license"] == "apache-2.0"


def test_runs_in_other_folders_have_the_same_card(tmp_path: Path) -> None:
    first, second = (published_run(tmp_path / name / "run" / name) for name in ("a", "b"))
    assert written(first) == written(second)
    assert str(tmp_path) not in written(first)


def test_the_code_loads_the_folder_from_its_place(tmp_path: Path, model: str) -> None:
    run = language_run(tmp_path / "run", model, facts=LANGUAGE)
    found = re.search(r"```python\n(.*?)\n```", written(run), flags=re.DOTALL)
    assert found is not None
    code = found[1].replace('"path/to/final"', repr(str(run.final)))
    space: dict[str, object] = {}
    exec(code.replace(f'"{Path(model).name}"', repr(model)), space)
    tuned: object = space["model"]
    assert isinstance(tuned, torch.nn.Module) and hasattr(tuned, "disable_adapter")


def test_the_weights_that_early_stopping_kept_are_told(tmp_path: Path) -> None:
    run = published_run(tmp_path / "run")
    text = run.read_config_yaml().replace("{every: 25,", "{early_stopping: divergence, every: 25,")
    run.config.write_text(text)
    assert "final/ has the untrained weights" in written(run)


def test_a_card_that_its_user_went_on_writing_is_no_damage(tmp_path: Path) -> None:
    run = published_run(tmp_path / "run")
    written(run)
    card = run.final / "README.md"
    card.write_text(card.read_text() + "My own words.\n")
    assert check_weights(run.final)
    card.unlink()
    assert check_weights(run.final)
    (run.final / "pytorch_lora_weights.safetensors").write_bytes(b"")
    with pytest.raises(AdrpoError, match="the weights are damaged"):
        check_weights(run.final)


def test_weights_that_no_library_loads_have_no_card(tmp_path: Path) -> None:
    run = published_run(tmp_path / "run")
    shutil.rmtree(run.final)
    run.final.mkdir()
    (run.final / "coin.safetensors").write_bytes(b"a coin")
    write_card(run, run.final)
    assert [path.name for path in run.final.iterdir()] == ["coin.safetensors"]


@pytest.mark.parametrize("content", [b"{", b'{"prompt": "\xff"}\n'])
def test_a_damaged_file_of_the_run_costs_the_card_alone(
    tmp_path: Path, model: str, content: bytes
) -> None:
    run = spoken(tmp_path / "run", model)
    (run.samples / "final.jsonl").write_bytes(content + b"\n")
    with pytest.warns(AdrpoWarning, match=r"final/ gets no card \(README\.md\): .*"):
        write_card(run, run.final)
    # Nor is a card of PEFT's without content left.
    assert not (run.final / "README.md").exists()
