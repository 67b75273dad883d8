"""Writes the built models in half precision into the package's weights folder."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusion3Pipeline
from transformers import CLIPModel

WEIGHTS = Path(__file__).parents[2] / "src" / "adrpo" / "embedded" / "weights"


def export(work: Path) -> dict[str, int]:
    """Export pipeline and CLIP models; returns the bytes of each."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        work / "pipeline", text_encoder_3=None, tokenizer_3=None
    )
    _replace(WEIGHTS / "pipeline")
    pipeline.to(dtype=torch.float16).save_pretrained(WEIGHTS / "pipeline")
    for name in ("reward_clip", "evaluation_clip"):
        _replace(WEIGHTS / name)
        CLIPModel.from_pretrained(work / name).half().save_pretrained(WEIGHTS / name)
        for file in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
            shutil.copy(work / name / file, WEIGHTS / name / file)
    for file in WEIGHTS.rglob("*.json"):
        _forget_where_it_was_built(file)
    return {
        folder.name: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        for folder in sorted(WEIGHTS.iterdir())
        if folder.is_dir()
    }


def _forget_where_it_was_built(file: Path) -> None:
    """Drop the path of the builder's machine, which save_pretrained notes."""
    content = json.loads(file.read_text(encoding="utf-8"))
    if content.pop("_name_or_path", None) is not None:
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _replace(folder: Path) -> None:
    """Empty ``folder`` but for its model card."""
    for item in folder.glob("*"):
        if item.is_dir():
            shutil.rmtree(item)
        elif item.name != "README.md":
            item.unlink()
