"""Training is the same with text encoders resident or released, their embeddings on disk or not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from adrpo.config import AdapterSection, FlowModelSection
from adrpo.data import Prompt
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.flow.domain import build_trainer
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.loading import load_policy, load_with_prompts
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from support.tiny_pipelines import FAMILIES
from support.tiny_runs import adapter_bytes, darkness, metrics_without_timings, perturb, tiny_config

SETS = {
    "first": [Prompt("a cat"), Prompt("two blue birds on a wire")],
    "second": [Prompt("a red cube")],
}
TEXTS = [[prompt.text for prompt in prompts] for prompts in SETS.values()]
SUPPORTED = list(FAMILIES)


@pytest.fixture(scope="module", params=SUPPORTED)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> FlowModelSection:
    """A tiny pipeline of each family, saved."""
    family = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp("pipeline")
    family.build().save_pretrained(folder)
    return FlowModelSection(
        pretrained=str(folder),
        height=family.height,
        width=family.width,
        max_sequence_length=family.tokens,
        device="cpu",
    )


@pytest.fixture
def encoders_refuse_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a text encoder was loaded")

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", refuse)


def guided(policy: PipelinePolicy, conditioning: Conditioning) -> torch.Tensor:
    """The velocity with guidance, which reads the prompts and what stands for none."""
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn((len(conditioning), *policy.latent_shape), generator=generator)
    t = torch.linspace(0.2, 0.8, len(conditioning))
    return policy.velocity(x_t, t, conditioning, guidance_scale=3.0).detach()


def test_released_and_cached_encoders_give_the_same_velocities(
    model: FlowModelSection, tmp_path: Path, request: pytest.FixtureRequest
):
    resident = load_policy(model)
    expected = [guided(resident, resident.encode(texts)) for texts in TEXTS]
    assert resident.encoders
    cache = str(tmp_path / "cache")

    def velocities(**changes: str) -> tuple[PipelinePolicy, list[torch.Tensor]]:
        policy, sets = load_with_prompts(model.model_copy(update=changes), SETS)
        assert {name: list(found) for name, found in sets.items()} == SETS
        return policy, [guided(policy, found.conditioning) for found in sets.values()]

    for changes in ({}, {"encoders": "released"}, {"embedding_cache": cache}):
        policy, found = velocities(**changes)
        assert all(map(torch.equal, found, expected)), changes
        assert bool(policy.encoders) == ("encoders" not in changes)
    # Warm: the encoders are not even read.
    request.getfixturevalue("encoders_refuse_to_load")
    _, found = velocities(encoders="released", embedding_cache=cache)
    assert all(map(torch.equal, found, expected))


def test_without_encoders_prompts_come_from_the_sets_or_are_refused(model: FlowModelSection):
    released, _ = load_with_prompts(model.model_copy(update={"encoders": "released"}), SETS)
    mixed = [TEXTS[1][0], TEXTS[0][0]]
    resident = load_policy(model)
    # The encoders saw other batches: float32 rounds the last bits of values up to 5 differently.
    torch.testing.assert_close(
        guided(released, released.encode(mixed)),
        guided(resident, resident.encode(mixed)),
        rtol=0.0,
        atol=1e-4,
    )
    with pytest.raises(AdrpoError, match=r"a green dog.*model\.encoders=resident"):
        released.encode(["a green dog"])


def test_encoding_in_chunks_is_encoding_all(model: FlowModelSection):
    texts = [*TEXTS[0], *TEXTS[1]]
    chunked = load_policy(model.model_copy(update={"encoder_batch_size": 2}))
    sizes = []
    encode = chunked._encode
    chunked._encode = lambda chunk: sizes.append(len(chunk)) or encode(chunk)  # type: ignore[method-assign]
    whole = load_policy(model)
    ours, theirs = guided(chunked, chunked.encode(texts)), guided(whole, whole.encode(texts))
    assert sizes == [2, 1]
    # As above.
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-4)


def config(method: dict[str, Any] | None = None, **model: Any) -> Any:
    sections: dict[str, Any] = {} if method is None else {"algorithm": method}
    return tiny_config(
        model=model,
        sampling={"steps": 1},
        training={"steps": 1, "guidance_scale": 2.0},
        prompts={"train_size": 3, "held_out_size": 2},
        evaluation={"seen_prompts": 2, "sampling": {"steps": 1}},
        **sections,
    )


def test_a_run_is_the_same_whatever_happens_to_the_encoders(
    tmp_path: Path, request: pytest.FixtureRequest
):
    def run(name: str, **model: Any) -> tuple[Any, bytes, Any]:
        path = build_trainer(config(**model), reward=darkness).train(
            tmp_path / name, progress=False
        )
        evaluations = (path / "evaluations.jsonl").read_text()
        return metrics_without_timings(path), adapter_bytes(path), evaluations

    expected = run("resident")
    cache = str(tmp_path / "cache")
    assert run("released", encoders="released") == expected
    assert run("cold", encoders="released", embedding_cache=cache) == expected
    # Training, held-out and seen prompts, and what stands for none.
    files = sorted((tmp_path / "cache").iterdir())
    assert len(files) == 4
    files[0].write_bytes(files[0].read_bytes()[:-1])
    with pytest.warns(AdrpoWarning, match="is damaged"):
        assert run("damaged", encoders="released", embedding_cache=cache) == expected
    assert sorted((tmp_path / "cache").iterdir()) == files


def test_pairs_of_dpo_are_drawn_and_trained_on_without_encoders(tmp_path: Path):
    method = {"method": "dpo", "pairs_prompts": 3, "pairs_samples": 2}
    drawn = tmp_path / "drawn"
    settings = config(method, encoders="released")
    build_trainer(settings, reward=darkness).train(drawn, progress=False)
    assert (drawn / "final").is_dir()
    # Anyone's pairs: their prompts need not be prompts of training.
    pairs = drawn / "pairs"
    listing = (pairs / "pairs.jsonl").read_text().splitlines()
    (pairs / "pairs.jsonl").write_text(
        "".join(line.replace('"prompt": "', '"prompt": "drawn: ') + "\n" for line in listing)
    )
    own = config({"method": "dpo", "pairs": str(pairs)}, encoders="released")
    build_trainer(own, reward=darkness).train(tmp_path / "named", progress=False)
    assert (tmp_path / "named" / "final").is_dir()


def test_an_adapter_is_saved_and_loaded_without_encoders(tmp_path: Path):
    model = FlowModelSection(encoders="released", device="cpu")
    policy, sets = load_with_prompts(model, SETS)
    policy.add_adapter(AdapterSection(rank=2, alpha=2.0))
    perturb(policy)  # type: ignore[arg-type]
    policy.save_adapter(tmp_path)
    again, _ = load_with_prompts(model, SETS)
    again.load_adapter(tmp_path)
    first = sets["first"].conditioning
    assert torch.equal(guided(again, first), guided(policy, first))
