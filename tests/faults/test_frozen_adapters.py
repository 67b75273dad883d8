"""An adapter that requires no gradient is refused, in every domain, before a step is made."""

from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from adrpo.audio.trainer import language_lora
from adrpo.errors import AdrpoError
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.llm import ADRPOTrainer
from adrpo.llm.trained_adapter import check_model_trains
from support.tiny_audio_trainers import AUDIO_MARKS, audio_trainer
from support.tiny_language_model import save_tiny_model
from support.tiny_language_trainers import PROMPTS, config, count_a
from support.tiny_runs import darkness, tiny_config
from support.tiny_thinker import tiny_thinker

pytestmark = AUDIO_MARKS

REFUSAL = "expected parameters that require a gradient; received"


def saved_adapter(folder: Path) -> tuple[Path, Path]:
    """A model, and an adapter of it."""
    save_tiny_model(folder / "model")
    base: Any = AutoModelForCausalLM.from_pretrained(folder / "model")
    get_peft_model(base, LoraConfig(r=2, task_type="CAUSAL_LM")).save_pretrained(
        str(folder / "adapter")
    )
    return folder / "model", folder / "adapter"


def language_trainer(model: Any, folder: Path, source: Path, beta: float) -> ADRPOTrainer:
    from transformers import AutoTokenizer

    return ADRPOTrainer(
        model,
        count_a,
        config(folder, beta=beta, max_steps=1, coefficient="adaptive" if beta else "fixed"),
        PROMPTS,
        processing_class=AutoTokenizer.from_pretrained(source, padding_side="left"),
    )


@pytest.mark.parametrize("beta", [0.04, 0.0])
def test_an_adapter_as_peft_loads_it_is_refused(beta: float, tmp_path: Path) -> None:
    source, adapter = saved_adapter(tmp_path)
    base: Any = AutoModelForCausalLM.from_pretrained(source)
    frozen = PeftModel.from_pretrained(base, str(adapter))
    trainer = language_trainer(frozen, tmp_path / "run", source, beta)
    with pytest.raises(AdrpoError, match=REFUSAL) as caught:
        trainer.train()
    assert "is_trainable=True" in str(caught.value) and "\n" not in str(caught.value)
    assert trainer.state.global_step == 0


def test_an_adapter_that_trains_is_not_refused(tmp_path: Path) -> None:
    source, adapter = saved_adapter(tmp_path)
    base: Any = AutoModelForCausalLM.from_pretrained(source)
    model = PeftModel.from_pretrained(base, str(adapter), is_trainable=True)
    trainer = language_trainer(model, tmp_path / "run", source, 0.04)
    trainer.train()
    assert trainer.state.global_step == 1


def test_a_frozen_adapter_of_a_model_that_hears_is_refused(tmp_path: Path) -> None:
    model = get_peft_model(tiny_thinker(), language_lora())
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    trainer = audio_trainer(tmp_path, model=model)
    with pytest.raises(AdrpoError, match=REFUSAL):
        trainer.train()


def test_a_frozen_adapter_of_a_text_to_image_model_is_refused(tmp_path: Path) -> None:
    trainer = FlowTrainer(tiny_config(), reward=darkness)
    for parameter in trainer.policy.adapter_parameters():
        parameter.requires_grad_(False)
    with pytest.raises(AdrpoError, match=REFUSAL):
        trainer.train(tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_an_adapter_that_is_switched_off_is_none_that_trains(tmp_path: Path) -> None:
    """Its parameters may require a gradient, and none reaches them."""
    tiny = AutoModelForCausalLM.from_pretrained(save_tiny_model(tmp_path / "model"))
    model = get_peft_model(tiny, LoraConfig(target_modules=["q_proj"]))
    model.add_adapter("other", LoraConfig(target_modules=["q_proj"]))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".other." in name)
    with pytest.raises(AdrpoError, match="require a gradient"):
        check_model_trains(model)
    model.base_model.set_adapter("other")
    check_model_trains(model)
