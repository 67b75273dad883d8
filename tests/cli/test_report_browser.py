"""The report in a real browser: pictures decode, nothing overflows, nothing is logged."""

import base64
import hashlib
import html
import io
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adrpo.report import make_live_server, write_report
from adrpo.report.live import LivePages
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
  // What stands in the column of verdicts, and where that has no room, under the change.
  read.verdicts = [...document.querySelectorAll("table.metrics tbody tr")].map(row => {
    const [column, change] = [".verb", "[data-column=change]"].map(of => row.querySelector(of));
    const under = getComputedStyle(change, "::after").content.replaceAll('"', "");
    const beside = getComputedStyle(column).display === "none" ? "" : column.textContent;
    return [column.textContent, beside, under === "none" ? "" : under];
  });
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


# Reads on while the page is replaced: an unfolded part, a place in the page, a picture.
READER = """<script>
addEventListener("load", () => {
  const first = document.documentElement.dataset.version;
  const part = document.querySelector("#setup details");
  part.open = true;
  document.querySelector("#curves").scrollIntoView({behavior: "instant"});
  const top = () => Math.round(document.querySelector("#curves").getBoundingClientRect().top);
  const before = {top: top(), picture: document.images[0], scrolled: scrollY};
  const waiting = setInterval(() => {
    if (document.documentElement.dataset.version === first) return;
    clearInterval(waiting);
    const found = document.body.appendChild(document.createElement("pre"));
    found.id = "found";
    found.textContent = JSON.stringify({
      title: document.title, scrolled: before.scrolled, moved: top() - before.top,
      open: document.querySelector("#setup details").open, again: part.isConnected,
      picture: document.images[0] === before.picture,
      live: document.querySelector(".live").textContent,
      steps: document.querySelector(".facts dd").textContent, copies: document.querySelectorAll(
        ".copy").length, buttons: document.querySelectorAll(".snippet").length,
    });
  }, 100);
});
</script>"""


class WatchedPages(LivePages):
    """Pages with the reading script in them; the run goes on once a page has asked for news."""

    def page(self) -> bytes:
        return with_script(super().page().decode(), READER).encode()

    def state(self) -> dict[str, Any]:
        path = self.runs[0].metrics
        rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if len(rows) < 41:
            row = json.loads(rows[-1]) | {"step": len(rows) + 1}
            path.write_text("".join([*rows, json.dumps(row) + "\n"]), encoding="utf-8")
        return super().state()


def with_script(page: str, script: str) -> str:
    """``page`` with ``script`` in front of all else: its policy forbids all scripts but its own,
    and here lets this one run, too."""
    code = script.removeprefix("<script>").removesuffix("</script>")
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    for old, new in (
        ("script-src ", f"script-src 'sha256-{digest}' "),
        ('<meta charset="utf-8">', '<meta charset="utf-8">' + script),
    ):
        assert old in page
        page = page.replace(old, new, 1)
    return page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = fabricate(tmp_path_factory.mktemp("browser") / "run", pictured=14)
    return write_report(run)


def browse(page: Path | str, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags]
    command.append(page.as_uri() if isinstance(page, Path) else page)
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


def test_pictures_decode_and_nothing_overflows(report: Path, tmp_path: Path) -> None:
    source = report.read_text(encoding="utf-8")
    watched = with_script(source, WATCH)
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
        for verdict, beside, under in entry["read"]["verdicts"]:
            assert (beside, under) == (("", verdict) if width == min(WIDTHS) else (verdict, ""))
        assert {verdict for verdict, _, _ in entry["read"]["verdicts"]} >= {"rose", "fell"}
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


def test_a_live_page_goes_on_where_its_reader_is(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", steps=40, evaluated=(0, 25), pictured=2)
    (run / "inputs.json").write_text('{"prompts": {"train": [], "held_out": []}, "folder": ""}')
    with make_live_server([run], 0) as server:
        server.pages = WatchedPages([run], rest=0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        result = browse(
            server.url, tmp_path / "profile", "--dump-dom", "--virtual-time-budget=20000",
            "--window-size=1280,900",
        )  # fmt: skip
        server.shutdown()
    found = re.search(r'<pre id="found">(.*?)</pre>', result.stdout, re.DOTALL)
    assert found, result.stderr
    seen = json.loads(html.unescape(found.group(1)))
    assert seen["steps"] == "41" and seen["live"].startswith("step 41 of 100")
    # The new page replaced the old one, and nothing of the reader's was lost.
    assert not seen["again"] and seen["open"] and seen["picture"]
    assert seen["scrolled"] > 500 and abs(seen["moved"]) <= 1
    assert seen["copies"] == seen["buttons"] + 1, "each to copy has one button, config.yaml, too"
    assert "CONSOLE" not in result.stderr, result.stderr
