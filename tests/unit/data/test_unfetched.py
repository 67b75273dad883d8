"""Doctor looks for prompts of the Hub in the caches of this machine, and asks for none."""

from pathlib import Path
from typing import Any

import pytest

from adrpo.cli.doctor import check_recipe
from adrpo.data.prompts import is_unfetched
from adrpo.data.published import PUBLISHED
from adrpo.runs.findings import Findings


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders of both caches, empty, in a working folder without files."""

    def fetch(*_: Any, **__: Any) -> Any:
        raise AssertionError("the Hub was asked")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    monkeypatch.setattr("adrpo.data.rows.read_dataset", fetch)
    return tmp_path


@pytest.mark.parametrize(
    "source",
    ["scenes:train", "sums", "art-style:train", "mine.jsonl", "a/b.csv", "geneval:a.jsonl"],
)
def test_what_is_no_set_of_the_hub_is_not_fetched(source: str):
    assert not is_unfetched(source)


@pytest.mark.parametrize("folder", ["hub/datasets--me--texts", "datasets/me___texts"])
@pytest.mark.parametrize("source", ["me/texts", "me/texts:held_out"])
def test_a_data_set_is_fetched_once_a_cache_has_it(caches: Path, folder: str, source: str):
    assert is_unfetched(source)
    (caches / folder).mkdir(parents=True)
    assert not is_unfetched(source)


def test_a_folder_of_that_name_is_here(caches: Path):
    (caches / "me/texts").mkdir(parents=True)
    assert not is_unfetched("me/texts")


def test_a_published_set_is_fetched_once_the_cache_has_its_file(caches: Path):
    assert is_unfetched("drawbench:hub:train")
    file = PUBLISHED["drawbench"].hub
    assert file is not None
    # A folder of the set alone, with another file, is not enough.
    folder = caches / "hub" / f"datasets--{file.repository.replace('/', '--')}"
    (folder / "snapshots" / file.revision).mkdir(parents=True)
    assert is_unfetched("drawbench:hub:train")
    (folder / "snapshots" / file.revision / file.name).write_text("", encoding="utf-8")
    assert not is_unfetched("drawbench:hub:train")


@pytest.mark.parametrize(
    ("domain", "key"),
    [("flow", "train"), ("flow", "held_out"), ("llm", "source"), ("llm", "held_out")],
)
def test_doctor_notes_a_data_set_that_is_to_be_fetched(
    caches: Path, domain: str, key: str, capsys: pytest.CaptureFixture[str]
):
    rewards = {"flow": "jpeg_size", "llm": "format"}
    (caches / "recipe.yaml").write_text(
        f"domain: {domain}\nreward: [{{name: {rewards[domain]}}}]\nprompts: {{{key}: me/texts}}\n"
    )
    findings = Findings()
    check_recipe(findings, "recipe.yaml")
    page = capsys.readouterr().out
    assert findings.broken == 0, page
    what = f"prompts.{key}" if domain == "flow" else "prompts"
    assert (
        f"  note    {what}: me/texts is not on this machine: the first run fetches it from the "
        f"Hugging Face Hub\n"
    ) in page
    assert "memory: " in page
