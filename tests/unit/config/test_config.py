"""Configuration: what ships loads, what loads repeats, and what is wrong says so in one line."""

from inspect import getdoc
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from adrpo.config import (
    DOMAINS,
    Configuration,
    FixedBetaSection,
    FlowConfig,
    LanguageConfig,
    RaftSection,
    config_to_yaml,
    find_recipe,
    load_config,
    load_flow_config,
    load_recipe,
    recipe_names,
    recipes_root,
)
from adrpo.config.fields import Section, sections_in
from adrpo.config.keys import keys_page
from adrpo.config.secrets import refuse_plain_secrets
from adrpo.errors import AdrpoError
from adrpo.runs.resuming import flatten


def write(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipe_loads_and_names_its_source(name: str):
    config = load_recipe(name)
    assert name.split("/")[0] == config.domain
    assert "arXiv 2510.18053" in config.source
    assert config.description and "\n" not in config.description


@pytest.mark.parametrize("name", recipe_names())
def test_resolved_configuration_repeats_itself(name: str, tmp_path: Path):
    config = load_recipe(name)
    text = config_to_yaml(config)
    again = load_recipe(write(tmp_path, text))
    assert again == config
    assert config_to_yaml(again) == text
    assert "extends" not in yaml.safe_load(text)


def test_a_configuration_is_read_by_its_domain_or_as_what_is_expected():
    assert isinstance(load_config("llm/embedded"), LanguageConfig)
    assert isinstance(load_recipe("llm/embedded", form=LanguageConfig), LanguageConfig)
    assert load_flow_config("flow/demo") == load_recipe("flow/demo")
    for name, form in (("llm/embedded", FlowConfig), ("flow/demo", LanguageConfig)):
        expected, received = form().domain, load_recipe(name).domain
        with pytest.raises(AdrpoError) as caught:
            load_recipe(name, form=form)
        assert str(caught.value) == (
            f"{find_recipe(name)}: expected a configuration of the domain {expected}, received "
            f"one of {received}; read it by load_recipe, train it by `adrpo train`"
        )


def test_full_recipe_states_every_key():
    """flow/adrpo is the one that people copy: nothing in it may hide behind a default."""
    stated = yaml.safe_load(find_recipe("flow/adrpo").read_text(encoding="utf-8"))
    resolved = load_flow_config("flow/adrpo").model_dump(mode="json")
    assert stated == resolved


def test_demo_differs_from_its_base_only_where_it_says_so():
    base, demo = (
        load_flow_config("flow/adrpo").model_dump(),
        load_flow_config("flow/demo").model_dump(),
    )
    said = yaml.safe_load(find_recipe("flow/demo").read_text(encoding="utf-8"))
    assert said.pop("extends") == "flow/adrpo"
    for section, value in said.items():
        if isinstance(value, dict):
            for key, inner in value.items():
                assert demo[section].pop(key) == inner
                base[section].pop(key)
        else:
            assert demo.pop(section) == value
            base.pop(section)
    assert demo == base


def test_recipes_root_holds_every_name():
    assert recipe_names() == sorted(recipe_names())
    for name in recipe_names():
        assert find_recipe(name) == recipes_root() / f"{name}.yaml"


text_values = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)


def holds_no_secret(options: dict[str, Any]) -> bool:
    """What stands under a secret's name is refused (test_secrets): hypothesis draws such names,
    for it reads constants out of the code."""
    try:
        refuse_plain_secrets(options)
    except PydanticCustomError:
        return False
    return True


# Without a deadline: how fast the machine is decides no test.
@settings(max_examples=60, deadline=None)
@given(
    description=text_values,
    options=st.dictionaries(
        text_values,
        st.recursive(
            st.none() | st.booleans() | st.integers() | text_values,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text_values, inner),
            max_leaves=5,
        ),
        max_size=3,
    ).filter(holds_no_secret),
    learning_rate=st.floats(min_value=1e-300, max_value=1e300),
)
@example(
    description="\x85\u2028\u2029", options={"1e-3": "1e-3", "null": "null"}, learning_rate=1e-5
)
def test_any_configuration_survives_yaml(
    tmp_path_factory: pytest.TempPathFactory, description, options, learning_rate
):
    """Text that looks like a number, a date or null, exponents, nesting: all come back equal."""
    config = FlowConfig.model_validate(
        {
            "description": description,
            "reward": [{"name": "package.module:reward", "options": options}],
            "training": {"learning_rate": learning_rate},
        }
    )
    path = write(tmp_path_factory.getbasetemp(), config_to_yaml(config), "any.yaml")
    assert load_flow_config(path) == config


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    return [model, *(s for child in model.__subclasses__() for s in sections(child))]


def test_every_section_is_closed_and_frozen():
    for model in sections(Section):
        assert model.model_config.get("extra") == "forbid", model
        assert model.model_config.get("frozen") is True, model


def test_overrides_reach_sections_lists_and_options(tmp_path: Path):
    path = write(tmp_path, "reward: [{name: a.b:c, weight: 1, options: {x: 1}}, {name: d.e:f}]")
    config = load_flow_config(
        path,
        [
            "training.steps=7",
            "training.learning_rate=1e-3",
            "evaluation.sampling.solver=heun",
            "reward.1.weight=2",
            "reward.0.options.y=[1, z]",
            "algorithm.advantage_clip=[-2, 0.5]",
            "prompts.train=a=b.txt",
            "training.steps=8",
        ],
    )
    assert (config.training.steps, config.training.learning_rate) == (8, 1e-3)
    assert config.evaluation.sampling.solver == "heun"
    assert config.evaluation.sampling.steps == FlowConfig().evaluation.sampling.steps
    assert [term.weight for term in config.reward] == [1.0, 2.0]
    assert config.reward[0].options == {"x": 1, "y": [1, "z"]}
    assert config.algorithm.advantage_clip == (-2.0, 0.5)
    assert config.prompts.train == "a=b.txt"


def test_overrides_leave_the_defaults_alone(tmp_path: Path):
    path = write(tmp_path, "training: {seed: 1}")
    load_flow_config(path, ["reward.0.options.model=other", "training.steps=7"])
    assert load_flow_config(path).reward[0].options == {"model": "embedded"}
    assert load_flow_config(path).training.steps == FlowConfig().training.steps


def test_negative_beta_needs_permission(tmp_path: Path):
    path = write(tmp_path, "algorithm: {beta_0: 0.5, allow_negative_beta: true}")
    assert load_flow_config(path).algorithm.advantage_clip == (-1.0, 1.0)


def test_another_method_starts_from_its_own_defaults(tmp_path: Path):
    """A recipe, or an override, that changes the method inherits nothing of the old section."""
    path = write(tmp_path, "extends: flow/adrpo\nalgorithm: {method: fixed_beta, beta_0: 2}")
    assert load_flow_config(path).algorithm == FixedBetaSection(method="fixed_beta", beta_0=2)
    assert load_flow_config(path, ["algorithm.method=fixed_beta"]) == load_flow_config(path)
    changed = load_flow_config(path, ["algorithm.method=raft", "algorithm.best=3"])
    assert changed.algorithm == RaftSection(method="raft", best=3)
    assert load_flow_config(path, ["algorithm.best=3", "algorithm.method=raft"]) == changed
    assert changed.training == load_flow_config(path).training


def test_extends_merges_along_a_chain_and_relative_to_the_file(tmp_path: Path):
    (tmp_path / "base").mkdir()
    write(tmp_path / "base", "extends: flow/adrpo\ntraining: {steps: 5, seed: 3}", "one.yaml")
    path = write(tmp_path, "extends: base/one.yaml\ntraining: {seed: 4}\nreward: [{name: a.b:c}]")
    config = load_flow_config(path)
    base = load_flow_config("flow/adrpo")
    assert (config.training.steps, config.training.seed) == (5, 4)
    assert config.training.learning_rate == base.training.learning_rate
    assert [term.name for term in config.reward] == ["a.b:c"]
    assert config.source == base.source


def test_byte_order_mark_is_no_key(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xef\xbb\xbftraining: {steps: 4}\n")
    assert load_flow_config(path).training.steps == 4


def test_every_field_is_described():
    """The reference page is built from these."""
    for model in sections(Section):
        assert getdoc(model), model
        for name, field in model.model_fields.items():
            if issubclass(model, Configuration) and sections_in(field.annotation):
                continue
            assert field.description and "\n" not in field.description, (model, name)


def test_the_page_of_settings_is_current_and_has_every_key():
    page = keys_page()
    assert Path("docs/reference/settings.md").read_text(encoding="utf-8") == page, (
        "run: adrpo recipes keys > docs/reference/settings.md"
    )
    for domain in DOMAINS:
        _, _, chapter = page.partition(f"## Domain `{domain}`\n")
        chapter = chapter.partition("\n## ")[0]
        for name in recipe_names():
            if name.startswith(f"{domain}/"):
                for key in flatten(load_recipe(name).model_dump(mode="json")):
                    section, _, last = key.rpartition(".")
                    if f"### `{section}`" not in chapter:  # the keys of a mapping are free
                        section, _, last = section.rpartition(".")
                    # A list of sections has a table of its own.
                    if section and f"### `{key}`" not in chapter:
                        assert f"### `{section}`" in chapter, key
                        assert f"| `{last}` |" in chapter, key


def test_naming_the_method_of_the_extended_recipe_again_keeps_its_keys(tmp_path: Path):
    (tmp_path / "base.yaml").write_text(
        "algorithm: {method: adrpo, advantage_clip: [-0.5, 0.7]}\n", encoding="utf-8"
    )
    (tmp_path / "own.yaml").write_text(
        "extends: base.yaml\nalgorithm: {method: adrpo, beta_0: 2}\n", encoding="utf-8"
    )
    algorithm: Any = load_recipe(tmp_path / "own.yaml").algorithm
    assert (algorithm.advantage_clip, algorithm.beta_0) == ((-0.5, 0.7), 2)


@pytest.mark.parametrize("key", ["evaluation.samples_per_prompt", "training.steps"])
def test_a_number_that_32_bits_do_not_count_is_a_slip(key: str):
    for recipe in ("flow/adrpo", "llm/embedded", "audio/embedded"):
        load_recipe(recipe, [f"{key}={2**31 - 1}"])
        with pytest.raises(AdrpoError, match=f"{key}.*less than 2147483648"):
            load_recipe(recipe, [f"{key}={2**31}"])
