"""The last line of ``adrpo doctor``: ready, with what is downloaded, or why nothing trains here."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from adrpo.config import config_to_yaml
from adrpo.embedded.weights import weights_path
from adrpo.runs.downloads import Download, fetched_bytes, in_words, sizes
from support.command_line import Command
from support.hub_server import HubServer, Repository, as_the_hub
from support.tiny_runs import tiny_config

GB = 10**9
CLIP = "openai/clip-vit-base-patch32"
DISTANCES = "evaluation.distances={features: facebook/dinov2-base}"
SD3 = "stabilityai/stable-diffusion-3-medium-diffusers"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with as_the_hub(tmp_path / "store", monkeypatch) as server:
        yield server


def last_line(command: Command) -> str:
    return command.out.rstrip("\n").rpartition("\n")[2]


def with_memory(monkeypatch: pytest.MonkeyPatch, gigabytes: float) -> None:
    monkeypatch.setattr("adrpo.runs.findings._own_memory", lambda: gigabytes * 1e9)


def test_of_a_pipelines_repository_its_parts_are_fetched() -> None:
    files = {
        "model_index.json": 1, "README.md": 100, "sd3.safetensors": 1000, "demo.png": 5000,
        "transformer/config.json": 2, "transformer/diffusion_pytorch_model.safetensors": 10_000,
        "transformer/diffusion_pytorch_model.fp16.safetensors": 20_000,
        "text_encoder/model-00001-of-00002.safetensors": 30_000,
        "text_encoder/model-00002-of-00002.safetensors": 40_000,
        "text_encoder/pytorch_model.bin": 50_000, "tokenizer/vocab.txt": 3,
        "vae/diffusion_pytorch_model.bin": 60_000, "vae/diffusion_pytorch_model.fp16.bin": 70_000,
    }  # fmt: skip
    weights = 10_000 + 30_000 + 40_000 + 60_000
    assert fetched_bytes(files) == 1 + 2 + 3 + weights


def test_of_a_models_repository_what_lies_at_the_top_is_fetched() -> None:
    files = {
        "config.json": 1, "tokenizer.json": 2, "model.safetensors": 1000, "README.md": 10,
        "consolidated.safetensors": 2000, "pytorch_model.bin": 3000, "onnx/model.onnx": 4000,
        "original/model.safetensors": 5000, "model.fp16.safetensors": 6000,
    }  # fmt: skip
    assert fetched_bytes(files) == 1 + 2 + 1000
    assert fetched_bytes(files, weights=False) == 1 + 2
    assert fetched_bytes({"open_clip_pytorch_model.bin": 7, "config.json": 1}) == 8


def test_the_hub_is_asked_and_a_table_where_it_does_not_answer(hub: HubServer) -> None:
    hub.repositories["a/b"] = Repository(private=False, sizes={"model.safetensors": 5})
    hub.repositories["c/d"] = Repository(private=False, sizes={"x.csv": 7, "y.csv": 11})
    downloads = [
        Download("a/b", known=1),
        Download("c/d", kind="dataset"),
        Download("c/d", kind="dataset", file="y.csv"),
    ]
    assert sizes(downloads[:2]) == ({"a/b": 5, "c/d": 18}, True)
    assert sizes(downloads[2:]) == ({"c/d": 11}, True)
    hub.close()
    assert sizes(downloads[:2]) == ({"a/b": 1, "c/d": None}, False)


def test_sizes_in_words() -> None:
    assert in_words({"a/b": 3.94e9, "c/d": 12.6e9}) == "17 GB (a/b, c/d)"
    assert in_words({"a/b": 4.2e6, "c/d": None}) == "4.2 MB (a/b) and c/d, size unknown"
    assert in_words({"a/b": 10.0}) == "under 1 MB (a/b)"


def test_what_trains_at_once_is_ready(command: Command) -> None:
    for domain in ("flow/demo", "llm/embedded", "audio/embedded"):
        assert command("doctor", domain) == 0, command.out
        assert last_line(command) == "Ready."
    assert command("doctor") == 0
    assert last_line(command) == "Ready."


def test_a_download_is_named_with_its_size(
    hub: HubServer, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_memory(monkeypatch, 1000)
    hub.repositories["me/model"] = Repository(
        private=False, sizes={"config.json": 1, "model.safetensors": 3 * GB}
    )
    assert command("doctor", "llm/embedded", "model.pretrained=me/model") == 0, command.out
    assert last_line(command) == (
        "Ready, but for memory, which is unknown (the config.json of me/model is not on this "
        "machine): the first run downloads 3 GB (me/model)."
    )


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["llm/embedded", "model.pretrained=me/model"], "me/model, size unknown."),
        (["flow/demo", f"model.pretrained={SD3}"], f"15 GB ({SD3})."),
        (["flow/demo", "reward=[{name: pick_score}]"], "PickScore_v1) and laion/CLIP-ViT-H-14"),
        (["audio/embedded", "model.pretrained=me/omni"], "me/omni, size unknown."),
        (["llm/qwen3-0.6b"], "1.5 GB (Qwen/Qwen3-0.6B)"),
        (["llm/qwen2-0.5b"], "988 MB (Qwen/Qwen2-0.5B-Instruct)"),
        (["audio/qwen2.5-omni-7b"], "21 GB (Qwen/Qwen2.5-Omni-7B)"),
        (["flow/demo", f"evaluation.clip={CLIP}"], f"605 MB ({CLIP})."),
        (["flow/demo", DISTANCES], "346 MB (facebook/dinov2-base)."),
    ],
)
def test_without_the_hub_sizes_are_those_of_a_table(
    settings: list[str],
    line: str,
    hub: HubServer,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.close()
    with_memory(monkeypatch, 1000)
    assert command("doctor", *settings) == 0, command.out
    found = last_line(command)
    # A run would fail now, and may not later.
    assert found.startswith("Ready, once the Hub answers")
    assert ": the first run downloads " in found and line in found
    assert ("but for memory, which is unknown (the config.json of me/" in found) == ("me/" in line)


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        (["llm/qwen3-0.6b"], "RM-Gemma-2B, Skywork/Skywork-Reward-V2-Qwen3-0.6B, Qwen/Qwen3-0.6B,"),
        (["audio/qwen2.5-omni-3b-avqa"], "Qwen/Qwen2.5-Omni-3B, gijs/avqa-processed are not"),
        (["llm/embedded", "prompts.source=me/texts"], "me/texts is not"),
        (["flow/demo", f"model.pretrained={SD3}"], f"{SD3} is not"),
        (["flow/demo", f"evaluation.clip={CLIP}"], f"{CLIP} is not"),
        (["flow/demo", "reward=[{name: pick_score}]"], "PickScore_v1, laion/CLIP-ViT-H-14"),
        (["llm/embedded", "reward=[{name: reward_model, options: {model: me/rm}}]"], "me/rm is"),
    ],
)
def test_what_may_not_be_downloaded_can_not_train(
    settings: list[str],
    missing: str,
    hub: HubServer,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with_memory(monkeypatch, 1000)
    assert command("doctor", *settings) == 1, command.out
    found = last_line(command)
    assert found.startswith("Can't train here: ") and missing in found
    assert found.endswith(" not on this machine, and HF_HUB_OFFLINE is set.")
    assert hub.calls == []


def test_a_published_model_is_estimated_before_it_is_here(
    hub: HubServer, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.close()
    with_memory(monkeypatch, 25)
    assert command("doctor", "audio/qwen2.5-omni-7b") == 1
    found = last_line(command)
    assert found.startswith("Can't train here: about ")
    assert found.endswith(" and this machine has 25 GB of memory.")


def test_a_cached_description_is_no_model(
    hub: HubServer, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own advice fetches a config.json alone; an index names shards that may be missing."""
    with_memory(monkeypatch, 1000)
    hub.repositories["me/model"] = Repository(private=False, sizes={"model.safetensors": 3 * GB})
    cached = tmp_path / "cache" / "models--me--model"
    snapshot = cached / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    shutil.copy(weights_path("language_model") / "config.json", snapshot)
    settings = ("llm/embedded", "model.pretrained=me/model")
    assert command("doctor", *settings) == 0, command.out
    assert "model: the weights of me/model are not on this machine" in command.out
    assert last_line(command).endswith("the first run downloads 3 GB (me/model).")
    shards = {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}
    index = json.dumps({"weight_map": shards})
    (snapshot / "model.safetensors.index.json").write_text(index)
    (snapshot / shards["a"]).touch()
    assert command("doctor", *settings) == 0, command.out
    assert last_line(command).endswith("the first run downloads 3 GB (me/model).")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert command("doctor", *settings) == 1, command.out
    assert "me/model is not on this machine, and HF_HUB_OFFLINE" in last_line(command)
    (snapshot / shards["b"]).touch()
    assert command("doctor", *settings) == 0, command.out
    assert "model: me/model is in the Hub cache" in command.out and "download" not in command.out


def test_what_the_hub_has_not_can_not_train(hub: HubServer, command: Command) -> None:
    assert command("doctor", "llm/embedded", "model.pretrained=me/modle") == 1
    assert "BROKEN  download: expected a model on this machine or on the" in command.out
    assert last_line(command) == "Can't train here: 1 broken."


def test_what_this_machine_can_not_hold_can_not_train(
    hub: HubServer, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.close()
    with_memory(monkeypatch, 8)
    assert command("doctor", "flow/sd3-medium-adrpo") == 1
    found = last_line(command)
    assert found.startswith("Can't train here: about ")
    assert found.endswith("it needs a card of 12 GB, and this machine has 8 GB of memory.")


def test_a_download_that_the_disk_can_not_hold_is_said_before(
    hub: HubServer, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.close()
    with_memory(monkeypatch, 1000)
    usage = SimpleNamespace(free=1e9)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert command("doctor", "flow/demo", f"model.pretrained={SD3}") == 1
    found = last_line(command)
    assert found.startswith(f"Can't train here: the first run downloads 15 GB ({SD3})")
    assert found.endswith(f"1.0 GB are free on the disk of {constants.HF_HUB_CACHE}.")


def test_a_size_that_the_model_has_no_places_for_is_found_before_it_is_loaded(
    command: Command, tmp_path: Path
) -> None:
    config = tiny_config(reward=[{"name": "support.tiny_runs:darkness"}])
    Path("tiny.yaml").write_text(config_to_yaml(config), encoding="utf-8")
    assert command("doctor", "tiny.yaml") == 0, command.out
    assert command("doctor", "tiny.yaml", "model.height=512", "model.width=8") == 1
    (line,) = (line for line in command.out.splitlines() if "positions ends there" in line)
    assert "model.height: expected at most" in line and "received 512; null is" in line
    row = {"prompt": "a cat", "height": 512, "width": None}
    Path("rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert command("doctor", "tiny.yaml", "prompts.train=rows.jsonl") == 1
    (line,) = (line for line in command.out.splitlines() if "positions ends there" in line)
    assert "the column height: expected at most" in line
    # Files that can't be read are told by another line.
    folder = tmp_path / "copy"
    shutil.copytree(config.model.pretrained, folder)
    (folder / "transformer" / "config.json").write_text("{")
    assert command("doctor", "tiny.yaml", f"model.pretrained={folder}") == 1
    assert f"expected a pipeline in {folder}" in command.out
