"""The anchor behind v_ref: the frozen base, or an average that follows the policy."""

import copy

import pytest
import torch

from adrpo.config import AdrpoSection, CrdSection, DgpoSection, DiffusionNftSection
from adrpo.config.algorithm_keys import SnapshotSection
from adrpo.flow.domain import build_trainer
from adrpo.flow.models.families.stable_diffusion_3 import StableDiffusion3Policy
from adrpo.flow.path.draws import initial_noise
from adrpo.flow.training.anchors import (
    BaseAnchor,
    CopiedAnchor,
    EmaAnchor,
    build_anchor,
    build_models,
    constant,
    growing,
    warming_up,
)
from support.tiny_runs import perturb, tiny_config


@torch.no_grad()
def velocity(policy: StableDiffusion3Policy) -> torch.Tensor:
    x_t, t = initial_noise(2, policy.latent_shape, 0), torch.tensor([0.2, 0.9])
    return policy.velocity(x_t, t, policy.encode(["a red circle", "two blue stars"]))


def test_the_average_begins_at_the_base_and_leaves_the_policy_as_it_was(
    policy: StableDiffusion3Policy,
):
    anchor = EmaAnchor(policy, constant(0.5))
    perturb(policy, 1)
    own = velocity(policy)
    with anchor.active():
        averaged = velocity(policy)
    with policy.reference():
        base = velocity(policy)
    # B is zero at the beginning, so the averaged adapter adds exact zeros.
    assert torch.equal(averaged, base)
    assert torch.equal(velocity(policy), own) and not torch.equal(own, base)


def test_the_policy_comes_back_after_an_error(policy: StableDiffusion3Policy):
    anchor = EmaAnchor(policy, constant(0.5))
    perturb(policy, 1)
    own = velocity(policy)
    with pytest.raises(RuntimeError), anchor.active():
        raise RuntimeError("while v_ref is computed")
    assert torch.equal(velocity(policy), own)


def test_uses_of_the_average_nest_in_themselves_and_in_the_reference(
    policy: StableDiffusion3Policy,
):
    perturb(policy, 1)
    anchor = EmaAnchor(policy, constant(0.5))
    perturb(policy, 2)
    own = velocity(policy)
    with policy.reference():
        base = velocity(policy)
    with anchor.active():
        averaged = velocity(policy)
        for inner, expected in ((anchor.active, averaged), (policy.reference, base)):
            with inner():
                assert torch.equal(velocity(policy), expected)
            assert torch.equal(velocity(policy), averaged)
    with policy.reference():
        with anchor.active():
            assert torch.equal(velocity(policy), base)
        assert torch.equal(velocity(policy), base)
    assert torch.equal(velocity(policy), own)
    assert not torch.equal(own, averaged) and not torch.equal(averaged, base)


def test_the_average_is_the_weighted_sum_of_the_past(policy: StableDiffusion3Policy):
    anchor = EmaAnchor(policy, constant(0.75))
    past = [[p.detach().clone() for p in policy.adapter_parameters()]]
    for step in range(3):
        perturb(policy, step)
        past.append([p.detach().clone() for p in policy.adapter_parameters()])
        anchor.update()
    weights = [0.75**3, 0.25 * 0.75**2, 0.25 * 0.75, 0.25]
    for place, value in enumerate(anchor.values):
        expected = sum(w * values[place] for w, values in zip(weights, past, strict=True))
        # Three float32 interpolations of values below 1.
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)


def test_the_average_has_no_gradient_and_no_memory_shared_with_the_policy(
    policy: StableDiffusion3Policy,
):
    anchor = EmaAnchor(policy, constant(0.9))
    before = [value.clone() for value in anchor.values]
    perturb(policy, 1)
    for value, old in zip(anchor.values, before, strict=True):
        assert not value.requires_grad
        assert torch.equal(value, old)


@pytest.mark.parametrize(
    ("name", "kind"), [("base", BaseAnchor), ("ema", EmaAnchor), ("copied", CopiedAnchor)]
)
def test_the_configuration_names_the_anchor(policy: StableDiffusion3Policy, name: str, kind: type):
    algorithm = AdrpoSection.model_validate({"anchor": name, "anchor_decay": 0.5})
    anchor = build_anchor(algorithm, policy)
    assert type(anchor) is kind
    assert not isinstance(anchor, EmaAnchor) or anchor.decay(7) == 0.5


def test_a_saved_average_is_loaded_whole(policy: StableDiffusion3Policy):
    anchor, other = EmaAnchor(policy, constant(0.5)), EmaAnchor(policy, constant(0.5))
    perturb(policy, 1)
    anchor.update()
    other.load_state(copy.deepcopy(anchor.state()))
    with anchor.active():
        expected = velocity(policy)
    with other.active():
        assert torch.equal(velocity(policy), expected)


def test_the_average_of_a_trainer_is_warmed_up():
    average = build_trainer(tiny_config(training={"ema_decay": 0.999})).average
    assert average is not None
    assert [average.decay(n) for n in (0, 5, 10**6)] == [1 / 10, 6 / 15, 0.999]


def test_a_warmed_up_average_soon_forgets_the_base(policy: StableDiffusion3Policy):
    """Of decays 1/10, 2/11, 3/12 the base keeps their product."""
    average = EmaAnchor(policy, warming_up(0.999))
    base = [value.clone() for value in average.values]
    perturb(policy, 1)
    for _ in range(3):
        average.update()
    kept = 1 / 10 * 2 / 11 * 3 / 12
    for value, first, now in zip(average.values, base, policy.adapter_parameters(), strict=True):
        # Three float32 interpolations of values below 1.
        torch.testing.assert_close(value, kept * first + (1 - kept) * now, rtol=0, atol=1e-6)


def test_a_copied_anchor_is_the_policy_anew_above_its_bound_or_after_its_steps(
    policy: StableDiffusion3Policy,
):
    anchor = CopiedAnchor(policy, above=0.5, after=3)
    base = [value.clone() for value in anchor.values]

    def is_policy() -> bool:
        own = policy.adapter_parameters()
        return all(torch.equal(a, b) for a, b in zip(anchor.values, own, strict=True))

    copies = []
    # Penalties, and whether the anchor has become the policy: at 0.6, then after three steps.
    for step, penalty in enumerate([0.1, 0.6, 0.5, 0.1, 0.2, 0.2, 0.9]):
        perturb(policy, step)
        anchor.update(penalty)
        copies.append(is_policy())
        if step == 0:
            assert all(torch.equal(a, b) for a, b in zip(anchor.values, base, strict=True))
    assert copies == [False, True, False, False, True, False, True]
    other = CopiedAnchor(policy, above=0.5, after=3)
    anchor.update(0.0)
    other.load_state(copy.deepcopy(anchor.state()))
    assert other.updates == 1


def test_the_decay_of_a_policy_that_lags_grows_to_its_bound():
    """CRD's sampling policy: the policy itself up to step 75, then slower and slower."""
    decay = growing(SnapshotSection(decay_growth=0.0075, decay_flat=75, decay_most=0.999))
    assert [decay(n) for n in (0, 75, 76, 175)] == pytest.approx([0, 0, 0.0075, 0.75])
    assert decay(1000) == 0.999
    nft = growing(SnapshotSection(decay_growth=0.001, decay_most=0.5))
    assert [nft(n) for n in (0, 100, 600)] == pytest.approx([0, 0.1, 0.5])


def test_each_method_has_the_models_that_it_names(policy: StableDiffusion3Policy):
    lag = {"decay_growth": 0.001, "decay_most": 0.5}
    own = {"method": "diffusion_nft", "anchor": "sampling", "sampling_policy": lag}
    nft = build_models(DiffusionNftSection.model_validate(own), policy)
    assert nft.old is nft.sampler and isinstance(nft.anchor, BaseAnchor)
    ema = build_models(DiffusionNftSection(method="diffusion_nft"), policy)
    assert isinstance(ema.old, EmaAnchor) and ema.sampler is None
    crd = build_models(CrdSection(method="crd"), policy)
    assert crd.old is not crd.sampler and crd.old is not crd.anchor and crd.sampler is not None
    dgpo = build_models(DgpoSection(method="dgpo", anchor="ema"), policy)
    assert dgpo.old is dgpo.anchor and isinstance(dgpo.anchor, EmaAnchor)
    plain = build_models(AdrpoSection(), policy)
    assert plain.old is None and plain.sampler is None


def test_samples_are_those_of_the_policy_that_draws_them(policy: StableDiffusion3Policy):
    models = build_models(AdrpoSection.model_validate({"sampling_policy": {"decay": 1.0}}), policy)
    before = velocity(policy)
    perturb(policy, 1)
    models.update(0.0)
    with models.sampling():
        assert torch.equal(velocity(policy), before)
    assert not torch.equal(velocity(policy), before)


def test_a_checkpoint_of_before_gives_its_average_to_the_old_policy(
    policy: StableDiffusion3Policy,
):
    """NFT's average was its anchor; the base that is its anchor today has no state."""
    section = DiffusionNftSection(method="diffusion_nft")
    average = EmaAnchor(policy, constant(0.95))
    perturb(policy, 1)
    average.update()
    models = build_models(section, policy)
    models.load_state({"anchor": copy.deepcopy(average.state())})
    assert isinstance(models.old, EmaAnchor)
    for a, b in zip(models.old.values, average.values, strict=True):
        assert torch.equal(a, b)
