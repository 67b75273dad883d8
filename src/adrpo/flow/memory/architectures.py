"""Sizes of a text-to-image model, read from its files or known of published ones; nothing loads.

A config.json gives widths and depths, the header of a safetensors file the numbers of parameters.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from adrpo.embedded.weights import weights_path
from adrpo.errors import reading
from adrpo.runs.model_folder import part_settings

CLIP_L, CLIP_L_PROJECTED, CLIP_G = 123_060_480, 123_650_304, 694_659_840
T5_XXL, UMT5_XXL = 4_762_310_656, 5_680_910_336
QWEN3_4B, QWEN3_8B = 4_022_468_096, 8_190_735_360


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of a pipeline, as a memory estimate needs them.

    ``family`` is the name of its class; ``transformer`` and ``vae`` are their configurations;
    ``parameters`` counts the numbers in the files of each part that holds weights.
    """

    family: str
    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    parameters: Mapping[str, int]

    @property
    def width(self) -> int:
        """Width of a token in the transformer."""
        config = self.transformer
        if "dim" in config:
            return config["dim"]
        return config["num_attention_heads"] * config["attention_head_dim"]

    @property
    def position_table(self) -> int:
        """Numbers of the transformer's files that are no parameters: SD3's table of positions."""
        return self.transformer.get("pos_embed_max_size", 0) ** 2 * self.width

    @property
    def context_width(self) -> int:
        """Width of a token of the prompt's embedding."""
        names = ("joint_attention_dim", "caption_channels", "cap_feat_dim", "text_dim")
        return next(self.transformer[name] for name in names if name in self.transformer)

    @property
    def encoder_parameters(self) -> int:
        """Number of parameters of all text encoders."""
        return sum(n for part, n in self.parameters.items() if part.startswith("text_encoder"))

    @property
    def pixels_per_latent(self) -> int:
        """Side of a point of the autoencoder's latents in pixels."""
        names = ("encoder_block_out_channels", "block_out_channels", "dim_mult")
        stages = next(self.vae[name] for name in names if name in self.vae)
        return 2 ** (len(stages) - 1)

    @property
    def pixels_per_token(self) -> int:
        """Side of an image token in pixels."""
        # The transformers of the other families take 2x2 patches, whatever their config calls so.
        patch = self.transformer["patch_size"] if self.family == "SanaPipeline" else 2
        return self.pixels_per_latent * patch

    @property
    def latent_channels(self) -> int:
        """Numbers of a point of the autoencoder's latents."""
        return self.vae["z_dim"] if "z_dim" in self.vae else self.vae["latent_channels"]

    @property
    def default_side(self) -> int:
        """Side of the images in pixels where none is named."""
        if self.family in ("SanaPipeline", "StableDiffusion3Pipeline"):
            patch = self.transformer["patch_size"]
            return self.transformer["sample_size"] * self.pixels_per_token // patch
        return 480 if self.family == "WanPipeline" else 128 * self.pixels_per_latent

    @property
    def decoder_width(self) -> int:
        """Channels of the autoencoder's last stage but one, at the image's full size."""
        if "dim_mult" in self.vae:
            return self.vae["base_dim"] * self.vae["dim_mult"][1]
        stages = self.vae.get("decoder_block_out_channels") or self.vae["block_out_channels"]
        return stages[min(1, len(stages) - 1)]

    @property
    def decoder_maps(self) -> int:
        """Maps of ``decoder_width`` channels at the image's full size that are there at once."""
        # One of videos enlarges in float32, and pads a frame by two before each convolution.
        return 9 if "dim_mult" in self.vae else 3

    def attention_layers(self) -> dict[str, float]:
        """Linear layers of all attention by their names, each with its input and output together in
        widths of a token: 2 for width -> width."""
        config, both = self.transformer, ("to_q", "to_k", "to_v", "to_out.0")
        joint = (*both, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
        layers = range(config["num_layers"] if "num_layers" in config else config["n_layers"])
        if self.family in ("SanaPipeline", "WanPipeline"):
            names = [f"{i}.attn{k}.{name}" for i in layers for k in (1, 2) for name in both]
        elif self.family == "ZImagePipeline":
            refiners = 2 * config["n_refiner_layers"]
            names = [f"{i}.attention.{n}" for i in range(len(layers) + refiners) for n in both]
        else:
            names = [f"{i}.attn.{name}" for i in layers for name in joint]
        if self.family == "StableDiffusion3Pipeline":
            names.remove(f"{layers[-1]}.attn.to_add_out")  # nothing reads the text after it
            dual = config.get("dual_attention_layers", ())
            names += [f"{i}.attn2.{name}" for i in dual for name in both]
        singles = range(config.get("num_single_layers", 0))
        if self.family in ("FluxKontextPipeline", "FluxPipeline"):
            names += [f"single.{i}.attn.{name}" for i in singles for name in both[:3]]
        found = dict.fromkeys(names, 2.0)
        if self.family == "Flux2KleinPipeline":
            # q, k, v, and the two halves that the gated MLP multiplies.
            fused = 1 + 3 + 2 * config["mlp_ratio"]
            found |= {f"single.{i}.attn.to_qkv_mlp_proj": fused for i in singles}
        return found


def _sd3(layers: int, heads: int, parameters: int, **more: Any) -> Architecture:
    return Architecture(
        family="StableDiffusion3Pipeline",
        transformer={
            "num_layers": layers,
            "num_attention_heads": heads,
            "attention_head_dim": 64,
            "caption_projection_dim": 64 * heads,
            "joint_attention_dim": 4096,
            "pooled_projection_dim": 2048,
            "in_channels": 16,
            "patch_size": 2,
            "sample_size": 128,
            **more,
        },
        vae=_KL,
        parameters={
            "transformer": parameters,
            "vae": 83_819_683,
            "text_encoder": CLIP_L_PROJECTED,
            "text_encoder_2": CLIP_G,
            "text_encoder_3": T5_XXL,
        },
    )


def _sana(layers: int, parameters: int) -> Architecture:
    return Architecture(
        family="SanaPipeline",
        transformer={
            "num_layers": layers,
            "num_attention_heads": 70,
            "attention_head_dim": 32,
            "num_cross_attention_heads": 20,
            "cross_attention_head_dim": 112,
            "cross_attention_dim": 2240,
            "caption_channels": 2304,
            "qk_norm": "rms_norm_across_heads",
            "patch_size": 1,
            "sample_size": 32,
        },
        vae={
            "encoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
            "decoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
            "latent_channels": 32,
        },
        parameters={"transformer": parameters, "vae": 312_250_275, "text_encoder": 2_614_341_888},
    )


def _flux2_klein(
    layers: int, singles: int, heads: int, context: int, parameters: int, encoder: int
) -> Architecture:
    return Architecture(
        family="Flux2KleinPipeline",
        transformer={
            "num_layers": layers,
            "num_single_layers": singles,
            "num_attention_heads": heads,
            "attention_head_dim": 128,
            "joint_attention_dim": context,
            "mlp_ratio": 3.0,
            "guidance_embeds": False,
        },
        vae={**_KL, "latent_channels": 32},
        parameters={"transformer": parameters, "vae": 84_046_372, "text_encoder": encoder},
    )


def _wan(layers: int, heads: int, hidden: int, parameters: int) -> Architecture:
    return Architecture(
        family="WanPipeline",
        transformer={
            "num_layers": layers,
            "num_attention_heads": heads,
            "attention_head_dim": 128,
            "ffn_dim": hidden,
            "text_dim": 4096,
        },
        vae={"base_dim": 96, "dim_mult": (1, 2, 4, 4), "z_dim": 16},
        parameters={
            "transformer": parameters,
            "vae": 126_892_531,
            "text_encoder": UMT5_XXL,
        },
    )


_KL = {"block_out_channels": (128, 256, 512, 512), "latent_channels": 16, "sample_size": 1024}
_FLUX = Architecture(
    family="FluxPipeline",
    transformer={
        "num_layers": 19,
        "num_single_layers": 38,
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "joint_attention_dim": 4096,
        "guidance_embeds": True,
    },
    vae=_KL,
    parameters={
        "transformer": 11_901_408_320,
        "vae": 83_819_683,
        "text_encoder": CLIP_L,
        "text_encoder_2": T5_XXL,
    },
)
_FLUX_KONTEXT = replace(_FLUX, family="FluxKontextPipeline")
_QWEN = Architecture(
    family="QwenImagePipeline",
    transformer={
        "num_layers": 60,
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "joint_attention_dim": 3584,
    },
    vae={"base_dim": 96, "dim_mult": (1, 2, 4, 4), "z_dim": 16},
    parameters={
        "transformer": 20_430_401_088,
        "vae": 126_892_531,
        "text_encoder": 8_292_166_656,
    },
)
_QWEN_EDIT = replace(_QWEN, family="QwenImageEditPipeline")
_Z_IMAGE = Architecture(
    family="ZImagePipeline",
    transformer={"n_layers": 30, "n_refiner_layers": 2, "dim": 3840, "cap_feat_dim": 2560},
    vae=_KL,
    parameters={"transformer": 6_154_908_736, "vae": 83_819_683, "text_encoder": QWEN3_4B},
)
# FLUX.2 klein's widths and depths: the 4B model's are those of a public copy of its
# transformer/config.json; the 9B model's are Klein9BParams of github.com/black-forest-labs/flux2
# as copies of its model.py quote them, and were not read in a released file.
_KLEIN_4B = _flux2_klein(5, 20, 24, 3 * 2560, 3_875_544_576, QWEN3_4B)
_KLEIN_9B = _flux2_klein(8, 24, 32, 3 * 4096, 9_078_581_248, QWEN3_8B)

PUBLISHED: dict[str, Architecture] = {
    "stabilityai/stable-diffusion-3-medium-diffusers": _sd3(
        24, 24, 2_084_951_104, pos_embed_max_size=192
    ),
    "stabilityai/stable-diffusion-3.5-medium": _sd3(
        24,
        24,
        2_469_663_936,
        pos_embed_max_size=384,
        qk_norm="rms_norm",
        dual_attention_layers=tuple(range(13)),
    ),
    "stabilityai/stable-diffusion-3.5-large": _sd3(
        38, 38, 8_146_280_768, pos_embed_max_size=192, qk_norm="rms_norm"
    ),
    "black-forest-labs/FLUX.1-dev": _FLUX,
    "black-forest-labs/FLUX.1-Kontext-dev": _FLUX_KONTEXT,
    "black-forest-labs/FLUX.2-klein-4B": _KLEIN_4B,
    "black-forest-labs/FLUX.2-klein-9B": _KLEIN_9B,
    "black-forest-labs/FLUX.2-klein-base-4B": _KLEIN_4B,
    "black-forest-labs/FLUX.2-klein-base-9B": _KLEIN_9B,
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": _sana(20, 1_604_641_952),
    "Efficient-Large-Model/SANA1.5_4.8B_1024px_diffusers": _sana(60, 4_721_825_952),
    "Qwen/Qwen-Image": _QWEN,
    "Qwen/Qwen-Image-Edit": _QWEN_EDIT,
    "Tongyi-MAI/Z-Image": _Z_IMAGE,
    "Tongyi-MAI/Z-Image-Turbo": _Z_IMAGE,
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": _wan(30, 12, 8960, 1_418_996_800),
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": _wan(40, 40, 13824, 14_288_491_584),
}
"""Hub id -> sizes, for estimates before a download: widths and depths as in the config.json of each
of its parts, but where a line above says otherwise; the numbers of parameters are those that
diffusers' and transformers' classes keep in their files at these, SD3's tables of positions
included."""


def published_bytes(model: str) -> float | None:
    """Bytes of the published files of a pipeline, about two for each number; None where the table
    lacks it."""
    found = PUBLISHED.get(model)
    return None if found is None else 2.0 * sum(found.parameters.values())


def find_architecture(model: str) -> Architecture | None:
    """The sizes of 'embedded', of a folder, of a model in the Hub's cache, or of a published one;
    None where neither files nor table tell them."""
    if model == "embedded":
        return read_architecture(weights_path("pipeline"))
    folder = Path(model) if Path(model).is_dir() else _snapshot(model)
    if folder is None:
        return PUBLISHED.get(model)
    with reading(f"model.pretrained: expected a pipeline in {folder}", "download it again"):
        return read_architecture(folder) or PUBLISHED.get(model)


def read_architecture(folder: Path) -> Architecture | None:
    """The sizes of a pipeline's folder; None where transformer or autoencoder is not there."""
    files = [folder / "model_index.json"]
    files += [folder / part / "config.json" for part in ("transformer", "vae")]
    if not all(file.is_file() for file in files):
        return None
    index, transformer, vae = map(part_settings, files)
    counts = {path.name: count_parameters(path) for path in folder.iterdir() if path.is_dir()}
    if not (counts.get("transformer") and counts.get("vae")):
        return None
    return Architecture(
        family=index["_class_name"], transformer=transformer, vae=vae, parameters=counts
    )


def count_parameters(folder: Path) -> int:
    """Numbers in the safetensors files of a model's folder, from their headers alone.

    Where a folder has the same weights in several types (``*.fp16.safetensors``), those without
    such an infix count, as they are what diffusers loads.
    """
    files = list(folder.glob("*.safetensors"))
    plain = [file for file in files if ".fp16" not in file.name]
    return sum(map(_count_numbers, plain or files))


def _count_numbers(file: Path) -> int:
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _snapshot(model: str) -> Path | None:
    """The folder of a model in the Hub's cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        index = try_to_load_from_cache(model, "model_index.json")
    except HFValidationError:
        return None
    return Path(index).parent if isinstance(index, str) else None
