"""docs/start/other-names.md: names of TRL and diffusers are theirs, keys and columns ours."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest
from diffusers import FluxPipeline, StableDiffusion3Pipeline

from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/start/other-names.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")


def pairs(first: str) -> list[tuple[str, str]]:
    """The names in the first two columns of the table whose heading begins with ``first``."""
    _, _, rest = PAGE.partition(f"| {first} |")
    table = rest.partition("\n\n")[0]
    found = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", table, flags=re.M)
    assert len(found) == table.count("\n| `") > 5
    return found


def keys(domain: str) -> set[str]:
    """Every key of a recipe of ``domain``, by its dotted name."""
    _, _, rest = SETTINGS.partition(f"## Domain `{domain}`\n")
    found, section = set[str](), ""
    for line in rest.partition("\n## Domain")[0].splitlines():
        if heading := re.match(r"### `([^`]+)`", line):
            section = heading[1]
        elif key := re.match(r"\| `([^`]+)` \|", line):
            found.add(f"{section}.{key[1]}")
    return found


@pytest.mark.parametrize("domain", ["llm", "audio"])
def test_options_of_trl_have_these_keys(domain: str):
    from trl import GRPOConfig

    table = pairs("TRL")
    assert {theirs for theirs, _ in table} <= {f.name for f in dataclasses.fields(GRPOConfig)}
    assert {ours for _, ours in table} <= keys(domain)


def test_trl_s_logs_have_these_columns():
    from adrpo.llm.recorder import COLUMNS

    assert set(pairs("in TRL's logs")) <= set(COLUMNS.items())


@pytest.mark.parametrize("pipeline", [StableDiffusion3Pipeline, FluxPipeline])
def test_arguments_of_diffusers_have_these_keys(pipeline: type):
    table = pairs("diffusers")
    assert {theirs for theirs, _ in table} <= set(inspect.signature(pipeline.__call__).parameters)
    assert {ours for _, ours in table} <= keys("flow")
