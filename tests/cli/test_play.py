"""``adrpo play``: the words of its page, and what it says where it can't open one."""

import importlib.util
import math
from typing import TYPE_CHECKING

import pytest

from adrpo.cli.play import _open_to_others
from adrpo.cli.play_page import scores_text
from adrpo.evaluation.playing import Panel, Played

if TYPE_CHECKING:
    from support.command_line import Command


def test_without_gradio_one_line_says_how_to_install_it(
    command: "Command", monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "gradio" else found(name, *more),
    )
    assert command("play", "nowhere") == 2
    (line,) = command.err.splitlines()
    assert "expected the package gradio" in line and "pip install '.[play]'" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "192.0.2.1"], "--host: expected an address of this machine"),  # of documents
        (["--host", "a" * 80], "--host: expected an address of this machine"),
        (["--port", "70000"], "'--port': Input should be less than or equal to 65535"),
        (["--port", "0"], "'--port': Input should be greater than or equal to 1"),
    ],
)
def test_an_address_that_cannot_be_had_is_told_before_a_model_is_loaded(
    words: list[str], said: str, command: "Command", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: object())  # Gradio is there
    assert command("play", "nowhere", *words) == 2
    assert said in " ".join(command.err.split())


@pytest.mark.parametrize(
    ("host", "open_"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)]
)
def test_a_page_for_others_is_said_aloud(host: str, open_: bool) -> None:
    said = " ".join(_open_to_others(host))
    assert ("without a password" in said) == open_
    assert (host in said) == open_


def test_scores_stand_in_a_table_with_what_is_missing_below() -> None:
    scores = {"reward": 3.14159, "clip_score": math.nan}
    played = Played(sample="a", scores=scores, errors=["clip_score: KeyError: '<b>'"])
    lines = scores_text(Panel("one", played)).splitlines()
    assert lines[2:4] == ["| Reward | 3.14 |", "| CLIP score, reward CLIP | – |"]
    assert lines[-1] == r"clip\_score: KeyError: '&lt;b>'"
    assert scores_text(Panel("one", None, "no [weights](x)")) == r"no \[weights\](x)"
