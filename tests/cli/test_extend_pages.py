"""The pages of docs/extend do what they say: each is carried out in a copy of the checkout."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from support.extended_house import ROOT, carry_out, copy_house

pytestmark = pytest.mark.slow

PAGES = ROOT / "docs" / "extend"


def last_row(run: Path, file: str = "metrics.jsonl") -> dict[str, object]:
    return json.loads((run / file).read_text(encoding="utf-8").splitlines()[-1])


def test_add_a_reward(tmp_path: Path):
    house = copy_house(tmp_path)
    carry_out(PAGES / "add-a-reward.md", house)
    runs = house / "runs"
    assert {"reward_warmth_mean", "reward_Near_mean"} <= last_row(runs / "warm").keys()
    assert "jpeg_size" in last_row(runs / "warm", "evaluations.jsonl")
    assert "reward_brevity_mean" in last_row(runs / "brief")
    assert "reward_contrast_mean" in last_row(runs / "contrast")
    page = (house / "docs/reference/metrics.md").read_text(encoding="utf-8")
    assert "| [`contrast`](../../src/adrpo/rewards/contrast.py) |" in page


def test_add_a_method(tmp_path: Path):
    house = copy_house(tmp_path)
    carry_out(PAGES / "add-a-method.md", house)
    row = last_row(house / "runs" / "rwr")
    # K softmax has mean 1 over a group, and beta 0 needs no reference.
    assert row["weight_mean"] == pytest.approx(1, abs=1e-6)
    assert row["reference_rows"] == 0
    page = (house / "docs/reference/settings.md").read_text(encoding="utf-8")
    assert "RWR: w |v - u_t|^2, w a softmax over the group" in page


def test_add_a_schedule(tmp_path: Path):
    house = copy_house(tmp_path)
    carry_out(PAGES / "add-a-schedule.md", house)
    row = last_row(house / "runs" / "ranked")
    # beta_0 = 0.3, and the mean rank is in the middle.
    assert row["beta_mean"] == pytest.approx(0.3, abs=1e-6)
    assert row["beta_min"] == 0 and row["beta_max"] == pytest.approx(0.6)
    page = (house / "docs/reference/settings.md").read_text(encoding="utf-8")
    assert "### `algorithm.coefficient` with `schedule: ranked`" in page


def test_add_a_metric(tmp_path: Path):
    house = copy_house(tmp_path)
    carry_out(PAGES / "add-a-metric.md", house)
    row = last_row(house / "runs" / "chroma", "evaluations.jsonl")
    assert {"chroma", "chroma_low", "chroma_change_high"} <= row.keys()
    report = (house / "runs" / "chroma" / "report.html").read_text(encoding="utf-8")
    assert "levels; 0 for grey" in report
    page = (house / "docs/reference/metrics.md").read_text(encoding="utf-8")
    assert "| [`chroma`](../../src/adrpo/evaluation/image_statistics.py) |" in page


def test_add_a_model(tmp_path: Path):
    said = carry_out(PAGES / "add-a-model.md", copy_house(tmp_path))
    passed = re.search(r"(\d+) passed, \d+ deselected", said)
    # Each test of a family, some of them at two scales or sizes.
    assert passed is not None and int(passed[1]) > 15 and "skipped" not in said


def test_add_a_domain(tmp_path: Path):
    house = copy_house(tmp_path)
    said = carry_out(PAGES / "add-a-domain.md", house)
    runs = house / "runs"
    rows = (runs / "coin" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    # Extended by ten steps; the reward, the share of heads, is 1/2 for the reference.
    assert [json.loads(row)["step"] for row in rows] == list(range(1, 31))
    row = last_row(runs / "coin", "evaluations.jsonl")
    assert row["keywords"] > 0.6 and row["keywords_change_low"] > 0 and row["kl"] > 0.01
    # The same weights, prompts and numbers once more.
    again = last_row(runs / "measured", "evaluations.jsonl")
    assert [again[name] for name in ("keywords", "kl")] == [
        row[name] for name in ("keywords", "kl")
    ]
    assert "Held-out completions" in (runs / "coin" / "report.html").read_text(encoding="utf-8")
    best = json.loads((runs / "compared" / "best-of-n.json").read_text(encoding="utf-8"))
    # Of four tosses of a fair coin all are tails once in 16 times: at 168 places 3 standard errors.
    assert np.mean(best["keywords"]) == pytest.approx(15 / 16, abs=0.057)
    assert "| coin/heads |" in said and "heads or tails?\n    " in said
