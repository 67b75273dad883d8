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
        key = row["setting"].partition("=")[0]
        (line,) = (line for line in page.splitlines() if line.startswith(f"| `{key}"))
        saved = line.split("|")[2]
        wanted = gigabytes(row["saves"]) if row["saves"] else "nothing"
        assert wanted in saved, row


def test_the_counted_memory_of_the_page_is_the_committed_one():
    page = (BENCHMARKS.parent / "docs/results/memory-and-speed.md").read_text(encoding="utf-8")
    assert (BENCHMARKS / "results/memory_count/table.md").read_text(encoding="utf-8") in page


def claims() -> tuple[dict[str, str], str]:
    """The rows of the table of the paper's claims, by their first words, and the page."""
    page = (BENCHMARKS.parent / "docs/results/text-to-image.md").read_text(encoding="utf-8")
    table = page.partition("| the paper's claim | here |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ", 1) for line in table.splitlines()]
    return {claim: answer for claim, answer in rows}, page


def written(estimate: dict[str, float], places: int, sign: int = 1) -> str:
    """``mean [low, high]`` as the page writes it, of the difference the other way round with -1."""
    ends = sorted(sign * estimate[key] for key in ("low", "high"))
    mean, low, high = (f"{x:.{places}f}" for x in (sign * estimate["mean"], *ends))
    return f"{mean} [{low}, {high}]"


def test_the_answers_to_the_papers_claims_are_the_measured_numbers():
    folder = BENCHMARKS / "results/table1"
    unseen = json.loads((folder / "summary.json").read_text())["splits"]["unseen"]
    change, difference, kept = unseen["change"], unseen["difference"], unseen["kept"]
    answers, page = claims()

    reward = answers["ADRPO is first on reward"]
    for method in set(change) - {"flow/raft", "flow/orw-cfm-w2"}:
        assert written(change[method]["clip_score"], 2) in reward, method
    for method in ("flow/raft", "flow/orw-cfm-w2"):
        assert written(difference[method]["clip_score"], 2, -1) in reward, method
    diversity = answers["it keeps at least 0.95 of the diversity"]
    for method in ("flow/adrpo", "dpo", "flow/awm"):
        assert written(kept[method]["clip_diversity"], 3) in diversity, method
    lost = answers["ORW-CFM-W2 and RAFT lose diversity"]
    for method in ("flow/orw-cfm-w2", "flow/raft"):
        assert written(kept[method]["clip_diversity"], 3) in lost, method
        assert written(change[method]["clip_score_evaluation"], 2) in lost, method
    same = answers["the adaptive coefficient is what gains"]
    assert written(difference["flow/fixed-beta"]["gold_accuracy"], 3, -1) in same

    gold, divergence = unseen["trade_offs"]
    volumes = answers["ADRPO dominates in hypervolume"]
    for method in ("flow/orw-cfm-w2", "flow/raft", "dpo"):
        for trade_off in (gold, divergence):
            found = written(trade_off["hypervolume_difference"][method], 3, -1)
            assert found in volumes, (trade_off["reward"], method)
    prices = {price["label"]: price["methods"] for price in divergence["reward_at"]}
    place = answers["the smallest divergence for its reward"]
    assert f"{unseen['methods']['flow/adrpo']['clip_score']['mean']:.2f}; at that" in place
    for method in ("dpo", "flow/awm", "flow/flow-grpo"):
        assert written(prices["the reference's final divergence"][method], 2) in place, method
    gains = {method: values["gold_accuracy"] for method, values in change.items()}
    means = [gain["mean"] for gain in gains.values()]
    assert f"rises by {min(means):.3f} to {max(means):.3f}, with intervals" in page
    assert [m for m, gain in gains.items() if not gain["low"] < 0 < gain["high"]] == ["dpo"]
    assert f"DPO (+{written(gains['dpo'], 3)})" in page

    best = json.loads((folder / "best-of-n.json").read_text())
    for n, scores, accuracies in zip(
        best["n"], best["clip_score"], best["gold_accuracy"], strict=True
    ):
        told = f"{np.mean(scores):.1f} of CLIP score and {np.mean(accuracies):.3f} of gold accuracy"
        assert n == 1 or f"{told} (n = {n})" in page


def test_what_guidance_and_chance_reach_is_what_was_measured():
    """Every value of the two points of the page, from every image's values."""
    folder = BENCHMARKS / "results/table1"
    _, page = claims()
    text = " ".join(page.split())
    guided = json.loads((folder / "guidance.json").read_text())
    metrics = ("gold_accuracy", "clip_score", "clip_diversity", "divergence")
    gold, score, diversity, spent = ([np.mean(of) for of in guided[name]] for name in metrics)
    assert guided["guidance"] == [1, 1.25, 1.5, 2, 3]
    kept = [mean / diversity[0] for mean in diversity]
    assert (
        f"1.25 reaches a gold accuracy of {gold[1]:.3f} and a CLIP score of {score[1]:.1f}, 1.5 "
        f"reaches {gold[2]:.3f} and {score[2]:.1f}, 3 reaches {gold[4]:.3f} and {score[4]:.1f}. "
        f"The price is diversity, of which these keep {kept[1]:.2f}, {kept[2]:.2f} and "
        f"{kept[4]:.2f}, and divergence: {spent[1]:.4f}, {spent[2]:.4f} and {spent[4]:.4f}."
    ) in text
    ours = json.loads((folder / "summary.json").read_text())["splits"]["unseen"]["methods"]
    at, trained = [], []
    for name in ("flow/adrpo", "dpo"):
        root = ours[name]["divergence"]["mean"] ** 0.5
        at.append(np.interp(root, np.sqrt(spent), score))
        trained.append(ours[name]["clip_score"]["mean"])
    assert f"{at[0]:.1f} and {trained[0]:.1f}; at DPO's it has {at[1]:.1f} beside" in text
    assert f"beside {trained[1]:.1f}" in text

    best = json.loads((folder / "best-of-n.json").read_text())
    chance = best["by_chance"]
    found = {name: [np.mean(of) for of in chance[name]] for name in ("clip_score", "gold_accuracy")}
    (_, four, sixteen), gold = found["clip_score"], found["gold_accuracy"]
    assert (
        f"reaches {four:.1f} and {gold[1]:.3f} (n = 4), {sixteen:.1f} and {gold[2]:.3f} (n = 16)"
    ) in text
    spread, selected = ([np.mean(of) for of in t["clip_diversity"]] for t in (chance, best))
    assert (
        f"diversity is {spread[1]:.1f} and {spread[2]:.1f}, the base's {selected[0]:.1f}; the best "
        f"of n has {selected[1]:.1f} and {selected[2]:.1f}"
    ) in text


def test_the_curves_of_the_comparison_are_those_of_its_runs():
    curves: dict[str, dict[int, list[tuple[float, float]]]] = {}
    with tarfile.open(BENCHMARKS / "results/table1/runs.tar.xz") as archive:
        for name in archive.getnames():
            if name.endswith("evaluations.jsonl"):
                method = name.split("/")[1].rpartition("-seed")[0]
                for line in archive.extractfile(name) or ():
                    row = json.loads(line)
                    if row["split"] == "unseen":
                        at = curves.setdefault(method, {}).setdefault(row["step"], [])
                        at.append((row["clip_score"], row["gold_accuracy"]))
    means = {
        method: [np.mean(values, axis=0) for _, values in sorted(steps.items())]
        for method, steps in curves.items()
    }
    assert len(means) == 8 and all(len(v) == 5 for steps in curves.values() for v in steps.values())
    answer = claims()[0]["DPO reaches a plateau"]
    assert ", ".join(f"{score:.2f}" for score, _ in means["dpo"]) in answer
    assert ", ".join(f"{gold:.3f}" for _, gold in means["dpo"]) in answer
    for method in ("flow-adrpo", "flow-awm"):
        assert ", ".join(f"{score:.2f}" for score, _ in means[method][1:]) in answer


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
    assert measured in claims()[1]


def test_the_ablation_of_the_page_is_the_measured_one():
    from comparison_tables import ablation, unseen

    split, rows = unseen("ablation"), ablation()
    page = claims()[1].partition("## Ablation\n")[2].partition("\n## ")[0]
    assert len(rows) == 8
    for method, cells in rows.items():
        (row,) = (line for line in page.splitlines() if line.startswith(f"| {method} |"))
        assert row.endswith(f"| {cells} |")
    gold, divergence = (part["hypervolume_difference"] for part in split["trade_offs"])
    assert written(divergence["beta-0.1"], 3) in page and written(gold["beta-0.1"], 3) in page
    assert all(divergence[name]["high"] < 0 for name in ("clip-0.5", "clip-1", "clip-2", "beta-1"))
    adjusted = [e["p_holm"] for d in split["difference"].values() for e in d.values()]
    assert min(p for p in adjusted if p is not None) >= 0.05


def test_the_reward_budgets_of_the_page_are_the_measured_ones():
    from comparison_tables import long_runs, reward_budgets, unseen

    page = claims()[1]
    assert "\n".join(reward_budgets()) in page
    assert "\n".join(long_runs()) in page
    told, split = page.partition("After 120 steps")[2], unseen("reward_budgets_long")
    assert written(split["difference"]["steps-10000"]["gold_accuracy"], 3) in told
    for method in ("steps-2800", "steps-10000"):
        assert written(split["kept"][method]["clip_diversity"], 3) in told


def test_a_kept_comparison_is_summarised_as_the_whole(tmp_path: Path):
    from comparison_tables import keep

    plan = fabricate_comparison(tmp_path / "whole", methods=("ours", "fixed"), seeds=2, prompts=8)
    expected = to_json(analyse(collect(plan)))
    write_results(collect(plan), "adrpo compare")
    keep(plan.folder, tmp_path / "kept")
    with tarfile.open(tmp_path / "kept/runs.tar.xz") as archive:
        assert not [name for name in archive.getnames() if name.endswith((".png", ".safetensors"))]
        archive.extractall(tmp_path / "again", filter="data")
    assert to_json(analyse(collect(replace(plan, folder=tmp_path / "again")))) == expected


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
