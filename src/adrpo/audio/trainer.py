"""ADRPO for audio-language models."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from datasets import Audio, Dataset, IterableDataset
from jaxtyping import Bool, Float
from peft import LoraConfig
from torch import Tensor
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from adrpo.audio.encoder import Clip, FrozenEncoder, Listener, Row, audio_inputs, frozen_parts
from adrpo.audio.pretrained import language_modules, load_thinker
from adrpo.audio.processor import AudioProcessor
from adrpo.audio.sound import compact, key_of, sources_of
from adrpo.data.base import text_of
from adrpo.errors import AdrpoError
from adrpo.llm.config import ADRPOConfig
from adrpo.llm.prompt_batch import WHOLE, PromptBatch
from adrpo.llm.trainer import ADRPOTrainer
from adrpo.llm.trl_messages import without_messages

COLUMN = "audio"
LANGUAGE_MODEL = language_modules(("q_proj", "k_proj", "v_proj", "o_proj"))
"""Modules that the default adapter is on: the attention of the language model, not the encoder's,
whose layers have the same names."""
DEAF_OPTIONS = ("use_vllm", "use_transformers_continuous_batching")
DEAF_ARGUMENTS = ("tools", "environment_factory", "rollout_func")
MARKERS = ("audio_token_id", "audio_start_token_id", "audio_end_token_id")
MARKERS += ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


@dataclass(frozen=True, kw_only=True)
class HeardBatch(PromptBatch):
    """Prompts with the clips of each."""

    rows: Sequence[Row]

    def inputs(self, rows: slice = WHOLE) -> dict[str, Tensor]:
        return audio_inputs(self.rows[rows])

    def given(self, trainer: "AudioADRPOTrainer", rows: Sequence[int]) -> Any:
        return trainer._hearing([self.rows[row] for row in rows])


def language_lora() -> LoraConfig:
    """Adapter of the language model alone, of rank 16."""
    return LoraConfig(r=16, lora_alpha=16, target_modules=LANGUAGE_MODEL, task_type="CAUSAL_LM")


class AudioADRPOTrainer(ADRPOTrainer):
    """ADRPO for the Thinker of Qwen2.5-Omni, on a data set with a column ``audio``.

    A row of the column is a clip, a list of clips, or None: a path, datasets' ``Audio`` (its
    decoding is turned off), or floats in mono with their ``sampling_rate``. ``prompt`` is a
    conversation, in which clips stand before the text of the first message of the user, or where
    its own parts ``{"type": "audio"}`` are.

    The audio encoder and the part for pictures are frozen. Each clip of a generated batch is
    encoded once; its output serves all completions, and generation, the reference and each loss.
    It travels in the batch beside the tokens, so that TRL's shuffling and splitting move both.

    Beside ADRPOTrainer's arguments:

    Args:
        model: a folder, a Hub id, a Qwen2_5OmniThinkerForConditionalGeneration, or PEFT's of one.
            A name is loaded with ``args.model_init_kwargs``.
        processing_class: an :class:`AudioProcessor` or transformers' processor of the model;
            None reads it from where the model comes from.
        peft_config: "lora" for :func:`language_lora`, an adapter of your own that leaves the
            encoder alone, or None for all weights of the language model; the reference is then
            loaded once more, from where the model came from.

    Raises:
        AdrpoError: the model is no Thinker, the data set has no column ``audio`` or one of images,
            an adapter reaches a frozen part, or something is asked for that would not hear: vLLM,
            continuous batching, tools, environments, a rollout function, sharded weights. In a
            batch: a clip that can't be heard, or a prompt without a place for its clips.
    """

    _tag_names: ClassVar[list[str]] = [*ADRPOTrainer._tag_names, "audio"]

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: ADRPOConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        *,
        peft_config: Any | Literal["lora"] | None = "lora",
        **named: Any,
    ) -> None:
        _refuse_what_is_deaf(args, named)
        source = model if isinstance(model, str) else None
        if source is not None:
            options: Any = (args.model_init_kwargs if args else None) or {}
            model = load_thinker(source, **options)
        thinker = _thinker_of(model)
        if processing_class is None:
            name = source or thinker.config._name_or_path
            processing_class = AudioProcessor.from_pretrained(name)
        self.processor = AudioProcessor.of(processing_class)
        # Rows of the batch that is at work; TRL's methods take none.
        self._rows: Sequence[Row] | None = None
        self._audio_token_id: int = thinker.config.audio_token_id
        for part in frozen_parts(thinker):
            part.requires_grad_(False)
        if peft_config == "lora":
            peft_config = None if thinker is not model else language_lora()
        with _initialization(args, model, adapter=peft_config or thinker is not model):
            super().__init__(
                model,
                reward_funcs,
                args,
                _undecoded(train_dataset),
                _undecoded(eval_dataset),
                self.processor.tokenizer,
                peft_config=peft_config,
                **named,
            )
        self._encoder = FrozenEncoder(thinker)
        if self.ref_model is not None:
            self.admit(self.accelerator.unwrap_model(self.ref_model))
        self._check_adapter(thinker)
        self._suppress_markers(thinker.config)
        self.data_collator = _compact_rows

    # --- set up ---

    def _check_adapter(self, thinker: Any) -> None:
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            raise AdrpoError(
                "args: expected whole weights in each process, received FSDP or DeepSpeed, under "
                "which a clip can't be encoded by itself; use DDP"
            )
        for part in frozen_parts(thinker):
            for name, parameter in part.named_parameters():
                if parameter.requires_grad:
                    raise AdrpoError(
                        "peft_config: expected an adapter of the language model alone, received "
                        f"one on {type(part).__name__}.{name}, which is frozen; set "
                        f"target_modules={LANGUAGE_MODEL!r}"
                    )

    def _suppress_markers(self, config: Any) -> None:
        """Keep tokens that stand for sound and pictures out of completions: nothing fills them."""
        ids = [getattr(config, name) for name in MARKERS if getattr(config, name, None) is not None]
        suppressed = sorted({*ids, *(self.generation_config.suppress_tokens or [])})
        self.generation_config.suppress_tokens = suppressed
        self.generation_kwargs["suppress_tokens"] = suppressed

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if COLUMN not in self._signature_columns:
            self._signature_columns.append(COLUMN)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        self.processor.save_pretrained(output_dir or str(self.args.output_dir))

    def admit(self, thinker: Any) -> None:
        """Let ``thinker``, another one with the same encoder, hear what this trainer encoded."""
        self._encoder.admit(thinker)

    # --- rows and their clips ---

    @contextmanager
    def _hearing(self, rows: Sequence[Row]) -> Iterator[None]:
        before, self._rows = self._rows, rows
        try:
            yield
        finally:
            self._rows = before

    def prompt_batch(self, rows: Sequence[Mapping[str, Any]]) -> HeardBatch:
        """The prompts of ``rows`` and their clips, which are encoded once."""
        clips = self._encoded(rows)
        with self._hearing(clips):
            ids = super().prompt_batch(rows).ids
        return HeardBatch(ids=ids, rows=clips)

    def _encoded(self, inputs: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Clips of each row, a clip that several rows have being one object."""
        if any(COLUMN not in row for row in inputs):
            raise AdrpoError(
                f"data set: expected a column {COLUMN!r}, None where a row has no clip, received a "
                f"row with {', '.join(inputs[0])} alone; rename the column that holds the clips"
            )
        heard: dict[Any, Clip] = {}
        return [
            tuple(self._clip(source, row, heard) for source in sources_of(row[COLUMN]))
            for row in inputs
        ]

    def _clip(self, source: Any, row: Mapping[str, Any], heard: dict[Any, Clip]) -> Clip:
        """Encode ``source``, unless it is among those ``heard``."""
        try:
            key = key_of(source)
            if key not in heard:
                # autocast, which an evaluation is under, would round the spectrogram's sums, too.
                with torch.autocast("cpu", enabled=False):
                    features = self.processor.features(source)
                with self.accelerator.autocast():
                    heard[key] = self._encoder(features)
        except AdrpoError as error:
            start = text_of(row["prompt"])[:60]
            raise AdrpoError(f"{error} (of the prompt that begins {start!r})") from error
        return heard[key]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        calls = self._encoder.calls
        rows = self._encoded(inputs)
        self._log("encoder_calls", self._encoder.calls - calls)
        with self._hearing(rows):
            batch = super()._generate_and_score_completions(inputs)
        batch[COLUMN] = rows
        return batch

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        if self._rows is None:
            return super()._tokenize_prompts(prompts)
        template: Any = self.chat_template_kwargs
        ids = [
            self.processor.prompt_ids(
                prompt, [clip.tokens for clip in row], self._audio_token_id, **template
            )
            for prompt, row in zip(prompts, self._rows, strict=True)
        ]
        self._room.check(ids, prompts)
        return ids, None, audio_inputs(self._rows)

    def _reference_logps(
        self, batch: dict[str, Any], rows: Bool[Tensor, " rows"]
    ) -> Float[Tensor, "rows tokens"]:
        assert self._rows is not None
        needed = [row for row, wanted in zip(self._rows, rows.tolist(), strict=True) if wanted]
        with self._hearing(needed):
            return super()._reference_logps(batch, rows)

    def _get_per_token_logps_and_entropies(self, model: Any, *arguments: Any, **named: Any) -> Any:
        if self._rows is None:
            raise RuntimeError("log-probabilities were asked for without the clips of their rows")
        listener = Listener(model, self._rows, self._audio_token_id)
        return super()._get_per_token_logps_and_entropies(listener, *arguments, **named)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        with self._hearing(inputs[COLUMN]):
            return super()._compute_loss(model, inputs)


def _refuse_what_is_deaf(args: Any, named: dict[str, Any]) -> None:
    asked = [name for name in DEAF_OPTIONS if getattr(args, name, False)]
    asked += [name for name in DEAF_ARGUMENTS if named.get(name)]
    if asked:
        raise AdrpoError(
            f"{asked[0]}: expected generation by transformers from the prompt and its clips, "
            "received another way, to which TRL gives no audio; leave it out"
        )


@contextmanager
def _initialization(args: Any, model: Any, *, adapter: Any) -> Iterator[None]:
    """``args`` as TRL's constructor needs them beside a model that is loaded already.

    With an adapter it loads nothing, and would warn that ``model_init_kwargs`` are left. Without,
    it loads the reference, and is told the class of the model: the configuration on the Hub names
    that of the whole, of which the Thinker is a part.
    """
    if args is None:
        yield
        return
    before = args.model_init_kwargs
    if adapter or args.beta == 0.0:
        args.model_init_kwargs = None
    elif not model.config._name_or_path:
        raise AdrpoError(
            "peft_config: expected an adapter, or a model that was loaded from a folder or the "
            "Hub, from where the reference can be loaded again; received a model made in memory"
        )
    else:
        args.model_init_kwargs = {**(before or {}), "architecture": type(model)}
    try:
        with without_messages("You passed `model_init_kwargs`"):
            yield
    finally:
        args.model_init_kwargs = before


def _thinker_of(model: Any) -> Any:
    thinker = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not isinstance(thinker, Qwen2_5OmniThinkerForConditionalGeneration):
        raise AdrpoError(
            "model: expected a Qwen2_5OmniThinkerForConditionalGeneration, received a "
            f"{type(thinker).__name__}; for text alone use ADRPOTrainer"
        )
    return thinker


def _compact_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, COLUMN: compact(row[COLUMN])} if COLUMN in row else row for row in rows]


def _undecoded(data: Any) -> Any:
    """Data set whose clips are read here; datasets would decode them by torchcodec.

    Raises AdrpoError where it has no column of audio, or one of images.
    """
    if isinstance(data, dict):
        return {name: _undecoded(part) for name, part in data.items()}
    if not isinstance(data, Dataset | IterableDataset) or data.column_names is None:
        return data
    if COLUMN not in data.column_names or {"image", "images"} & set(data.column_names):
        raise AdrpoError(
            f"data set: expected a column {COLUMN!r} and none of images, received "
            f"{', '.join(data.column_names)}; rename the column that holds the clips"
        )
    feature = data.features[COLUMN] if data.features else None
    if isinstance(feature, Audio) and feature.decode:
        return data.cast_column(COLUMN, Audio(decode=False))
    return data
