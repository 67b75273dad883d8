"""What docs/method/choosing.md says that an image costs: the network's calls, counted."""

from typing import Any

import pytest

from adrpo.flow.domain import build_trainer
from support.tiny_runs import darkness, tiny_config

S, P = 3, 2
LAG = {"decay_growth": 0.001, "decay_most": 0.5}
COSTS: list[tuple[dict[str, Any], int, float, int]] = [
    # Settings, calls of sampling, of the policy, of references and older policies.
    ({"method": "adrpo", "beta_0": 9.0}, S, P, P),
    ({"method": "fixed_beta"}, S, P, P),
    ({"method": "orw_cfm_w2"}, S, P, P),
    ({"method": "raft"}, S, P / 3, 0),
    ({"method": "awm"}, S, P, 0),
    ({"method": "awm", "beta_0": 0.3, "coefficient": {"schedule": "adaptive"}}, S, P, P),
    ({"method": "diffusion_nft"}, S, P, P),
    (
        {"method": "diffusion_nft", "anchor": "sampling", "sampling_policy": LAG, "kl_beta": 1e-4},
        S, P, 2 * P,
    ),
    ({"method": "crd", "anchor_guidance_scale": 1.0}, S, 2 * P, 2 * P),
    ({"method": "dgpo"}, S, 2 * P, P),
    ({"method": "flow_grpo"}, S, S - 1, S - 1),
    ({"method": "fdfo"}, S, S, 0),
    ({"method": "fdfo", "points": P, "updates_per_step": 1, "beta_0": 0.3}, S, P, P),
]  # fmt: skip
NAMES = [f"{case[0]['method']}-{place}" for place, case in enumerate(COSTS)]


@pytest.mark.parametrize(("algorithm", "sampling", "policy", "others"), COSTS, ids=NAMES)
def test_an_image_costs_what_the_page_says(
    algorithm: dict[str, Any], sampling: int, policy: float, others: int
) -> None:
    # Two learn from the points of the trajectory itself; FDFO draws six samples in pairs.
    own_points = algorithm["method"] in ("flow_grpo", "fdfo")
    shape = {"prompts_per_step": 3, "samples_per_prompt": 2} if "fdfo" in algorithm.values() else {}
    trainer = build_trainer(
        tiny_config(
            algorithm=algorithm,
            sampling={"steps": S},
            training={"timesteps_per_sample": 1 if own_points else P, **shape},
        ),
        reward=darkness,
    )
    row = trainer.step(1)
    assert row["model_calls"] == pytest.approx(6 * (sampling + policy + others))
