"""Builds the embedded models: ``python -m tools.embedded PART --work DIR``.

Parts, in order: vae, base, noisy-base, pipeline, drawings, reward-clip, evaluation-clip, export,
cards.
All but the last two write float32 models (or the drawings) under DIR; export writes them in half
precision into the package, cards the model cards beside them (after
benchmarks/embedded_quality.py). The part language stands alone: it trains the language model,
exports it and writes its card; language-reward does so for the reward model of its answers, which
are drawn from the exported language model; audio-language trains, exports and measures the
audio-language model; words renders the words of the sounds world.
``--start`` names a folder of weights to go on from.
Needs a C++ compiler (torch.compile).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from tools.embedded import (
    audio_language,
    audio_language_quality,
    base,
    cards,
    clip,
    drawings,
    export,
    language,
    language_quality,
    language_reward,
    language_reward_quality,
    vae,
    words,
)

PARTS = (
    "vae",
    "base",
    "noisy-base",
    "pipeline",
    "drawings",
    "reward-clip",
    "evaluation-clip",
    "export",
    "cards",
    "language",
    "language-reward",
    "audio-language",
    "words",
)
CAPTION_NOISE = 0.25


def _build(part: str, work: Path, start: Path | None) -> dict[str, Any]:
    match part:
        case "vae":
            return vae.train(work / "vae", steps=2600, seed=1)
        case "base":
            return base.train(work / "vae", work / "base", steps=9000, dataset_size=40_000, seed=1)
        case "noisy-base":
            return base.train(
                work / "vae",
                work / "noisy_base",
                steps=3000,
                dataset_size=40_000,
                seed=2,
                caption_noise=CAPTION_NOISE,
                start=start or work / "base",
            )
        case "pipeline":
            return base.mean_pipeline(
                start or work / "base", work / "noisy_base", work / "pipeline"
            )
        case "drawings":
            drawn_by = start or work / "base"
            return drawings.draw_and_judge(drawn_by, work / "drawings.npz", prompts=12_000, seed=6)
        case "reward-clip":
            return clip.train(
                work / "reward_clip",
                clip.REWARD,
                steps=2400,
                start=start,
                drawings_file=work / "drawings.npz",
            )
        case "evaluation-clip":
            return clip.train(work / "evaluation_clip", clip.EVALUATION, steps=1500, start=start)
        case "language" | "language-reward" | "audio-language":
            return _build_of_text(part, work)
        case _:
            return _written(part, work)


def _written(part: str, work: Path) -> dict[str, Any]:
    """Write what the package has beside the trained models: their half precision, cards, words."""
    if part == "words":
        return words.build(work)
    return export.export(work) if part == "export" else cards.write_cards(work)


def _build_of_text(part: str, work: Path) -> dict[str, Any]:
    """Train, export and measure a model that reads text, with sound or alone."""
    names = {"language": "language_model", "audio-language": "audio_language_model"}
    name = names.get(part, "language_reward")
    output, folder = work / name, export.WEIGHTS / name
    if part == "audio-language":
        trained = audio_language.train(output, steps=audio_language.Steps(), seed=1)
        return trained | audio_language_quality.publish(output, folder, trained)
    if part == "language":
        trained = language.train(output, steps=1500, seed=1)
        return trained | language_quality.publish(output, folder, trained)
    trained = language_reward.train(output, seed=1)
    return trained | language_reward_quality.publish(output, folder, trained)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.embedded", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--work", type=Path, required=True, help="folder of the float32 models")
    parser.add_argument("--start", type=Path, default=None, help="weights to go on from")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    measured = _build(arguments.part, arguments.work, arguments.start)
    print(json.dumps(measured, indent=1))
    if arguments.part in ("export", "cards"):
        return
    record = arguments.work / f"{arguments.part}.json"
    record.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
