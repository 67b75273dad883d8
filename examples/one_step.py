"""Algorithm 1 of ADRPO (arXiv 2510.18053) on one page: one step, from noise to a moved adapter.

    python examples/one_step.py [FOLDER]

FOLDER holds a Stable Diffusion 3 pipeline; without it, the embedded one is rewarded for red.
``adrpo.flow.FlowTrainer`` makes the same step, with all that a run needs around it: given the
same noises, times and rewards, both leave the same adapter (tests/equivalence/test_one_step.py).
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from peft import LoraConfig
from torch import Tensor

import adrpo
from adrpo.embedded.weights import weights_path

ATTENTION = "to_q to_k to_v to_out.0 add_q_proj add_k_proj add_v_proj to_add_out".split()


def load(folder: str | Path, *, rank: int = 16, seed: int = 0) -> Any:
    """The pipeline, frozen but for a new LoRA adapter: theta. B is 0 in its update B A, so that
    the policy begins as the reference."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        folder, text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.transformer.requires_grad_(False)
    targets = [f"attn.{layer}" for layer in ATTENTION]
    torch.manual_seed(seed)
    pipeline.transformer.add_adapter(
        LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=targets)
    )
    return pipeline


def adapter(pipeline: Any) -> list[torch.nn.Parameter]:
    return [p for p in pipeline.transformer.parameters() if p.requires_grad]


def velocity(pipeline: Any, x_t: Tensor, t: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
    """v(x_t, t, c). The paper's t goes from noise (0) to data (1); diffusers' time goes the other
    way, from 1000 to 0, and what its model predicts is -v."""
    return -pipeline.transformer(
        hidden_states=x_t,
        timestep=1000 * (1 - t),
        encoder_hidden_states=context,
        pooled_projections=pooled,
        return_dict=False,
    )[0]


def decode(pipeline: Any, x_1: Tensor) -> Tensor:
    """Images [batch, 3, height, width] in [0, 1] of latents x_1."""
    scale, shift = pipeline.vae.config.scaling_factor, pipeline.vae.config.shift_factor
    pixels = pipeline.vae.decode(x_1 / scale + shift).sample
    return (pixels / 2 + 0.5).clamp(0, 1)


def one_step(
    pipeline: Any,
    optimizer: torch.optim.Optimizer,
    prompts: Sequence[str],  # one a sample
    group_ids: Tensor,  # [batch], equal for samples of one prompt
    reward: Callable[[Tensor], Tensor],  # images [batch, 3, height, width] in [0, 1] -> R [batch]
    *,
    noise: Tensor,  # [batch, *latent], from which the samples are drawn
    x_0: Tensor,  # [batch, *latent], and
    t: Tensor,  # [batch]: the point of the path at which each sample is used
    sampling_steps: int = 10,
    beta_0: float = 1.0,
    clip: tuple[float, float] = (-1.0, 1.0),
    max_grad_norm: float = 1.0,
) -> dict[str, float]:
    """One step of Algorithm 1: the adapter moves; returns what was measured on the way."""
    with torch.no_grad():
        context, _, pooled, _ = pipeline.encode_prompt(
            list(prompts), None, None, do_classifier_free_guidance=False, max_sequence_length=1
        )
        # x_1 ~ pi_theta(. | c), drawn by the pipeline itself: its adapter is on.
        x_1 = pipeline(
            prompt_embeds=context,
            pooled_prompt_embeds=pooled,
            latents=noise,
            num_inference_steps=sampling_steps,
            guidance_scale=1.0,
            output_type="latent",
        ).images

        # A = R - V(c), clipped once: both terms of the loss take the same A.
        rewards = reward(decode(pipeline, x_1))
        advantages = adrpo.group_advantages(rewards, group_ids)
        advantages = adrpo.clip_advantages(advantages, low=clip[0], high=clip[1])
        beta = adrpo.adaptive_coefficient(advantages, beta_0=beta_0, clip=None)

        # A point of the straight path from fresh noise to x_1, and the velocity along that path.
        time = t.reshape(-1, 1, 1, 1)
        x_t, u_t = (1 - time) * x_0 + time * x_1, x_1 - x_0

        # v_ref: the same network, its adapter off.
        pipeline.transformer.disable_adapters()
        v_ref = velocity(pipeline, x_t, t, context, pooled)
        pipeline.transformer.enable_adapters()

    # L = A |v - u_t|^2 + (beta_0 - A) |v - v_ref|^2   (eq. 6)
    v = velocity(pipeline, x_t, t, context, pooled)
    loss = adrpo.flow_objective(v, u_t, v_ref, advantages, beta=beta).mean()

    optimizer.zero_grad()
    loss.backward()
    grad_norm = torch.nn.utils.clip_grad_norm_(adapter(pipeline), max_grad_norm)
    optimizer.step()
    return {
        "reward": float(rewards.mean()),
        "divergence": float(adrpo.velocity_divergence(v.detach(), v_ref).mean()),
        "loss": float(loss.detach()),
        "grad_norm": float(grad_norm),
    }


def redness(images: Tensor) -> Tensor:
    """Red less the mean of green and blue, in hundredths of full colour."""
    red, green, blue = images.mean((2, 3)).unbind(1)
    return 100 * (red - (green + blue) / 2)


def main(folder: str | Path, steps: int = 5) -> None:
    """Steps on eight samples for each of two prompts, and a line of numbers for each."""
    pipeline = load(folder)
    optimizer = torch.optim.AdamW(adapter(pipeline), lr=1e-3, weight_decay=0.0)
    prompts, group_ids = 8 * ["a circle"] + 8 * ["a square"], torch.tensor(8 * [0] + 8 * [1])
    size = pipeline.transformer.config
    shape = (len(prompts), size.in_channels, size.sample_size, size.sample_size)
    for step in range(1, steps + 1):
        draws = {"noise": torch.randn(shape), "x_0": torch.randn(shape), "t": torch.rand(shape[0])}
        row = one_step(pipeline, optimizer, prompts, group_ids, redness, **draws)
        print(f"step {step}:", ", ".join(f"{name} {value:.3g}" for name, value in row.items()))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else weights_path("pipeline"))
