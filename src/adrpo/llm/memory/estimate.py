"""GPU memory of training a language model before anything is loaded: a sum with its assumptions.

Resident are the weights in ``model.dtype``; the reference's where it is a model of its own (with an
adapter it is the base); the gradient and AdamW's two moments of what is trained, in the weights'
type (an adapter on half-precision weights is float32); and reward models. On top comes the largest
of what an update, generation and evaluation need at a time:

    update      what autograd keeps of ``micro_batch_size`` rows (``kept_bytes``), with the greater
                of two beside it: the MLP at work (and, with gradient checkpointing, all of one
                layer); or a tile of logits, since TRL never has them all, and the vocabulary's
                gradient in float32 and in the weights' type
    generation  the cache of keys and values of all rows of a step, or of an evaluation's batch,
                and logits of one token a row, or all prompts' tokens in a layer
    evaluation  logits of all completion tokens of ``micro_batch_size`` rows, as they come and
                thrice in float32: their softmax, its exponential, and the product for the entropy
    scoring     the MLP at work in the largest reward model

Under ``autocast`` the weights of linear layers have copies in bfloat16 meanwhile. Quantised weights
(all linear layers but the head) are unpacked to ``model.dtype`` one layer at a time.

``tests/unit/llm/test_llm_memory.py`` holds these to torch's own count. Assumed: layers of Llama's
kind (two RMS norms, a gated MLP), attention that keeps no matrix of scores (torch's fused kernels),
and completions as long as ``max_completion_length`` behind the longest prompt.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adrpo.llm.memory.architecture import Architecture
from adrpo.llm.pretrained import gguf_file
from adrpo.memory import BYTES, QUANTIZED, Estimate, with_settings

if TYPE_CHECKING:
    from adrpo.config import LanguageAdapterSection
    from adrpo.config.llm import CompletionConfig, CompletionModelSection

TILE_TOKENS, TILE_VOCABULARY = 4096, 32768
"""Sides of the tile in which TRL computes log-probabilities."""

AT_WORK = 3
"""Hidden layers of the MLP that are there at a time beside what autograd keeps: its gate, the other
factor and their product; or the gradients of three of them."""

STREAMS = 4
"""Tensors of a token's width that a layer finds in the prompts' pass: the embeddings, its input,
that with the attention added, and the same normalised."""

SORTED = 22
"""Bytes a logit of choosing the nucleus: its sorted values with their places, their softmax and its
sums, and a mask in either order."""

READS = {
    "q_proj": "first norm",
    "k_proj": "first norm",
    "v_proj": "first norm",
    "gate_proj": "second norm",
    "up_proj": "second norm",
}
"""Linear layer -> the norm whose output it reads; others read what no other one does."""

AFTER_ATTENTION = "o_proj"
"""The linear layer that reads what the attention gives."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens of a row: of its prompt, and of its completion at most."""

    prompt: int
    completion: int

    @property
    def total(self) -> int:
        return self.prompt + self.completion


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A reward model: its sizes, bytes of a number, and tokens of a forward pass."""

    architecture: Architecture
    size: int
    tokens: int


def kept_bytes(
    architecture: Architecture,
    tokens: int,
    *,
    model: "CompletionModelSection",
    adapter: "LanguageAdapterSection | None",
) -> float:
    """Bytes that autograd keeps of one row of ``tokens`` tokens.

        layers tokens (2 n + 4 Q b + 3 m b + inputs + b tokens)

    with Q and m the widths of queries and MLP, b the bytes of a number in the arithmetic, n those
    of a norm: its input in float32, and, where its weight is trained, what that multiplies. Fused
    attention keeps q, its output, k and v (repeated to as many heads as q), and a mask in their
    type; a gated MLP its two factors and the input of the activation; ``inputs`` are those of
    linear layers with trained weights. Norms of q and k keep as much as others.

    With ``model.gradient_checkpointing`` the inputs of the layers alone, and all of one layer.
    """
    layer, around = _kept_of_a_token(architecture, tokens, model, adapter)
    if model.gradient_checkpointing:
        return tokens * (around + layer)
    return tokens * (architecture.layers * layer + around)


def _kept_of_a_token(
    architecture: Architecture,
    tokens: int,
    model: "CompletionModelSection",
    adapter: "LanguageAdapterSection | None",
) -> tuple[float, float]:
    """Bytes kept of a token in a layer, and around the layers: by the head, and as their inputs
    with gradient checkpointing."""
    stored, computed = BYTES[model.dtype], arithmetic_bytes(model)
    a = architecture
    whole = adapter is None
    norm = a.width * (4 + stored * whole)
    heads = (a.queries + a.keys) * (4 + computed * whole) if a.normed_heads else 0
    layer = 2 * norm + heads + (4 * a.queries + 3 * a.hidden) * computed
    layer += _kept_inputs(a, model, adapter) + computed * tokens
    around = norm + a.width * stored
    if model.gradient_checkpointing:
        around += a.layers * a.width * stored
    return layer, around


def _kept_inputs(
    architecture: Architecture,
    model: "CompletionModelSection",
    adapter: "LanguageAdapterSection | None",
) -> float:
    """Bytes a token that linear layers of one layer keep of their inputs, and an adapter of the
    numbers between its two factors.

    Layers that read the same tensor keep it once, unless each converts it: to bfloat16 under
    autocast, to float32 for an adapter on half-precision weights.
    """
    stored, computed = BYTES[model.dtype], arithmetic_bytes(model)
    if adapter is None:
        trained = [linear for linear in architecture.linears if linear.layer == 0]
        converted, size, between = computed != stored, computed, 0
    else:
        adapted = architecture.adapted(adapter.target_modules)
        trained = [linear for linear in adapted if linear.layer == 0]
        converted = computed != stored or stored != BYTES["float32"]
        size = computed if computed != stored else BYTES["float32"]
        between = size * adapter.rank * len(trained)
    if not converted:
        trained = {READS.get(linear.last_name, linear.name): linear for linear in trained}.values()
    if not converted or adapter is None:
        # Its input is there already: the attention keeps its output, in the type of the arithmetic.
        trained = [linear for linear in trained if linear.last_name != AFTER_ATTENTION]
    return size * sum(linear.inputs for linear in trained) + between


def arithmetic_bytes(model: "CompletionModelSection") -> int:
    """Bytes of a number in the layers' arithmetic."""
    return BYTES[model.autocast or model.dtype]


def estimate(
    architecture: Architecture,
    config: "CompletionConfig",
    lengths: Lengths,
    *,
    scorers: Sequence[Scorer] = (),
    uncounted: Iterable[str] = (),
) -> Estimate:
    """Memory of training ``config``.

    Args:
        architecture: of ``config.model``.
        lengths: of the longest row.
        scorers: reward models, of training and of evaluation.
        uncounted: names of models of unknown size.
    """
    weights = _weight_bytes(architecture, config.model)
    return Estimate(
        resident={
            "weights": weights,
            "reference": 0.0 if config.adapter is not None else weights,
            "gradient and optimizer": _trained_bytes(architecture, config),
            "reward models": sum(s.size * s.architecture.parameters for s in scorers),
        },
        working=_working(architecture, config, lengths)
        | {
            "scoring": max(
                (s.tokens * _at_work(s.architecture, s.size) for s in scorers), default=0
            )
        },
        uncounted=tuple(uncounted),
    )


def _weight_bytes(architecture: Architecture, model: "CompletionModelSection") -> float:
    size = BYTES[model.dtype]
    weights = size * (architecture.parameters + architecture.frozen)
    if model.quantization is None:
        return weights
    quantised = architecture.layer_parameters + architecture.frozen_linears
    return weights - (size - QUANTIZED[model.quantization]) * quantised


def _trained_bytes(architecture: Architecture, config: "CompletionConfig") -> float:
    """The adapter, and gradient and two moments of what is trained."""
    adapter = config.adapter
    if adapter is None:
        return 3 * BYTES[config.model.dtype] * architecture.parameters
    adapted = architecture.adapted(adapter.target_modules)
    # PEFT keeps an adapter on half-precision weights in float32.
    return 4 * BYTES["float32"] * adapter.rank * sum(x.inputs + x.outputs for x in adapted)


def rows_at_a_time(config: "CompletionConfig") -> int:
    """Rows of one forward pass of the loss, and of an evaluation's log-probabilities."""
    return min(config.training.micro_batch_size, _rows_of_a_step(config))


def rows_drawn_at_a_time(config: "CompletionConfig") -> int:
    """Completions of one call of ``generate``: TRL draws all of a step together."""
    return max(_rows_of_a_step(config), config.evaluation.batch_size)


def _rows_of_a_step(config: "CompletionConfig") -> int:
    return config.training.prompts_per_step * config.training.samples_per_prompt


def _working(
    architecture: Architecture, config: "CompletionConfig", lengths: Lengths
) -> dict[str, float]:
    stored = BYTES[config.model.dtype]
    logits = architecture.vocabulary * (stored + 3 * BYTES["float32"])
    return {
        "update": max(
            layers_at_work(architecture, config, lengths),
            head_at_work(architecture, config, lengths),
        ),
        "generation": _generation(architecture, config, lengths),
        "evaluation": rows_at_a_time(config) * (lengths.completion + 1) * logits,
    }


def layers_at_work(
    architecture: Architecture, config: "CompletionConfig", lengths: Lengths
) -> float:
    """Bytes of an update while its backward pass is in the layers."""
    model = config.model
    kept = kept_bytes(architecture, lengths.total, model=model, adapter=config.adapter)
    work = lengths.total * _at_work(architecture, arithmetic_bytes(model))
    return rows_at_a_time(config) * (kept + work) + _copies(architecture, model)


def head_at_work(architecture: Architecture, config: "CompletionConfig", lengths: Lengths) -> float:
    """Bytes of an update while its backward pass is in the head: beside what autograd keeps, the
    tile, and of a trained head the gradient in float32 and in the weights' type."""
    model, rows = config.model, rows_at_a_time(config)
    stored, computed = BYTES[model.dtype], arithmetic_bytes(model)
    layer, around = _kept_of_a_token(architecture, lengths.total, model, config.adapter)
    kept = around if model.gradient_checkpointing else architecture.layers * layer + around
    tile = min(rows * lengths.completion, TILE_TOKENS) * TILE_VOCABULARY * computed
    gradient = 0
    if config.adapter is None:
        size = BYTES["float32"] + (stored if stored != BYTES["float32"] else 0)
        gradient = architecture.vocabulary * architecture.width * size
    return rows * lengths.total * kept + tile + gradient + _copies(architecture, model)


def _copies(architecture: Architecture, model: "CompletionModelSection") -> float:
    """Bytes of the weights' copies under autocast, and of the largest layer that is unpacked."""
    computed = arithmetic_bytes(model)
    if model.quantization is not None:
        layers = [linear for linear in architecture.linears if linear.layer is not None]
        return computed * max(linear.inputs * linear.outputs for linear in layers)
    return computed * architecture.layer_parameters if computed != BYTES[model.dtype] else 0


def _generation(architecture: Architecture, config: "CompletionConfig", lengths: Lengths) -> float:
    """The greater of two ends: all prompts in one pass, or the last token with a full cache."""
    stored, computed = BYTES[config.model.dtype], arithmetic_bytes(config.model)
    vocabulary = architecture.vocabulary
    # Under autocast the rotation leaves keys in float32.
    entry = architecture.keys * (stored + computed)
    # As they come, as a copy, at the temperature, their softmax, and the last token's.
    logits = vocabulary * (computed + 4 * BYTES["float32"])
    if config.generation.top_p < 1:
        logits += vocabulary * SORTED
    streams = STREAMS * architecture.width * stored
    work = streams + _at_work(architecture, computed)
    first = lengths.prompt * (architecture.layers * entry + work)
    # A layer's cache is there twice while a token is added.
    last = lengths.total * (architecture.layers + 1) * entry + logits
    copies = 0
    if computed != stored:
        # autocast remembers the copies of weights that have a gradient.
        trained = architecture.layer_parameters if config.adapter is None else 0
        copies = computed * (trained + vocabulary * architecture.width)
    return rows_drawn_at_a_time(config) * max(first, last) + copies


def _at_work(architecture: Architecture, size: int) -> float:
    """Bytes a token of a layer at work, beside what autograd keeps."""
    return AT_WORK * architecture.hidden * size


def cheaper(config: "CompletionConfig") -> list[tuple[str, "CompletionConfig"]]:
    """Changes that need less memory, what changes the result least first: (key=value, changed)."""
    from adrpo.config import LanguageAdapterSection

    model, evaluation = config.model, config.evaluation
    changes: list[tuple[str, str, object]] = []
    if not model.gradient_checkpointing:
        changes.append(("model", "gradient_checkpointing", True))
    if rows_at_a_time(config) > 1:
        changes.append(("training", "micro_batch_size", _smaller_part(config)))
    if evaluation.batch_size > _rows_of_a_step(config):
        changes.append(("evaluation", "batch_size", evaluation.batch_size // 2))
    if model.dtype == "float32":
        # The weights of an adapter stay float32.
        weights = ("model", "dtype", "bfloat16")
        changes.append(weights if config.adapter else ("model", "autocast", "bfloat16"))
    cheap = with_settings(config, changes)
    if config.adapter is None:
        adapter = LanguageAdapterSection()
        change = f"'adapter={{rank: {adapter.rank}}}'"
        cheap.append((change, config.model_copy(update={"adapter": adapter})))
    elif model.quantization is None and model.autocast is None and gguf_file(model) is None:
        cheap += with_settings(config, [("model", "quantization", "nf4")])
    return cheap


def _smaller_part(config: "CompletionConfig") -> int:
    """The next smaller micro-batch that divides the batch."""
    batch = _rows_of_a_step(config)
    return max(part for part in range(1, rows_at_a_time(config)) if batch % part == 0)
