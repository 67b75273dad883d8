"""The published loops as data: what each spends on a step, where that is written, what is kept."""

from collections.abc import Callable
from dataclasses import dataclass

VERIFIABLE = "reward=[{name: scene_judge, options: {value: mean}}]"
"""The reward of the recipe flow/verifiable, for the recipes of other methods."""

FLOW_GRPO = "yifan123/flow_grpo @ ac4c86e (2025-07)"
DIFFUSION_NFT = "NVlabs/DiffusionNFT @ 24af555 (2025-09)"
AWM = "scxue/advantage_weighted_matching @ be51372 (2026-03)"
FLOW_FACTORY = "X-GenGroup/Flow-Factory @ a0b2bc5 (2026-05)"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published loop in words, for the table of structures.

    ``source`` is a repository and commit, ``files`` what in it was read.
    """

    source: str
    files: str
    rollout: str
    guidance: str
    points: str
    constants: str
    backward: str
    old: str
    embeddings: str
    reward: str
    averages: str
    updates: str
    evaluation: str
    left_out: str


@dataclass(frozen=True, kw_only=True)
class Structure:
    """One loop's cost of a step in rows of the transformer.

    ``recipe`` has its constants, which are those of our trainer of the same method. ``points`` is
    the number of points of each sample that are trained on, of so many sampling steps; at each,
    ``constant_forwards`` forwards without a gradient stand beside the one that is learnt from and
    its backward. ``encodes`` is true where prompts are encoded in each step, a row for each image.
    """

    recipe: str
    points: Callable[[int], int]
    constant_forwards: int
    encodes: bool
    published: Published

    def rows(self, *, images: int, kept: int, sampling_steps: int) -> dict[str, int]:
        """The rows of a step of ``images`` images, ``kept`` of which are trained on: the closed
        form that counting (``counting.Counter``) has to find."""
        points = kept * self.points(sampling_steps)
        return {
            "rows_drawing": images * sampling_steps,
            "rows_constant": points * self.constant_forwards,
            "rows_learnt": points,
            "rows_backward": points,
            "rows_text": images if self.encodes else 0,
            "rows_decoded": images,
        }


def most_of(share: float) -> Callable[[int], int]:
    """The number of points of a loop that trains on the first ``share`` of the sampler's steps."""
    return lambda steps: int(steps * share)


def exactly(points: int) -> Callable[[int], int]:
    """``points`` points, whatever the sampler's number of steps."""
    return lambda steps: points


STRUCTURES = {
    "flow_grpo": Structure(
        recipe="flow/flow-grpo",
        points=most_of(0.99),
        constant_forwards=1,
        encodes=True,
        published=Published(
            source=FLOW_GRPO,
            files="scripts/train_sd3.py, config/grpo.py, config/base.py, flow_grpo/ema.py, "
            "flow_grpo/diffusers_patch/sd3_pipeline_with_logprob.py",
            rollout="10 steps, SDE at every step, log-probabilities kept; all latents kept",
            guidance="4.5, one doubled batch, in rollout, training and reference alike",
            points="int(0.99 * 10) = 9 of 10 steps, in the sampler's order",
            constants="reference: adapter disabled, every row (beta 0.04; 0.01 for PickScore)",
            backward="one for each timestep of each micro-batch, gradients accumulated over them",
            old="from the rollout, not computed again",
            embeddings="every sampling batch, a row for each image; the empty prompt once",
            reward="futures of a pool of 8 threads, awaited after the last sampling batch",
            averages="LoRA parameters, decay 0.9 with warm-up, every 8th update, for evaluation",
            updates="2 an epoch, 1 inner epoch; samples of advantage 0 are left out",
            evaluation="every 60 epochs, 40 steps, with the average",
            left_out="guidance (our recipe has 1), so that no batch is doubled; noise in the last "
            "step; pictures and curves for W&B; checkpoints; several devices",
        ),
    ),
    "diffusion_nft": Structure(
        recipe="flow/diffusion-nft-published",
        points=most_of(0.99),
        constant_forwards=2,
        encodes=True,
        published=Published(
            source=DIFFUSION_NFT,
            files="scripts/train_nft_sd3.py, config/nft.py, config/base.py, "
            "flow_grpo/diffusers_patch/solver.py, pipeline_with_logprob.py",
            rollout="10 steps of a deterministic two-step DPM solver (25 with several rewards), "
            "drawn by the adapter 'old'; clean latents kept",
            guidance="1",
            points="int(0.99 * 10) = 9 of the sampler's times, permuted for each sample",
            constants="v_old by the adapter 'old', and the reference with adapters disabled "
            "(beta 1e-4), every row",
            backward="one for each timestep of each micro-batch",
            old="v_old again at each timestep, inside the loop",
            embeddings="every sampling batch, a row for each image",
            reward="futures of a pool of threads, awaited after the last sampling batch",
            averages="parameters 0.9 with warm-up after each update, for evaluation; 'old' after "
            "each epoch, decay min(0.001 update, 0.5)",
            updates="1 an epoch (2 for OCR), 1 inner epoch",
            evaluation="every 10 epochs, 40 steps, with the average",
            left_out="pictures and curves for W&B; checkpoints; loss scaling of float16; several "
            "devices",
        ),
    ),
    "awm": Structure(
        recipe="flow/awm",
        points=exactly(6),
        constant_forwards=2,
        encodes=True,
        published=Published(
            source=AWM,
            files="advantage_weighted_matching/scripts/train_sd3_awm.py, config/dgx_awm.py, "
            "flow_grpo/diffusers_patch/sa_solver.py",
            rollout="14 steps of SA-Solver, order 2, one evaluation a step",
            guidance="1",
            points="6 strata of the sampler's times within its first 0.9, without the first; the "
            "same for a micro-batch",
            constants="reference with adapters disabled (beta 1e-3), and the adapter 'ema' "
            "(ema_beta 1), every row",
            backward="one for each micro-batch: its 6 points are one batch",
            old="on policy: those of the update itself, detached",
            embeddings="every sampling batch, a row for each image",
            reward="futures of a pool of threads, awaited after the last sampling batch",
            averages="parameters 0.99 after each epoch, for evaluation; 'ema' after each epoch, "
            "decay min(0.3, 0.001 update)",
            updates="1 an epoch, micro-batches of half a sampling batch",
            evaluation="every 50 epochs, 40 steps, without and with the average",
            left_out="14 steps (our recipe has 10); the solver's corrector, which evaluates "
            "nothing; weights 'ghuber' (our recipe has the paper's uniform ones); the first two "
            "epochs, which train nothing; curves and checkpoints; several devices",
        ),
    ),
    "flow_factory_grpo": Structure(
        recipe="flow/flow-grpo",
        points=exactly(2),
        constant_forwards=0,
        encodes=False,
        published=Published(
            source=FLOW_FACTORY,
            files="src/flow_factory/trainers/grpo.py, examples/grpo/lora/sd3_5/default.yaml, "
            "models/stable_diffusion/sd3_5.py, scheduler/flow_match_euler_discrete.py",
            rollout="10 steps, SDE at 2 steps drawn from steps 1 to 5, Euler at the others; the "
            "latents of those kept",
            guidance="4.5, one doubled batch, in rollout and training",
            points="the 2 noisy steps",
            constants="none (kl_beta 0)",
            backward="one for each timestep of each micro-batch",
            old="from the rollout",
            embeddings="before training, kept on disk",
            reward="after the last sampling batch; futures where async_reward is set",
            averages="parameters 0.99 with warm-up, every 4th epoch, for evaluation",
            updates="2 an epoch, 1 inner epoch",
            evaluation="every 20 epochs, 40 steps, with the average",
            left_out="guidance (our recipe has 1); records of single samples, which are stacked "
            "batch by batch; curves and checkpoints; several devices",
        ),
    ),
    "flow_factory_nft": Structure(
        recipe="flow/diffusion-nft-published",
        points=exactly(4),
        constant_forwards=1,
        encodes=False,
        published=Published(
            source=FLOW_FACTORY,
            files="src/flow_factory/trainers/nft.py, examples/nft/lora/sd3_5/default.yaml, "
            "utils/noise_schedule.py, ema/ema.py",
            rollout="14 steps, Euler, drawn by the average; clean latents kept",
            guidance="1",
            points="4 strata of the sampler's times in the noisier half, the same for a "
            "micro-batch",
            constants="v_old by the average (kl_beta 0, no reference)",
            backward="one for each timestep of each micro-batch",
            old="v_old of all points of a micro-batch before its first update",
            embeddings="before training, kept on disk",
            reward="after the last sampling batch; futures where async_reward is set",
            averages="one, after each epoch, decay min(0.001 epoch, 0.5): draws, is v_old, and is "
            "evaluated",
            updates="1 an epoch, 1 inner epoch",
            evaluation="every 20 epochs, 40 steps, with the average",
            left_out="14 steps (our recipe has 10); records of single samples; curves and "
            "checkpoints; several devices",
        ),
    ),
    "flow_factory_awm": Structure(
        recipe="flow/awm",
        points=exactly(6),
        constant_forwards=3,
        encodes=False,
        published=Published(
            source=FLOW_FACTORY,
            files="src/flow_factory/trainers/awm.py, examples/awm/lora/sd3_5/default.yaml, "
            "utils/noise_schedule.py, ema/ema.py",
            rollout="14 steps, Euler; clean latents kept",
            guidance="1",
            points="6 strata of the sampler's times within its first 0.9, without the first; the "
            "same for a micro-batch",
            constants="log-probabilities of the samples, reference (kl_beta 1e-4) and average "
            "(ema_kl_beta 1), every row",
            backward="one for each timestep of each micro-batch",
            old="all points of a micro-batch once more before its update, also on policy",
            embeddings="before training, kept on disk",
            reward="after the last sampling batch; futures where async_reward is set",
            averages="one, after each epoch, decay 0.3 min(epoch / 1000, 1)",
            updates="1 an epoch, 1 inner epoch",
            evaluation="every 20 epochs, 40 steps, with the average",
            left_out="14 steps (our recipe has 10); weights 'ghuber' (our recipe has the paper's "
            "uniform ones); curves and checkpoints; several devices",
        ),
    ),
}

OURS = {
    "ours_adrpo": "flow/verifiable",
    "ours_flow_grpo": "flow/flow-grpo",
    "ours_diffusion_nft": "flow/diffusion-nft-published",
    "ours_awm": "flow/awm",
}
"""Our trainer's runs, and their recipes."""

COUNTERPARTS = {
    name: next(ours for ours, recipe in OURS.items() if recipe == structure.recipe)
    for name, structure in STRUCTURES.items()
}
"""Peer -> our run of the same method and constants."""


def structures_table() -> str:
    """The published structures in Markdown, one below the other."""
    parts = []
    for name, structure in STRUCTURES.items():
        lines = [f"### {name}", "", "| | |", "|---|---|"]
        lines += [
            f"| {key.replace('_', ' ')} | {value} |"
            for key, value in vars(structure.published).items()
        ]
        lines.append(f"| constants of | `{structure.recipe}`, with the reward of flow/verifiable |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
