"""The frozen transformer in 8 or 4 bits: what diffusers is asked for."""

from collections.abc import Mapping
from typing import Any

from adrpo.config import FlowModelSection
from adrpo.errors import AdrpoError
from adrpo.runs.quantization import KEY, check_quantizer, nf4_settings

BLOCK_WEIGHTS = 36
"""Weights of a transformer's largest block, in squares of its width: attention 4, MLP 8 and
modulation 6, of image and text."""


def quantization_config(model: FlowModelSection, parts: Mapping[str, Any]) -> Any:
    """The argument ``quantization_config`` of ``DiffusionPipeline.from_pretrained`` for a pipeline
    of ``parts``; None keeps its weights as they are.

    int8 is torchao's weight-only form: each linear layer of the transformer holds its weight in 8
    bits with a scale for each output, and multiplies by what they stand for in 16 bits. nf4 is
    bitsandbytes' (Dettmers et al., arXiv 2305.14314): 4 bits, of the quantiles of a Gaussian, with
    a scale for every 64 weights.

    Raises AdrpoError where what quantises is missing, and for a pipeline without a transformer.
    """
    if model.quantization is None:
        return None
    if "transformer" not in parts:
        raise AdrpoError(
            f"{KEY}: expected null for {parts.get('_class_name')}, which has no "
            f"transformer; received {model.quantization}"
        )
    check_quantizer(model.quantization)
    from diffusers import PipelineQuantizationConfig

    form = _int8() if model.quantization == "int8" else _nf4(model.dtype)
    return PipelineQuantizationConfig(quant_mapping={"transformer": form})


def _int8() -> Any:
    from diffusers import TorchAoConfig
    from torchao.quantization import (  # pyright: ignore[reportMissingImports]
        Int8WeightOnlyConfig,
    )

    return TorchAoConfig(Int8WeightOnlyConfig())


def _nf4(dtype: str) -> Any:
    from diffusers import BitsAndBytesConfig

    return BitsAndBytesConfig(**nf4_settings(dtype))
