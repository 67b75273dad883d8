"""The frozen transformer in 8 bits: what diffusers is asked for."""

from collections.abc import Mapping
from typing import Any

from adrpo.config import FlowModelSection
from adrpo.errors import AdrpoError

BLOCK_WEIGHTS = 36
"""Weights of a transformer's largest block, in squares of its width: attention 4, MLP 8 and
modulation 6, of image and text."""


def quantization_config(model: FlowModelSection, parts: Mapping[str, Any]) -> Any:
    """The argument ``quantization_config`` of ``DiffusionPipeline.from_pretrained`` for a pipeline
    of ``parts``; None keeps its weights as they are.

    int8 is torchao's weight-only form: each linear layer of the transformer holds its weight in 8
    bits with a scale for each output, and multiplies by what they stand for in 16 bits.

    Raises AdrpoError without torchao, and for a pipeline without a transformer.
    """
    if model.quantization is None:
        return None
    if "transformer" not in parts:
        raise AdrpoError(
            f"model.quantization: expected null for {parts.get('_class_name')}, which has no "
            f"transformer; received {model.quantization}"
        )
    try:
        from torchao.quantization import (  # pyright: ignore[reportMissingImports]
            Int8WeightOnlyConfig,
        )
    except ImportError as error:
        raise AdrpoError(
            f"model.quantization: expected an installed torchao for int8; importing it failed "
            f"({error}): pip install torchao, or set model.quantization=null"
        ) from error
    from diffusers import PipelineQuantizationConfig, TorchAoConfig

    return PipelineQuantizationConfig(
        quant_mapping={"transformer": TorchAoConfig(Int8WeightOnlyConfig())}
    )
