"""The page of ``adrpo play`` as it is served: asked by Gradio's client, and in a real browser."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adrpo.cli.domains import door_of
from adrpo.evaluation.playing import Asked, open_playground
from adrpo.flow.domain import build_trainer
from adrpo.report.numbers import compact
from support.devtools import BROWSER, opened
from support.tiny_runs import embedded_config

PICTURES = "[...document.querySelectorAll('.picture img')]"
PRESS = "w => [...document.querySelectorAll('button')].find(b => b.innerText == w).click()"
# A slider is found by its label; the page hears of a value by the event of a person's hand.
MOVE = """(words, value) => {
  const block = [...document.querySelectorAll('.block')].find(
    own => own.innerText.startsWith(words) && own.querySelector('input[type=number]'));
  const input = block.querySelector('input[type=number]');
  input.value = value;
  input.dispatchEvent(new Event('input', {bubbles: true}));
  input.dispatchEvent(new Event('blur', {bubbles: true}));
}"""
pytestmark = [
    pytest.mark.apps,
    pytest.mark.skipif(
        find_spec("gradio") is None and "ADRPO_EXPECT_APPS" not in os.environ,
        reason="Gradio is not installed: make test-apps",
    ),
    pytest.mark.filterwarnings("default::DeprecationWarning"),  # of Gradio's client
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = embedded_config(
        training={"steps": 2, "learning_rate": 0.02},
        evaluation={"every": 2, "sampling": {"steps": 2}},
        checkpoint={"every": 1},
        prompts={"held_out_size": 2},
    )
    return build_trainer(config).train(tmp_path_factory.mktemp("runs") / "mine", progress=False)


@pytest.fixture(scope="module")
def url(run: Path) -> Iterator[str]:
    """The page of ``run``, served by the command in a process of its own; told to end, it ends."""
    environment = {**os.environ, "no_proxy": "127.0.0.1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "adrpo", "play", str(run)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.match(r"Play: (http://127\.0\.0\.1:\d+/)", line)
    assert found is not None, line
    yield found[1]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_the_client_gets_what_the_playground_draws(
    url: str, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from gradio_client import Client

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    client = Client(url, verbose=False, download_files=str(tmp_path), analytics_enabled=False)
    answer = client.predict("a red circle", None, 1.5, 3, 7, 1, api_name="/draw")
    with open_playground([str(run)], door_of) as ground:
        asked = Asked(prompt="a red circle", strength=1.5, steps=3, seed=7)
        panels = ground.play(asked, 1)
    assert len(answer) == 2 * len(panels) == 4
    for panel, sample, scores in zip(panels, answer[::2], answer[1::2], strict=True):
        assert panel.played is not None
        assert sample["label"] == panel.title
        shown = np.asarray(Image.open(sample["value"]))
        assert (shown[..., :3] == np.asarray(panel.played.sample)).all()
        assert f"| {compact(panel.played.scores['reward'])} |" in scores
    emptied, zero = (
        client.predict("a red circle", None, 1.0, 1, seed, 1, api_name="/draw")
        for seed in (None, 0)
    )
    assert emptied[1] == zero[1]  # the scores, since each picture is a file of its own
    with pytest.raises(Exception, match="expected a prompt, received an empty one"):
        client.predict(" ", None, 1.0, 3, 7, 1, api_name="/draw")


@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
def test_a_browser_shows_the_pictures_and_their_scores(url: str, tmp_path: Path) -> None:
    with opened(url, tmp_path) as tab:
        # It draws when it is opened: a picture and a score for the base and for the run.
        tab.wait_for(f"{PICTURES}.length == 2 && {PICTURES}.every(own => own.naturalWidth == 64)")
        shown = tab.evaluate("document.body.innerText")
        assert shown.count("Reward\t") == 2
        for words in ("Base", "mine, step 2", "Strength of what was trained", "Step of training"):
            assert words in shown
        # As wide as their places, with crisp pixels.
        widths = tab.evaluate(f"{PICTURES}.map(own => own.getBoundingClientRect().width)")
        assert min(widths) > 200
        assert tab.evaluate(f"getComputedStyle({PICTURES}[0]).imageRendering") == "pixelated"
        before = tab.evaluate(f"{PICTURES}.map(own => own.src)")
        assert before[0] != before[1]
        # Without strength the run draws what the base draws.
        tab.evaluate(f"({MOVE})('Strength of what was trained', '0')")
        tab.evaluate(f"({PRESS})('Draw')")
        tab.wait_for(f"{PICTURES}.length == 2 && {PICTURES}[1].src == {json.dumps(before[0])}")
        # Nothing was fetched from elsewhere.
        fetched = tab.evaluate("performance.getEntriesByType('resource').map(own => own.name)")
        assert len(fetched) > 10
        assert [name for name in fetched if not name.startswith((url, "data:", "blob:"))] == []
