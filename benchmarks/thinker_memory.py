"""The memory of Qwen2.5-Omni's Thinker by torch's own count, beside doctor's estimate.

``python benchmarks/thinker_memory.py [--output benchmarks/results/thinker_memory]``

The Thinker at full size and the calls of a training with it, on fake tensors
(``counted_memory.py``): a clip through the frozen encoder, the update of a micro-batch (TRL's pass
for the loss, backward, optimizer) and the reference's pass before it, both ends of generation, and
an evaluation's pass. Numbers that decide how many (tokens, masks, lengths) are real.

The widths are those of public implementations of the two models and of transformers' defaults, the
Hub being out of reach. Where TRL has Triton's kernels its tile of logits is worked on in place; a
CPU has none, and copies of the tile are left out here. As in ``memory_count.py`` no memory inside
of other kernels is counted, nor the CUDA context.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from counted_memory import LiveBytes, staying, to_markdown, write_results
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import (
    DynamicCache,
    GenerationConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
)
from transformers.initialization import no_init_weights
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniThinkerConfig
from trl.kernels import chunked_logprob
from trl.trainer.utils import add_fused_lm_head

from adrpo.audio.encoder import Clip, FrozenEncoder, audio_inputs, frozen_parts
from adrpo.audio.memory.architecture import FRAMES_A_TOKEN, read_thinker
from adrpo.audio.memory.estimate import clips_at_a_time, estimate
from adrpo.audio.memory.published import PUBLISHED
from adrpo.config import LanguageConfig
from adrpo.llm.memory.estimate import Lengths, rows_at_a_time, rows_drawn_at_a_time
from adrpo.memory import OVERHEAD, Estimate

THINKERS = {name.rpartition("/")[2]: sizes for name, sizes in PUBLISHED.items()}
"""Model -> ``thinker_config`` of its config.json, as far as it is not transformers' default."""

SETTINGS: dict[str, Any] = {
    "model": {"device": "cpu", "dtype": "bfloat16", "gradient_checkpointing": True},
    "adapter": {"rank": 16},
    "training": {"prompts_per_step": 8, "samples_per_prompt": 8, "micro_batch_size": 2},
    "generation": {"max_completion_length": 256},
    "evaluation": {"batch_size": 64},
}
TEXT_TOKENS = 128
"""Tokens of a prompt beside its clip: a question with its choices, and what is asked for."""

CASES: tuple[tuple[str, float, bool], ...] = (
    ("Qwen2.5-Omni-7B", 10, True),
    ("Qwen2.5-Omni-7B", 30, True),
    ("Qwen2.5-Omni-7B", 10, False),
    ("Qwen2.5-Omni-7B", 30, False),
    ("Qwen2.5-Omni-3B", 10, True),
    ("Qwen2.5-Omni-3B", 30, True),
)
"""Model, seconds of sound in each prompt, and whether an adapter is trained or all weights."""


def settings_of(adapted: bool) -> dict[str, Any]:
    """Settings of a case."""
    return SETTINGS if adapted else {**SETTINGS, "adapter": None}


class FakeThinker:
    """A Thinker of the sizes in the folder ``source``, as the trainer makes it for ``config``."""

    def __init__(self, source: Path, config: LanguageConfig) -> None:
        self.config = config
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        sizes = Qwen2_5OmniThinkerConfig.from_pretrained(source)
        dtype = getattr(torch, config.model.dtype)
        with self.mode, no_init_weights():
            self.thinker: Any = Qwen2_5OmniThinkerForConditionalGeneration._from_config(
                sizes, dtype=dtype
            )
        for part in frozen_parts(self.thinker):
            part.requires_grad_(False)
        add_fused_lm_head(self.thinker, outputs=("log_probs", "entropy"))
        self.model: Any = self.thinker
        if config.adapter is not None:
            targets = "|".join(config.adapter.target_modules)
            lora = LoraConfig(
                r=config.adapter.rank, target_modules=rf".*\.language_model\..*\.({targets})"
            )
            with self.mode, staying():
                self.model = get_peft_model(self.thinker, lora)
            self.model.enable_input_require_grads()
        self.encoder = FrozenEncoder(self.thinker)
        self.model.train()

    def inputs(self, clip: Clip, rows: int, text: int) -> dict[str, Tensor]:
        """Rows with ``clip`` and ``text`` further tokens, of which the last are the completion."""
        ids = torch.zeros(rows, clip.tokens + text, dtype=torch.long)
        ids[:, : clip.tokens] = self.thinker.config.audio_token_id
        clips = audio_inputs([(clip,)] * rows)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **clips}

    def score(self, inputs: dict[str, Tensor], completion: int) -> Tensor:
        """TRL's pass for the loss and for the reference."""
        labels = inputs["input_ids"].clone()
        labels[:, :-completion] = -100
        return self.model(**inputs, labels=labels, fused_lm_head=True).log_probs

    @contextmanager
    def checkpointing(self) -> Iterator[None]:
        """Checkpoints of the layers, which the update has and the other passes have not."""
        if not self.config.model.gradient_checkpointing:
            yield
            return
        self.model.gradient_checkpointing_enable()
        yield
        self.model.gradient_checkpointing_disable()

    def generate(self, inputs: dict[str, Tensor], **options: Any) -> Tensor:
        """Two more tokens, as the trainer draws them."""
        generation = self.config.generation
        settings = GenerationConfig(
            max_new_tokens=2, do_sample=True, temperature=generation.temperature, top_k=0,
            top_p=generation.top_p, pad_token_id=0, suppress_tokens=[1], disable_compile=True,
        )  # fmt: skip
        return self.model.generate(**inputs, generation_config=settings, **options)

    def cache(self, rows: int, tokens: int) -> DynamicCache:
        """The keys and values of ``tokens`` tokens."""
        text = self.thinker.config.text_config
        cache = DynamicCache(config=text)
        width = text.hidden_size // text.num_attention_heads
        for layer in range(text.num_hidden_layers):
            with self.mode:
                keys, values = (
                    torch.empty(
                        rows, text.num_key_value_heads, tokens, width, dtype=self.thinker.dtype
                    )
                    for _ in range(2)
                )
            cache.update(keys, values, layer)
        return cache


@contextmanager
def in_place() -> Iterator[None]:
    """TRL's kernels of a tile as Triton's are, without memory of their own; drawn tokens are
    real."""

    def nothing(*_: Any, **__: Any) -> None: ...

    def first(probabilities: Tensor, num_samples: int) -> Tensor:
        return torch.zeros(len(probabilities), num_samples, dtype=torch.long)

    names = ("_forward_tile", "_backward_tile", "_addmm_fp32")
    with (
        mock.patch.multiple(chunked_logprob, **dict.fromkeys(names, nothing)),
        mock.patch.object(torch, "multinomial", first),
    ):
        yield


def count(
    source: Path, config: LanguageConfig, lengths: Lengths, seconds: float
) -> tuple[dict[str, int], int]:
    """Bytes of each part of doctor's estimate, and those of the reference's pass."""
    fake = FakeThinker(source, config)
    trained = [p for p in fake.model.parameters() if p.requires_grad]
    adapter = 0 if config.adapter is None else sum(p.nbytes for p in trained)
    with LiveBytes() as memory, in_place():
        for tensor in fake.model.parameters():
            memory.see(tensor)
        weights = memory.live - adapter
        for buffer in fake.model.buffers():
            memory.see(buffer)
        found = {"weights": weights}
        found["reference"] = 0 if config.adapter is not None else weights
        frames = int(seconds * fake.thinker.config.position_id_per_seconds) * FRAMES_A_TOKEN
        mels = fake.thinker.config.audio_config.num_mel_bins
        clips: list[Clip] = []
        encoding = memory.added(lambda: clips.append(fake.encoder(torch.zeros(mels, frames))))
        text = lengths.total
        rows = fake.inputs(clips[0], rows_at_a_time(config), text)
        learnt, most, reference = _count_update(fake, memory, rows, lengths, trained)
        found["gradient and optimizer"] = adapter + learnt
        found["clips"] = clips_at_a_time(config) * clips[0].embedding.nbytes
        found["encoding"], found["update"] = encoding, most
        found["generation"] = _count_generation(fake, memory, clips[0], lengths)
        found["evaluation"] = _count_evaluation(fake, memory, rows, lengths.completion)
    return found, reference


def _count_update(
    fake: FakeThinker,
    memory: LiveBytes,
    rows: dict[str, Tensor],
    lengths: Lengths,
    trained: Sequence[Tensor],
) -> tuple[int, int, int]:
    """Bytes that a first update leaves behind, of a later one, and of the reference's pass."""

    def update() -> None:
        with fake.checkpointing():
            logps = fake.score(rows, lengths.completion)
            # What is made in the backward pass is fake, too.
            with fake.mode:
                logps.backward(torch.ones(logps.shape))

    @torch.no_grad()
    def reference() -> Tensor:
        if fake.config.adapter is None:
            return fake.score(rows, lengths.completion)
        with fake.model.disable_adapter():
            return fake.score(rows, lengths.completion)

    before = memory.live
    update()  # leaves the gradient, as the first micro-batch of a step does
    with fake.mode:
        optimizer = torch.optim.AdamW(trained, foreach=False)
        optimizer.step()
    learnt = memory.live - before
    most = memory.added(update)
    optimizer.zero_grad(set_to_none=True)
    return learnt, most, memory.added(reference)


def _count_generation(fake: FakeThinker, memory: LiveBytes, clip: Clip, lengths: Lengths) -> int:
    """The greater of two ends: the prompts' pass, or the last token with a full cache."""
    drawn = rows_drawn_at_a_time(fake.config)

    @torch.no_grad()
    def first() -> Tensor:
        return fake.generate(fake.inputs(clip, drawn, lengths.prompt))

    @torch.no_grad()
    def last() -> Tensor:
        inputs = fake.inputs(clip, drawn, lengths.total - 1)
        cached = fake.cache(drawn, inputs["input_ids"].shape[1] - 1)
        return fake.generate(inputs, past_key_values=cached)

    return max(memory.added(first), memory.added(last))


def _count_evaluation(
    fake: FakeThinker, memory: LiveBytes, rows: dict[str, Tensor], completion: int
) -> int:
    @torch.no_grad()
    def evaluation() -> Tensor:
        logits = fake.model(**rows, logits_to_keep=completion + 1).logits[:, :-1]
        scores = (logits.float() / fake.config.generation.temperature).log_softmax(dim=-1)
        return -(scores.exp() * scores).sum(dim=-1)

    return memory.added(evaluation)


@contextmanager
def written(thinker: dict[str, Any]) -> Iterator[Path]:
    """A folder with the config.json of a whole model, as the Hub has it."""
    part = {"model_type": "qwen2_5_omni_thinker", **thinker}
    whole = {"model_type": "qwen2_5_omni", "thinker_config": part}
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "config.json").write_text(json.dumps(whole), encoding="utf-8")
        yield Path(name)


def expect(source: Path, config: LanguageConfig, lengths: Lengths, seconds: float) -> Estimate:
    """The estimate of doctor for the model in the folder ``source``."""
    sizes = read_thinker(str(source))
    assert sizes is not None, source
    return estimate(sizes, config, lengths, seconds)


def lengths_of(config: LanguageConfig) -> Lengths:
    """Lengths of a row, its clip left out."""
    return Lengths(prompt=TEXT_TOKENS, completion=config.generation.max_completion_length)


def compare(thinker: dict[str, Any], settings: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Each part of the estimate, counted and estimated; "all" is what lies there all the time, the
    largest of what works at a time, and the same 1 GB for CUDA itself on both sides."""
    config = LanguageConfig.model_validate(settings)
    lengths = lengths_of(config)
    with written(thinker) as folder:
        expected = expect(folder, config, lengths, seconds)
        counted, reference = count(folder, config, lengths, seconds)
    parts = expected.resident | expected.working | {"all": expected.total}
    lying, working = (
        [size for part, size in counted.items() if part in sizes_of]
        for sizes_of in (expected.resident, expected.working)
    )
    counted["all"] = sum(lying) + max(working) + round(OVERHEAD)
    return {
        "parts": {
            part: {"counted": size, "estimated": parts[part]} for part, size in counted.items()
        },
        "reference_pass": reference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=None, help="folder for the results")
    given = parser.parse_args()
    results: list[dict[str, Any]] = []
    for name, seconds, adapted in CASES:
        settings = settings_of(adapted)
        overrides = [f"{seconds:.0f} s", *([] if adapted else ["adapter=null"])]
        found = compare(THINKERS[name], settings, seconds)
        results.append({"recipe": name, "overrides": overrides, **found})
        print(to_markdown(results[-1:]), end="", flush=True)
    if given.output is not None:
        write_results(given.output, results)


if __name__ == "__main__":
    main()
