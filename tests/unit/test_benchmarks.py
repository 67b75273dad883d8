"""The arithmetic of the committed benchmarks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from adrpo.evaluation import clip_diversity

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_without_a_tilt_the_frontier_starts_at_the_base():
    from reward_frontier import advantages, tilted

    embeds = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = embeds / embeds.norm(dim=-1, keepdim=True)
    gold = (torch.arange(20).reshape(5, 4) % 3 == 0).double().numpy()
    distance = (100 * (1 - unit @ unit.transpose(1, 2))).numpy()
    accuracies, diversities = tilted(advantages(gold), gold, distance)
    assert accuracies[0] == pytest.approx(gold.mean(1))
    # clip_diversity computes in float32.
    assert diversities[0] == pytest.approx(clip_diversity(embeds).numpy(), rel=1e-5)
    mixed = (gold.mean(1) > 0) & (gold.mean(1) < 1)
    assert (np.diff(accuracies[:, mixed], axis=0) > 0).all()


def test_diversity_is_read_at_equal_gain_and_only_where_it_is_reached():
    from reward_frontier import GAINS, kept_at

    assert GAINS == (0.05, 0.10, 0.15)
    # Gains of 0, 0.08 and 0.12, then a fall that must not be read.
    accuracies = 0.4 + np.array([[0.0], [0.08], [0.12], [0.06]])
    diversities = 30 * np.array([[1.0], [0.92], [0.90], [0.2]])
    kept = kept_at(accuracies, diversities)
    assert kept[:2] == pytest.approx([0.95, 0.91]) and np.isnan(kept[2])


def test_a_prompt_without_a_value_on_one_side_is_left_out_of_both():
    from improvement import compare

    before = {"clip_diversity_right": np.array([20.0, np.nan, 10.0, 40.0])}
    after = {"clip_diversity_right": np.array([10.0, 5.0, 5.0, np.nan])}
    result = compare("clip_diversity_right", [before], [after], ["a"] * 4)
    assert result["prompts"] == 2
    assert result["base"]["mean"] == 15 and result["kept"]["mean"] == pytest.approx(0.5)


def test_the_logistic_fit_finds_the_function_that_made_the_verdicts():
    from embedded_quality import fit_logistic

    rng = np.random.default_rng(0)
    scores = rng.normal(70, 12, size=40_000)
    right = rng.random(40_000) < 1 / (1 + np.exp(-(scores - 75) / 4))
    location, scale = fit_logistic(scores, right.astype(float))
    # Standard errors of the two estimates at this size are about 0.05.
    assert location == pytest.approx(75, abs=0.25)
    assert scale == pytest.approx(4, abs=0.25)


def test_the_memory_of_the_page_on_real_models_is_the_estimate():
    from memory_settings import gigabytes, measure

    result = measure()
    page = (BENCHMARKS.parent / "docs/real-models.md").read_text(encoding="utf-8")
    committed = json.loads((BENCHMARKS / "results/memory_settings/summary.json").read_text())
    assert result == {key: committed[key] for key in result}
    for name, size in result["recipes"].items():
        if f"`{name}`" in page:
            (line,) = (line for line in page.splitlines() if line.startswith(f"| `{name}`"))
            assert line.endswith(f"| {gigabytes(size)} |"), name
    for row in result["settings"]:
        key = row["setting"].partition("=")[0]
        (line,) = (line for line in page.splitlines() if line.startswith(f"| `{key}"))
        saved = line.split("|")[2]
        wanted = gigabytes(row["saves"]) if row["saves"] else "nothing"
        assert wanted in saved, row
