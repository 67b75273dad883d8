"""The report in a real browser: pictures decode, nothing overflows, nothing is logged."""

import base64
import hashlib
import html
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adrpo.report import write_report
from support.fabricated_run import fabricate

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--enable-logging=stderr",
)  # fmt: skip
WIDTHS = (390, 1280)

# Runs before anything else of the page, so that it also sees what the page's policy forbids.
WATCH = """<script>
const problems = [];
addEventListener("error", event => problems.push(String(event.message)), true);
addEventListener("securitypolicyviolation", event => problems.push(event.violatedDirective));
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(part => part.open = true);
  const pictures = [...document.images];
  const read = {};
  const plot = document.querySelector("[data-points*='step']");
  const box = plot.getBoundingClientRect();
  plot.dispatchEvent(new PointerEvent("pointermove", {clientX: box.right, clientY: box.top}));
  read.tip = document.querySelector(".tip").textContent;
  const names = () => [...document.querySelectorAll("table.metrics")][0].tBodies[0].textContent
    .match(/CLIP score, second CLIP|Gold accuracy|CLIP diversity/g).join();
  read.before = names();
  document.querySelectorAll("table.metrics .sort")[1].click();
  read.sorted = names();
  document.querySelectorAll("table.metrics .sort")[1].click();
  document.querySelectorAll("table.metrics .sort")[1].click();
  read.back = names();
  const range = document.querySelector(".smoothing input");
  range.value = 0.5;
  range.dispatchEvent(new Event("input"));
  read.smoothed = document.querySelectorAll("path.smoothed").length;
  read.copies = document.querySelectorAll(".copy").length;
  const page = document.documentElement;
  const right = node => node.getBoundingClientRect().right;
  const outside = [...document.body.querySelectorAll("*")].filter(node =>
    right(node) > innerWidth + 0.5 && !node.closest(".scroll"));
  parent.postMessage({
    read,
    width: innerWidth, scrollWidth: page.scrollWidth, title: document.title, problems,
    pictures: pictures.length,
    decoded: pictures.filter(picture => picture.naturalWidth > 0).length,
    drawings: [...document.querySelectorAll("svg")].map(
      drawing => drawing.getBoundingClientRect().height),
    outside: outside.map(node => node.outerHTML.slice(0, 120)),
  }, "*");
});
</script>"""

# A window cannot be made as narrow as a phone, a frame can.
FRAMES = """<!DOCTYPE html><body><script>
const reports = [];
addEventListener("message", event => {
  reports.push(event.data);
  if (reports.length == 2) {
    const found = document.body.appendChild(document.createElement("pre"));
    found.id = "found";
    found.textContent = JSON.stringify(reports);
  }
});
</script>
<iframe src="watched.html" style="width: 390px; height: 800px; border: 0"></iframe>
<iframe src="watched.html" style="width: 1280px; height: 800px; border: 0"></iframe>
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = fabricate(tmp_path_factory.mktemp("browser") / "run", pictured=14)
    return write_report(run)


def browse(page: Path, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


def test_pictures_decode_and_nothing_overflows(report: Path, tmp_path: Path) -> None:
    source = report.read_text(encoding="utf-8")
    # The page's policy forbids all scripts but its own; here it must let the watching one run, too.
    script = WATCH.removeprefix("<script>").removesuffix("</script>")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    watched = source.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    assert watched != source
    watched = watched.replace('<meta charset="utf-8">', '<meta charset="utf-8">' + WATCH, 1)
    (tmp_path / "watched.html").write_text(watched, encoding="utf-8")
    (tmp_path / "frames.html").write_text(FRAMES, encoding="utf-8")
    result = browse(
        tmp_path / "frames.html", tmp_path / "profile", "--dump-dom",
        "--virtual-time-budget=20000", "--window-size=1400,900",
    )  # fmt: skip
    found = re.search(r'<pre id="found">(.*?)</pre>', result.stdout, re.DOTALL)
    assert found, result.stderr
    seen = {entry["width"]: entry for entry in json.loads(html.unescape(found.group(1)))}
    assert sorted(seen) == sorted(WIDTHS)
    expected = source.count("<img ")
    assert expected == 14 * 4 * 2 + 6 * 5  # held out and fixed prompts
    for width, entry in seen.items():
        assert entry["problems"] == []
        assert entry["title"] == "run · adrpo", "a prompt's script ran"
        assert entry["pictures"] == entry["decoded"] == expected
        assert entry["scrollWidth"] <= width and entry["outside"] == []
        assert len(entry["drawings"]) == 10 and min(entry["drawings"]) > 100
        check_script(entry["read"], report.parent)
    assert "CONSOLE" not in result.stderr, result.stderr


def check_script(read: dict[str, Any], run: Path) -> None:
    """The page's own script did what it is there for, in words of the run's files."""
    rows = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    (last,) = (row for row in rows if row["step"] == 100 and row["split"] == "unseen")
    # The first curve is the trained reward's, at whose right end the pointer was.
    assert read["tip"].startswith("step 100unseen prompts " + f"{last['clip_score']:.4g}")
    shown = ["Gold accuracy", "CLIP score, second CLIP", "CLIP diversity"]
    assert read["before"] == read["back"] == ",".join(shown)
    (base,) = (row for row in rows if row["step"] == 0 and row["split"] == "unseen")
    keys = ("gold_accuracy", "clip_score_evaluation", "clip_diversity")
    by_base = sorted(zip(shown, keys, strict=True), key=lambda pair: -base[pair[1]])
    assert read["sorted"] == ",".join(name for name, _ in by_base)
    assert read["smoothed"] == 6 and read["copies"] >= 2


@pytest.mark.parametrize(("scheme", "flag"), [("light", "1"), ("dark", "0")])
def test_follows_the_color_scheme(report: Path, tmp_path: Path, scheme: str, flag: str) -> None:
    shot = tmp_path / "shot.png"
    result = browse(
        report, tmp_path / "profile", f"--screenshot={shot}", "--window-size=1280,900",
        f"--blink-settings=preferredColorScheme={flag}",
    )  # fmt: skip
    pixels = np.asarray(Image.open(io.BytesIO(shot.read_bytes())).convert("L"), dtype=float)
    assert pixels.shape == (900, 1280)
    # The ground fills most of the page: near black or near white, with print of the other kind.
    assert np.median(pixels) > 230 if scheme == "light" else np.median(pixels) < 40
    assert pixels.min() < 60 and pixels.max() > 200
    assert "CONSOLE" not in result.stderr, result.stderr
