"""Malformed folders of models of transformers: those that read, and those that hear."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.faults.inputs.cases import Case, Spoil, both, edited, write
from tools.faults.inputs.weights import ABSURD, NAMES, TAKEN, cut, opened, weight_files, weights

CONFIG = "model/config.json"
PREPROCESSOR = "model/preprocessor_config.json"
SIZES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size",
    "max_position_embeddings", "num_key_value_heads",
)  # fmt: skip


def _without_words() -> None:
    for path in Path("model").glob("tokenizer*"):
        path.unlink()


SPOILT: dict[str, Spoil] = {
    "no folder": lambda: shutil.rmtree("model"),
    "an empty folder": both(lambda: shutil.rmtree("model"), lambda: Path("model").mkdir()),
    "a file": both(lambda: shutil.rmtree("model"), write("model", "hello")),
    **weight_files("model/model.safetensors"),
    "no config": lambda: Path(CONFIG).unlink(),
    "an empty config": write(CONFIG, ""),
    "a broken config": write(CONFIG, '{"model_type": '),
    "a config that is a list": write(CONFIG, "[]"),
    "a config that is a number": write(CONFIG, "7"),
    "a config without anything": write(CONFIG, "{}"),
    "a binary config": write(CONFIG, bytes(range(256))),
    "a deep config": write(CONFIG, "[" * 3000 + "]" * 3000),
    "another type": edited(CONFIG, model_type="no_such"),
    "a type of null": edited(CONFIG, model_type=7),
    "another class": edited(CONFIG, model_type="bert", architectures=["BertModel"]),
    "a class of pictures": edited(CONFIG, model_type="vit", architectures=["ViTModel"]),
    "a class that translates": edited(
        CONFIG, model_type="t5", architectures=["T5ForConditionalGeneration"]
    ),
    "code of its own": edited(
        CONFIG, auto_map={"AutoConfig": "x.Y", "AutoModelForCausalLM": "x.Z"}, model_type="own"
    ),
    "no type of numbers": edited(CONFIG, dtype="float7", torch_dtype="float7"),
    "quantised in no way": edited(CONFIG, quantization_config={"quant_method": "no_such"}),
    "quantised by null": edited(CONFIG, quantization_config=7),
    "no tokenizer": _without_words,
    "an empty tokenizer": write("model/tokenizer.json", ""),
    "a broken tokenizer": write("model/tokenizer.json", '{"version": "1.0"'),
    "a tokenizer of nothing": write("model/tokenizer.json", "{}"),
    "a tokenizer cut": cut("model/tokenizer.json", 0.5),
    "a tokenizer of no model": edited("model/tokenizer.json", model=None),
    "a tokenizer of another model": edited("model/tokenizer.json", model={"type": "No"}),
    "a broken tokenizer_config": write("model/tokenizer_config.json", "{"),
    "a tokenizer_config that is a list": write("model/tokenizer_config.json", "[]"),
    "a tokenizer class that is none": edited(
        "model/tokenizer_config.json", tokenizer_class="NoSuch"
    ),
    "a pad token that is none": edited("model/tokenizer_config.json", pad_token=7),
    "a broken template": write("model/chat_template.jinja", "{% for %}"),
    "a template that raises": write("model/chat_template.jinja", "{{ raise_exception('no') }}"),
    "a template without an end": write("model/chat_template.jinja", "{% for m in messages %}"),
    "a template of nothing": write("model/chat_template.jinja", "{{ 1 / 0 }}"),
    "a broken generation_config": write("model/generation_config.json", "{"),
    "a generation_config of a list": write("model/generation_config.json", "[]"),
    "generation of text": edited("model/generation_config.json", eos_token_id="x"),
    "an index of nothing": both(
        lambda: Path("model/model.safetensors").unlink(),
        write("model/model.safetensors.index.json", "{}"),
    ),
    "an index of missing files": both(
        lambda: Path("model/model.safetensors").unlink(),
        write(
            "model/model.safetensors.index.json",
            '{"metadata": {}, "weight_map": {"a": "no.safetensors"}}',
        ),
    ),
    "weights as a pickle": both(
        lambda: Path("model/model.safetensors").unlink(),
        write("model/pytorch_model.bin", b"\x80\x04cos\nsystem\n(Vtouch hacked\ntR."),
    ),
}  # fmt: skip

SPOILT_SOUND: dict[str, Spoil] = {
    "no preprocessor": lambda: Path(PREPROCESSOR).unlink(),
    "a broken preprocessor": write(PREPROCESSOR, "{"),
    "a preprocessor that is a list": write(PREPROCESSOR, "[]"),
    "a preprocessor of pictures": edited(
        PREPROCESSOR, feature_extractor_type="ViTFeatureExtractor"
    ),
    "a preprocessor of no type": edited(PREPROCESSOR, feature_extractor_type=None),
    "a rate of 0": edited(PREPROCESSOR, sampling_rate=0),
    "a rate of text": edited(PREPROCESSOR, sampling_rate="fast"),
    "80 bins for 16": edited(PREPROCESSOR, feature_size=80),
    "no bins": edited(PREPROCESSOR, feature_size=0),
    "a chunk of -1": edited(PREPROCESSOR, chunk_length=-1),
    "audio tokens beyond": edited(CONFIG, audio_token_id=10**6, audio_token_index=10**6),
    "no audio config": edited(CONFIG, audio_config=None),
    "audio config of a list": edited(CONFIG, audio_config=[]),
    "text config of a number": edited(CONFIG, text_config=7),
    "another head count": edited(CONFIG, audio_config__encoder_attention_heads=3),
}  # fmt: skip

VALID = {
    "a generation_config of a list": "", "weights as a pickle": "",
    "a broken template": "nothing applies it to texts",
    "a template that raises": "nothing applies it to texts",
    "a template without an end": "nothing applies it to texts",
    "a template of nothing": "nothing applies it to texts",
    "no type of numbers": "the recipe names the type",
    "whole numbers as weights": "they are read as numbers of the recipe's type",
    "generation of text": "the recipe's sampling is used",
    "quantised in no way": "transformers leaves out a method that it does not know",
    "a tokenizer class that is none": "tokenizer.json says all",
    "a broken generation_config": "the recipe's sampling is used",
}  # fmt: skip
"""Spoilt models that are no mistake -> the reason."""


def _fewer_words(tensors: Any) -> Any:
    return {
        name: tensor[:5].clone() if "embed_tokens" in name or "lm_head" in name else tensor
        for name, tensor in tensors.items()
    }


def language_cases(random: random.Random, domain: str) -> Iterator[Case]:
    """Folders of models of ``domain``, spoilt; ``random`` draws absurd sizes."""
    text = "text_config__" if domain == "audio" else ""
    fewer = edited(CONFIG, **{f"{text}vocab_size": 5})
    spoilt = SPOILT | (SPOILT_SOUND if domain == "audio" else {})
    spoilt |= {
        "a vocabulary smaller than the tokenizer": fewer,
        "a vocabulary smaller, weights too": both(
            fewer, weights("model/model.safetensors", _fewer_words)
        ),
    }
    for key in SIZES:
        for value in random.sample(ABSURD, 2):
            spoilt[f"{key} = {value!r}"] = edited(CONFIG, **{text + key: value})
    for what, spoil in spoilt.items():
        reason = TAKEN if "=" in what else VALID.get(what, "")
        yield from opened(domain, what, NAMES, spoil, reason, asked=random.random() < 0.15)
