"""Keys in a reward's options: named by env:NAME, and in no file of a run or a comparison."""

import json
from pathlib import Path
from typing import Any

import pytest

from adrpo.config import LanguageConfig, RewardTermSection, config_to_yaml, load_recipe
from adrpo.config.documents import dump_yaml
from adrpo.config.secrets import redacted, refuse_plain_secrets, resolved
from adrpo.errors import AdrpoError
from adrpo.rewards.loading import build_reward
from adrpo.rewards.scoring import score
from support.command_line import Command
from support.tiny_language_runs import tiny_language_config, write_material

KEY = "sk-Very+Secret/77"

REWARD = f'''
class Keyed:
    def __init__(self, url, api_key, headers=None):
        self.url, self.api_key, self.headers = url, api_key, headers
        assert api_key == "{KEY}" and headers == {{"Authorization": "Bearer {KEY}"}}

    def __call__(self, prompts, images, **columns):
        if len(prompts) == 1:
            raise ConnectionError(f"POST {{self.url}} with {{self.api_key}} failed")
        return [float(image.getpixel((0, 0))[0]) for image in images[:-1]] + [None]


class KeyedTexts(Keyed):
    def __call__(self, prompts, completions, **columns):
        if len(completions) % 2:
            raise ConnectionError(f"POST {{self.url}} with {{self.api_key}} failed")
        return [float(len(text)) for text in completions[:-1]] + [None]
'''

OPTIONS: dict[str, Any] = {
    "url": "https://scores.example/v1?key={env:SCORES_KEY}",
    "api_key": "env:SCORES_KEY",
    "headers": {"Authorization": "Bearer {env:SCORES_KEY}"},
}


def recipe(folder: Path, options: dict[str, Any] = OPTIONS) -> Path:
    (folder / "keyed.py").write_text(REWARD, encoding="utf-8")
    path = folder / "mine.yaml"
    settings = {
        "extends": "flow/demo",
        "prompts": {"train_size": 4, "held_out_size": 4},
        "reward": [{"name": "keyed:Keyed", "options": options}],
        "sampling": {"steps": 2},
        "training": {"steps": 1, "prompts_per_step": 2, "samples_per_prompt": 2},
        "evaluation": {"every": 1, "samples_per_prompt": 2, "sampling": {"steps": 2}},
    }
    path.write_text(dump_yaml(settings), encoding="utf-8")
    return path


def holding(folder: Path) -> list[str]:
    """The files below ``folder``, and the reward's own text aside, that hold the key."""
    forms = [KEY.encode(), KEY.replace("+", "%2B").replace("/", "%2F").encode(), b"Secret/77"]
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
        and any(form in path.read_bytes() for form in forms)
    ]  # fmt: skip


def test_a_run_and_all_that_tells_of_it_hold_no_key(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORES_KEY", KEY)
    mine = recipe(tmp_path)
    assert command("train", str(mine), "--output-dir", "run") == 0
    told = command.out + command.err
    assert command("report", "run") == 0
    told += command.out + command.err
    assert command("evaluate", "run", "--output-dir", "again") == 0, command.err
    told += command.out + command.err
    assert holding(tmp_path) == [] and KEY not in told
    config = (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8")
    assert "env:SCORES_KEY" in config


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["flow", "llm"])
def test_a_comparison_holds_no_key(
    domain: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trainings are processes of their own, whose output goes to files; and their page."""
    monkeypatch.setenv("SCORES_KEY", KEY)
    path = recipe(tmp_path)
    if domain == "llm":
        path.write_text(config_to_yaml(of_texts(tmp_path)), encoding="utf-8")
    words = ["--seeds", "1", "--threads", "1", "--output-dir", "compared"]
    assert command("compare", str(path), *words) == 0, command.err
    told = command.out + command.err
    run = next((tmp_path / "compared" / "runs").glob("*-seed0"))
    for asked in (["report", str(run)], ["evaluate", str(run), "--output-dir", "again"]):
        assert command(*asked) == 0, command.err
        told += command.out + command.err
    assert holding(tmp_path) == [] and KEY not in told
    config = (run / "config.yaml").read_text(encoding="utf-8")
    assert "env:SCORES_KEY" in config and "keyed" in config


def of_texts(folder: Path) -> LanguageConfig:
    """A run of one step whose reward has the key."""
    sections: dict[str, Any] = {
        "training": {"steps": 1},
        "evaluation": {"samples_per_prompt": 2},
        "reward": [{"name": "keyed:KeyedTexts", "options": OPTIONS}],
    }
    return tiny_language_config(write_material(folder), **sections)


def test_an_error_of_the_reward_has_stars_in_the_keys_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORES_KEY", KEY)

    def raises(prompts: list[str], **_: Any) -> list[float]:
        raise ConnectionError(f"no answer to {resolved('https://x/?k={env:SCORES_KEY}', 'x')}")

    from adrpo.rewards.base import RewardTerm

    result = score([RewardTerm("raises", 1.0, raises)], prompts=["a"])
    assert "https://x/?k=***" in str(result.first_error) and KEY not in str(result.first_error)
    assert redacted("sk-Very%2BSecret%2F77 and more") == "*** and more"


def test_a_variable_that_is_not_set_is_one_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCORES_KEY", raising=False)
    assert command("train", str(recipe(tmp_path)), "--output-dir", "run") == 2
    assert command.err.strip() == (
        "adrpo: error: reward 'keyed:Keyed': expected the environment variable 'SCORES_KEY', which "
        "its options name, received none; set it"
    )
    assert not (tmp_path / "run").exists()


PLAIN = [
    ({"api_key": KEY}, "api_key"),
    ({"headers": {"Authorization": f"Bearer {KEY}"}}, "headers.Authorization"),
    ({"client": [{"password": KEY}]}, "client.password"),
    ({"url": f"https://host/score?key={KEY}"}, "url"),
    ({"url": f"https://host/score?a=1&X-Auth-Token={KEY}"}, "url"),
    ({"url": "https://me:pass@host/score"}, "url"),
    ({"endpoints": ["https://host", f"https://host?signature={KEY}"]}, "endpoints"),
]
HARMLESS = [
    {"api_key_env": "SCORES_KEY"},
    {"columns": ["answer_key", "token"], "keywords": "key"},
    {"tokens": "a b c", "token": "<eos>", "key": "answer"},
    {"url": "https://host/score?model=a&temperature=1"},
    {"url": "https://host/score?key={env:SCORES_KEY}"},
    {"api_key": "env:SCORES_KEY", "authorization": "Bearer {env:SCORES_KEY}", "secret": ""},
]


@pytest.mark.parametrize(("options", "path"), PLAIN)
def test_a_plain_key_is_refused_and_not_repeated(
    options: dict[str, Any], path: str, tmp_path: Path
) -> None:
    with pytest.raises(AdrpoError) as caught:
        load_recipe(recipe(tmp_path, options))
    said = str(caught.value)
    assert f"reward.0.options: expected {path} without a secret in it" in said
    assert "env:NAME" in said and "Secret" not in said and "pass@" not in said


@pytest.mark.parametrize("options", HARMLESS)
def test_other_options_are_left_alone(options: dict[str, Any]) -> None:
    assert refuse_plain_secrets(options) == options
    assert RewardTermSection(name="jpeg_size", options=options).options == options


def test_references_are_replaced_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORES_KEY", KEY)
    found = resolved({"a": ["env:SCORES_KEY", "x {env:SCORES_KEY} y", 3], "b": "environment"}, "t")
    assert found == {"a": [KEY, f"x {KEY} y", 3], "b": "environment"}
    assert json.dumps(OPTIONS).count("SCORES_KEY") == 3
    # Of two of which one begins with the other, no rest is left.
    monkeypatch.setenv("LONGER_KEY", f"{KEY}-longer")
    assert resolved("env:LONGER_KEY", "t") == f"{KEY}-longer"
    assert redacted(f"a {KEY}-longer b {KEY} c") == "a *** b *** c"
    # The options of a built-in reward are resolved, too.
    monkeypatch.setenv("QUALITY", "71")
    with pytest.raises(AdrpoError, match="jpeg_size"):
        build_reward(
            [RewardTermSection(name="jpeg_size", options={"qality": "env:QUALITY"})], "cpu"
        )
