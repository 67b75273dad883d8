"""What is wrong with a configuration of one domain: as test_config_errors has it of both."""

from pathlib import Path

import pytest

from adrpo.config import DOMAINS
from support.refused_configurations import of_domain, refusal, write


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "domain: lmm",
            f"recipe.yaml: domain: expected {' or '.join(DOMAINS)}, received 'lmm'",
        ),
        (
            "algorithm: {method: rafft}",
            "recipe.yaml: algorithm.method: expected the name of a method, received 'rafft'; "
            "did you mean 'raft'?",
        ),
        (
            "algorithm: {method: null}",
            "recipe.yaml: algorithm.method: expected the name of a method, received None; known "
            "methods: adrpo, fixed_beta, orw_cfm_w2, raft, awm, diffusion_nft, crd, dgpo, "
            "flow_grpo, fdfo, dpo",
        ),
        (
            "algorithm: {method: orw_cfm_w2, temprature: 2}",
            "recipe.yaml: algorithm.temprature: unknown key (received 2); "
            "did you mean 'temperature'?",
        ),
        (
            "algorithm: {method: raft, beta_0: 1.0}",
            "recipe.yaml: algorithm.beta_0: unknown key (received 1.0); another method has it; "
            "known keys: method, sampling_policy, shared_points, best",
        ),
        (
            "algorithm: {method: orw_cfm_w2, temperature: -1}",
            "recipe.yaml: algorithm.temperature: expected a number > 0, received -1",
        ),
        (
            "algorithm: {target_divergence: 0.01}",
            "recipe.yaml: algorithm.target_divergence: expected algorithm.allow_negative_beta: "
            "true beside it, since the controller may lower beta_0 below A_max; received false",
        ),
        (
            "{algorithm: {method: flow_grpo}, sampling: {solver: heun}}",
            "recipe.yaml: sampling.solver: expected euler with algorithm.method=flow_grpo, which "
            "draws by Euler-Maruyama steps and trains on each of them; received heun",
        ),
        (
            "{algorithm: {method: flow_grpo}, sampling: {steps: 1}}",
            "recipe.yaml: sampling.steps: expected at least 2 with algorithm.method=flow_grpo, "
            "whose last step has no noise; received 1",
        ),
        (
            "{algorithm: {method: flow_grpo}, sampling: {guidance_scale: 4.5}}",
            "recipe.yaml: training.guidance_scale: expected 4.5, the value of "
            "sampling.guidance_scale, with algorithm.method=flow_grpo, whose ratio of a step's "
            "densities is 1 on policy only so; received 1.0; set both to the same number",
        ),
        (
            "{algorithm: {method: fdfo}, sampling: {solver: dpmpp_2m}}",
            "recipe.yaml: sampling.solver: expected euler with algorithm.method=fdfo, which draws "
            "by churned Euler steps and trains on their points; received dpmpp_2m",
        ),
        (
            "{algorithm: {method: fdfo}, training: {timesteps_per_sample: 4}}",
            "recipe.yaml: training.timesteps_per_sample: expected 1 with algorithm.method=fdfo, "
            "which draws by churned Euler steps and trains on their points; received 4",
        ),
        (
            "{algorithm: {method: fdfo}, training: {guidance_scale: 2}}",
            "recipe.yaml: training.guidance_scale: expected 1.0, the value of "
            "sampling.guidance_scale, with algorithm.method=fdfo, whose ratio of a point is 1 on "
            "policy only so; received 2.0; set both to the same number",
        ),
        (
            "{algorithm: {method: fdfo}, training: {samples_per_prompt: 5}}",
            "recipe.yaml: training.samples_per_prompt: expected an even number with "
            "algorithm.method=fdfo, which draws the samples of a prompt in pairs; received 5",
        ),
        (
            "{algorithm: {method: fdfo, points: 6}, sampling: {steps: 5}}",
            "recipe.yaml: algorithm.points: expected at most 5, the points of a trajectory of as "
            "many sampling.steps; received 6; null is all of them",
        ),
        (
            "algorithm: {method: fdfo, coefficient: {schedule: adaptive}}",
            "recipe.yaml: algorithm.beta_0: expected a number above 0 with coefficient.schedule: "
            "adaptive, which has beta_0 - A, received 0",
        ),
        (
            "evaluation: {sampling: {stepz: 3}}",
            "recipe.yaml: evaluation.sampling.stepz: unknown key (received 3); "
            "did you mean 'steps'?",
        ),
        (
            "algorithm: {beta_0: 0}",
            "recipe.yaml: algorithm.beta_0: expected a number > 0, received 0",
        ),
        (
            "algorithm: {advantage_clip: [1, -1]}",
            "recipe.yaml: algorithm.advantage_clip: expected [A_min, A_max] with A_min <= A_max, "
            "received [1.0, -1.0]",
        ),
        (
            "algorithm: {beta_0: 0.5}",
            "recipe.yaml: algorithm.advantage_clip: expected A_max <= beta_0 = 0.5, received "
            "[-1.0, 1.0], with which beta = beta_0 - A can be negative; lower A_max, or set "
            "algorithm.allow_negative_beta: true",
        ),
        (
            "algorithm: {advantage_clip: [1, 2, 3]}",
            "recipe.yaml: algorithm.advantage_clip: expected a list of at most 2, "
            "received [1, 2, 3]",
        ),
        (
            "algorithm: {advantage_clip: [1]}",
            "recipe.yaml: algorithm.advantage_clip.1: expected a value, received none in [1]",
        ),
        (
            "algorithm: {allow_negative_beta: 1}",
            "recipe.yaml: algorithm.allow_negative_beta: expected true or false, received 1",
        ),
        (
            "algorithm: {advantage_scale: std}",
            "recipe.yaml: algorithm.advantage_scale: expected 'none', 'group', 'batch' or "
            "'global', received 'std'",
        ),
        (
            "sampling: {guidance_scale: 0.5}",
            "recipe.yaml: sampling.guidance_scale: expected a number >= 1, received 0.5",
        ),
        (
            "model: {device: gpu}",
            "recipe.yaml: model.device: expected auto, cpu, mps, cuda or cuda:N, received 'gpu'",
        ),
        (
            "prompts: {train: 'scenes:trian'}",
            "recipe.yaml: prompts.train: expected scenes:train, scenes:held_out, scenes:test, "
            "questions:train, questions:held_out, drawbench-style, art-style, drawbench:PATH, "
            "geneval:PATH, partiprompts:PATH, pickapic:PATH, the path of a .txt, .jsonl, .json, "
            ".csv, .parquet file, or a data set (a folder or 'owner/name' on the Hub), received "
            "'scenes:trian'; "
            "did you mean 'scenes:train'?",
        ),
        (
            "prompts: {train: 'scenes:test'}",
            "recipe.yaml: prompts.train: expected prompts to train on, received 'scenes:test', "
            "which is kept for final tables; evaluate on it by prompts.held_out",
        ),
        (
            "prompts: {train: my.txt, held_out: my.txt}",
            "recipe.yaml: prompts.held_out: expected a source without prompts of prompts.train, "
            "received 'my.txt' beside 'my.txt'",
        ),
        (
            "prompts: {train: drawbench-style, held_out: 'drawbench-style:held_out'}",
            "recipe.yaml: prompts.held_out: expected a source without prompts of prompts.train, "
            "received 'drawbench-style:held_out' beside 'drawbench-style'",
        ),
    ],
)
def test_error_line_of_a_flow_recipe(tmp_path: Path, text: str, expected: str):
    assert refusal(write(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "generation: {max_tokens: 64}",
            "recipe.yaml: generation.max_tokens: unknown key (received 64); known keys: "
            "max_completion_length, temperature, top_p",
        ),
        (
            "generation: {max_completion_lenght: 64}",
            "recipe.yaml: generation.max_completion_lenght: unknown key (received 64); "
            "did you mean 'max_completion_length'?",
        ),
        (
            "model: {height: 512}",
            "recipe.yaml: model.height: unknown key (received 512); known keys: pretrained, "
            "dtype, gradient_checkpointing, device, autocast, attn_implementation, "
            "quantization, chat_template_kwargs, gguf_file",
        ),
        (
            "model: {quantization: nf4}",
            "recipe.yaml: adapter: expected one with model.quantization=nf4, whose weights are "
            "frozen; received null: set 'adapter={rank: 16}'",
        ),
        (
            "model: {quantization: nf4, autocast: bfloat16}\nadapter: {rank: 2}",
            "recipe.yaml: model.autocast: expected null with model.quantization=nf4, whose layers "
            "multiply in model.dtype; received bfloat16; set model.dtype=bfloat16",
        ),
        (
            "model: {quantization: nf4, gguf_file: a.gguf}\nadapter: {rank: 2}",
            "recipe.yaml: model.quantization: expected null with model.gguf_file, whose weights "
            "are unpacked to model.dtype; received nf4",
        ),
        (
            "max_completion_length: 64",
            "recipe.yaml: max_completion_length: unknown key (received 64); "
            "did you mean 'generation.max_completion_length'?",
        ),
        (
            "sampling: {steps: 3}",
            "recipe.yaml: sampling: unknown key (received {'steps': 3}); known keys: domain, "
            "description, source, model, adapter, prompts, reward, algorithm, training, "
            "evaluation, checkpoint, trackers, generation",
        ),
        (
            "adapter: {rnk: 4}",
            "recipe.yaml: adapter.rnk: unknown key (received 4); did you mean 'rank'?",
        ),
        (
            "algorithm: {method: rafft}",
            "recipe.yaml: algorithm.method: expected 'adrpo', 'sign_gated', 'reward_adaptive' or "
            "'fixed_beta', received 'rafft'",
        ),
        (
            "prompts: {source: 'scenes:test', held_out: 'questions:held_out'}",
            "recipe.yaml: prompts.source: expected prompts to train on, received 'scenes:test', "
            "which is kept for final tables; evaluate on it by prompts.held_out",
        ),
        (
            "algorithm: {advantage_scale: batch}",
            "recipe.yaml: algorithm.advantage_scale: expected 'none', 'group' or 'global', which "
            "is TRL's 'batch': the standard deviation of all rewards, and not that within groups; "
            "received 'batch'",
        ),
        (
            "algorithm: {kl_estimator: k4}",
            "recipe.yaml: algorithm.kl_estimator: expected 'k1', 'k2' or 'k3', received 'k4'",
        ),
        (
            "algorithm: {kl_estimater: k3}",
            "recipe.yaml: algorithm.kl_estimater: unknown key (received 'k3'); "
            "did you mean 'kl_estimator'?",
        ),
        (
            "algorithm: {advantage_clip: 0.08}",
            "recipe.yaml: algorithm.advantage_clip: expected at most beta_0 = 0.04, received "
            "0.08, with which beta_0 - A can be negative; lower it, leave it out, or set "
            "negative_coefficient to floor or allow",
        ),
        (
            "training: {micro_batch_size: 3}",
            "recipe.yaml: training.micro_batch_size: expected a divisor of prompts_per_step x "
            "samples_per_prompt = 128, received 3",
        ),
        (
            "evaluation: {rewards: [{name: format, wieght: 2}]}",
            "recipe.yaml: evaluation.rewards.0.wieght: unknown key (received 2); "
            "did you mean 'weight'?",
        ),
    ],
)
def test_error_line_of_a_language_recipe(tmp_path: Path, text: str, expected: str):
    assert refusal(write(tmp_path, of_domain("llm", text))) == expected


@pytest.mark.parametrize(
    ("domain", "override", "expected"),
    [
        (
            "flow",
            "algorithm.beta_0=k4",
            "algorithm.beta_0: expected a number, received 'k4'",
        ),
        (
            "llm",
            "algorithm.kl_estimator=k4",
            "algorithm.kl_estimator: expected 'k1', 'k2' or 'k3', received 'k4'",
        ),
        (
            "llm",
            "generation.max_tokens=64",
            "generation.max_tokens: unknown key (received 64); known keys: "
            "max_completion_length, temperature, top_p",
        ),
    ],
)
def test_an_override_of_one_domain_is_named(
    tmp_path: Path, domain: str, override: str, expected: str
):
    """Not the file, although it holds the same section."""
    path = write(tmp_path, of_domain(domain, "algorithm: {beta_0: 1.0}"))
    assert refusal(path, (override,)) == f"recipe.yaml, override {override}: {expected}"
