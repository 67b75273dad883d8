"""Sizes of a language model, read from its configuration; no weights are loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adrpo.config.llm import CompletionModelSection
from adrpo.llm.memory.published import PUBLISHED
from adrpo.llm.pretrained import model_source, tokenizer_options


@dataclass(frozen=True)
class Linear:
    """A linear layer: its name in the model, and its widths."""

    name: str
    inputs: int
    outputs: int

    @property
    def last_name(self) -> str:
        """The last part of the name, as "q_proj"."""
        return self.name.rpartition(".")[2]

    @property
    def layer(self) -> int | None:
        """The index of its layer, the first number in its name; None for the head."""
        return next((int(part) for part in self.name.split(".") if part.isdecimal()), None)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A decoder as a memory estimate needs it.

    ``width`` is that of a token between layers, ``queries`` and ``keys`` those of all heads of a
    layer together, ``hidden`` that inside its MLP. ``normed_heads``: whether queries and keys are
    normalised (Qwen3). ``parameters`` counts weights that two layers share once, ``linears`` are
    all linear layers, the head included. ``frozen`` counts the weights of parts beside the decoder
    that are never trained, as an encoder of sound; neither of the two has them. ``frozen_linears``
    counts the weights of linear layers among them.
    """

    layers: int
    width: int
    queries: int
    keys: int
    hidden: int
    vocabulary: int
    context: int
    normed_heads: bool
    parameters: int
    linears: tuple[Linear, ...]
    frozen: int = 0
    frozen_linears: int = 0

    @property
    def layer_parameters(self) -> int:
        """The number of weights of all linear layers but the head."""
        layers = [linear for linear in self.linears if linear.layer is not None]
        return sum(linear.inputs * linear.outputs for linear in layers)

    def adapted(self, targets: tuple[str, ...]) -> list[Linear]:
        """The linear layers that an adapter with these ``target_modules`` has, as PEFT finds
        them: by the whole name or its end."""
        endings = tuple(f".{target}" for target in targets)
        return [
            linear
            for linear in self.linears
            if linear.name in targets or linear.name.endswith(endings)
        ]


def find_architecture(model: CompletionModelSection) -> Architecture | None:
    """The sizes of the model that a configuration names; None where its config.json is not here,
    and no table has them.

    Raises AdrpoError where :func:`~adrpo.llm.pretrained.model_source` does.
    """
    return read_architecture(model_source(model), **tokenizer_options(model))


def read_architecture(source: str, *, scores: bool = False, **options: Any) -> Architecture | None:
    """The sizes of a folder, of a model in the Hub's cache, or of a published one; None where
    neither files nor table tell them, or transformers knows no such architecture.

    Args:
        source: what ``from_pretrained`` takes.
        scores: whether it has a number as its output, as reward models have, and no vocabulary.
        options: of ``AutoConfig.from_pretrained``.
    """
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
    )

    form = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    try:
        config: Any = AutoConfig.from_pretrained(source, local_files_only=True, **options)
    except Exception:  # a library's: loading the model tells of it
        if source not in PUBLISHED:
            return None
        config = AutoConfig.for_model(**PUBLISHED[source])
    try:
        # Modules of the meta device have shapes and no memory.
        with torch.device("meta"):
            model: Any = form.from_config(config)
    except Exception:  # a library's: loading the model tells of it
        return None
    return architecture_of(model)


def architecture_of(model: Any, frozen: Sequence[Any] = ()) -> Architecture:
    """The sizes of a model of transformers, of which the parts ``frozen`` are no decoder and are
    never trained."""
    from torch import nn

    text = model.config.get_text_config()
    heads = text.num_attention_heads
    head_width = getattr(text, "head_dim", None) or text.hidden_size // heads
    apart = {module for part in frozen for module in part.modules()}
    beside = sum(parameter.numel() for part in frozen for parameter in part.parameters())
    named = {name: module for name, module in model.named_modules() if module not in apart}
    linears = tuple(
        Linear(name, module.in_features, module.out_features)
        for name, module in named.items()
        if isinstance(module, nn.Linear)
    )
    return Architecture(
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        queries=heads * head_width,
        keys=(getattr(text, "num_key_value_heads", None) or heads) * head_width,
        hidden=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        vocabulary=text.vocab_size,
        context=getattr(text, "max_position_embeddings", None) or 0,
        normed_heads=any(name.endswith(".q_norm") for name in named),
        parameters=sum(parameter.numel() for parameter in model.parameters()) - beside,
        linears=linears,
        frozen=beside,
        frozen_linears=sum(m.weight.numel() for m in apart if isinstance(m, nn.Linear)),
    )
