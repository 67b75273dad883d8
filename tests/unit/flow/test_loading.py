"""Models that can't be loaded: each says why in one line."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from adrpo.config import FlowModelSection
from adrpo.embedded.weights import weights_path
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.flow.domain import build_trainer
from adrpo.flow.memory.architectures import find_architecture
from adrpo.flow.models.loading import SUPPORTED, _tokens, load_policy
from support.tiny_runs import darkness, tiny_config


def refuse(model: str) -> str:
    with pytest.raises(AdrpoError) as caught:
        load_policy(FlowModelSection(pretrained=model))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_folder_that_is_no_pipeline(tmp_path: Path):
    message = refuse(str(tmp_path))
    assert "model.pretrained" in message and "has no model_index.json" in message


def test_a_pipeline_of_another_class_names_the_supported_ones(tmp_path: Path):
    index = {"_class_name": "StableDiffusionPipeline"}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    message = refuse(str(tmp_path))
    assert "StableDiffusionPipeline" in message and "StableDiffusion3Pipeline" in message


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_a_pipeline_without_weights_names_the_part(tmp_path: Path, part: str):
    folder = tmp_path / "model"
    shutil.copytree(weights_path("pipeline"), folder)
    for file in (folder / part).glob("*.safetensors"):
        file.unlink()
    assert f"{folder / part} holds no weights" in refuse(str(folder))


def edited(tmp_path: Path, part: str, **values: Any) -> Path:
    """A copy of the embedded pipeline whose ``part`` has other settings."""
    folder = tmp_path / "model"
    shutil.copytree(weights_path("pipeline"), folder)
    file = folder / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return folder


def test_more_layers_than_weights_are_refused_before_they_are_built(tmp_path: Path):
    folder = edited(tmp_path, "transformer", num_layers=10**9)
    message = refuse(str(folder))
    assert f"{folder / 'transformer' / 'config.json'}" in message
    assert "received num_layers 1000000000 with" in message


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_settings_that_are_a_list_name_their_file(tmp_path: Path, part: str):
    folder = edited(tmp_path, part)
    file = folder / part / "config.json"
    file.write_text("[]")
    expected = f"expected the settings of a part in {file}; received a list"
    assert expected in refuse(str(folder))
    with pytest.raises(AdrpoError, match=re.escape(expected)):
        find_architecture(str(folder))


@pytest.mark.parametrize(("key", "value"), [("scaling_factor", "text"), ("norm_num_groups", -1)])
def test_an_autoencoder_that_no_image_comes_out_of_is_refused_at_once(
    tmp_path: Path, key: str, value: Any
):
    message = refuse(str(edited(tmp_path, "vae", **{key: value})))
    assert "model.pretrained: expected" in message and "can't be loaded" in message


def test_a_name_that_leads_nowhere():
    assert "'nobody/nothing'" in refuse("nobody/nothing")


def test_a_prompt_cut_to_one_token_is_told_where_there_is_a_t5() -> None:
    """As flow/adrpo has it, whose model has none."""

    def section(tokens: int | None) -> FlowModelSection:
        return FlowModelSection(pretrained="a folder", max_sequence_length=tokens)

    family = SUPPORTED["StableDiffusion3Pipeline"]
    whole = {"_class_name": "StableDiffusion3Pipeline", "text_encoder_3": ["transformers", "T5"]}
    with pytest.warns(AdrpoWarning, match="sees no prompt; set it to null, which takes 256"):
        assert _tokens(section(1), whole, family.tokens) == 1
    assert _tokens(section(1), whole | {"text_encoder_3": [None, None]}, family.tokens) == 1
    assert _tokens(section(None), whole, family.tokens) == 256
    with pytest.warns(AdrpoWarning, match="the long encoder of StableDiffusion3Pipeline sees no"):
        build_trainer(tiny_config(model={"max_sequence_length": 1}), reward=darkness)
