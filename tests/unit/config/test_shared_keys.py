"""One name means one thing in every domain, and is described once."""

from itertools import combinations

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from adrpo.config import DOMAINS, Configuration, LanguageConfig, form_of, load_recipe
from adrpo.config.fields import sections_in
from adrpo.config.keys import keys_page
from support.refused_configurations import of_domain, refusal, write

# Keys of one name whose words differ, since they take or do something else in each domain.
DESCRIBED_APART = {
    "domain",
    "model.pretrained",  # another paper, another layout
    "model.dtype",  # an adapter is always float32 in flow
    "model.device",  # TRL places a language model itself
    "model.quantization",  # flow has 8 bits, too, and always an adapter
    "adapter.target_modules",  # no family names them for a language model
    "prompts.source",  # a question about sound has a clip
    "prompts.held_out_share",  # of the clips, where there are any
    "prompts.held_out",  # null is a share of the source in llm
    "prompts.train_size",  # a file is cut in llm, and taken whole in flow
    "prompts.held_out_size",
    "training.micro_batch_size",  # TRL's parts are equal
    "evaluation.samples_per_prompt",  # diversity needs two images
    "evaluation.batch_size",  # a batch of completions has one random stream
}


def leaves(form: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    found: dict[str, FieldInfo] = {}
    for name, field in form.model_fields.items():
        inner = sections_in(field.annotation)
        # Its keys are those of a method, which no two domains share.
        if prefix + name == "algorithm":
            continue
        if not inner:
            found[prefix + name] = field
        for section in inner:
            found |= leaves(section, f"{prefix}{name}.")
    return found


def described_apart(one: str, other: str) -> set[str]:
    """Keys of both domains whose words differ."""
    ours, theirs = leaves(form_of(one)), leaves(form_of(other))
    shared = ours.keys() & theirs.keys()
    assert len(shared) > 20
    return {"domain"} | {k for k in shared if ours[k].description != theirs[k].description}


@pytest.mark.parametrize(("one", "other"), list(combinations(DOMAINS, 2)))
def test_a_shared_key_is_described_once(one: str, other: str) -> None:
    assert described_apart(one, other) <= DESCRIBED_APART


def test_no_key_is_described_apart_in_vain() -> None:
    pairs = combinations(DOMAINS, 2)
    assert DESCRIBED_APART == {key for pair in pairs for key in described_apart(*pair)}


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_has_the_head_and_the_shared_sections(domain: str) -> None:
    form = form_of(domain)
    assert issubclass(form, Configuration)
    for name, field in Configuration.model_fields.items():
        for section in sections_in(form.model_fields[name].annotation):
            assert issubclass(section, tuple(sections_in(field.annotation))), (domain, name)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("reward", ["{name: a.b:c, weight: 2}", "{name: a.b:c, logistic: CURVE}"])
def test_a_measured_reward_is_not_weighed(tmp_path, domain: str, reward: str) -> None:
    """Its raw values are written, so that either key would be without effect."""
    reward = reward.replace("CURVE", "{location: 1, scale: 2}")
    line = refusal(write(tmp_path, of_domain(domain, f"evaluation: {{rewards: [{reward}]}}")))
    assert line.startswith("recipe.yaml: evaluation.rewards.0.weight: expected a reward without")


def test_the_page_of_settings_has_the_default_of_the_place() -> None:
    """evaluation.sampling has other defaults than sampling, of the same class."""
    _, _, nested = keys_page().partition("### `evaluation.sampling`\n")
    assert "| `steps` | integer | `20` |" in nested.partition("\n### ")[0]
    assert load_recipe("flow/adrpo").evaluation.sampling.steps == 20  # type: ignore[union-attr]


def test_a_domain_changes_a_default_and_not_the_words() -> None:
    config = LanguageConfig()
    assert config.training.prompts_per_step == 16
    field = type(config.training).model_fields["prompts_per_step"]
    assert (
        field.description
        == Configuration.model_fields["training"]
        .annotation.model_fields[  # type: ignore[union-attr]
            "prompts_per_step"
        ]
        .description
    )
