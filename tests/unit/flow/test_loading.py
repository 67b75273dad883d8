"""Models that can't be loaded: each says why in one line."""

import json
import shutil
from pathlib import Path

import pytest

from adrpo.config import FlowModelSection
from adrpo.embedded.weights import weights_path
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.flow.domain import build_trainer
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
