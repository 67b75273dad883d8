"""The arithmetic of the committed benchmarks."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adrpo.comparison import collect, write_results
from adrpo.comparison.analysis import analyse, to_json
from adrpo.evaluation import clip_diversity
from support.fabricated_comparison import fabricate_comparison

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


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
    from reward_frontier import GAINS, cell, frontier, kept_at

    # Gains of 0, 0.08 and 0.12, then a fall that must not be read.
    accuracies = 0.4 + np.array([[0.0], [0.08], [0.12], [0.06]])
    diversities = 30 * np.array([[1.0], [0.92], [0.90], [0.2]])
    found = [kept_at(accuracies, diversities, gain) for gain in GAINS]
    assert found[0] == pytest.approx([0.95]) and found[1] == pytest.approx([0.91])
    assert found[2] is None
    rng = np.random.default_rng(0)
    gold = (rng.random((40, 8)) < 0.02).astype(float)
    noise = rng.normal(size=gold.shape)
    told = frontier(noise, gold, rng.uniform(20, 40, size=(40, 8, 8)), ["a"] * 40)["kept_at"]
    assert told["+0.15"] is None and cell(told["+0.15"]) == "out of reach"


def test_the_frontier_s_linearised_values_are_its_derivative():
    """Each prompt's values moved by a little move the reading as its own value says."""
    from reward_frontier import kept_at

    rng = np.random.default_rng(1)
    rise = np.array([0.0, 0.06, 0.14])[:, None]
    accuracies = 0.4 + rise * rng.uniform(0.5, 1.5, size=(3, 5))
    diversities = (30 - 40 * rise) * rng.uniform(0.9, 1.1, size=(3, 5))
    values, step = kept_at(accuracies, diversities, 0.08), 1e-6
    for prompt in range(5):
        moved = [table.copy() for table in (accuracies, diversities)]
        for table, own in zip(moved, (accuracies, diversities), strict=True):
            table[:, prompt] += step * (own[:, prompt] - own.mean(axis=1))
        reading = kept_at(*moved, 0.08).mean()
        # The finite difference's own error: its step, and rounding over the step.
        expected = values.mean() + 5 * (reading - values.mean()) / step
        assert values[prompt] == pytest.approx(expected, abs=1e-4)


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
    page = (BENCHMARKS.parent / "docs/use/real-models.md").read_text(encoding="utf-8")
    committed = json.loads((BENCHMARKS / "results/memory_settings/summary.json").read_text())
    assert result == {key: committed[key] for key in result}
    table = page.partition("counted / estimated")[0]
    for name, size in result["recipes"].items():
        if f"`{name}`" in table:
            (line,) = (line for line in table.splitlines() if line.startswith(f"| `{name}`"))
            assert line.endswith(f"| {gigabytes(size)} |"), name
    for row in result["settings"]:
        written = row["setting"].replace("=", ": ")
        (line,) = (line for line in page.splitlines() if line.startswith(f"| `{written}`"))
        saved = line.split("|")[2]
        wanted = gigabytes(row["saves"]) if row["saves"] else "nothing"
        assert wanted in saved, row


@pytest.mark.parametrize(
    ("results", "page"),
    [("memory_count", "docs/results/memory-and-speed.md"), ("thinker_memory", "docs/use/audio.md")],
)
def test_the_counted_memory_of_a_page_is_the_committed_one(results: str, page: str):
    text = (BENCHMARKS.parent / page).read_text(encoding="utf-8")
    assert (BENCHMARKS / "results" / results / "table.md").read_text(encoding="utf-8") in text


def test_the_gradients_of_the_terms_are_compared_by_norm_and_angle():
    from gradient_parts import compared, table

    parts = {"reward": [3.0, 0.0], "fixed": [0.0, 4.0], "adaptive": [0.0, -4.0]}
    found = compared({name: torch.tensor(values) for name, values in parts.items()})
    assert found["fixed_over_reward"] == found["adaptive_over_reward"] == pytest.approx(4 / 3)
    # The adaptive term takes the penalty away again: (3, 0) and (3, 4).
    assert found["cosine_with_fixed_penalty"] == pytest.approx(3 / 5)
    folder = BENCHMARKS / "results/gradient_parts"
    measured = table(json.loads((folder / "summary.json").read_text())["rows"])
    assert measured == (folder / "table.md").read_text()
    page = BENCHMARKS.parent / "docs/results/text-to-image.md"
    assert measured in page.read_text(encoding="utf-8")


def test_what_pairs_tell_is_read_from_their_rows():
    from pair_information import summarise, table

    folder = BENCHMARKS / "results/pair_information"
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    summary = summarise(rows)
    assert summary == json.loads((folder / "summary.json").read_text())["churns"]
    text = (folder / "table.md").read_text()
    assert text == table(summary)
    page = BENCHMARKS.parent / "docs/results/text-to-image.md"
    assert text in page.read_text(encoding="utf-8")
    # Twelve of the 96 pairs have a right and a wrong image.
    apart = [row for row in rows if row["churn"] == 0.01 and sum(row["verdict"]) == 1]
    assert len(apart) == 12 and summary[1]["verdict_informative"] == 12 / 96


def test_a_kept_comparison_is_summarised_as_the_whole(tmp_path: Path):
    from comparison_tables import keep

    plan = fabricate_comparison(tmp_path / "whole", methods=("ours", "fixed"), seeds=2, prompts=8)
    expected = to_json(analyse(collect(plan)))
    write_results(collect(plan), "adrpo compare")
    none = {"train": [], "held_out": []}
    inputs = json.dumps(
        {"folder": "/home/me", "places": ["/home/me/recipes", "/home/me"], "prompts": none}
    )
    (plan.run_folder(plan.methods[0], 0) / "inputs.json").write_text(inputs)
    keep(plan.folder, tmp_path / "kept")
    with tarfile.open(tmp_path / "kept/runs.tar.xz") as archive:
        assert not [name for name in archive.getnames() if name.endswith((".png", ".safetensors"))]
        archive.extractall(tmp_path / "again", filter="data")
    (own,) = tmp_path.glob("again/runs/*/inputs.json")
    assert json.loads(own.read_text()) == {
        "folder": ".", "places": ["./recipes", "."], "prompts": none,
    }  # fmt: skip
    assert to_json(analyse(collect(replace(plan, folder=tmp_path / "again")))) == expected


def test_the_soak_of_the_page_is_that_of_the_looks():
    from soak import table

    page = (BENCHMARKS.parent / "docs/results/memory-and-speed.md").read_text(encoding="utf-8")
    folder = BENCHMARKS / "results/soak"
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    drawn = table(summary["domains"])
    assert drawn == (folder / "table.md").read_text(encoding="utf-8") and drawn in page


def test_the_speed_of_the_page_is_the_measured_one():
    page = (BENCHMARKS.parent / "docs/results/memory-and-speed.md").read_text(encoding="utf-8")
    for label, file in (
        ("float32", "float32"),
        ("float32, `--compile`", "float32-compiled"),
        ("bfloat16", "bfloat16"),
    ):
        found = json.loads(
            (BENCHMARKS / f"results/throughput/embedded-cpu-{file}.json").read_text()
        )
        cells = [
            label,
            f"{found['sampling']['images_per_second']:.0f}",
            f"{found['training']['images_per_second']:.0f}",
            f"{found['loop_over_bare_calls']['ratio_median']:.2f}",
            f"{100 * found['training']['utilisation']:.0f} %",
        ]
        assert f"| {' | '.join(cells)} |" in page
    found = json.loads((BENCHMARKS / "results/throughput/sd3-medium-cpu-float32.json").read_text())
    cells = [
        "SD3 medium, float32",
        f"{found['training']['seconds']:.0f}",
        f"{found['loop_over_bare_calls']['ratio_median']:.2f}",
        f"{100 * found['training']['utilisation']:.0f} %",
        f"{found['peak_memory_bytes'] / 1e9:.1f} GB",
        f"{found['estimated_memory_bytes'] / 1e9:.1f} GB",
    ]
    assert f"| {' | '.join(cells)} |" in page
