"""The keys by which two runs evaluate their untrained models otherwise."""

import pytest

from adrpo.audio.facts import FACTS as AUDIO
from adrpo.flow.facts import FACTS as FLOW
from adrpo.llm.facts import FACTS as LLM
from adrpo.runs.base_evaluation import where_bases_differ
from adrpo.runs.facts import Facts

DOMAINS = pytest.mark.parametrize("facts", [FLOW, LLM, AUDIO], ids=lambda facts: facts.domain)


@DOMAINS
@pytest.mark.parametrize(
    "key",
    [
        "domain", "model.pretrained", "model.dtype", "prompts.held_out", "prompts.held_out_size",
        "evaluation.seed", "evaluation.samples_per_prompt", "evaluation.rewards", "reward",
        "generation.temperature", "adapter.start_from", "adapter.reference",
    ],
)  # fmt: skip
def test_bases_are_others_by(facts: Facts, key: str) -> None:
    assert where_bases_differ({key: 1}, {key: 2}, facts.machine_keys) == key
    # One that knows nothing of the key has it at none.
    assert where_bases_differ({key: 1}, {}, facts.machine_keys) == key


@DOMAINS
@pytest.mark.parametrize(
    "key",
    [
        "training.learning_rate", "training.seed", "algorithm.beta_0", "adapter.rank",
        "checkpoint.keep", "model.device",
    ],
)  # fmt: skip
def test_bases_are_the_same_whatever(facts: Facts, key: str) -> None:
    assert where_bases_differ({key: 1}, {key: 2}, facts.machine_keys) is None


def test_the_seed_of_training_chooses_the_prompts_that_are_seen() -> None:
    ours = {"evaluation.seen_prompts": 2, "training.seed": 1}
    assert where_bases_differ(ours, ours | {"training.seed": 2}, ()) == "training.seed"


def test_images_are_the_same_in_batches_of_any_size_and_completions_are_not() -> None:
    found = [
        where_bases_differ({"evaluation.batch_size": 1}, {"evaluation.batch_size": 2}, facts)
        for facts in (FLOW.machine_keys, LLM.machine_keys, AUDIO.machine_keys)
    ]
    assert found == [None, "evaluation.batch_size", "evaluation.batch_size"]
