"""Configurations that earlier versions wrote: they are read, and their runs go on."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from adrpo.comparison.plan import Plan, check_folder, record
from adrpo.config import DOMAINS, LanguageConfig, form_of, load_recipe, resolve_settings
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.runs.base_evaluation import check_base_evaluation
from adrpo.runs.directory import RunDirectory
from adrpo.runs.resuming import check_same_run, flatten, unflatten
from support.refused_configurations import refusal, write

# As the version before the keys were shared wrote them, resolved, into a run's config.yaml.
WRITTEN = Path(__file__).parents[2] / "support" / "written_before"
NAMES = ("flow-demo", "llm-embedded")
RENAMED_KEYS = [(domain, old) for domain in DOMAINS for old in form_of(domain).renamed]


def text_of(name: str) -> str:
    return (WRITTEN / f"{name}.yaml").read_text(encoding="utf-8")


def load_quietly(path: Path, *overrides: str) -> dict[str, Any]:
    """The resolved configuration as JSON values, whichever names of keys the file has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdrpoWarning)
        return load_recipe(path, overrides).model_dump(mode="json")


def values_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys under today's names."""
    method = settings["algorithm"]["method"]
    names = {
        old: renamed.name
        for old, renamed in form_of(settings["domain"]).renamed.items()
        if renamed.method in (None, method)
    }
    return {names.get(key, key): value for key, value in flatten(settings).items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_value_that_was_written_is_read(name: str):
    before = values_of(yaml.safe_load(text_of(name)))
    # Terms of a list, which have no dotted keys, with what was added to them since.
    before["reward"] = [{"timeout": None} | term for term in before["reward"]]
    assert flatten(load_quietly(WRITTEN / f"{name}.yaml")).items() >= before.items()


@pytest.mark.parametrize("name", NAMES)
def test_reading_and_resolving_give_the_same(name: str):
    """What a run is compared by is what the file means when it is loaded."""
    written = yaml.safe_load(text_of(name))
    assert resolve_settings(written, name) == load_quietly(WRITTEN / f"{name}.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_a_run_goes_on_with_its_own_settings(name: str, tmp_path: Path):
    run = RunDirectory.create(tmp_path / "run", text_of(name))
    check_same_run(run, load_quietly(WRITTEN / f"{name}.yaml"))
    with pytest.raises(AdrpoError, match=r"config\.yaml has training\.seed=0, but .* has 5"):
        check_same_run(run, load_quietly(WRITTEN / f"{name}.yaml", "training.seed=5"))


def test_a_key_that_was_added_since_has_its_default(tmp_path: Path):
    text = "".join(
        line for line in text_of("flow-demo").splitlines(keepends=True) if "ema_decay" not in line
    )
    run = RunDirectory.create(tmp_path / "run", text)
    check_same_run(run, load_quietly(run.config))
    with pytest.raises(AdrpoError, match=r"has training\.ema_decay=None, but this call has 0\.9"):
        check_same_run(run, load_quietly(run.config, "training.ema_decay=0.9"))


@pytest.mark.parametrize("section", ["checkpoint", "evaluation"])
def test_a_section_that_was_added_since_has_its_defaults(section: str):
    written = yaml.safe_load(text_of("llm-embedded"))
    del written[section]
    default = LanguageConfig().model_dump(mode="json")[section]
    assert resolve_settings(written, "run")[section] == default


def test_resolving_knows_methods_lists_and_free_keys():
    written: dict[str, Any] = {
        "algorithm": {"method": "raft"},
        "reward": [{"name": "a.b:c"}],
        "evaluation": {"sampling": {"solver": "heun"}},
        "unknown": {"kept": 1},
    }
    resolved = resolve_settings(written, "run")
    assert resolved["algorithm"] == {
        "method": "raft",
        "best": 1,
        "sampling_policy": None,
        "shared_points": False,
    }
    defaults = {"weight": 1.0, "logistic": None, "timeout": None, "options": {}}
    assert resolved["reward"] == [{"name": "a.b:c"} | defaults]
    # A key that is left out has the section's own default, not that of the whole evaluation.
    assert resolved["evaluation"]["sampling"]["solver"] == "heun"
    assert resolved["unknown"] == {"kept": 1}


def test_an_unknown_domain_is_refused():
    known = " or ".join(DOMAINS)
    with pytest.raises(AdrpoError, match=f"run: domain: expected {known}, received 'video'"):
        resolve_settings({"domain": "video"}, "run")


def test_the_base_of_such_a_run_can_be_taken_over(tmp_path: Path):
    run = RunDirectory.create(tmp_path / "run", text_of("llm-embedded"))
    run.append_evaluation({"step": 0, "split": "unseen"})
    check_base_evaluation(run, load_quietly(run.config), ["unseen"], [])
    with pytest.raises(AdrpoError, match=r"has prompts\.held_out_share=0\.1, but .* has 0\.2"):
        settings = load_quietly(run.config, "prompts.held_out=0.2")
        check_base_evaluation(run, settings, ["unseen"], [])


def test_a_comparison_of_such_runs_goes_on(tmp_path: Path):
    path = write(tmp_path, text_of("llm-embedded"), "mine.yaml")
    with pytest.warns(AdrpoWarning, match="held_out_share"):
        plan = Plan.resolve(tmp_path / "folder", [str(path)], [], 1, None)
    record(plan)
    found = json.loads((plan.folder / "comparison.json").read_text(encoding="utf-8"))
    before = flatten(yaml.safe_load(text_of("llm-embedded")))
    del before["training.seed"]
    assert before.keys() != found["settings"]["mine"].keys()
    found["settings"]["mine"] = before
    (plan.folder / "comparison.json").write_text(json.dumps(found), encoding="utf-8")
    check_folder(plan)
    found["settings"]["mine"]["prompts.held_out"] = 0.2
    (plan.folder / "comparison.json").write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(AdrpoError, match=r"mine with prompts\.held_out_share=0\.2"):
        check_folder(plan)


@pytest.mark.parametrize("name", NAMES)
def test_dotted_keys_unfold_to_what_they_were(name: str):
    settings = load_quietly(WRITTEN / f"{name}.yaml", "reward.0.options={a: {b.c: 1}}")
    assert unflatten(flatten(settings)) == settings


@pytest.mark.parametrize(("domain", "old"), RENAMED_KEYS)
def test_a_renamed_key_exists_under_its_new_name_alone(domain: str, old: str):
    """What has its old name today, if anything, takes no value that it had."""
    new, values, method = form_of(domain).renamed[old]
    keys = flatten(form_of(domain)().model_dump(mode="json"))
    assert isinstance(keys[new], values)
    assert old.rpartition(".")[0] == new.rpartition(".")[0]
    section, _, key = old.rpartition(".")
    for kind in values:
        content = {key: kind(1)} | ({} if method is None else {"method": method})
        where = ".".join(filter(None, (section, method, key)))
        with pytest.raises(ValidationError, match=re.escape(where)):
            form_of(domain).model_validate({section: content})


def test_an_old_name_in_a_file_is_read_and_told_once(tmp_path: Path):
    path = write(tmp_path, "domain: llm\nprompts: {source: sums, held_out: 0.3}")
    with pytest.warns(AdrpoWarning) as told:
        config = load_recipe(path, form=LanguageConfig)
    assert [str(warning.message) for warning in told] == [
        f"{path}: prompts.held_out is called prompts.held_out_share now; it is read as that"
    ]
    assert config.prompts.held_out_share == 0.3


def test_an_old_name_in_an_override_is_read_and_told(tmp_path: Path):
    path = write(tmp_path, "domain: llm\nprompts: {source: sums}")
    with pytest.warns(AdrpoWarning, match="override prompts.held_out=0.3: prompts.held_out is"):
        config = load_recipe(path, ["prompts.held_out=0.3"], form=LanguageConfig)
    assert config.prompts.held_out_share == 0.3


def test_a_text_under_a_share_s_old_name_is_today_s_source(tmp_path: Path):
    path = write(tmp_path, "domain: llm\nprompts: {source: sums, held_out: art-style}")
    config = load_recipe(path, form=LanguageConfig)
    assert (config.prompts.held_out, config.prompts.held_out_share) == ("art-style", 0.1)
    config = load_recipe(path, ["prompts.held_out=null"], form=LanguageConfig)
    assert config.prompts.held_out is None


def test_an_old_name_in_what_is_extended_gives_way_to_the_new(tmp_path: Path):
    write(tmp_path, "domain: llm\nprompts: {source: sums, held_out: 0.3}", "base.yaml")
    path = write(tmp_path, "extends: base.yaml\nprompts: {held_out_share: 0.4}")
    with pytest.warns(AdrpoWarning, match="base.yaml"):
        assert load_recipe(path, form=LanguageConfig).prompts.held_out_share == 0.4


def test_a_key_under_both_names_is_refused(tmp_path: Path):
    path = write(tmp_path, "domain: llm\nprompts: {held_out: 0.3, held_out_share: 0.3}")
    assert refusal(path) == (
        "recipe.yaml: prompts.held_out: expected it once, received it as prompts.held_out_share, "
        "too, which is its name today; remove prompts.held_out"
    )


def test_the_name_is_the_domain_s(tmp_path: Path):
    """In the domain flow prompts.held_out is a source, and stays."""
    path = write(tmp_path, "prompts: {train: drawbench-style, held_out: art-style}")
    assert load_recipe(path).prompts.held_out == "art-style"  # type: ignore[union-attr]


RECORDS = sorted(Path("benchmarks/results").glob("*/comparison.json"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.parent.name)
def test_a_measured_comparison_is_still_read(path: Path):
    """Its settings, written by many versions, are a whole configuration of today."""
    record = json.loads(path.read_text(encoding="utf-8"))
    for settings in record["settings"].values():
        resolved = resolve_settings(unflatten(settings), str(path))
        form = form_of(resolved["domain"])
        assert form.model_validate(resolved).model_dump(mode="json") == resolved


def test_there_are_measured_comparisons_of_every_domain():
    text = "".join(path.read_text(encoding="utf-8") for path in RECORDS)
    assert all(f'"domain": "{domain}"' in text for domain in ("flow", "llm"))
