"""Further values of the adapter's parameters, held as the peers hold them."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from adrpo.flow.models import lora


class SecondAdapter:
    """A further adapter of the transformer under a name of its own, switched on by PEFT's
    ``set_adapter``; it begins as the trained one. DiffusionNFT's 'old' and AWM's 'ema'."""

    def __init__(self, transformer: Any, name: str) -> None:
        self.transformer = transformer
        self.name = name
        with warnings.catch_warnings():
            # There are two adapters, and that is meant.
            warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")
            settings = copy.deepcopy(transformer.peft_config[lora.ADAPTER])
            transformer.add_adapter(settings, adapter_name=name)
        transformer.set_adapter(lora.ADAPTER)
        self.trained = lora.parameters(transformer, lora.ADAPTER)
        self.values = lora.parameters(transformer, name)
        self.follow(0.0)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside, the transformer has this adapter in the trained one's place."""
        self.transformer.set_adapter(self.name)
        try:
            yield
        finally:
            self.transformer.set_adapter(lora.ADAPTER)

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """theta_second <- decay theta_second + (1 - decay) theta."""
        for value, parameter in zip(self.values, self.trained, strict=True):
            value.data.lerp_(parameter.detach(), 1 - decay)


@contextmanager
def adapters_off(transformer: Any) -> Iterator[None]:
    """Inside, the transformer is the base: the peers' reference."""
    transformer.disable_adapters()
    try:
        yield
    finally:
        transformer.enable_adapters()
