"""Malformed folders of pipelines of diffusers."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from tools.faults.inputs.cases import Case, Spoil, both, edited, write
from tools.faults.inputs.weights import ABSURD, NAMES, TAKEN, opened, weight_files, weights

INDEX = "model/model_index.json"
CONFIGS = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}
"""Part of a pipeline -> its configuration, where that is not config.json."""

SPOILT: dict[str, Spoil] = {
    "no folder": lambda: shutil.rmtree("model"),
    "an empty folder": both(lambda: shutil.rmtree("model"), lambda: Path("model").mkdir()),
    "a file": both(lambda: shutil.rmtree("model"), write("model", "hello")),
    "no index": lambda: Path(INDEX).unlink(),
    "an empty index": write(INDEX, ""),
    "a broken index": write(INDEX, "{"),
    "an index that is a list": write(INDEX, "[]"),
    "an index that is a number": write(INDEX, "7"),
    "an index without anything": write(INDEX, "{}"),
    "a binary index": write(INDEX, bytes(range(256))),
    "a deep index": write(INDEX, "[" * 3000 + "]" * 3000),
    "another class": edited(INDEX, _class_name="StableDiffusionPipeline"),
    "a class that is not there": edited(INDEX, _class_name="NoSuchPipeline"),
    "a class that is a number": edited(INDEX, _class_name=7),
    "the class of another family": edited(INDEX, _class_name="FluxPipeline"),
    "a transformer of no class": edited(INDEX, transformer=["diffusers", "NoSuch"]),
    "a transformer of a number": edited(INDEX, transformer=7),
    "a transformer of null": edited(INDEX, transformer=[None, None]),
    "a transformer of nothing": edited(INDEX, transformer=["diffusers"]),
    "no transformer": edited(INDEX, transformer=None),
    "a transformer of another library": edited(INDEX, transformer=["no_such_library", "X"]),
    "a transformer of another class": edited(
        INDEX, transformer=["diffusers", "FluxTransformer2DModel"]
    ),
    "a transformer of os": edited(INDEX, transformer=["os", "system"]),
    "a scheduler of no class": edited(INDEX, scheduler=["diffusers", "NoSuch"]),
    "another scheduler": edited(INDEX, scheduler=["diffusers", "DDIMScheduler"]),
    "an encoder of no class": edited(INDEX, text_encoder=["transformers", "NoSuch"]),
    "an encoder of another class": edited(
        INDEX, text_encoder=["transformers", "T5EncoderModel"]
    ),
    "a tokenizer of another class": edited(INDEX, tokenizer=["transformers", "T5Tokenizer"]),
    "an autoencoder of another class": edited(INDEX, vae=["diffusers", "AutoencoderDC"]),
    "a vocabulary smaller than the tokenizer": both(
        edited("model/text_encoder/config.json", vocab_size=5),
        weights("model/text_encoder/model.safetensors", lambda tensors: {
            name: tensor[:5].clone() if "token_embedding" in name else tensor
            for name, tensor in tensors.items()
        }),
    ),
    "positions fewer than the tokenizer's": edited(
        "model/text_encoder/config.json", max_position_embeddings=2
    ),
}  # fmt: skip

VALID = {
    "positions fewer than the tokenizer's": "",
    "tokenizer, an empty config": "its defaults",
    "tokenizer without a config": "its defaults",
    "scheduler, an empty config": "its defaults",
    "scheduler without a config": "",
    "transformer, whole numbers as weights": "read as numbers of the recipe's type",
    "vae, whole numbers as weights": "read as numbers of the recipe's type",
    "text_encoder, whole numbers as weights": "read as numbers of the recipe's type",
}
"""Spoilt models that are no mistake -> the reason."""


def pipeline_cases(random: random.Random) -> Iterator[Case]:
    """Folders of pipelines, spoilt; ``random`` draws absurd sizes and parts."""
    spoilt = dict(SPOILT)
    for part in ("transformer", "vae", "text_encoder", "scheduler", "tokenizer"):
        folder = f"model/{part}"
        spoilt[f"no {part}"] = lambda folder=folder: shutil.rmtree(folder)
        name = CONFIGS.get(part, "config.json")
        spoilt[f"{part} without a config"] = lambda file=f"{folder}/{name}": Path(file).unlink()
        spoilt[f"{part}, a broken config"] = write(f"{folder}/{name}", "{")
        spoilt[f"{part}, a config that is a list"] = write(f"{folder}/{name}", "[]")
        spoilt[f"{part}, an empty config"] = write(f"{folder}/{name}", "{}")
        if part in ("transformer", "vae", "text_encoder"):
            file = "model" if part == "text_encoder" else "diffusion_pytorch_model"
            for what, spoil in weight_files(f"{folder}/{file}.safetensors").items():
                if part == "transformer" or random.random() < 0.4:
                    spoilt[f"{part}, {what}"] = spoil
    for part, keys in {
        "transformer": ("num_layers", "attention_head_dim", "num_attention_heads", "patch_size",
                        "in_channels", "joint_attention_dim", "pos_embed_max_size"),
        "vae": ("latent_channels", "block_out_channels", "scaling_factor", "norm_num_groups"),
        "text_encoder": ("hidden_size", "num_attention_heads", "num_hidden_layers"),
        "scheduler": ("shift", "num_train_timesteps"),
    }.items():  # fmt: skip
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        for key in keys:
            value = random.choice(ABSURD)
            spoilt[f"{part} {key} = {value!r}"] = edited(f"model/{part}/{name}", **{key: value})
    for what, spoil in spoilt.items():
        reason = TAKEN if "=" in what else VALID.get(what, "")
        yield from opened("flow", what, NAMES, spoil, reason, asked=random.random() < 0.15)
