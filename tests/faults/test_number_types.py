"""A number type that can't hold what training computes in it is refused, or told of."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from adrpo.cli.doctor import check_recipe
from adrpo.config import load_recipe
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.llm.run import LanguageRun
from adrpo.runs.findings import Findings
from support.command_line import Command
from support.tiny_audio_runs import write_thinker
from support.tiny_audio_trainers import AUDIO_MARKS, audio_trainer
from support.tiny_language_model import save_tiny_model
from support.tiny_language_runs import tiny_language_config, write_material
from support.tiny_language_trainers import build

pytestmark = AUDIO_MARKS

RECIPE = "extends: {}\nmodel: {{dtype: float16, device: cpu}}\nadapter: null\n"
REFUSED = "model.dtype: expected float32 with adapter: null"


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(params=["llm/embedded", "audio/embedded"])
def recipe(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A recipe that trains all weights in float16."""
    (tmp_path / "half.yaml").write_text(RECIPE.format(request.param), encoding="utf-8")
    return str(tmp_path / "half.yaml")


@pytest.mark.parametrize(
    "words",
    [["train"], ["train", "--dry-run"], ["compare", "--seeds", "1"]],
    ids=["train", "dry run", "compare"],
)
def test_training_all_weights_in_float16_is_refused_before_anything_is_written(
    command: Command, tmp_path: Path, recipe: str, words: list[str]
) -> None:
    """AdamW's second moments, squares of gradients, underflow there: of the embedded model's
    answers 49 % were right before, and none after three steps."""
    assert command(words[0], recipe, *words[1:]) == 2
    (line,) = command.err.strip().splitlines()
    assert REFUSED in line
    assert [path.name for path in tmp_path.iterdir()] == ["half.yaml"]


def test_doctor_names_the_type_that_training_cannot_hold(recipe: str) -> None:
    said: list[str] = []
    check_recipe(Findings(said.append), recipe)
    (line,) = said
    assert "BROKEN" in line
    assert REFUSED in line


def test_a_run_of_a_script_is_refused_as_the_command_is(material: Path, tmp_path: Path) -> None:
    config = tiny_language_config(
        material, model={"pretrained": str(material / "model"), "dtype": "float16"}
    )
    with pytest.raises(AdrpoError, match=REFUSED):
        LanguageRun(config).train(tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("adapter", ["null", "{rank: 2}"])
def test_what_only_measures_a_model_may_have_it_in_float16(adapter: str) -> None:
    overrides = ["model.dtype=float16", f"adapter={adapter}"]
    config = load_recipe("llm/embedded", overrides)
    assert config.model.dtype == "float16"
    if adapter != "null":  # PEFT trains it in float32, whatever the type of the frozen weights
        config.check_trains()


def trainer_of(kind: str, folder: Path, dtype: str) -> Any:
    options = {"model_init_kwargs": {"dtype": dtype}, "max_steps": 1}
    if kind == "llm":
        return build(str(save_tiny_model(folder / dtype)), folder, **options)
    model = str(write_thinker(folder / dtype))
    return audio_trainer(folder, model=model, more={"peft_config": None}, **options)


@pytest.mark.parametrize("kind", ["llm", "audio"])
def test_a_trainer_refuses_weights_in_float16_and_tells_of_bfloat16(
    tmp_path: Path, kind: str
) -> None:
    trainer = trainer_of(kind, tmp_path, "float16")
    before = {name: own.clone() for name, own in trainer.model.named_parameters()}
    with pytest.raises(AdrpoError, match="trained weights in float32, received float16"):
        trainer.train()
    assert all(torch.equal(own, before[name]) for name, own in trainer.model.named_parameters())
    with pytest.warns(AdrpoWarning, match="bfloat16 .*steps of 0.01 are rounded away"):
        trainer_of(kind, tmp_path, "bfloat16").train()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_trainer_takes_frozen_weights_of_any_type(tmp_path: Path, dtype: str) -> None:
    model = str(save_tiny_model(tmp_path / "model"))
    adapter = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = build(model, tmp_path, peft_config=adapter, model_init_kwargs={"dtype": dtype})
    trainer.train()
    trained = [own for own in trainer.model.parameters() if own.requires_grad]
    assert {own.dtype for own in trained} == {torch.float32}
    assert {own.dtype for own in trainer.model.parameters()} == {
        torch.float32,
        getattr(torch, dtype),
    }


def test_logits_that_are_not_finite_are_named_in_one_line(material: Path, tmp_path: Path) -> None:
    """Of torch's own error in `adrpo evaluate`, and of a trial before a run's first evaluation."""
    model = save_tiny_model(tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    save_file(
        {name: own * float("nan") if "norm" in name else own for name, own in weights.items()},
        model / "model.safetensors",
        {"format": "pt"},
    )
    config = tiny_language_config(material, model={"pretrained": str(model)})
    run = LanguageRun(config)
    with pytest.raises(AdrpoError, match="of a prompt that are not finite: expected at most 0"):
        run.train(tmp_path / "run", progress=False)
    with (
        pytest.raises(AdrpoError, match="expected finite logits to draw tokens by"),
        run.subject() as subject,
    ):
        subject.evaluator.measure()
