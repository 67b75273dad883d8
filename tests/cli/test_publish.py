"""``adrpo publish`` against a server on loopback that speaks the Hub's API."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
import pytest
from huggingface_hub import constants

from adrpo.publishing import compose
from adrpo.publishing.base import base_of
from adrpo.runs.directory import RunDirectory
from support.hub_server import TOKEN, HubServer, Repository, as_the_hub
from support.published_runs import published_run

if TYPE_CHECKING:
    from support.command_line import Command

pytestmark = [
    pytest.mark.filterwarnings("always::adrpo.errors.AdrpoWarning"),
    # huggingface_hub's call of httpx2, in the upload by LFS.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]

WEIGHTS = "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return published_run(tmp_path_factory.mktemp("runs") / "mine", pictured=1)


@pytest.fixture
def run(made: RunDirectory, tmp_path: Path) -> RunDirectory:
    return RunDirectory.open(shutil.copytree(made.path, tmp_path / "mine"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with as_the_hub(tmp_path / "store", monkeypatch) as server:
        yield server


def test_what_is_uploaded_is_what_a_dry_run_writes(
    hub: HubServer, run: RunDirectory, command: "Command"
) -> None:
    assert command("publish", "mine", "--repo", "tester/mine", "--dry-run") == 0
    assert hub.calls == []
    folder = Path("runs/publication")
    assert f"Would be uploaded to tester/mine: {folder}" in command.out
    assert command("publish", "mine", "--repo", "tester/mine") == 0
    assert f"Published: {hub.url}/tester/mine" in command.out
    found = hub.repositories["tester/mine"]
    assert not found.private
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}
    assert {*found.files, *found.pointers} == files.keys() and len(files) > 3
    for name, content in found.files.items():
        assert content == files[name].read_bytes()
    assert found.pointers.keys() == {WEIGHTS}
    assert hub.blobs[found.pointers[WEIGHTS]] == (run.final / WEIGHTS).read_bytes()
    assert len(found.commits) == 1 and found.commits[0].startswith("Upload mine of adrpo ")
    sent = b"".join([*found.files.values(), *hub.blobs.values()])
    assert TOKEN.encode() not in sent and TOKEN not in command.out + command.err


def test_a_folder_without_a_dry_run_is_refused(
    hub: HubServer, run: RunDirectory, command: "Command"
) -> None:
    """Nothing would be written there."""
    assert command("publish", "mine", "--repo", "tester/mine", "--output-dir", "there") == 2
    assert "--output-dir: expected --dry-run, whose folder it is; received there" in command.err
    assert hub.calls == [] and not Path("there").exists()


def test_weights_arrive_by_xet(
    hub: HubServer, run: RunDirectory, command: "Command", monkeypatch: pytest.MonkeyPatch
) -> None:
    import hf_xet

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    assert command("publish", str(run.path), "--repo", "mine", "--private") == 0
    found = hub.repositories["tester/mine"]
    assert found.private
    assert any("xet-write-token" in call for call in hub.calls) and not hub.blobs
    (known,) = hf_xet.hash_files([str(run.final / WEIGHTS)])
    back = hub.store / "back"
    place = f"local://{hub.store}"
    with hf_xet.XetSession().new_file_download_group(endpoint=place) as group:
        group.start_download_file(hf_xet.XetFileInfo(known.hash, known.file_size), str(back))
    assert back.read_bytes() == (run.final / WEIGHTS).read_bytes()
    assert found.pointers == {WEIGHTS: hashlib.sha256(back.read_bytes()).hexdigest()}


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_refusal_is_one_line_without_the_token(
    hub: HubServer, run: RunDirectory, command: "Command", status: int
) -> None:
    hub.refusal = (status, f"no,\nnot with {TOKEN}")
    assert command("publish", str(run.path), "--repo", "tester/mine") == 2
    (line,) = [line for line in command.err.splitlines() if "error" in line]
    assert f"{status} " in line and "not with ***" in line and TOKEN not in command.err
    assert ("hf auth login" in line) == (status != 500)
    assert hub.repositories == {}


def test_a_public_repository_is_not_made_a_place_for_private_weights(
    hub: HubServer, run: RunDirectory, command: "Command"
) -> None:
    hub.repositories["tester/mine"] = Repository(private=False)
    assert command("publish", str(run.path), "--repo", "tester/mine", "--private") == 2
    assert "--private: expected a private repository; received tester/mine" in command.err
    assert hub.repositories["tester/mine"] == Repository(private=False) and not hub.blobs


def test_the_licence_is_what_the_hub_says_of_the_base(
    hub: HubServer, run: RunDirectory, command: "Command"
) -> None:
    text = run.read_config_yaml()
    run.config.write_text(text.replace("pretrained: embedded", "pretrained: owner/base"))
    hub.repositories["owner/base"] = Repository(private=False, card="openrail++")
    assert command("publish", str(run.path), "--repo", "mine", "--dry-run") == 0
    assert "Base: owner/base; licence: openrail++" in command.out
    del hub.repositories["owner/base"]
    assert command("publish", str(run.path), "--repo", "mine", "--dry-run") == 0
    assert "note: the licence of owner/base is not known" in command.err
    said = "--license", "apache-2.0"
    assert command("publish", str(run.path), "--repo", "mine", "--dry-run", *said) == 0
    assert "Base: owner/base; licence: apache-2.0" in command.out


@pytest.mark.parametrize("name", ["a b", "a/b/c", "-a", "a/", "a..b", "x" * 120, "../a"])
def test_a_name_that_is_none_is_refused_first(command: "Command", name: str) -> None:
    assert command("publish", "nowhere", f"--repo={name}") == 2
    assert command.err.startswith("adrpo: error: --repo: expected the name of a repository")
    assert len(command.err.splitlines()) == 1


def test_without_a_token_nothing_is_asked(
    hub: HubServer, run: RunDirectory, command: "Command", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert command("publish", str(run.path), "--repo", "tester/mine") == 2
    assert "expected a token of the Hub; received none; set HF_TOKEN" in command.err
    assert hub.calls == []


def test_a_server_that_is_away_is_one_line(
    hub: HubServer, run: RunDirectory, command: "Command", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert command("publish", str(run.path), "--repo", "tester/mine") == 2
    assert "expected the Hub to take the upload (http://127.0.0.1:9" in command.err
    assert len([line for line in command.err.splitlines() if "error:" in line]) == 1


def test_only_a_whole_finished_run_is_published(
    run: RunDirectory, command: "Command", tmp_path: Path
) -> None:
    here = ("publish", str(run.path), "--repo", "mine", "--dry-run")
    assert command("publish", str(tmp_path), "--repo", "mine", "--dry-run") == 2
    assert "expected a run directory" in command.err
    weights = run.final / WEIGHTS
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    assert command(*here) == 2
    assert "the weights are damaged or were changed" in command.err
    weights.unlink()
    weights.with_name("manifest.json").unlink()
    assert command(*here) == 2
    assert "expected an adapter" in command.err
    shutil.rmtree(run.final)
    assert command(*here) == 2
    assert "expected a finished run" in command.err
    assert not Path("runs").exists()


def test_untrained_weights_that_early_stopping_kept_are_refused(
    run: RunDirectory, command: "Command"
) -> None:
    text = run.read_config_yaml().replace("{every: 25,", "{early_stopping: divergence, every: 25,")
    run.config.write_text(text)
    assert command("publish", str(run.path), "--repo", "mine", "--dry-run") == 2
    assert "early stopping kept the untrained ones" in command.err


def test_a_publication_is_composed_whole_or_not_at_all(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copy", full)
    with pytest.raises(OSError, match="No space"):
        compose(run, "mine", base_of(run, ask=False), tmp_path / "to")
    assert not (tmp_path / "to").exists()
