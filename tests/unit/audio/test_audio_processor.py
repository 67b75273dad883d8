"""Prompts with room for their clips, and spectrograms, without transformers' processor."""

import json
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2_5OmniProcessor

import adrpo.audio
from adrpo import AdrpoError
from adrpo.audio import AudioProcessor
from adrpo.audio.encoder import FrozenEncoder
from adrpo.audio.processor import with_audio
from support.tiny_thinker import AUDIO, CHAT_TEMPLATE, RATE, asked, tiny_processor, tiny_thinker
from support.tiny_thinker import tone as tone_of

pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter:UserWarning")

LENGTHS = [0.03, 0.1, 0.2573, 1.0, 3.99, 4.0]


def of_transformers(samples: np.ndarray) -> tuple[Any, str]:
    """Features and placeholders by transformers' processor, which can't be made here as a whole."""
    own = tiny_processor()
    part = SimpleNamespace(feature_extractor=own.feature_extractor, audio_token="<|AUDIO|>")
    part.replace_audio_token = lambda inputs, audio_idx: Qwen2_5OmniProcessor.replace_audio_token(
        part,  # type: ignore[arg-type]
        inputs,
        audio_idx,
    )
    options = {"sampling_rate": RATE, "return_attention_mask": True, "return_tensors": "pt"}
    inputs, texts = Qwen2_5OmniProcessor._process_audio(part, [samples], **options)  # type: ignore[arg-type]
    return inputs, texts[0]


@pytest.mark.parametrize("seconds", LENGTHS)
def test_features_and_tokens_are_those_of_transformers_processor(seconds: float) -> None:
    samples = tone_of(700, seconds)["array"]
    samples = samples + 0.1 * np.random.default_rng(0).standard_normal(len(samples))
    clip = {"array": samples.astype(np.float32), "sampling_rate": RATE}
    inputs, placeholders = of_transformers(clip["array"])
    frames = int(inputs["feature_attention_mask"].sum())
    features = tiny_processor().features(clip)
    assert features.shape == (16, frames)
    torch.testing.assert_close(features, inputs["input_features"][0, :, :frames])
    encoded = FrozenEncoder(tiny_thinker())(features)
    assert encoded.tokens == placeholders.count("<|AUDIO|>") > 0


def test_the_encoder_gives_what_the_thinker_gives_itself() -> None:
    thinker = tiny_thinker()
    inputs, _ = of_transformers(tone_of(700, 1.3)["array"])
    expected = thinker.get_audio_features(
        inputs["input_features"], inputs["feature_attention_mask"], return_dict=True
    ).last_hidden_state
    found = FrozenEncoder(thinker)(tiny_processor().features(tone_of(700, 1.3)))
    torch.testing.assert_close(found.embedding, expected)
    # Features of three dimensions are still encoded, of two taken as they are.
    again = thinker.get_audio_features(found.embedding).last_hidden_state
    assert again is found.embedding


def test_a_clip_too_long_or_too_short_is_refused() -> None:
    with pytest.raises(AdrpoError, match=r"at most 4 s, which the model hears, received 4\.1 s"):
        tiny_processor().features(tone_of(700, 4.1))
    with pytest.raises(AdrpoError, match=r"at least 3 frames .* received 2"):
        FrozenEncoder(tiny_thinker())(tiny_processor().features(tone_of(700, 0.02)))


# --- conversations ---


def test_clips_stand_before_the_text_of_the_first_question() -> None:
    prompt = [{"role": "assistant", "content": "a"}, *asked("b"), *asked("c")]
    audio = {"type": "audio"}
    assert with_audio(prompt, 2) == [
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": [audio, audio, {"type": "text", "text": "b"}]},
        {"role": "user", "content": "c"},
    ]
    assert with_audio(prompt, 0) == prompt
    assert prompt[1] == {"role": "user", "content": "b"}
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}, audio]}]
    assert with_audio(parts, 1) == parts
    text = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    assert with_audio(text, 1)[0]["content"] == [audio, {"type": "text", "text": "a"}]


@pytest.mark.parametrize(
    ("prompt", "clips", "message"),
    [
        ("a b", 1, "expected a conversation, .* received a text that begins 'a b'"),
        ([{"role": "assistant", "content": "a"}], 1, "received no message of the user"),
        ([{"role": "user", "content": [{"type": "audio"}]}], 2, "its 2 clips, received 1 parts"),
        ([{"role": "user", "content": [{"type": "audio"}]}], 0, "its 0 clips, received 1 parts"),
    ],
)
def test_a_prompt_without_a_place_for_its_clips_is_refused(
    prompt: Any, clips: int, message: str
) -> None:
    with pytest.raises(AdrpoError, match=message):
        with_audio(prompt, clips)


def test_each_placeholder_takes_the_tokens_of_its_clip() -> None:
    processor = tiny_processor()
    ids = processor.prompt_ids(asked("a"), [2, 3], AUDIO)
    text = "user <|audio_bos|> A A <|audio_eos|> <|audio_bos|> A A A <|audio_eos|> a assistant"
    words = text.replace(" A", " <|AUDIO|>").split()
    assert ids == processor.tokenizer.convert_tokens_to_ids(words)


@pytest.mark.parametrize(
    ("template", "text", "found"),
    [
        (None, "a <|AUDIO|>", 2),
        ("{% for message in messages %}{{ 'user a ' }}{% endfor %}", "a", 0),
    ],
)
def test_a_placeholder_too_many_or_too_few_is_refused(
    template: str | None, text: str, found: int
) -> None:
    """A template that drops the audio is the silent way to a model that does not hear."""
    processor = tiny_processor()
    processor.tokenizer.chat_template = template or processor.tokenizer.chat_template
    with pytest.raises(AdrpoError, match=f"each of its 1 clips, received {found} in the prompt"):
        processor.prompt_ids(asked(text), [3], AUDIO)


# --- where it comes from ---


@pytest.mark.parametrize("template_file", ["chat_template.json", "chat_template.jinja"])
def test_a_models_folder_gives_the_same_prompts(tmp_path: Path, template_file: str) -> None:
    own = tiny_processor()
    own.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    json_text = json.dumps({"chat_template": CHAT_TEMPLATE})
    (tmp_path / template_file).write_text(json_text if ".json" in template_file else CHAT_TEMPLATE)
    loaded = AudioProcessor.from_pretrained(str(tmp_path))
    clip = tone_of(700, 0.5)
    assert torch.equal(loaded.features(clip), own.features(clip))
    assert loaded.prompt_ids(asked("a"), [3], AUDIO) == own.prompt_ids(asked("a"), [3], AUDIO)


def test_transformers_processor_gives_its_parts() -> None:
    own = tiny_processor()
    whole = SimpleNamespace(
        tokenizer=own.tokenizer,
        feature_extractor=own.feature_extractor,
        chat_template=CHAT_TEMPLATE,
    )
    whole.tokenizer.chat_template = None
    taken = AudioProcessor.of(whole)
    assert taken.prompt_ids(asked("a"), [2], AUDIO) == tiny_processor().prompt_ids(
        asked("a"), [2], AUDIO
    )
    assert AudioProcessor.of(own) is own
    with pytest.raises(AdrpoError, match=r"expected an AudioProcessor or .* received a Tok"):
        AudioProcessor.of(own.tokenizer)
    own.tokenizer.chat_template = None
    with pytest.raises(AdrpoError, match="expected a chat template"):
        AudioProcessor(own.tokenizer, own.feature_extractor)


def test_what_is_asked_for_is_what_the_extra_installs() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert list(adrpo.audio.NEEDS) == project["optional-dependencies"]["audio"]


def test_an_older_trl_is_named_with_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"trl": "1.14.2", "transformers": "5.23.0", "soundfile": "0.14.0"}
    monkeypatch.setattr("importlib.metadata.version", lambda name: versions.get(name, "5.2.0"))
    with pytest.raises(AdrpoError, match=r"trl>=1\.16,<1\.17 \(installed: 1\.14\.2\): pip"):
        _ = adrpo.audio.AudioADRPOTrainer
