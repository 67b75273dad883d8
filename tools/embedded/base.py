# diffusers' and transformers' hints are narrower than what these classes take.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Trains the base model: a small StableDiffusion3Pipeline on scenes of the training split.

``python -m tools.embedded base --work DIR``. Conditional flow matching (eq. 5 of the ADRPO
paper) on the autoencoder's latents: mean squared error of the velocity, a tenth of the captions
dropped for guidance, the text encoders trained along. The saved weights are the moving average.
"""

import time
from collections import Counter
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from adrpo.embedded.gold import satisfies
from adrpo.embedded.rendering import SOLID
from adrpo.embedded.scenes import (
    Scene,
    caption,
    hard_negatives,
    prompt_set,
    sample_split,
    split_of,
)
from tools.embedded.batches import pictures
from tools.embedded.optimization import Schedule, optimizers
from tools.embedded.tokenizer import MAX_LENGTH, build_tokenizer
from tools.embedded.vae import encode

TEXT_WIDTH = 64
WIDTH = 128
HEADS = 4
LAYERS = 5
BATCH = 64
MUON_RATE = 3e-3
ADAM_RATE = 1.2e-3
GOING_ON_RATE = 6e-4
"""AdamW's, where a trained pipeline is trained on: Muon's plateau would undo its last part."""

WARMUP = 200
CAPTION_DROPOUT = 0.1
EMA_DECAY = 0.999
LONG_CONTEXT_EVERY = 10
"""Every tenth step pads the context with 256 zero tokens instead of 1, as diffusers does by
default where the third text encoder is absent, so that ``pipe(prompt)`` works as it stands."""

CATEGORY_WEIGHTS = {
    "color": 0.10,
    "style": 0.13,
    "counting": 0.20,
    "position": 0.21,
    "binding": 0.21,
    "text": 0.15,
}


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_transformer() -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=LAYERS,
        attention_head_dim=WIDTH // HEADS,
        num_attention_heads=HEADS,
        joint_attention_dim=2 * TEXT_WIDTH,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=2 * TEXT_WIDTH,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )


class Base(nn.Module):
    """The trained parts of the pipeline; ``forward`` is the velocity in diffusers' sign."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = new_text_encoder(tokenizer)
        self.text_encoder_2 = new_text_encoder(tokenizer)
        self.transformer = new_transformer()

    def forward(self, latents: Tensor, sigma: Tensor, input_ids: Tensor, padding: int) -> Tensor:
        encoded = [
            encoder(input_ids, output_hidden_states=True)
            for encoder in (self.text_encoder, self.text_encoder_2)
        ]
        context = torch.cat([output.hidden_states[-2] for output in encoded], dim=-1)
        context = torch.cat(
            [context, context.new_zeros(len(context), padding, context.shape[-1])], 1
        )
        pooled = torch.cat([output.text_embeds for output in encoded], dim=-1)
        return self.transformer(
            hidden_states=latents,
            timestep=sigma * 1000,
            encoder_hidden_states=context,
            pooled_projections=pooled,
            return_dict=False,
        )[0]


def _misread(scene: Scene, rng: np.random.Generator) -> Scene:
    """A scene of the training split one attribute away."""
    near = [other for other in hard_negatives(scene) if split_of(other) == "train"]
    return near[rng.integers(len(near))]


@torch.inference_mode()
def encode_dataset(
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    size: int,
    rng: np.random.Generator,
    *,
    caption_noise: float,
) -> tuple[Tensor, Tensor]:
    """Latents [size, 4, 16, 16] (normalised) and caption tokens [size, 16].

    A share ``caption_noise`` of the captions is off by one attribute, as captions from the web
    are.
    """
    latents, tokens = [], []
    categories = rng.choice(list(CATEGORY_WEIGHTS), size=size, p=list(CATEGORY_WEIGHTS.values()))
    for start in range(0, size, 250):
        chunk = categories[start : start + 250]
        scenes = [sample_split(rng, split="train", category=str(c)) for c in chunk]
        with torch.autocast("cpu", torch.bfloat16):
            mean = encode(vae, pictures(scenes, rng, open_styles=SOLID)).mean.float()
        latents.append((mean - vae.config["shift_factor"]) * vae.config["scaling_factor"])
        captions = [
            caption(_misread(scene, rng) if rng.random() < caption_noise else scene)
            for scene in scenes
        ]
        tokens.append(tokenizer(captions, padding="max_length", return_tensors="pt").input_ids)
        if start % 10_000 == 0:
            print(f"encoded {start}/{size}", flush=True)
    return torch.cat(latents), torch.cat(tokens)


def assemble(model: Base, vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> StableDiffusion3Pipeline:
    pipeline = StableDiffusion3Pipeline(
        transformer=model.transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        text_encoder_2=model.text_encoder_2,
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def gold_accuracy(
    pipeline: StableDiffusion3Pipeline, *, prompts: int, guidance_scale: float, steps: int = 20
) -> dict[str, float]:
    """Share of right images on held-out prompts, overall and by category."""
    scenes = prompt_set(prompts, split="held_out", seed=1)
    right, seen = Counter[str](), Counter[str]()
    generator = torch.Generator().manual_seed(0)
    for start in range(0, prompts, 60):
        chunk = scenes[start : start + 60]
        images = pipeline(
            [caption(scene) for scene in chunk],
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            max_sequence_length=1,
            generator=generator,
        ).images
        for scene, image in zip(chunk, images, strict=True):
            for key in ("all", scene.category):
                right[key] += satisfies(image, scene)
                seen[key] += 1
    return {key: round(right[key] / seen[key], 3) for key in seen}


def noise_levels(count: int, generator: torch.Generator) -> Tensor:
    """sigma [count]: one half uniform, one half logit-normal and shifted to more noise, where
    number and places of the objects are decided."""
    uniform = torch.rand(count, generator=generator)
    normal = torch.sigmoid(0.4 + torch.randn(count, generator=generator))
    return torch.where(torch.arange(count) % 2 == 0, uniform, normal)


def load_parts(model: Base, pipeline_folder: Path) -> None:
    """Fill ``model`` from a saved pipeline, in float32."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        pipeline_folder, text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
    )
    for name, module in model.named_children():
        module.load_state_dict(getattr(pipeline, name).state_dict())


class Training:
    """The model, its moving average and its optimizers: what a stopped call goes on from."""

    def __init__(self, model: Base, output: Path, *, steps: int, going_on: bool) -> None:
        self.model = model
        self.average = deepcopy(model).eval().requires_grad_(False)
        self.compiled = torch.compile(model, dynamic=False)
        if going_on:
            self.optimizing = [torch.optim.AdamW(model.parameters(), lr=GOING_ON_RATE, fused=True)]
        else:
            self.optimizing = optimizers(model, muon_rate=MUON_RATE, adam_rate=ADAM_RATE)
        self.schedule = Schedule(self.optimizing, steps=steps, warmup=WARMUP)
        self.file = output / "state.pt"

    def update(
        self, step: int, latents: Tensor, tokens: Tensor, generator: torch.Generator
    ) -> float:
        """One step on ``latents`` and their captions; the loss."""
        noise = torch.randn(latents.shape, generator=generator)
        sigma = noise_levels(len(latents), generator)
        x_t = torch.lerp(latents, noise, sigma[:, None, None, None])
        with torch.autocast("cpu", torch.bfloat16):
            velocity = self.compiled(x_t, sigma, tokens, 256 if _long(step) else 1)
        loss = (velocity.float() - (noise - latents)).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.schedule.apply(step)
        decay = min(EMA_DECAY, step / (step + 10))
        for kept, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
            kept.lerp_(new.detach(), 1 - decay)
        return loss.item()

    def save(self, step: int, seconds: float) -> None:
        """Replace the file, so that a kill leaves the old one or the new one."""
        partial = self.file.with_suffix(".partial")
        state = {
            "step": step,
            "seconds": seconds,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizing],
        }
        torch.save(state, partial)
        partial.replace(self.file)

    def restore(self) -> tuple[int, float]:
        """Steps done and their seconds: 0 where nothing was saved."""
        if not self.file.exists():
            return 0, 0.0
        state = torch.load(self.file, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizing, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        return state["step"], state["seconds"]


def _long(step: int) -> bool:
    return step % LONG_CONTEXT_EVERY == 0


def train(
    vae_folder: Path,
    output: Path,
    *,
    steps: int,
    dataset_size: int,
    seed: int,
    caption_noise: float = 0.0,
    start: Path | None = None,
) -> dict[str, object]:
    """Train for ``steps`` batches of 64 and save the pipeline (float32) under ``output``.

    ``start`` is a pipeline to go on from. A call that was stopped goes on from ``state.pt``,
    written every 500 steps.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    vae = AutoencoderKL.from_pretrained(vae_folder, dtype=torch.float32).eval()
    tokenizer = build_tokenizer(output / "tokenizer")
    latents, tokens = encode_dataset(vae, tokenizer, dataset_size, rng, caption_noise=caption_noise)
    empty = tokenizer("", padding="max_length", return_tensors="pt").input_ids
    model = Base(tokenizer)
    if start is not None:
        load_parts(model, start)
    training = Training(model, output, steps=steps, going_on=start is not None)
    pipeline = assemble(training.average, vae, tokenizer)
    done, seconds_before = training.restore()
    started, running = time.monotonic() - seconds_before, 0.0
    for step in range(done + 1, steps + 1):
        generator = torch.Generator().manual_seed(seed * 1_000_000 + step)
        count = BATCH // 4 if _long(step) else BATCH
        index = torch.randint(dataset_size, (count,), generator=generator)
        input_ids = tokens[index].clone()
        input_ids[torch.rand(count, generator=generator) < CAPTION_DROPOUT] = empty
        running += training.update(step, latents[index], input_ids, generator)
        seconds = time.monotonic() - started
        if step % 100 == 0:
            print(f"base {step}/{steps} loss {running / 100:.4f} {seconds:.0f} s", flush=True)
            running = 0.0
        if step % 500 == 0:
            training.save(step, seconds)
        if step % 1000 == 0 or step == steps:
            print(gold_accuracy(pipeline, prompts=120, guidance_scale=1.0), flush=True)
            pipeline.save_pretrained(output)
    return {"steps": steps, "seconds": round(time.monotonic() - started)}


def mean_pipeline(first: Path, second: Path, output: Path) -> dict[str, float]:
    """Save the pipeline whose weights are the means of two (a model soup, arXiv 2203.05482)."""
    mean, other = (
        StableDiffusion3Pipeline.from_pretrained(
            folder, text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
        )
        for folder in (first, second)
    )
    with torch.no_grad():
        for part in ("transformer", "text_encoder", "text_encoder_2"):
            pairs = zip(
                getattr(mean, part).parameters(), getattr(other, part).parameters(), strict=True
            )
            for one, two in pairs:
                one.lerp_(two, 0.5)
    mean.save_pretrained(output)
    return gold_accuracy(mean, prompts=120, guidance_scale=1.0) | {"share": 0.5}
