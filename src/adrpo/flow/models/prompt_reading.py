"""The text encoders of a pipeline at work: prompts, and negative ones, as the model reads them.

An encoder returns for a prompt, in its last bits, what depends on the prompts that it is encoded
with: a set of them is encoded together, a negative prompt alone.
"""

import gc
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from adrpo.data.base import Prompt
from adrpo.errors import AdrpoError
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.embedding_cache import Asked, Embeddings, Negative, Prompts, words_of
from adrpo.flow.models.encoders import text_encoders
from adrpo.flow.models.finite import check_embeddings
from adrpo.flow.models.negative_prompts import Negatives
from adrpo.flow.originals import Original
from adrpo.flow.prompt_columns import negative_prompt_of
from adrpo.runs.counting import counted


class PromptReader(ABC):
    """A pipeline of diffusers as what encodes prompts; arguments as for ``PipelinePolicy``."""

    tokens: ClassVar[int]
    """``max_sequence_length`` of the pipeline's own call."""

    fewest_tokens: ClassVar[int]
    """Below it the model would not see the prompt."""

    cuts: ClassVar[bool] = True
    """False where the pipeline's call takes ``max_sequence_length``, and reads all of a prompt."""

    distilled: ClassVar[bool] = False
    """True where the guidance scale is an input of the network: nothing is encoded in the prompt's
    place then."""

    nothing: ClassVar[str] = ""
    """Negative prompt that stands for no prompt."""

    edits: ClassVar[bool] = False
    """True where a prompt comes with an original, a picture to be edited."""

    encoding_parts: ClassVar[tuple[str, ...]] = ("text_encoder*", "tokenizer*")
    """Folders of a pipeline, as patterns, whose files decide what is encoded."""

    _negatives: Negatives
    """To be made when the encoders are as they will be."""

    def __init__(
        self,
        pipeline: Any,
        *,
        max_sequence_length: int | None,
        encoder_batch_size: int | None,
        embeddings: Embeddings | None,
        device: torch.device | None,
    ) -> None:
        self.pipeline = pipeline
        self._device = device
        self._embeddings = embeddings or Embeddings()
        self.encoder_batch_size = encoder_batch_size
        self.max_sequence_length = max_sequence_length or self.tokens

    @abstractmethod
    def _encode(self, prompts: list[str]) -> Conditioning:
        """Conditioning of ``prompts`` as the pipeline's call computes it."""

    @abstractmethod
    def _encode_negative(self, prompts: list[str]) -> Conditioning | None:
        """Negative ``prompts`` as the pipeline's call encodes them for classifier-free guidance.
        None is a model whose scale is an input of the network, or that knows none."""

    @classmethod
    def check_tokens(cls, name: str, tokens: int) -> None:
        """Raise AdrpoError for a ``max_sequence_length`` that hides the prompt from a pipeline of
        the class ``name``, or that it doesn't heed."""
        if tokens < cls.fewest_tokens:
            raise AdrpoError(
                f"model.max_sequence_length: expected at least {cls.fewest_tokens} for {name}, "
                f"which would not see the prompt otherwise; received {tokens}; "
                f"the pipeline's own number is {cls.tokens}"
            )
        if tokens != cls.tokens and not cls.cuts:
            raise AdrpoError(
                f"model.max_sequence_length: expected null for {name}, which reads all of a "
                f"prompt; received {tokens}; leave it out"
            )

    @property
    def device(self) -> torch.device:
        return self._device or self.pipeline.transformer.device

    @torch.no_grad()
    def encode(
        self,
        prompts: Sequence[str],
        negative_prompts: Sequence[str | None] = (),
        originals: Sequence[Original | None] = (),
    ) -> Conditioning:
        """Conditioning of ``prompts``, encoded once and kept by the caller, and of the negative
        prompt of each; None, or no ``negative_prompts``, is that of the policy. Of a policy that
        ``edits``, each has one of ``originals``.

        Raises AdrpoError where the text encoders are released and a prompt was never encoded, where
        an embedding is not finite, or where a policy that ``edits`` lacks an original.
        """
        rows = self._asked(prompts, originals)
        found = self._known(rows).to(self.device)
        return self._negatives.added(found, negative_prompts, rows)

    @torch.no_grad()
    def _known(self, rows: Sequence[Asked]) -> Conditioning:
        """The conditioning of rows of ``_asked``: found, put together, or encoded."""
        found = self._embeddings.find(rows)
        if found is not None:
            return found
        words = [words_of(row) for row in rows]
        if not self.encoders:
            found = self._embeddings.assemble(rows)
            if found is None:
                raise self._released(words[-1:])
            return found
        size = self.encoder_batch_size or max(len(rows), 1)
        # Lists of their own: ZImagePipeline writes its chat template into what it is given.
        chunks = [list(rows[i : i + size]) for i in range(0, max(len(rows), 1), size)]
        with counted(chunks, len(rows), "prompts") as counting:
            parts = [self._encode_rows(chunk) for chunk in counting]
        found = parts[0] if len(parts) == 1 else Conditioning.cat(parts)
        check_embeddings(found, words, self.pipeline.dtype)
        self._embeddings.add(rows, found)
        return found

    def _asked(
        self, prompts: Sequence[str], originals: Sequence[Original | None]
    ) -> Sequence[Asked]:
        """The rows to be encoded: all by which a prompt's embeddings are known. What edits nothing
        leaves ``originals`` out."""
        return prompts

    def _encode_rows(self, rows: list[Any]) -> Conditioning:
        """The conditioning of rows of ``_asked``."""
        return self._encode(rows)

    @classmethod
    def _rows_of(cls, prompts: Sequence[Prompt]) -> Sequence[Asked]:
        """The rows of ``_asked`` of a set of prompts, without a model."""
        return [prompt.text for prompt in prompts]

    @classmethod
    def needed(
        cls, sets: Sequence[Sequence[Prompt]], negative_prompt: str | None, *, guided: bool
    ) -> list[Prompts]:
        """The questions to the encoders of the ``sets`` of prompts, where ``negative_prompt``
        is that of those without one, and classifier-free guidance has them if ``guided``."""
        needed: list[Prompts] = [cls._rows_of(prompts) for prompts in sets]
        if not guided:
            return needed
        own = {negative_prompt_of(prompt) for prompts in sets for prompt in prompts}
        given = (text for text in {negative_prompt, *own} if text is not None)
        return [*needed, None, *map(Negative, given)]

    @torch.no_grad()
    def _negative(self, text: str | None) -> Conditioning | None:
        """One row of a negative prompt, or of no prompt for None: found, or encoded."""
        if self.distilled:
            return None
        known = None if text is None else Negative(text)
        found = self._embeddings.find(known)
        if found is None:
            if text is not None and not self.encoders:
                raise self._released([text])
            asked = [self.nothing if text is None else text]
            found = self._encode_negative(list(asked))
            if found is None:
                return None
            check_embeddings(found, asked, self.pipeline.dtype)
            self._embeddings.add(known, found)
        return found.to(self.device)

    def _released(self, others: Sequence[str]) -> AdrpoError:
        return AdrpoError(
            f"model.encoders: expected prompts that were encoded before the text encoders were "
            f"released; received others, such as {list(others)}; set model.encoders=resident"
        )

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The pipeline's text encoders by name, those that are there."""
        return text_encoders(self.pipeline)

    def release_encoders(self) -> None:
        """Take the text encoders out of the pipeline and free their memory."""
        for name in self.encoders:
            setattr(self.pipeline, name, None)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
