"""Weights of others that are put into a language model: all of them, or an error."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from adrpo.cli.domains import door_of
from adrpo.config import config_to_yaml
from adrpo.errors import AdrpoError
from adrpo.evaluation.evaluator import Evaluator
from adrpo.evaluation.targets import Target, evaluate_target
from adrpo.llm.run import LanguageRun
from adrpo.runs.directory import RunDirectory
from support.damage import flip
from support.tiny_language_runs import tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS

LORA: dict[str, Any] = {"rank": 4, "alpha": 8.0}
Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def final(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_language_config(material, adapter=LORA, training={"steps": 1})
    folder = tmp_path_factory.mktemp("run") / "a"
    return LanguageRun(config).train(folder, progress=False) / "final"


def target_of(material: Path, lora: Path | None, adapter: dict[str, Any] | None) -> Target:
    recipe = material / "recipe.yaml"
    recipe.write_text(
        config_to_yaml(tiny_language_config(material, adapter=adapter)), encoding="utf-8"
    )
    return Target.resolve(str(material / "model"), door_of, recipe=str(recipe), lora=lora)


def asked(material: Path, lora: Path, adapter: dict[str, Any] | None) -> list[str]:
    target = target_of(material, lora, adapter)
    config, door = target.config, target.door
    return list(door.sample(config, target.final, ["a b"], size=1, seed=0, output_dir=material))


def changed(final: Path, folder: Path, change: Change) -> Path:
    shutil.copytree(final, folder)
    (folder / "manifest.json").unlink()  # as of others, who have none
    file = folder / "adapter_model.safetensors"
    save_file({name: value.clone() for name, value in change(load_file(file)).items()}, file)
    return folder


def renamed(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of another model."""
    return {name.replace("base_model.model.", "thinker."): value for name, value in values.items()}


def deeper(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """A layer more than the model has."""
    return values | {name.replace("layers.0.", "layers.9."): v for name, v in values.items()}


def shorter(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if "layers.0." not in name}


@pytest.mark.parametrize("adapter", [None, LORA], ids=["as it is", "of the recipe"])
@pytest.mark.parametrize("change", [renamed, deeper, shorter])
def test_an_adapter_of_which_a_part_fits_is_refused(
    change: Change, adapter: dict[str, Any] | None, material: Path, final: Path, tmp_path: Path
) -> None:
    count = len(load_file(final / "adapter_model.safetensors"))
    other = changed(final, tmp_path / "other", change)
    others = len(load_file(other / "adapter_model.safetensors")) - count
    with pytest.raises(AdrpoError) as caught:
        asked(material, other, adapter)
    message = str(caught.value)
    assert "\n" not in message and str(other) in message
    if others:
        assert f"{abs(others)} others: base_model.model." in message
    assert ("layers.9" in message) == (change is deeper)


def broken(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """One number of one tensor is none."""
    name = sorted(values)[1]
    values[name].view(-1)[3] = float("nan")
    return values


@pytest.mark.parametrize("adapter", [None, LORA], ids=["as it is", "of the recipe"])
def test_an_adapter_with_a_number_that_is_none_is_refused(
    adapter: dict[str, Any] | None, material: Path, final: Path, tmp_path: Path
) -> None:
    other = changed(final, tmp_path / "other", broken)
    with pytest.raises(AdrpoError, match="expected finite weights; received NaN or infinity in 1"):
        asked(material, other, adapter)
    begun = tiny_language_config(material, adapter=LORA | {"start_from": str(other)})
    with pytest.raises(AdrpoError, match="expected finite weights"):
        LanguageRun(begun).train(tmp_path / "run", progress=False)


def test_an_adapter_of_a_run_with_a_flipped_bit_is_refused(
    material: Path, final: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(final, other)
    assert asked(material, other, LORA)
    flip(other / "adapter_model.safetensors")
    for begins in (
        lambda: asked(material, other, LORA),
        lambda: LanguageRun(
            tiny_language_config(material, adapter=LORA | {"start_from": str(other)})
        ),
    ):
        with pytest.raises(AdrpoError, match=r"adapter_model\.safetensors: expected sha256"):
            begins()


def test_a_setting_that_the_recipe_has_no_key_for_is_not_dropped(
    material: Path, final: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(final, other)
    written = json.loads((other / "adapter_config.json").read_text(encoding="utf-8"))
    text = json.dumps(written | {"use_rslora": True})
    (other / "manifest.json").unlink()  # it is an adapter of others from here on
    (other / "adapter_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(AdrpoError, match=r"use_rslora=False, received True.*adapter=null"):
        asked(material, other, LORA)
    # As it is, its update has the scale alpha / sqrt(rank).
    assert asked(material, other, None)


def test_a_file_has_its_scale_from_the_configuration_beside_it(
    material: Path, final: Path, tmp_path: Path
) -> None:
    file = final / "adapter_model.safetensors"
    assert asked(material, file, None) == asked(material, final, None)
    alone = tmp_path / "alone.safetensors"
    shutil.copyfile(file, alone)
    for adapter in (None, LORA):
        with pytest.raises(AdrpoError, match="expected the folder that PEFT saved"):
            asked(material, alone, adapter)


def test_a_model_without_some_of_its_weights_is_refused(material: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(material / "model", folder)
    file = folder / "model.safetensors"
    values = load_file(file)
    (name, *_) = [name for name in values if "layers.0" in name]
    save_file({key: value for key, value in values.items() if key != name}, file)
    # transformers would draw it.
    with pytest.raises(AdrpoError, match=f"1 missing keys, such as {name}"):
        asked(material, folder, None)


@pytest.mark.parametrize("adapter", [None, LORA], ids=["as it is", "of the recipe"])
def test_an_adapter_is_refused_before_its_base_is_measured(
    adapter: dict[str, Any] | None,
    material: Path,
    final: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = evaluate_target(target_of(material, None, adapter), tmp_path / "base")
    evaluate_target(target_of(material, final, adapter), tmp_path / "both")
    both = RunDirectory.open(tmp_path / "both").read_evaluations()
    # The base is measured as if no adapter had been looked at.
    assert both[0]["reward"] == base["reward"] and both[0]["entropy"] == base["entropy"]
    assert both[1]["kl"] > 0 and both[1]["entropy"] != base["entropy"]
    measured: list[int] = []
    monkeypatch.setattr(Evaluator, "evaluate", lambda *_, **__: measured.append(1))
    other = changed(final, tmp_path / "other", deeper)
    with pytest.raises(AdrpoError, match=r"layers\.9"):
        evaluate_target(target_of(material, other, adapter), tmp_path / "out")
    assert not measured and not (tmp_path / "out").exists()
