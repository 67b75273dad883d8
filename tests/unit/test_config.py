"""Configuration: what ships loads, what loads repeats, and what is wrong says so in one line."""

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from adrpo.config import (
    FlowConfig,
    config_to_yaml,
    find_recipe,
    load_config,
    recipe_names,
    recipes_root,
)
from adrpo.errors import AdrpoError


def write(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path, overrides: tuple[str, ...] = ()) -> str:
    """The error line, without the folder of the test."""
    with pytest.raises(AdrpoError) as caught:
        load_config(path, overrides)
    line = str(caught.value)
    assert "\n" not in line
    return line.replace(f"{path.parent}/", "")


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipe_loads_and_names_its_source(name: str):
    config = load_config(name)
    assert name.split("/")[0] == config.domain
    assert "arXiv 2510.18053" in config.source
    assert config.description and "\n" not in config.description


@pytest.mark.parametrize("name", recipe_names())
def test_resolved_configuration_repeats_itself(name: str, tmp_path: Path):
    config = load_config(name)
    text = config_to_yaml(config)
    again = load_config(write(tmp_path, text))
    assert again == config
    assert config_to_yaml(again) == text
    assert "extends" not in yaml.safe_load(text)


def test_full_recipe_states_every_key():
    """flow/adrpo is the one that people copy: nothing in it may hide behind a default."""
    stated = yaml.safe_load(find_recipe("flow/adrpo").read_text(encoding="utf-8"))
    resolved = load_config("flow/adrpo").model_dump(mode="json")
    assert stated == resolved


def test_demo_differs_from_its_base_only_where_it_says_so():
    base, demo = load_config("flow/adrpo").model_dump(), load_config("flow/demo").model_dump()
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
    ),
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
    assert load_config(path) == config


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    return [model, *(s for child in model.__subclasses__() for s in sections(child))]


def test_every_section_is_closed_and_frozen():
    for model in sections(FlowConfig.__mro__[1]):
        assert model.model_config.get("extra") == "forbid", model
        assert model.model_config.get("frozen") is True, model


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "algorithm: {beta0: 1.0}",
            "recipe.yaml: algorithm.beta0: unknown key (received 1.0); did you mean 'beta_0'?",
        ),
        (
            "trainning: {steps: 3}",
            "recipe.yaml: trainning: unknown key (received {'steps': 3}); did you mean 'training'?",
        ),
        (
            "learning_rate: 0.1",
            "recipe.yaml: learning_rate: unknown key (received 0.1); "
            "did you mean 'training.learning_rate'?",
        ),
        (
            "checkpoint: {zzz: 1}",
            "recipe.yaml: checkpoint.zzz: unknown key (received 1); known keys: every, keep",
        ),
        (
            "reward: [{name: clip_score, wieght: 2}]",
            "recipe.yaml: reward.0.wieght: unknown key (received 2); did you mean 'weight'?",
        ),
        (
            "evaluation: {sampling: {stepz: 3}}",
            "recipe.yaml: evaluation.sampling.stepz: unknown key (received 3); "
            "did you mean 'steps'?",
        ),
        (
            "training: {steps: 0, seed: -1, warmup_steps: x}",
            "recipe.yaml: training.steps: expected a number > 0, received 0 (and 2 more)",
        ),
        (
            "training: {steps: true}",
            "recipe.yaml: training.steps: expected a whole number, received True",
        ),
        (
            "training: {steps: 5.0}",
            "recipe.yaml: training.steps: expected a whole number, received 5.0",
        ),
        (
            "training: {learning_rate: abc}",
            "recipe.yaml: training.learning_rate: expected a number, received 'abc'",
        ),
        (
            "training: {learning_rate: true}",
            "recipe.yaml: training.learning_rate: expected a number, received True",
        ),
        (
            "training: {learning_rate: .nan}",
            "recipe.yaml: training.learning_rate: expected a finite number, received nan",
        ),
        (
            "training:",
            "recipe.yaml: training: expected a section (keys and values), received None",
        ),
        (
            "training: {samples_per_prompt: 1}",
            "recipe.yaml: training.samples_per_prompt: expected at least 2, received 1; "
            "a group of size 1 has no advantage",
        ),
        (
            "training: {steps: 5, warmup_steps: 6}",
            "recipe.yaml: training.warmup_steps: expected at most training.steps = 5, received 6",
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
            "recipe.yaml: algorithm.advantage_scale: expected 'none', 'group' or 'batch', "
            "received 'std'",
        ),
        ("domain: llm", "recipe.yaml: domain: expected 'flow', received 'llm'"),
        ("reward: []", "recipe.yaml: reward: expected a list of at least one entry, received []"),
        (
            "reward: [{weight: 1}]",
            "recipe.yaml: reward.0.name: expected a value, received none in {'weight': 1}",
        ),
        (
            "reward: [{name: clip_score, weight: 0}]",
            "recipe.yaml: reward.0.weight: expected a number other than 0, received 0; "
            "remove the term",
        ),
        (
            "reward: [{name: clip_score, options: {since: 2024-01-01}}]",
            "recipe.yaml: reward.0.options.since: expected text, a number, true, false, null, "
            "a list or a mapping, received datetime.date(2024, 1, 1)",
        ),
        (
            "adapter: {target_modules: []}",
            "recipe.yaml: adapter.target_modules: expected a list of at least one entry, "
            "received []",
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
            "model: {pretrained: ''}",
            "recipe.yaml: model.pretrained: expected text that is not empty, received ''",
        ),
        (
            "prompts: {train: 'scenes:trian'}",
            "recipe.yaml: prompts.train: expected scenes:train, scenes:held_out or the path of a "
            ".txt or .jsonl file, received 'scenes:trian'; did you mean 'scenes:train'?",
        ),
        (
            "prompts: {train: my.txt, held_out: my.txt}",
            "recipe.yaml: prompts.held_out: expected another source than prompts.train, received "
            "'my.txt' for both",
        ),
        (
            "prompts: {held_out_size: 5}",
            "recipe.yaml: evaluation.strip_prompts: expected at most prompts.held_out_size = 5, "
            "received 6",
        ),
        (
            "training: {steps: 1}\nmodel: {height: 2}\ntraining: {steps: 3}",
            "recipe.yaml, line 3, column 1: expected YAML; key 'training' appears twice "
            "(first on line 1)",
        ),
        (
            "training:\n  steps: 1\n  steps: 2",
            "recipe.yaml, line 3, column 3: expected YAML; key 'steps' appears twice "
            "(first on line 2)",
        ),
        (
            "training:\n  on: 1",
            "recipe.yaml, line 2, column 3: expected YAML; expected text as a key, received True",
        ),
        (
            "training:\n  steps: ]",
            "recipe.yaml, line 2, column 10: expected YAML; while parsing a block mapping "
            "expected <block end>, but found ']'",
        ),
        (
            "description: !!python/object/apply:os.getcwd []",
            "recipe.yaml, line 1, column 14: expected YAML; could not determine a constructor for "
            "the tag 'tag:yaml.org,2002:python/object/apply:os.getcwd'",
        ),
        ("", "recipe.yaml: expected sections such as 'training:', received an empty file"),
        ("- 1", "recipe.yaml: expected sections such as 'training:', received list [1]"),
        (
            "extends: flow/adpro",
            "recipe.yaml: extends: expected a recipe's name or the path of a .yaml file, received "
            "'flow/adpro'; did you mean 'flow/adrpo'?",
        ),
        (
            "extends: [a]",
            "recipe.yaml: extends: expected a recipe's name or a .yaml path, received ['a']",
        ),
        (
            "extends: recipe.yaml",
            "recipe.yaml: extends: expected a recipe that does not lead back to recipe.yaml",
        ),
    ],
)
def test_error_line(tmp_path: Path, text: str, expected: str):
    if text.startswith("training:\n  steps: ]"):
        # The wording of a syntax error is PyYAML's; its place is ours.
        expected = expected.split("while")[0]
        assert refusal(write(tmp_path, text)).startswith(expected)
        return
    assert refusal(write(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "training.stepz=7",
            "recipe.yaml, override training.stepz=7: training.stepz: unknown key (received 7); "
            "did you mean 'steps'?",
        ),
        (
            "trainng.steps=7",
            "recipe.yaml, override trainng.steps=7: trainng: unknown key "
            "(received {'steps': 7}); did you mean 'training'?",
        ),
        (
            "training={steps: 7}",
            "recipe.yaml, override training={steps: 7}: training is a section; "
            "override its keys, as training.KEY=VALUE",
        ),
        (
            "training.steps",
            "override 'training.steps': expected section.key=value, as training.steps=10",
        ),
        ("=5", "override '=5': expected section.key=value, as training.steps=10"),
        (
            "training.steps.x=1",
            "recipe.yaml, override training.steps.x=1: training.steps has no keys, it is 100",
        ),
        (
            "reward.1.weight=2",
            "recipe.yaml, override reward.1.weight=2: reward: expected an index from 0 to 0, "
            "received '1'",
        ),
        (
            "training.steps=",
            "recipe.yaml, override training.steps=: training.steps: expected a whole number, "
            "received None",
        ),
    ],
)
def test_override_error_line(tmp_path: Path, override: str, expected: str):
    assert refusal(write(tmp_path, "training: {seed: 1}"), (override,)) == expected


def test_overrides_reach_sections_lists_and_options(tmp_path: Path):
    path = write(tmp_path, "reward: [{name: a.b:c, weight: 1, options: {x: 1}}, {name: d.e:f}]")
    config = load_config(
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
    load_config(path, ["reward.0.options.model=other", "training.steps=7"])
    assert load_config(path).reward[0].options == {"model": "embedded"}
    assert load_config(path).training.steps == FlowConfig().training.steps


def test_negative_beta_needs_permission(tmp_path: Path):
    path = write(tmp_path, "algorithm: {beta_0: 0.5, allow_negative_beta: true}")
    assert load_config(path).algorithm.advantage_clip == (-1.0, 1.0)


def test_extends_merges_along_a_chain_and_relative_to_the_file(tmp_path: Path):
    (tmp_path / "base").mkdir()
    write(tmp_path / "base", "extends: flow/adrpo\ntraining: {steps: 5, seed: 3}", "one.yaml")
    path = write(tmp_path, "extends: base/one.yaml\ntraining: {seed: 4}\nreward: [{name: a.b:c}]")
    config = load_config(path)
    base = load_config("flow/adrpo")
    assert (config.training.steps, config.training.seed) == (5, 4)
    assert config.training.learning_rate == base.training.learning_rate
    assert [term.name for term in config.reward] == ["a.b:c"]
    assert config.source == base.source


def test_error_names_the_file_that_holds_the_key(tmp_path: Path):
    write(tmp_path, "training: {steps: 0}", "base.yaml")
    path = write(tmp_path, "extends: base.yaml\ntraining: {seed: 1}")
    assert refusal(path) == "base.yaml: training.steps: expected a number > 0, received 0"


def test_bytes_that_are_not_utf8(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"source: caf\xe9\n")
    assert refusal(path) == (
        "recipe.yaml: expected UTF-8 text, received byte 0xe9 at offset 11; save the file as UTF-8"
    )


def test_byte_order_mark_is_no_key(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xef\xbb\xbftraining: {steps: 4}\n")
    assert load_config(path).training.steps == 4


def test_long_values_are_cut(tmp_path: Path):
    line = refusal(write(tmp_path, f"training: {{steps: {'x' * 5000}}}"))
    assert len(line) < 200


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("missing.yaml", "expected the path of a recipe, received 'missing.yaml': no such file"),
        (
            "flow/dmeo",
            "expected a recipe's name or the path of a .yaml file, received 'flow/dmeo'; "
            "did you mean 'flow/demo'?",
        ),
    ],
)
def test_recipe_that_is_not_there(name: str, expected: str):
    with pytest.raises(AdrpoError) as caught:
        find_recipe(name)
    assert str(caught.value) == expected


def test_every_field_is_described():
    """The reference page is built from these."""
    for model in sections(FlowConfig.__mro__[1]):
        assert model.__doc__, model
        for name, field in model.model_fields.items():
            nested = isinstance(field.default, BaseModel) or isinstance(field.default, tuple)
            if model is FlowConfig and nested:
                continue
            assert field.description and "\n" not in field.description, (model, name)
