"""Frozen weights in 8 or 4 bits, and what they need: a package, and for 4 bits a GPU."""

import importlib
from typing import Any

from adrpo.errors import AdrpoError, importing

KEY = "model.quantization"
QUANTIZERS = {"int8": "torchao", "nf4": "bitsandbytes"}
"""Form of quantised weights -> the package that holds and multiplies them."""

GPU_ONLY = ("nf4",)
"""Forms that want a GPU: diffusers loads them there alone, and on some CPUs bitsandbytes draws with
another arithmetic than it trains."""


def nf4_settings(dtype: str) -> dict[str, Any]:
    """The arguments of ``BitsAndBytesConfig``, transformers' and diffusers', for nf4 weights that
    are multiplied in ``dtype``."""
    import torch

    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": getattr(torch, dtype),
    }


def check_quantizer(form: str) -> None:
    """Raise AdrpoError where ``form`` of ``model.quantization`` can't be had on this machine."""
    import torch

    # Before the package: where there is no GPU, installing it would not help.
    if form in GPU_ONLY and not torch.cuda.is_available():
        raise AdrpoError(
            f"{KEY}: expected a GPU for {form}; torch finds none: set {KEY}=null, or train where "
            f"there is one"
        )
    with importing(QUANTIZERS[form], KEY, form, "null"):
        importlib.import_module(QUANTIZERS[form])
