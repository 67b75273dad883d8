"""One run of one loop in a process of its own: ``python -m benchmarks.peer_loops.one_run``.

The arguments are one JSON object: ``name``, ``seed``, ``steps``, ``every``, ``overrides`` and
``output``, the file that the row is written to, all at once. Clocks run in steps alone: evaluations
stand still. Seconds of the processor are of all threads of the process.
"""

import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from adrpo.config import FlowConfig, load_flow_config
from adrpo.data.base import columns_of
from adrpo.embedded.gold import gold_scores
from adrpo.flow.domain import build_trainer
from adrpo.flow.training.online import OnlineLoop
from adrpo.rewards.scoring import score
from adrpo.runs.durable import write_durably
from benchmarks.peer_loops.counting import Counter
from benchmarks.peer_loops.loops import build_loop, recipe_of
from benchmarks.peer_loops.structures import VERIFIABLE

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def configuration(name: str, seed: int, steps: int, overrides: Sequence[str]) -> FlowConfig:
    """The recipe of a loop, rewarded as flow/verifiable is, on the CPU and without a CLIP judge,
    whose memory would be in every peak."""
    common = ["model.device=cpu", "evaluation.clip=null", VERIFIABLE]
    own = [f"training.seed={seed}", f"training.steps={steps}"]
    return load_flow_config(recipe_of(name), [*common, *own, *overrides])


def forget_peak() -> None:
    """Let the peak of the process's memory begin anew, where the system can."""
    if CLEAR.exists():
        CLEAR.write_text("5")


def peak_bytes() -> int:
    """The peak of the process's resident memory since ``forget_peak``, or in all where the system
    has no /proc."""
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measured(trainer: OnlineLoop) -> dict[str, float]:
    """Means over the held-out images that the policy draws as it is now: ``gold_accuracy``, the
    share that is right, and ``reward``, the one that is trained on."""
    drawing: Any = trainer.evaluator.drawing
    drawn = drawing.draw()
    prompts = [prompt for prompt in drawing.prompts for _ in range(drawing.samples_per_prompt)]
    texts = [prompt.text for prompt in prompts]

    def gold(places: list[int], images: list[Image]) -> Tensor:
        return torch.tensor(gold_scores([texts[place] for place in places], images))

    # An image that isn't finite is wrong.
    rewards = score(trainer.reward, images=drawn.images, **columns_of(prompts)).total
    return {
        "gold_accuracy": float(drawn.measured(gold).nan_to_num(0).mean()),
        "reward": float(rewards.nan_to_num(0).mean()),
    }


def run(name: str, seed: int, steps: int, every: int, overrides: Sequence[str]) -> dict[str, Any]:
    """The row of a run: its steps, each with seconds, rows and peak, and its evaluations."""
    config = configuration(name, seed, steps, overrides)
    trainer = build_trainer(config)
    assert isinstance(trainer, OnlineLoop), config.algorithm.method
    loop = build_loop(name, trainer)
    counter = Counter(trainer.policy.pipeline)
    images = config.training.prompts_per_step * config.training.samples_per_prompt
    spent = {"seconds": 0.0, "cpu_seconds": 0.0}
    rows: list[dict[str, Any]] = []
    evaluations = [{"step": 0, **spent, **measured(trainer)}]
    for step in range(1, steps + 1):
        counter.begin(images)
        forget_peak()
        before = time.perf_counter(), time.process_time()
        reward = loop.step(step)["reward_mean"]
        own = {
            "seconds": time.perf_counter() - before[0],
            "cpu_seconds": time.process_time() - before[1],
        }
        spent = {key: spent[key] + own[key] for key in spent}
        found = {"images": images, "reward_mean": reward, "peak_bytes": peak_bytes()}
        rows.append({"step": step, **own, **found, **counter.found()})
        if step % every == 0 or step == steps:
            evaluations.append({"step": step, **spent, **measured(trainer)})
    return {
        "loop": name,
        "recipe": recipe_of(name),
        "seed": seed,
        "threads": torch.get_num_threads(),
        "steps": rows,
        "evaluations": evaluations,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    given = json.loads((sys.argv[1:] if arguments is None else arguments)[0])
    output = Path(given.pop("output"))
    text = json.dumps(run(**given), indent=1) + "\n"
    write_durably(output, text.encode())


if __name__ == "__main__":
    main()
