"""The frozen audio encoder, whose output for a clip is computed once."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from adrpo.errors import AdrpoError


@dataclass(frozen=True, eq=False)
class Clip:
    """Output of the encoder for one clip; rows with the same clip share it."""

    embedding: Float[Tensor, "tokens hidden"]

    @property
    def tokens(self) -> int:
        """Number of tokens of the prompt that it replaces."""
        return len(self.embedding)


Row = tuple[Clip, ...]
"""Clips of one sample, in the order in which its prompt names them."""


class FrozenEncoder:
    """Audio encoder of a Thinker, set beside it.

    The Thinker runs its encoder in every pass. Of each that is :meth:`admitted <admit>` the
    features may be the encoder's output, which it takes as it is: two dimensions, all clips one
    after the other. Clips are encoded one at a time, so that none depends on the rest of a batch.

    Args:
        thinker: a Qwen2_5OmniThinkerForConditionalGeneration, whose encoder has no gradient.
    """

    def __init__(self, thinker: Any) -> None:
        self._model = thinker.model
        self._encode = thinker.model.get_audio_features
        self.calls = 0
        self.admit(thinker)

    def admit(self, thinker: Any) -> None:
        """Let ``thinker`` take the encoder's output for its features, and ``logits_to_keep``."""
        take_logits_to_keep(thinker)
        original = thinker.model.get_audio_features

        def get_audio_features(input_features: Tensor, *arguments: Any, **named: Any) -> Any:
            if input_features.ndim == 2:
                return BaseModelOutputWithPooling(last_hidden_state=input_features)  # pyright: ignore[reportArgumentType]
            return original(input_features, *arguments, **named)

        thinker.model.get_audio_features = get_audio_features

    @torch.no_grad()
    def __call__(self, features: Float[Tensor, "mels frames"]) -> Clip:
        """Encode one clip.

        Raises AdrpoError for a clip that is too short for a token.
        """
        tower = self._model.audio_tower
        frames = torch.tensor(features.shape[1])
        if int(tower._get_feat_extract_output_lengths(frames)[1]) < 1:
            raise AdrpoError(
                f"audio: expected a clip of at least 3 frames (30 ms), received {int(frames)}; "
                "drop it"
            )
        features = features.to(tower.conv1.weight.device)[None]
        mask = torch.ones(1, features.shape[2], dtype=torch.long, device=features.device)
        training = tower.training
        tower.eval()
        try:
            output = self._encode(features, mask, return_dict=True).last_hidden_state
        finally:
            tower.train(training)
        self.calls += 1
        return Clip(output)


def frozen_parts(thinker: Any) -> list[Any]:
    """The audio encoder and the part for pictures, which are never trained."""
    return [thinker.model.audio_tower, thinker.model.visual]


def take_logits_to_keep(thinker: Any) -> None:
    """Let ``thinker`` make logits of the last ``logits_to_keep`` tokens alone, all without it.

    transformers' generation asks for one where a model takes that argument, as its language models
    do. A Thinker makes those of all tokens of all prompts to read the last: of a step of 64 rows
    with 10 s of sound each more than its own weights take.
    """
    forward = thinker.forward
    signature = inspect.signature(forward)
    if "logits_to_keep" in signature.parameters:
        return

    def keeping(*arguments: Any, logits_to_keep: int = 0, **named: Any) -> Any:
        if not logits_to_keep:
            return forward(*arguments, **named)

        def last(head: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (inputs[0][:, -logits_to_keep:], *inputs[1:])

        hook = thinker.get_output_embeddings().register_forward_pre_hook(last)
        try:
            return forward(*arguments, **named)
        finally:
            hook.remove()

    # generate looks an argument up by its name.
    kept = inspect.Parameter("logits_to_keep", inspect.Parameter.KEYWORD_ONLY, default=0)
    *first, rest = signature.parameters.values()
    keeping.__signature__ = signature.replace(parameters=[*first, kept, rest])  # pyright: ignore[reportFunctionMemberAccess]
    thinker.forward = keeping


def audio_inputs(rows: Sequence[Row]) -> dict[str, Tensor]:
    """Arguments of an admitted model beside the tokens of ``rows``; none without a clip."""
    clips = [clip.embedding for row in rows for clip in row]
    return {"input_features": torch.cat(clips)} if clips else {}


class Listener:
    """A model that hears, with each call, the clips of the rows of that call.

    TRL calls the model chunk by chunk, in the order of the rows, with the tokens alone.

    Args:
        model: called by keyword with ``input_ids`` [rows, tokens] and more.
        rows: clips of all the rows that will come.
        audio_token_id: the token that the encoder's output replaces.
    """

    def __init__(self, model: Any, rows: Sequence[Row], audio_token_id: int) -> None:
        self._model = model
        self._rows = rows
        self._audio_token_id = audio_token_id
        self._next = 0

    def __call__(self, *, input_ids: Tensor, **inputs: Any) -> Any:
        rows = self._rows[self._next : self._next + len(input_ids)]
        self._next += len(input_ids)
        room = (input_ids == self._audio_token_id).sum(1).tolist()
        # masked_scatter would shift the clips of all later rows, without an error.
        if room != [sum(clip.tokens for clip in row) for row in rows]:
            raise RuntimeError("rows and their clips have come apart: TRL has changed")
        return self._model(input_ids=input_ids, **inputs, **audio_inputs(rows))
