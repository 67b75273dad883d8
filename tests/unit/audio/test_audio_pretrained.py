"""Weights of the Thinker as the Hub's repositories of Qwen2.5-Omni have them."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from adrpo.audio import AudioRun
from adrpo.audio.pretrained import language_modules, load_thinker
from support.tiny_audio_runs import tiny_audio_config
from support.tiny_audio_trainers import AUDIO_MARKS
from support.tiny_thinker import tiny_processor, tiny_thinker

pytestmark = AUDIO_MARKS


def name_on_the_hub(name: str) -> str:
    """The key of a weight in a repository of the whole, which has ``model`` for the language model
    alone."""
    inner = name.removeprefix("model.")
    if inner.startswith("language_model."):
        inner = "model." + inner.removeprefix("language_model.")
    return f"thinker.{inner}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the whole: its Thinker beside what speaks."""
    folder = tmp_path_factory.mktemp("whole")
    thinker = tiny_thinker(seed=3)
    weights = {name_on_the_hub(name): value for name, value in thinker.state_dict().items()}
    assert "thinker.model.layers.0.self_attn.q_proj.weight" in weights
    assert "thinker.audio_tower.conv1.weight" in weights and "thinker.lm_head.weight" in weights
    weights["talker.model.layers.0.self_attn.q_proj.weight"] = torch.ones(4, 4)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    settings = {
        "architectures": ["Qwen2_5OmniModel"],
        "model_type": "qwen2_5_omni",
        "thinker_config": thinker.config.to_dict(),
    }
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    tiny_processor().save_pretrained(folder)
    return folder


def test_every_weight_of_the_thinker_is_taken(whole: Path) -> None:
    loaded, expected = load_thinker(str(whole)).state_dict(), tiny_thinker(seed=3).state_dict()
    assert loaded.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(loaded[name], expected[name])] == []


@pytest.mark.parametrize("adapter", [None, {"rank": 2}])
def test_a_run_trains_it_beside_its_reference(
    whole: Path, tmp_path: Path, adapter: dict[str, int] | None
) -> None:
    config = tiny_audio_config(whole, adapter=adapter, training={"steps": 1})
    run = AudioRun(config).train(tmp_path / "run", progress=False)
    rows = (run / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()
    # The reference is the Thinker, too, and not one of another layout with weights made up.
    assert abs(json.loads(rows[0])["kl"]) < 1e-5


def test_adapted_modules_are_those_of_the_language_model() -> None:
    names = [name for name, _ in tiny_thinker().named_modules()]
    pattern = language_modules(("q_proj", "gate_proj"))
    found = [name for name in names if re.fullmatch(pattern, name)]
    assert len(found) == 4 and all(".language_model.layers." in name for name in found)
    assert any("audio_tower" in name and name.endswith("q_proj") for name in names)
