"""Trainers of text-to-image models: whose configurations they take."""

import pytest

from adrpo.errors import AdrpoError
from adrpo.flow import DPOTrainer, FiniteDifferenceTrainer, FlowGRPOTrainer, FlowTrainer
from adrpo.rewards import image
from support.tiny_runs import darkness, tiny_config


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


def test_the_splits_of_a_run_share_their_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights are loaded once, whatever the number of evaluations."""
    loaded = []
    load = image._load_model
    monkeypatch.setattr(image, "_load_model", lambda source: loaded.append(source) or load(source))
    trainer = FlowTrainer(tiny_config(evaluation={"seen_prompts": 2}), reward=darkness)
    unseen, seen = (evaluator.drawing for evaluator in trainer.course.evaluators)
    assert unseen.clip is seen.clip and len(loaded) == 1
