"""What is wrong with a configuration, in one line each: file, key, value, what was expected."""

from pathlib import Path

import pytest

from adrpo.config import DOMAINS, find_recipe, form_of, load_recipe
from adrpo.config.fields import sections_in
from adrpo.errors import AdrpoError
from support.refused_configurations import of_domain, refusal, write


@pytest.mark.parametrize("domain", DOMAINS)
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
            "report_to: wandb",
            "recipe.yaml: report_to: unknown key (received 'wandb'); it is called 'trackers' here",
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
            "model: {pretrained: ''}",
            "recipe.yaml: model.pretrained: expected text that is not empty, received ''",
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
        (
            "training: {steps: 1}\nmodel: {pretrained: a}\ntraining: {steps: 3}",
            "recipe.yaml, line 3, column 1: expected YAML; key 'training' appears twice "
            "(first on line 1)",
        ),
    ],
)
def test_error_line(tmp_path: Path, text: str, expected: str, domain: str):
    if text.startswith("adapter") and not sections_in(
        form_of(domain).model_fields["adapter"].annotation
    ):
        pytest.skip("it has no adapter")
    assert refusal(write(tmp_path, of_domain(domain, text))) == expected


@pytest.mark.parametrize("domain", DOMAINS)
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
def test_override_error_line(tmp_path: Path, override: str, expected: str, domain: str):
    path = write(tmp_path, of_domain(domain, "training: {seed: 1}"))
    assert refusal(path, (override,)) == expected


def test_syntax_error_is_placed(tmp_path: Path):
    """Its wording is PyYAML's own."""
    line = refusal(write(tmp_path, "training:\n  steps: ]"))
    assert line.startswith("recipe.yaml, line 2, column 10: expected YAML; ")


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


def test_a_recipe_beside_the_one_that_is_not_there_is_named(tmp_path: Path):
    write(tmp_path, "domain: flow")
    (name,) = (path.name for path in tmp_path.iterdir())
    with pytest.raises(AdrpoError, match=f"no such file; did you mean '{name}'"):
        find_recipe(tmp_path / f"x{name}")


def test_what_is_extended_is_told_with_what_extends_it(tmp_path: Path):
    (tmp_path / "broken.yaml").write_text("training: [\n", encoding="utf-8")
    file = tmp_path / "mine.yaml"
    file.write_text("extends: broken.yaml\n", encoding="utf-8")
    with pytest.raises(AdrpoError, match=r"mine\.yaml: extends: .*broken\.yaml, line 2"):
        load_recipe(str(file))


def test_an_endless_chain_of_recipes_ends(tmp_path: Path):
    """Longer than Python's own depth of calls."""
    for number in range(1500):
        text = f"extends: chain-{number + 1}.yaml\n"
        (tmp_path / f"chain-{number}.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(AdrpoError, match=r"chain-0\.yaml: extends: expected at most 100 recipes"):
        load_recipe(str(tmp_path / "chain-0.yaml"))
