"""The share of FDFO's pairs that tell something by their churn, of a graded reward and of 0 or 1.

``python benchmarks/pair_information.py [--pairs 96] [--churns 0.0025 0.01 ...]``
(``--output benchmarks/results/pair_information``)

A pair of equal rewards teaches nothing. The untrained embedded model draws one pair for each of the
first training prompts, from the same noises at every churn, by the 10 steps of ``flow/fdfo``. Three
rewards score it: CLIP score, the share of requirements that the judge of scenes sees met, and the
judge's verdict. Written: ``rows.jsonl`` (each pair at each churn: rms of d, and both rewards of
each kind), ``summary.json``, and ``table.md``: the share of informative pairs, and mean |dR| in
standard deviations of the reward over all samples of that churn, of which more is more signal.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adrpo.config import load_flow_config
from adrpo.core.finite_differences import half_differences
from adrpo.data.base import Prompt
from adrpo.embedded.gold import gold_scores, satisfied_share
from adrpo.embedded.scenes import parse_caption
from adrpo.flow.models.loading import load_with_prompts
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.models.prompt_set import PromptSet
from adrpo.flow.path.churn import churned_euler
from adrpo.flow.path.draws import initial_noise
from adrpo.flow.run_prompts import load_train
from adrpo.rewards.image import ClipScore
from adrpo.runs.environment import environment_record

CHURNS = (0.0025, 0.01, 0.03, 0.1, 0.3, 1.0)
REWARDS = ("clip_score", "requirements", "verdict")
AT_ONCE = 64
"""Samples of one call, an even number."""


def draw(policy: PipelinePolicy, prompts: PromptSet, churn: float, steps: int) -> Tensor:
    """x_1 of one pair for each prompt, pair after pair."""
    pairs, shape, times = len(prompts), policy.latent_shape, policy.time_grid(steps)
    x_0 = initial_noise(pairs, shape, 0, "pairs").repeat_interleave(2, 0)
    fresh = [initial_noise(2 * pairs, shape, 0, "churn", step) for step in range(steps)]
    found = []
    for rows in torch.arange(2 * pairs).split(AT_ONCE):
        given = prompts.conditioning.select(rows // 2)
        run = churned_euler(
            lambda x, t, given=given: policy.velocity(x, t, given),
            x_0[rows].to(policy.device),
            times,
            churn=churn,
            noise=lambda step, rows=rows: fresh[step][rows],
        )
        found.append(run.x_1)
    return torch.cat(found)


def measure(pairs: int, churns: tuple[float, ...]) -> list[dict[str, Any]]:
    """One row for each pair at each churn."""
    config = load_flow_config("flow/fdfo", [f"prompts.train_size={pairs}"])
    train: list[Prompt] = list(load_train(config))[:pairs]
    policy, sets = load_with_prompts(config.model, {"train": train})
    prompts, clip = sets["train"], ClipScore("embedded", str(policy.device))
    texts = [prompt.text for prompt in train for _ in range(2)]
    scenes = [parse_caption(text) for text in texts]
    rows: list[dict[str, Any]] = []
    for churn in churns:
        with torch.no_grad():
            x_1 = draw(policy, prompts, churn, config.sampling.steps)
            images = [image for image in policy.decode(x_1) if image is not None]
        assert len(images) == len(texts), "an image was not finite"
        scores = {
            "clip_score": clip(texts, images=images),
            "requirements": [
                satisfied_share(image, scene) for image, scene in zip(images, scenes, strict=True)
            ],
            "verdict": gold_scores(texts, images),
        }
        apart = half_differences(x_1).square().flatten(1).mean(1).sqrt()[::2].tolist()
        for pair, distance in enumerate(apart):
            both = slice(2 * pair, 2 * pair + 2)
            of_pair = {name: [float(v or 0) for v in scores[name][both]] for name in REWARDS}
            rows.append({"churn": churn, "pair": pair, "rms_d": distance, **of_pair})
        print(f"churn {churn}", flush=True)
    return rows


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The means of each churn."""
    summary = []
    for churn in dict.fromkeys(row["churn"] for row in rows):
        own = [row for row in rows if row["churn"] == churn]
        line: dict[str, Any] = {"churn": churn, "rms_d": sum(r["rms_d"] for r in own) / len(own)}
        for name in REWARDS:
            values = torch.tensor([row[name] for row in own], dtype=torch.float64)
            half = (values[:, 0] - values[:, 1]) / 2
            line[f"{name}_informative"] = float((half != 0).double().mean())
            line[f"{name}_signal"] = float(half.abs().mean() / values.std(correction=0))
        summary.append(line)
    return summary


def table(summary: list[dict[str, Any]]) -> str:
    head = [f"{name}: informative pairs, mean \\|dR\\|" for name in REWARDS]
    lines = ["| churn | rms of d | " + " | ".join(head) + " |", "|---" * (2 + len(REWARDS)) + "|"]
    for line in summary:
        cells = [f"{line[f'{n}_informative']:.2f}, {line[f'{n}_signal']:.3f}" for n in REWARDS]
        lines.append(f"| {line['churn']} | {line['rms_d']:.3f} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=96)
    parser.add_argument("--churns", type=float, nargs="+", default=list(CHURNS))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/pair_information"))
    options = parser.parse_args()
    rows = measure(options.pairs, tuple(options.churns))
    summary = summarise(rows)
    churns = " ".join(map(str, options.churns))
    record = {
        "command": f"python benchmarks/pair_information.py --pairs {options.pairs} "
        f"--churns {churns}",
        "churns": summary,
        "environment": environment_record(),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (options.output / "rows.jsonl").write_text(lines, encoding="utf-8")
    (options.output / "summary.json").write_text(json.dumps(record, indent=1) + "\n")
    (options.output / "table.md").write_text(table(summary), encoding="utf-8")
    print(table(summary))


if __name__ == "__main__":
    main()
