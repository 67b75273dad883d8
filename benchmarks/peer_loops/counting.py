"""Rows that a step sends through the parts of a pipeline, counted by hooks of torch."""

from collections import Counter as Tally
from typing import Any

import torch
from torch import Tensor

PARTS = (
    "rows_drawing", "rows_constant", "rows_learnt", "rows_backward", "rows_text", "rows_decoded",
)  # fmt: skip


class Counter:
    """Rows of the transformer, of the first text encoder and of the decoder of images.

    ``calls`` counts calls of the transformer. Forwards without a gradient are of drawing until the
    decoder has seen the last row of the step, and ``rows_constant`` afterwards: ``begin`` a step
    with its number of images.
    """

    def __init__(self, pipeline: Any) -> None:
        self.rows: Tally[str] = Tally()
        self.calls = 0
        self._images = 0
        pipeline.transformer.register_forward_hook(self._transformer, with_kwargs=True)
        pipeline.text_encoder.register_forward_hook(self._text)
        pipeline.vae.decoder.register_forward_hook(self._decoder)

    def begin(self, images: int) -> None:
        """Begin to count a step that draws ``images`` images."""
        self.rows, self.calls, self._images = Tally(), 0, images

    def found(self) -> dict[str, int]:
        """Rows since ``begin``, by :data:`PARTS`, and ``calls``."""
        return {**{part: self.rows[part] for part in PARTS}, "calls": self.calls}

    def _transformer(self, module: Any, _: Any, given: dict[str, Any], output: Any) -> None:
        rows = len(given["hidden_states"])
        self.calls += 1
        if torch.is_grad_enabled() and output[0].requires_grad:
            self.rows["rows_learnt"] += rows
            output[0].register_hook(self._backward)
        elif self.rows["rows_decoded"] < self._images:
            self.rows["rows_drawing"] += rows
        else:
            self.rows["rows_constant"] += rows

    def _backward(self, gradient: Tensor) -> None:
        self.rows["rows_backward"] += len(gradient)

    def _text(self, module: Any, given: tuple[Tensor, ...], _: Any) -> None:
        self.rows["rows_text"] += len(given[0])

    def _decoder(self, module: Any, given: tuple[Tensor, ...], _: Any) -> None:
        self.rows["rows_decoded"] += len(given[0])
