"""The cost of an ADRPO step over GRPO's on audio, and what kept clips and left-out rows save.

``python benchmarks/audio_step_cost.py [--rounds 9] [--output benchmarks/results/audio_step_cost]``

Trainers of the embedded model with the batch of the recipe ``audio/embedded`` take turns in one
process, round after round: GRPO with the same beta, whose coefficient needs the reference of every
row; ADRPO with the reference pass over all rows; ADRPO as it is, which leaves out rows whose
coefficient is 0; and ADRPO that encodes the clip of each row again in every pass, as a Thinker does
by itself. The learning rate is 0, so that all draw the same completions and their counts can be
compared: completions, their tokens, rows of the reference pass, runs of the encoder.

A step's cost is the CPU time of its process on one thread, so that other load on the machine does
not count; the first step of a round is left out. Reported are the median over rounds of the ratio
to GRPO within a round, and half the width of the 95 % interval of their mean over rounds (Student's
t): no smaller difference could have been told.
"""

import argparse
import gc
import json
import math
import statistics
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from llm_step_cost import Stopwatch
from scipy import stats
from transformers.trainer_callback import PrinterCallback

from adrpo.audio import AudioADRPOTrainer
from adrpo.audio.data import load_train
from adrpo.audio.encoder import Clip, FrozenEncoder
from adrpo.config.audio_prompts import AudioPromptsSection
from adrpo.embedded.weights import weights_path
from adrpo.llm import ADRPOConfig
from adrpo.rewards.multiple_choice import MultipleChoice
from adrpo.runs.environment import environment_record

STEPS = 5
AGAIN = "adrpo, clips encoded in every pass"
VARIANTS: dict[str, dict[str, Any]] = {
    "grpo": {"coefficient": "fixed"},
    "adrpo, all reference rows": {"reference_rows": "all"},
    "adrpo": {},
    AGAIN: {},
}


class ForgottenClip(Clip):
    """A clip that is encoded again whenever it is heard."""

    def __init__(self, encoder: "Forgetful", features: Any, tokens: int) -> None:
        self.__dict__.update(encoder=encoder, features=features, length=tokens)

    @property
    def embedding(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.encoder.encode(self.features).embedding

    @property
    def tokens(self) -> int:
        return self.length


class Forgetful:
    """The encoder of a trainer, whose output nobody keeps."""

    def __init__(self, encoder: FrozenEncoder) -> None:
        self.encode = encoder

    @property
    def calls(self) -> int:
        return self.encode.calls

    def __call__(self, features: Any) -> ForgottenClip:
        return ForgottenClip(self, features, self.encode(features).tokens)


def questions() -> Dataset:
    prompts = load_train(AudioPromptsSection(train_size=300))
    return Dataset.from_list([{"prompt": one.content, **one.columns} for one in prompts])


def right(**columns: Any) -> list[float | None]:
    return MultipleChoice(whole=True)(**columns)


def run(variant: str, data: Dataset, folder: Path) -> tuple[list[float], dict[str, float]]:
    """CPU seconds of the steps of one trainer but the first, and its counts over all steps."""
    arguments = ADRPOConfig(
        str(folder), beta=0.04, loss_type="grpo", use_bias_correction_kl=False,
        per_device_train_batch_size=64, gradient_accumulation_steps=2, num_generations=8,
        max_completion_length=24, learning_rate=0.0, max_steps=STEPS, logging_steps=1,
        save_strategy="no", report_to="none", disable_tqdm=True, log_level="error", use_cpu=True,
        bf16=False, gradient_checkpointing=False, seed=0, **VARIANTS[variant],
    )  # fmt: skip
    stopwatch = Stopwatch()
    trainer = AudioADRPOTrainer(
        str(weights_path("audio_language_model")), right, arguments, data, callbacks=[stopwatch]
    )
    trainer.remove_callback(PrinterCallback)
    if variant == AGAIN:
        trainer._encoder = Forgetful(trainer._encoder)  # pyright: ignore[reportAttributeAccessIssue]
    calls = trainer._encoder.calls
    trainer.train()
    rows = [row for row in trainer.state.log_history if "reward" in row]
    completions = 128.0 * len(rows)
    gc.collect()
    return stopwatch.seconds(), {
        "completions": completions,
        "tokens": sum(128 * row["completions/mean_length"] for row in rows),
        "reference_rows": sum(128 * row["adrpo/reference_frac"] for row in rows),
        "encoder_runs": trainer._encoder.calls - calls,
    }


def compare(rounds: int, folder: Path) -> dict[str, Any]:
    """Variant -> counts, median CPU seconds, and ratios to GRPO within rounds."""
    data = questions()
    medians: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    counts: dict[str, dict[str, float]] = {}
    for place in range(rounds):
        # Every variant comes first, second and last as often as the others.
        names = [*VARIANTS]
        shift = place % len(names)
        for variant in names[shift:] + names[:shift]:
            seconds, counted = run(variant, data, folder)
            assert counts.setdefault(variant, counted) == counted, "the seed gives the same step"
            medians[variant].append(statistics.median(seconds))
            print(f"  {variant}: {medians[variant][-1]:.3f} s of CPU a step, {counted}", flush=True)
    found = {}
    for variant, values in medians.items():
        ratios = [own / stock for own, stock in zip(values, medians["grpo"], strict=True)]
        found[variant] = {
            **counts[variant],
            "cpu_seconds_median": statistics.median(values),
            "ratio_median": statistics.median(ratios),
            "least_difference": least_difference(ratios),
            "ratios": ratios,
        }
    return found


def least_difference(ratios: list[float]) -> float:
    """Half the width of the 95 % interval of the mean of ``ratios``."""
    if len(ratios) < 2:
        return math.inf
    width = stats.t.ppf(0.975, len(ratios) - 1)
    return float(width * statistics.stdev(ratios) / math.sqrt(len(ratios)))


def to_markdown(found: dict[str, Any]) -> str:
    lines = [
        "| trainer | completions | their tokens | reference rows | encoder runs "
        "| CPU over GRPO's | least difference that could be told |",
        "|---|---|---|---|---|---|---|",
    ]
    for variant, row in found.items():
        counts = [row[name] for name in ("completions", "tokens", "reference_rows", "encoder_runs")]
        cells = [variant, *(f"{count:.0f}" for count in counts), f"{row['ratio_median']:.3f}"]
        told = "" if variant == "grpo" else f"{row['least_difference']:.3f}"
        lines.append(f"| {' | '.join([*cells, told])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/audio_step_cost"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing", FutureWarning)
    with tempfile.TemporaryDirectory() as temporary:
        found = compare(arguments.rounds, Path(temporary))
    arguments.output.mkdir(parents=True, exist_ok=True)
    record = {
        "command": " ".join(["python", *sys.argv]),
        "steps_a_round": STEPS,
        "variants": found,
        "environment": environment_record(),
    }
    text = json.dumps(record, indent=1) + "\n"
    (arguments.output / "summary.json").write_text(text, encoding="utf-8")
    (arguments.output / "table.md").write_text(to_markdown(found), encoding="utf-8")
    print(to_markdown(found), end="")


if __name__ == "__main__":
    main()
