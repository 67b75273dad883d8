"""Trainers of text-to-image models: whose configurations they take."""

import pytest

from adrpo.errors import AdrpoError
from adrpo.flow import DPOTrainer, FiniteDifferenceTrainer, FlowGRPOTrainer, FlowTrainer
from support.tiny_runs import tiny_config


@pytest.mark.parametrize(
    ("trainer", "method", "expected"),
    [
        (DPOTrainer, "adrpo", "dpo"),
        (FlowGRPOTrainer, "raft", "flow_grpo"),
        (FiniteDifferenceTrainer, "adrpo", "fdfo"),
        (
            FlowTrainer,
            "dpo",
            "adrpo or fixed_beta or orw_cfm_w2 or raft or awm or diffusion_nft or crd or dgpo",
        ),
    ],
)
def test_a_trainer_refuses_the_section_of_another_method(
    trainer: type, method: str, expected: str
) -> None:
    with pytest.raises(AdrpoError) as caught:
        trainer(tiny_config(algorithm={"method": method}))
    assert str(caught.value) == (
        f"algorithm.method: expected {expected} for this trainer; received {method}; "
        f"adrpo.flow.build_trainer chooses the trainer by the method"
    )
