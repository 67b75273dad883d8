"""Builds the embedded models: ``python -m adrpo.embedded.build PART --work DIR``.

Parts, in order: vae, base, reward-clip, evaluation-clip, export, cards. The first four write
float32 models under DIR, export writes them in half precision into the package, cards the model
cards beside them (after benchmarks/embedded_quality.py). Needs a C++ compiler (torch.compile).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from adrpo.embedded.build import base, cards, clip, export, vae

SEED = 1


def _build(part: str, work: Path) -> dict[str, Any]:
    match part:
        case "vae":
            return vae.train(work / "vae", steps=2600, seed=SEED)
        case "base":
            return base.train(
                work / "vae", work / "base", steps=9000, dataset_size=40_000, seed=SEED
            )
        case "reward-clip":
            return clip.train(work / "reward_clip", clip.REWARD, steps=2800)
        case "evaluation-clip":
            return clip.train(work / "evaluation_clip", clip.EVALUATION, steps=1300)
        case "export":
            return export.export(work)
        case _:
            return cards.write_cards(work)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m adrpo.embedded.build", description=__doc__)
    parser.add_argument(
        "part", choices=("vae", "base", "reward-clip", "evaluation-clip", "export", "cards")
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the float32 models")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    measured = _build(arguments.part, arguments.work)
    print(json.dumps(measured, indent=1))
    if arguments.part in ("export", "cards"):
        return
    record = arguments.work / f"{arguments.part}.json"
    record.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
