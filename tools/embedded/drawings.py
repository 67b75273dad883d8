# diffusers' hints are narrower than what its classes take.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Images drawn by the base model with the gold scorer's verdicts: the reward's second teacher.

``python -m tools.embedded drawings --work DIR``. A reward model for generated images is
trained on judged generated images (ImageReward, PickScore and HPS on human choices); here the
judge is the gold scorer, and every prompt is of the training split, so nothing held out is seen.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor

from adrpo.embedded.gold import satisfies
from adrpo.embedded.scenes import Scene, caption, parse_caption, sample_split

PER_PROMPT = 4
SAMPLING_STEPS = (10, 10, 20)
"""Two thirds as training samples them, one third as the evaluation does."""


@dataclass(frozen=True, kw_only=True)
class Drawings:
    """``images`` uint8 [prompts, 4, 3, 64, 64] and ``right`` bool [prompts, 4]."""

    scenes: list[Scene]
    images: Tensor
    right: Tensor

    def part(self, rows: slice) -> "Drawings":
        return Drawings(scenes=self.scenes[rows], images=self.images[rows], right=self.right[rows])


def draw_and_judge(folder: Path, output: Path, *, prompts: int, seed: int) -> dict[str, float]:
    """Draw four images for each of ``prompts`` scenes with the pipeline of ``folder``, in
    bfloat16, judge them, and save both."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    scenes = [sample_split(rng, split="train") for _ in range(prompts)]
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        folder, text_encoder_3=None, tokenizer_3=None, dtype=torch.bfloat16
    )
    pipeline.set_progress_bar_config(disable=True)
    images, right = [], []
    for start in range(0, prompts, 16):
        chunk = [scene for scene in scenes[start : start + 16] for _ in range(PER_PROMPT)]
        drawn = pipeline(
            [caption(scene) for scene in chunk],
            num_inference_steps=SAMPLING_STEPS[start // 16 % len(SAMPLING_STEPS)],
            guidance_scale=1.0,
            max_sequence_length=1,
            generator=generator,
        ).images
        images.append(np.stack([np.asarray(image) for image in drawn]))
        right += [satisfies(image, scene) for image, scene in zip(drawn, chunk, strict=True)]
        if start % 320 == 0:
            print(f"drawn {start}/{prompts}, right {np.mean(right):.3f}", flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        output,
        captions=[caption(scene) for scene in scenes],
        images=np.concatenate(images).reshape(prompts, PER_PROMPT, 64, 64, 3),
        right=np.reshape(right, (prompts, PER_PROMPT)),
    )
    return {"prompts": prompts, "images": prompts * PER_PROMPT, "right": float(np.mean(right))}


def load_drawings(file: Path) -> Drawings:
    with np.load(file) as saved:
        images = torch.from_numpy(saved["images"]).permute(0, 1, 4, 2, 3).contiguous()
        return Drawings(
            scenes=[parse_caption(str(text)) for text in saved["captions"]],
            images=images,
            right=torch.from_numpy(saved["right"]),
        )
