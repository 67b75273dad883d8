"""The numbers that training keeps of a transformer's blocks, by family, in widths of a token."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kept:
    """Numbers that autograd keeps of a token in a block, in widths of the token.

    They are those of a frozen base with LoRA on its attention.

    ``native`` and ``wide`` are in the base's half-precision type and in float32; ``full`` is all
    of it where the base is float32, when a layer's input and its float32 copy are one tensor.
    A frozen linear layer keeps nothing, a LoRA layer its input in float32, a norm without weights
    its output, fused attention q, k, v and its output, an activation its input.
    """

    native: float
    wide: float
    full: float
    adapted: int
    """LoRA layers, each of which keeps rank numbers."""


# 2 norms, 4 of attention, 4 before the activation; to_q, to_k, to_v and to_out are adapted.
JOINT = Kept(native=10, wide=4, full=12, adapted=4)
# RMS norms of q and k keep their input in float32, and their output.
JOINT_QK_NORM = Kept(native=12, wide=6, full=14, adapted=4)
# SD3.5's second attention over the image: a norm, q, k, v, output, norms of q and k; no adapter.
SECOND_ATTENTION = Kept(native=7, wide=2, full=7, adapted=0)
# One norm, and no adapter after the attention, which shares its output layer with the MLP.
SINGLE = Kept(native=11, wide=5, full=12, adapted=3)
# Linear attention in float32, cross attention, and a convolution of 2.5 times the width, gated.
SANA = Kept(native=24.5, wide=10.25, full=35, adapted=6)
# Four norms with weights in float32; three tensors of 8/3 times the width in the gated MLP.
Z_IMAGE = Kept(native=18, wide=10, full=20, adapted=4)


def _flux2_joint(hidden: float) -> Kept:
    """The joint block of FLUX.2: two norms, the input and output of norms of q and k, and three
    tensors of the MLP's ``hidden`` widths, two of which are one output that the gate halves."""
    return Kept(native=6 + 3 * hidden, wide=6, full=9 + 3 * hidden, adapted=4)


def _flux2_single(hidden: float) -> Kept:
    """The single block of FLUX.2, whose one adapted layer makes q, k, v and both halves of the
    MLP's ``hidden`` widths: its output is kept as a whole."""
    return Kept(native=7 + 3 * hidden, wide=3, full=8 + 3 * hidden, adapted=1)


def _wan_image(hidden: float) -> Kept:
    """The block of Wan: norms in float32, two attentions, an MLP of ``hidden`` widths, six adapted
    layers."""
    return Kept(native=6 + hidden, wide=12, full=14 + hidden, adapted=6)


# The prompt in Wan's second attention: k with its norm, v, and the adapters of both.
WAN_TEXT = Kept(native=2, wide=3, full=3, adapted=2)


@dataclass(frozen=True)
class AtWork:
    """Numbers that a block at work needs of a token beside ``Kept``, in widths of the token: in the
    backward pass, and where there is no gradient."""

    backward: float
    forward: float


# The MLP's hidden layer has four widths: its gradient; or its input and output of the activation,
# and as much around them.
AT_WORK = AtWork(backward=5, forward=14)
# Before their last layer single blocks join attention and MLP to five widths.
AT_WORK_SINGLE = AtWork(backward=12, forward=17)
# Wan's norms and sums are in float32.
AT_WORK_WAN = AtWork(backward=10, forward=13)


def find_at_work(family: str, config: Mapping[str, Any]) -> AtWork:
    """The needs of a transformer's largest block, by its family and configuration."""
    if family == "Flux2KleinPipeline":
        # The fused layer's output in 16 bits, and its adapter's in float32, before and after it is
        # scaled; in the backward pass the gradients of output and adapter.
        fused = 3 + 2 * config["mlp_ratio"]
        return AtWork(backward=3 * fused, forward=5 * fused + 5)
    if family == "WanPipeline":
        return AT_WORK_WAN
    return AT_WORK_SINGLE if "num_single_layers" in config else AT_WORK


@dataclass(frozen=True)
class Stack:
    """Equal blocks, one after the other; each is made of parts over so many tokens of a row. The
    first part's are those of the block's input."""

    blocks: int
    parts: tuple[tuple[int, Kept], ...]


def _sana_stacks(config: Mapping[str, Any], image: int, text: int) -> list[Stack]:
    return [Stack(config["num_layers"], ((image, SANA),))]


def _z_image_stacks(config: Mapping[str, Any], image: int, text: int) -> list[Stack]:
    # Captions are padded to a multiple of 32. Refiners see image or text; all count as both.
    block = (image + -(-text // 32) * 32, Z_IMAGE)
    return [Stack(config["n_refiner_layers"] + config["n_layers"], (block,))]


def _flux2_stacks(config: Mapping[str, Any], image: int, text: int) -> list[Stack]:
    tokens, hidden = image + text, config["mlp_ratio"]
    return [
        Stack(config["num_layers"], ((tokens, _flux2_joint(hidden)),)),
        Stack(config["num_single_layers"], ((tokens, _flux2_single(hidden)),)),
    ]


def _wan_stacks(config: Mapping[str, Any], image: int, text: int) -> list[Stack]:
    hidden = config["ffn_dim"] / (config["num_attention_heads"] * config["attention_head_dim"])
    return [Stack(config["num_layers"], ((image, _wan_image(hidden)), (text, WAN_TEXT)))]


def _flux_stacks(config: Mapping[str, Any], image: int, text: int) -> list[Stack]:
    return [
        Stack(config["num_layers"], ((image + text, JOINT_QK_NORM),)),
        Stack(config["num_single_layers"], ((image + text, SINGLE),)),
    ]


def _qwen_image_stacks(config: Mapping[str, Any], image: int, text: int) -> list[Stack]:
    return [Stack(config["num_layers"], ((image + text, JOINT_QK_NORM),))]


def _sd3_stacks(config: Mapping[str, Any], image: int, text: int) -> list[Stack]:
    joint = (image + text, JOINT if config.get("qk_norm") is None else JOINT_QK_NORM)
    dual = len(config.get("dual_attention_layers", ()))
    return [
        Stack(dual, (joint, (image, SECOND_ATTENTION))),
        Stack(config["num_layers"] - dual, (joint,)),
    ]


STACKS: dict[str, Callable[[Mapping[str, Any], int, int], list[Stack]]] = {
    "Flux2KleinPipeline": _flux2_stacks,
    "FluxKontextPipeline": _flux_stacks,
    "FluxPipeline": _flux_stacks,
    "QwenImageEditPipeline": _qwen_image_stacks,
    "QwenImagePipeline": _qwen_image_stacks,
    "SanaPipeline": _sana_stacks,
    "StableDiffusion3Pipeline": _sd3_stacks,
    "WanPipeline": _wan_stacks,
    "ZImagePipeline": _z_image_stacks,
}
"""Name of a pipeline's class -> (configuration of its transformer, tokens of an image, of a prompt)
-> the transformer's blocks in their order. There is no estimate for other classes."""
