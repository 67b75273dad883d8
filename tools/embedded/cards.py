"""Writes the model cards from the records of the builds and the measured quality.

``python benchmarks/embedded_quality.py --output benchmarks/results/embedded_quality`` first, then
``python -m tools.embedded cards --work DIR``.
"""

import json
from pathlib import Path
from typing import Any

from tools.embedded import base, clip, vae
from tools.embedded.export import WEIGHTS

QUALITY = Path("benchmarks/results/embedded_quality/summary.json")

HEAD = """\
---
license: apache-2.0
library_name: {library}
tags: [adrpo, scenes]
---

# {title}

{what}

| | |
|---|---|
"""

LOAD_PIPELINE = """
```python
import torch
from diffusers import StableDiffusion3Pipeline
from adrpo.embedded.weights import weights_path

pipeline = StableDiffusion3Pipeline.from_pretrained(
    weights_path("pipeline"), text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
)
image = pipeline("a red circle left of a blue square", num_inference_steps=20).images[0]
```
"""


def _rows(rows: dict[str, Any]) -> str:
    return "".join(f"| {name} | {value} |\n" for name, value in rows.items())


def _minutes(record: dict[str, Any]) -> str:
    """Steps and time; ``earlier`` is what the record's ``--start`` weights went through."""
    earlier = f"{record['earlier']}, then " if "earlier" in record else ""
    return f"{earlier}{record['steps']} steps, {record['seconds'] / 60:.0f} minutes on CPU cores"


def _record(work: Path, name: str) -> dict[str, Any]:
    return json.loads((work / f"{name}.json").read_text(encoding="utf-8"))


def _pipeline_card(work: Path, quality: dict[str, Any]) -> str:
    clean, noisy, encoded = (_record(work, name) for name in ("base", "noisy-base", "vae"))
    measured = quality["pipeline"]
    low, high = measured["gold_accuracy_low"], measured["gold_accuracy_high"]
    categories = ", ".join(
        f"{name.removeprefix('gold_accuracy_')} {value:.2f}"
        for name, value in measured.items()
        if name.startswith("gold_accuracy_")
        and name.split("_")[2] not in ("low", "high", "guidance")
    )
    what = (
        "A `StableDiffusion3Pipeline` of 64x64 scenes without T5: the base model that adrpo's "
        "demo, tests and recipes fine-tune. It knows captions of the scenes world only."
    )
    return (
        HEAD.format(library="diffusers", title="adrpo embedded pipeline", what=what)
        + _rows(
            {
                "Data": "scenes of the training split, drawn by `adrpo.embedded.rendering`; the "
                "held-out fifth of the combinations never seen",
                "Transformer": f"SD3Transformer2DModel, width {base.WIDTH}, {base.LAYERS} layers, "
                f"batch {base.BATCH}: {_minutes(clean)} (seed 1); then {_minutes(noisy)} (seed 2) "
                "with a quarter of the captions off by one attribute, as captions from the web "
                "are; the shipped weights are the mean of the two, as in a model soup",
                "Autoencoder": f"AutoencoderKL, 64x64 to 4x16x16, batch {vae.BATCH}, seed 1, "
                f"{_minutes(encoded)}, PSNR {encoded['psnr']:.1f} dB",
                "Build": "`python -m tools.embedded vae`, `base`, `noisy-base`, `pipeline`, "
                "`export`",
            }
        )
        + "\n## Quality\n\n"
        + f"Gold accuracy on held-out prompts, 20 Euler steps without guidance: "
        f"**{measured['gold_accuracy']:.3f}** [{low:.3f}, {high:.3f}] over {measured['images']} "
        f"images ({categories}); with guidance 3: {measured['gold_accuracy_guidance_3']:.3f}. "
        f"From `benchmarks/embedded_quality.py`.\n\n## Use\n" + LOAD_PIPELINE
    )


def _taught(name: str) -> str:
    """Data that each of the two was trained on beside captions, as text."""
    return {
        "reward_clip": "; three times 48,000 drawings for captions of the training split, judged "
        "by the gold scorer, as PickScore is trained on judged images: first those of the "
        "9,000-step base, then those of the shipped pipeline, eight for each of 6,000 captions and "
        "four for each of 12,000; a quarter of the weights is that before the last 2,400 steps "
        "(WiSE-FT)",
        "evaluation_clip": "; no drawings and no judge, but SLIP's self-supervised term, so that "
        "two pictures of one caption stay apart and CLIP diversity sees their layout",
    }[name]


def _probability(name: str, quality: dict[str, Any]) -> str:
    if name != "reward_clip":
        return ""
    fitted = quality["reward_logistic"]
    return (
        f"\nAs a probability of being right: sigmoid((score - {fitted['location']:.1f}) / "
        f"{fitted['scale']:.2f}), fitted to {fitted['images']} images for prompts of the training "
        "split.\n"
    )


def _clip_card(name: str, recipe: clip.ClipRecipe, work: Path, quality: dict[str, Any]) -> str:
    trained = _record(work, name.replace("_", "-"))
    measured = quality[name]
    role = {
        "reward_clip": "The reward of adrpo's recipes: CLIP score is 100 cos(image, text).",
        "evaluation_clip": "A second opinion, kept for evaluation: no recipe trains against it.",
    }[name]
    split = "all combinations" if recipe.held_out_too else "combinations of the training split"
    return (
        HEAD.format(library="transformers", title=f"adrpo {name.replace('_', ' ')}", what=role)
        + _rows(
            {
                "Data": f"{recipe.pool} scenes, {split}; captions one attribute away and spoilt "
                f"pictures as hard negatives; slight blur, noise and shifts on all{_taught(name)}",
                "Model": f"CLIPModel, vision width {recipe.vision_width}, "
                f"{recipe.vision_layers} layers; text width {recipe.text_width}, "
                f"{recipe.text_layers} layers",
                "Training": f"batch {clip.BATCH}, seed {recipe.seed}, {_minutes(trained)}",
                "Build": f"`python -m tools.embedded {name.replace('_', '-')}`, `export`",
            }
        )
        + "\n## Quality\n\n"
        + _rows(
            {
                "share of held-out pictures whose own caption beats every caption one attribute "
                "away": f"{measured['exact_caption']:.2f}",
                "share of captions whose right picture beats a spoilt one": (
                    f"{measured['beats_spoilt']:.2f}"
                ),
                "rank correlation with the gold scorer's verdict within a prompt, on images that "
                "the pipeline draws": f"{measured['rank_correlation_with_gold_within_prompt']:.2f} "
                f"(mean over {measured['prompts_with_right_and_wrong_images']} prompts)",
                "the same with the share of the caption's requirements that an image meets": (
                    f"{measured['rank_correlation_with_requirements_met']:.2f} "
                    f"(mean over {measured['prompts_with_different_shares']} prompts)"
                ),
                "that with the verdict, if the score ranked every right image above every wrong "
                "one": (f"{measured['rank_correlation_of_a_perfect_score']:.2f}"),
                "share of pairs of a right and a wrong image of one prompt that the score puts in "
                "order": f"{measured['pairs_in_order']:.2f}",
                "mean score of right and of wrong images": (
                    f"{measured['score_of_right_images']:.1f}, "
                    f"{measured['score_of_wrong_images']:.1f}"
                ),
            }
        ).replace("| share", "| measure | value |\n|---|---|\n| share", 1)
        + _probability(name, quality)
        + "\nFrom `benchmarks/embedded_quality.py`.\n"
    )


def write_cards(work: Path) -> dict[str, int]:
    """Write README.md beside each model; returns their lengths."""
    quality = json.loads(QUALITY.read_text(encoding="utf-8"))
    cards = {
        "pipeline": _pipeline_card(work, quality),
        "reward_clip": _clip_card("reward_clip", clip.REWARD, work, quality),
        "evaluation_clip": _clip_card("evaluation_clip", clip.EVALUATION, work, quality),
    }
    for name, card in cards.items():
        (WEIGHTS / name / "README.md").write_text(card, encoding="utf-8")
    return {name: len(card) for name, card in cards.items()}
