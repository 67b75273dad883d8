"""The trainer of audio-language models: what is frozen, counted, saved and refused."""

import importlib.metadata
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset, IterableDataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from adrpo import AdrpoError
from adrpo.audio import AudioADRPOTrainer, AudioProcessor
from adrpo.audio.trainer import language_lora
from support.tiny_audio_trainers import (
    AUDIO_MARKS,
    QUESTIONS,
    ROUNDING,
    audio_trainer,
    rows_of,
    score_letters,
    scores,
    scores_alone,
)
from support.tiny_language_trainers import config, loss_and_gradients, move, scored
from support.tiny_thinker import asked, tiny_processor, tiny_thinker, tone

pytestmark = AUDIO_MARKS


def test_the_packages_are_those_that_the_tests_are_to_run_under() -> None:
    """``make test-audio-lowest`` puts the oldest ones before those of the environment."""
    for wanted in os.environ.get("ADRPO_EXPECT_AUDIO", "").split():
        name, _, version = wanted.partition("==")
        assert importlib.metadata.version(name) == f"{version}.0"


# --- what is trained ---


@pytest.mark.parametrize("checkpointing", [False, True])
def test_only_the_adapter_of_the_language_model_is_trained(
    tmp_path: Path, checkpointing: bool
) -> None:
    model = tiny_thinker()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = audio_trainer(tmp_path, model=model, gradient_checkpointing=checkpointing)
    trainer.train()
    trained = [name for name, value in trainer.model.named_parameters() if value.requires_grad]
    assert trained and all(".language_model." in name and "lora_" in name for name in trained)
    assert any(
        value.abs().max() > 0
        for name, value in trainer.model.named_parameters()
        if "lora_B" in name
    )
    after = trainer.model.get_base_model().state_dict()
    for name, value in before.items():
        found = after.get(name, after.get(name.replace("_proj.", "_proj.base_layer.")))
        assert torch.equal(found, value), name


def test_an_adapter_on_the_encoder_is_refused(tmp_path: Path) -> None:
    """The layers of both have the same names, and the encoder's output is kept, not trained."""
    adapter = LoraConfig(target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    with pytest.raises(AdrpoError, match=r"one on Qwen2_5OmniAudioEncoder\.layers\.0\.self_attn"):
        audio_trainer(tmp_path, more={"peft_config": adapter})


def test_an_adapter_that_is_there_goes_on_and_is_its_own_reference(tmp_path: Path) -> None:
    model = get_peft_model(tiny_thinker(), language_lora())
    move(SimpleNamespace(model=model))
    trainer = audio_trainer(tmp_path, model=model, reference_rows="all")
    batch = scored(trainer, [row for row in rows_of(QUESTIONS) for _ in range(4)])
    reference = batch["ref_per_token_logps"] * batch["completion_mask"]
    torch.testing.assert_close(reference, scores_alone(trainer, batch, QUESTIONS), **ROUNDING)
    with model.disable_adapter():
        base = scores_alone(trainer, batch, QUESTIONS)
    assert (reference - base).abs().max() > 0.01


def test_all_weights_and_a_kl_need_a_place_of_the_reference(tmp_path: Path) -> None:
    with pytest.raises(AdrpoError, match="expected an adapter, or a model that was loaded from"):
        audio_trainer(tmp_path, more={"peft_config": None})


def test_all_weights_of_the_language_model_and_a_reference_that_hears(tmp_path: Path) -> None:
    tiny_thinker().save_pretrained(tmp_path / "thinker")
    tiny_processor().save_pretrained(tmp_path / "thinker")
    # As on the Hub: a class that transformers has not, the Thinker being a part of the whole.
    written = json.loads((tmp_path / "thinker" / "config.json").read_text())
    written["architectures"] = ["Qwen2_5OmniModel"]
    (tmp_path / "thinker" / "config.json").write_text(json.dumps(written))
    trainer = audio_trainer(
        tmp_path,
        model=str(tmp_path / "thinker"),
        more={"peft_config": None, "processing_class": None},
        reference_rows="all",
    )
    untouched = tiny_thinker()
    frozen = [n for n, p in trainer.model.named_parameters() if not p.requires_grad]
    assert all(".audio_tower." in name or ".visual." in name for name in frozen) and frozen
    move(trainer)
    batch = scored(trainer, [row for row in rows_of(QUESTIONS) for _ in range(4)])
    torch.testing.assert_close(
        scores(trainer, batch), scores_alone(trainer, batch, QUESTIONS), **ROUNDING
    )
    trainer.model = untouched
    torch.testing.assert_close(
        batch["ref_per_token_logps"] * batch["completion_mask"],
        scores_alone(trainer, batch, QUESTIONS),
        **ROUNDING,
    )


# --- the encoder ---


def test_a_clip_is_encoded_once_for_all_its_completions_and_passes(tmp_path: Path) -> None:
    """Four clips in three of the four prompts, of which each batch has two, in all 4 steps."""
    model, calls = tiny_thinker(), []
    model.model.audio_tower.register_forward_hook(lambda *_: calls.append(1))
    trainer = audio_trainer(
        tmp_path,
        model=model,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        # The policy's old log-probabilities, the reference and two passes of the loss.
        num_iterations=2,
        max_steps=4,
        reference_rows="all",
        shuffle_dataset=False,
        try_arithmetic=False,  # it encodes two prompts' clips
    )
    trainer.train()
    assert sum(map(len, QUESTIONS.values())) == len(calls) == 4
    logged = [row["adrpo/encoder_calls"] for row in trainer.state.log_history[:4:2]]
    assert logged == [2, 2]


def test_evaluation_hears(tmp_path: Path) -> None:
    data = Dataset.from_list(rows_of(QUESTIONS))
    trainer = audio_trainer(tmp_path, more={"eval_dataset": data})
    found = trainer.evaluate()
    assert found["eval_adrpo/encoder_calls"] == 2  # two batches, of two prompts each
    assert np.isfinite(found["eval_loss"])


# --- data sets ---


def test_paths_and_datasets_audio_give_what_arrays_give(tmp_path: Path) -> None:
    """datasets decodes its Audio by torchcodec, which is not here: decoding is turned off."""
    questions = {text: clips[:1] for text, clips in QUESTIONS.items() if clips}
    files = []
    for number, clips in enumerate(questions.values()):
        files.append(str(tmp_path / f"{number}.wav"))
        soundfile.write(files[-1], clips[0]["array"], 16_000, subtype="FLOAT")
    prompts = [asked(text) for text in questions]
    paths = Dataset.from_dict({"prompt": prompts, "audio": files})
    losses = []
    for data in (paths, paths.cast_column("audio", Audio()), Dataset.from_list(rows_of(questions))):
        trainer = AudioADRPOTrainer(
            tiny_thinker(),
            score_letters,
            config(tmp_path, max_steps=1),
            data,
            processing_class=tiny_processor(),
        )
        trainer.train()
        losses.append(trainer.state.log_history[0]["grad_norm"])
    assert losses[0] == losses[1] == losses[2] > 0


# --- saved ---


def test_a_checkpoint_loads_in_peft_and_resumes(tmp_path: Path) -> None:
    options: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = audio_trainer(tmp_path / "whole", **options)
    whole.train()
    halved = audio_trainer(tmp_path / "halved", **options)
    halved.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for one, other in zip(whole.model.parameters(), halved.model.parameters(), strict=True):
        assert torch.equal(one, other)
    folder = tmp_path / "whole" / "checkpoint-4"
    assert json.loads((folder / "adrpo_state.json").read_text())
    loaded = PeftModel.from_pretrained(tiny_thinker(), str(folder)).eval()
    processor = AudioProcessor.from_pretrained(str(folder))
    batch = scored(whole, [row for row in rows_of(QUESTIONS) for _ in range(4)])
    expected = scores(whole, batch)
    whole.model = loaded
    torch.testing.assert_close(scores_alone(whole, batch, QUESTIONS), expected, **ROUNDING)
    assert torch.equal(processor.features(tone(300, 1)), tiny_processor().features(tone(300, 1)))


def test_without_a_kl_it_learns_from_the_clips_too(tmp_path: Path) -> None:
    trainer = audio_trainer(tmp_path, beta=0.0, coefficient="fixed")
    batch = scored(trainer, [row for row in rows_of(QUESTIONS) for _ in range(4)])
    loss, *gradients = loss_and_gradients(trainer, batch)
    assert torch.isfinite(loss) and any(gradient.abs().max() > 0 for gradient in gradients)


def test_a_script_tries_the_arithmetic_with_clips_and_trains_to_the_same_weights(
    tmp_path: Path,
) -> None:
    def trained(tries: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        trainer = audio_trainer(tmp_path, max_steps=1, try_arithmetic=tries)
        torch.manual_seed(3)
        trainer.train()
        return {n: p.detach() for n, p in trainer.model.named_parameters() if p.requires_grad}

    with_it, without = trained(True), trained(False)
    assert all(torch.equal(with_it[name], without[name]) for name in without)
    # What reads the padding is found beside clips, too.
    faulty = audio_trainer(tmp_path, max_steps=1)
    thinker: Any = faulty.accelerator.unwrap_model(faulty.model).get_base_model()

    def jump(_module: Any, _arguments: Any, keywords: dict[str, Any], output: Any) -> Any:
        mask = keywords.get("attention_mask")
        if mask is not None and mask.ndim == 2:
            output.last_hidden_state[mask.sum(1) < mask.shape[1]] *= 2
        return output

    thinker.model.language_model.register_forward_hook(jump, with_kwargs=True)
    with pytest.raises(AdrpoError, match=r"left-padded by .*try_arithmetic=False"):
        faulty.train()


# --- refused ---


def test_a_text_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdrpoError, match=r"expected a Qwen2_5OmniThinker.* received a Linear"):
        audio_trainer(tmp_path, model=torch.nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("columns", "received"), [({"clip": ["a.wav"]}, "prompt, clip"), ({}, "prompt")]
)
def test_a_data_set_without_audio_is_refused(
    tmp_path: Path, columns: dict[str, Any], received: str
) -> None:
    data = Dataset.from_dict({"prompt": [asked("a")], **columns})
    with pytest.raises(AdrpoError, match=f"a column 'audio' .* received {received};"):
        AudioADRPOTrainer(
            tiny_thinker(), score_letters, config(tmp_path), data, processing_class=tiny_processor()
        )


def test_a_stream_without_audio_is_refused_at_its_first_batch(tmp_path: Path) -> None:
    """Its columns are not known before; text alone would be trained on in silence."""
    stream = IterableDataset.from_generator(lambda: iter([{"prompt": asked("a")}] * 8))
    trainer = AudioADRPOTrainer(
        tiny_thinker(), score_letters, config(tmp_path), stream, processing_class=tiny_processor()
    )
    with pytest.raises(AdrpoError, match=r"a column 'audio', .* a row with prompt alone"):
        trainer.train()


def test_a_stream_is_heard_and_unused_columns_may_go(tmp_path: Path) -> None:
    rows = [{**row, "source": "b"} for row in rows_of(QUESTIONS)] * 2
    stream = IterableDataset.from_generator(lambda: iter(rows))
    trainer = AudioADRPOTrainer(
        tiny_thinker(),
        score_letters,
        config(tmp_path, remove_unused_columns=True, shuffle_dataset=False),
        stream,
        processing_class=tiny_processor(),
    )
    trainer.train()
    assert [row["adrpo/encoder_calls"] for row in trainer.state.log_history[:2]] == [2, 2]


@pytest.mark.parametrize(
    ("option", "value"), [("tools", [print]), ("environment_factory", dict), ("rollout_func", dict)]
)
def test_what_would_not_hear_is_refused(tmp_path: Path, option: str, value: Any) -> None:
    with pytest.raises(AdrpoError, match=f"{option}: expected generation by transformers"):
        audio_trainer(tmp_path, more={option: value})


def test_vllm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdrpoError, match="use_vllm: expected generation by transformers"):
        audio_trainer(tmp_path, use_vllm=True)


def test_a_prompt_with_its_clips_must_fit_the_context(tmp_path: Path) -> None:
    """Three clips of 4 s take 300 tokens of 256; the text has one."""
    long = {"a": [tone(300, 4.0), tone(400, 4.0), tone(500, 4.0)]}
    trainer = audio_trainer(tmp_path, long)
    with pytest.raises(AdrpoError, match="fewer tokens than the model's context of 256, received"):
        scored(trainer, rows_of(long) * 4)


@pytest.mark.parametrize(
    ("clip", "message"),
    [("missing.wav", "there is no such file"), (tone(300, 4.5), r"received 4\.5 s; cut or drop")],
)
def test_a_clip_that_cannot_be_heard_is_named_with_its_prompt(
    tmp_path: Path, clip: Any, message: str
) -> None:
    trainer = audio_trainer(tmp_path)
    rows = [{"prompt": asked("a b"), "audio": clip}] * 4
    with pytest.raises(AdrpoError, match=rf"{message}.* \(of the prompt that begins 'a b'\)"):
        scored(trainer, rows)


def test_log_probabilities_without_clips_are_refused(tmp_path: Path) -> None:
    trainer = audio_trainer(tmp_path)
    with pytest.raises(RuntimeError, match="without the clips of their rows"):
        trainer._get_per_token_logps_and_entropies(trainer.model, None, None, 1)


def test_the_thinker_alone_still_encodes(tmp_path: Path) -> None:
    """What is trained is used by transformers' own calls, with features as its processor gives."""
    trainer = audio_trainer(tmp_path)
    assert isinstance(trainer.model.get_base_model(), Qwen2_5OmniThinkerForConditionalGeneration)
    features = tiny_processor().features(tone(300, 0.5))[None]
    mask = torch.ones(1, features.shape[2], dtype=torch.long)
    encoded = trainer.model.get_base_model().get_audio_features(features, mask)
    assert (
        encoded.last_hidden_state.shape[0]
        == scored(trainer, rows_of(QUESTIONS)[:1] * 4)["audio"][0][0].tokens
    )
