"""Places where the host waits for the GPU in a step of training, and why it must."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from tools.pretend_cuda import Wait

OURS = "/src/adrpo/"

NAMED = {
    ("flow/training/stopwatch.py", "_now"): "the clock of a part of the step",
    ("flow/models/pipeline_policy.py", "decode"): "pictures, which rewards read on the CPU",
    ("flow/training/online.py", "finite_samples"): "whether a sample is no number",
    ("flow/training/flow_grpo.py", "step"): "which samples are numbers",
    ("flow/training/finite_differences.py", "step"): "which samples are numbers",
    ("rewards/image.py", "embed_texts"): "prompts to the model that scores",
    ("rewards/image.py", "_unit_rows"): "the embeddings that are scored",
    ("flow/training/update.py", "of_groups"): "what a group compares, on all processes",
    ("core/placement.py", "sent"): "the weights of a group, on all processes",
    ("flow/training/update.py", "_masks"): "which rows have weight",
    ("flow/training/update.py", "accumulate_gradient"): "the means",
    ("flow/training/flow_grpo.py", "_update"): "the means",
    ("flow/training/finite_differences.py", "_update"): "the means",
    ("flow/training/dpo.py", "_backpropagate"): "the means",
    ("flow/training/loop.py", "apply_gradient"): "whether the gradient is a number",
}
"""(file, function) of a wait -> what for. Each is of a step, an update or a micro-batch; none is of
a step of the sampler or a model's layer. What goes to the GPU is not waited for
(``adrpo.core.placement``), but for the tokens that transformers' own classes send."""

ANONYMOUS = ("<dictcomp>", "<listcomp>", "<setcomp>", "<genexpr>", "<lambda>")
INSTRUMENTS = ("/torch/", "pretend_cuda.py", "gpu_proof/device.py", "contextlib.py", "warnings.py")
"""Files that see a wait, or pass it on."""
PASSED_ON = {("flow/methods/base.py", "_each"): "to"}
"""Functions that carry out what another one in their file asks."""


def place_of(wait: Wait) -> tuple[str, str, str]:
    """(file, function, "file:line") of the innermost call of adrpo; of any, where there is none."""
    inside = [frame for frame in wait.stack if OURS in frame.filename] or [
        frame for frame in wait.stack if not any(folder in frame.filename for folder in INSTRUMENTS)
    ]
    frame = (inside or list(wait.stack))[-1]
    file = frame.filename.partition(OURS)[2] or frame.filename
    function = next(
        (f.name for f in reversed(inside) if f.filename == frame.filename
         and f.name not in ANONYMOUS),
        frame.name,
    )  # fmt: skip
    function = PASSED_ON.get((file, function), function)
    return file, function, f"{file}:{frame.lineno}"


def summary(waits: Iterable[Wait]) -> dict[str, Any]:
    """``named`` and ``beyond``: rows of place, function, why, and times; ``total`` of all."""
    counts: Counter[tuple[tuple[str, str, str], str]] = Counter()
    for wait in waits:
        counts[place_of(wait), wait.why] += 1
    found: dict[str, Any] = {"total": sum(counts.values()), "named": [], "beyond": []}
    for ((file, function, line), why), times in counts.most_common():
        reason = NAMED.get((file, function))
        row = {"place": line, "function": function, "kind": why, "times": times}
        found["beyond" if reason is None else "named"].append(row | {"why": reason})
    return found


def lines(found: dict[str, Any]) -> list[str]:
    """The table of a summary."""
    rows = ["| place | function | times a step | what for |", "|---|---|---|---|"]
    for row in (*found["beyond"], *found["named"]):
        why = row["why"] or f"**not named**: {row['kind']}"
        rows.append(f"| `{row['place']}` | `{row['function']}` | {row['times']} | {why} |")
    return rows
