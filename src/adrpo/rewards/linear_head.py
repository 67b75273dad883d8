"""The scoring head that the aesthetic predictor and ImageReward share."""

from collections.abc import Mapping

import torch
from torch import Tensor

from adrpo.errors import AdrpoError
from adrpo.rewards.conversion import load_exactly

LAYERS = ("0", "2", "4", "6", "7")
"""Places of the linear layers in the published stacks; the others were dropout."""


def linear_head(tensors: Mapping[str, Tensor], *, prefix: str, source: str) -> torch.nn.Sequential:
    """The published stack of five linear layers, [n, d] -> [n, 1], float32.

        head(x) = W_5 (W_4 (W_3 (W_2 (W_1 x + b_1) + b_2) + b_3) + b_4) + b_5

    There is no activation between the layers, so the head is affine in x. Published widths:
    768, 1024, 128, 64, 16, 1; here they come from the tensors.

    Args:
        tensors: ``<prefix>{0,2,4,6,7}.{weight,bias}`` and nothing else.
        prefix: of the names, "layers." for example.
        source: the file, for the error message.

    Raises:
        AdrpoError: a layer is missing, left over, or does not fit its neighbor.
    """
    widths: list[int] = []
    for layer in LAYERS:
        weight = tensors.get(f"{prefix}{layer}.weight")
        if weight is None or weight.ndim != 2:
            found = "none" if weight is None else f"shape {list(weight.shape)}"
            raise AdrpoError(
                f"expected a matrix '{prefix}{layer}.weight' in {source!r}, received {found}: "
                "name the published file"
            )
        # The first layer tells the input's width, each layer the width it hands on.
        widths += [weight.shape[1], weight.shape[0]] if not widths else [weight.shape[0]]
    if widths[-1] != 1:
        raise AdrpoError(
            f"expected one output of the last layer '{prefix}{LAYERS[-1]}' in {source!r}, "
            f"received {widths[-1]}: name the published file"
        )
    head = torch.nn.Sequential()
    for layer, width_in, width_out in zip(LAYERS, widths, widths[1:], strict=False):
        head.add_module(layer, torch.nn.Linear(width_in, width_out))
    load_exactly(head, tensors, published_name=lambda name: f"{prefix}{name}", source=source)
    return head.eval().requires_grad_(False)
