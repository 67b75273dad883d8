"""A fabricated comparison: what its files and its page say is what the runs hold."""

import base64
import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from adrpo.cli import app
from adrpo.comparison import Plan, collect, figures, record, write_results
from adrpo.comparison import page as page_module
from adrpo.comparison.analysis import analyse
from adrpo.comparison.plan import Entry, check_evaluated_alike
from adrpo.errors import AdrpoError
from adrpo.flow.facts import FACTS as FLOW
from adrpo.llm.facts import FACTS as LANGUAGE
from adrpo.runs.facts import Facts
from support.fabricated_comparison import GAINS, STEPS, fabricate_comparison
from support.fabricated_run import HOSTILE
from support.strict_page import Page


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return fabricate_comparison(tmp_path_factory.mktemp("comparison") / "a<b>&c")


@pytest.fixture(scope="module")
def page(plan: Plan) -> Page:
    best = {"n": [1, 4], "gold_accuracy": [[[0], [1]] * 12, [[1], [1]] * 12]}
    (plan.folder / "best-of-n.json").write_text(json.dumps(best), encoding="utf-8")
    return Page(write_results(collect(plan), "adrpo compare"))


@pytest.fixture(scope="module")
def summary(plan: Plan, page: Page) -> dict[str, Any]:
    return json.loads((plan.folder / "summary.json").read_text(encoding="utf-8"))


def values(plan: Plan, method: Entry, metric: str, step: int, name: str) -> np.ndarray:
    """[seeds, ...] of the values files."""
    files = [
        plan.run_folder(method, seed) / f"samples/step-{step:06d}/{name}" for seed in plan.seeds
    ]
    return np.array([json.loads(file.read_text())[metric] for file in files])


@pytest.mark.parametrize(
    ("split", "name"), [("unseen", "values.json"), ("seen", "values-seen.json")]
)
def test_means_are_those_of_the_values_files(
    plan: Plan, summary: dict[str, Any], split: str, name: str
) -> None:
    found = summary["splits"][split]
    reference = values(plan, plan.methods[0], "gold_accuracy", STEPS[-1], name)
    for method in plan.methods:
        for metric in ("gold_accuracy", "clip_diversity"):
            final = values(plan, method, metric, STEPS[-1], name)
            base = values(plan, method, metric, 0, name)
            entry = found["methods"][method.name][metric]
            assert entry["mean"] == pytest.approx(final.mean(), rel=1e-12)
            by_seed = final.reshape(3, -1).mean(1)
            assert entry["seeds"] == pytest.approx(by_seed, rel=1e-12)
            assert entry["standard_error"] == pytest.approx(by_seed.std(ddof=1) / 3**0.5, rel=1e-9)
            assert entry["low"] <= entry["mean"] <= entry["high"]
            change = found["change"][method.name][metric]
            assert change["mean"] == pytest.approx((final - base).mean(), rel=1e-9)
        # The share of its diversity that each seed's run keeps of its base; the last metric above.
        shares = final.reshape(3, -1).mean(1) / base.reshape(3, -1).mean(1)
        kept = found["kept"][method.name]["clip_diversity"]
        assert kept["mean"] == pytest.approx(shares.mean(), rel=1e-9)
        if method.name != "ours":
            final = values(plan, method, "gold_accuracy", STEPS[-1], name)
            difference = found["difference"][method.name]["gold_accuracy"]
            assert difference["mean"] == pytest.approx((final - reference).mean(), rel=1e-9)
            assert difference["p_holm"] >= difference["p_value"] > 0
    assert "ours" not in found["difference"]


def test_the_primary_metric_is_never_the_training_reward(summary: dict[str, Any]) -> None:
    assert summary["primary_metric"] == "gold_accuracy"
    # In the recipe's order, not the alphabet's: the first is drawn as the reward.
    assert summary["trained_on"] == ["clip_score", "clip_novelty"]
    assert summary["splits"]["unseen"]["trade_offs"][1]["reward"] == "clip_score"


def test_the_headline_tells_where_the_primary_metric_is_trained_on(plan: Plan) -> None:
    analysis = analyse(collect(plan))
    for primary, told in (("gold_accuracy", False), ("clip_score", True)):
        text = "".join(part for part, _ in page_module.headline(replace(analysis, primary=primary)))
        assert ("(trained on)" in text) == told


def test_without_a_judge_the_second_clip_is_primary(tmp_path: Path) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours",), seeds=1, seen=False)
    run = plan.run_folder(plan.methods[0], 0)
    for file in run.glob("samples/step-*/values.json"):
        table = json.loads(file.read_text())
        del table["gold_accuracy"]
        file.write_text(json.dumps(table))
    assert analyse(collect(plan)).primary == "clip_score_evaluation"


def test_the_primary_comparison_is_tested_alone_and_all_others_together(
    summary: dict[str, Any],
) -> None:
    for split, alone in (("unseen", 1), ("seen", 0)):
        difference = summary["splits"][split]["difference"]
        # Of an edge density neither more nor less is better.
        assert all(row["edge_density"]["p_holm"] is None for row in difference.values())
        tested = {
            (name, metric): entry
            for name, row in difference.items() for metric, entry in row.items()
            if metric != "edge_density"
        }  # fmt: skip
        if alone:
            # "fixed" is the first beside the reference, and gold the first judge.
            declared = tested.pop(("fixed", "gold_accuracy"))
            assert declared["p_holm"] == declared["p_value"]
        smallest = min(tested.values(), key=lambda entry: entry["p_value"])
        assert summary["splits"][split]["family"] == len(tested)
        assert smallest["p_holm"] == pytest.approx(min(1, len(tested) * smallest["p_value"]))


def test_the_hypervolume_stands_on_the_base(plan: Plan, summary: dict[str, Any]) -> None:
    gold, cost = summary["splits"]["unseen"]["trade_offs"]
    base = values(plan, plan.methods[0], "gold_accuracy", 0, "values.json")[0].mean(1)
    spread = values(plan, plan.methods[0], "clip_diversity", 0, "values.json")[0]
    corner = (base.mean() - base.std(), spread.mean() - spread.std())
    assert gold["reference_point"] == pytest.approx(corner, rel=1e-9)
    # The base is a point of every trajectory.
    assert min(gold["hypervolume"]["fixed"]["seeds"]) >= base.std() * spread.std() - 1e-9
    assert cost["reference_point"][1] == -0.1
    # At 95 % of the base's diversity, which the fixed penalty never falls to.
    reached = gold["reward_at"][0]["methods"]
    assert reached["fixed"]["seeds_short"] == {"method": 3, "reference": 0}
    final = values(plan, plan.methods[1], "gold_accuracy", STEPS[-1], "values.json")
    assert reached["fixed"]["method"]["mean"] == pytest.approx(final.mean())
    assert reached["greedy"]["seeds_short"] == {"method": 0, "reference": 0}


def test_more_diversity_than_the_base_has_is_no_merit(tmp_path: Path) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "fixed"), seeds=2, seen=False)
    for seed in plan.seeds:
        path = plan.run_folder(plan.methods[1], seed) / "evaluations.jsonl"
        base, *later = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        for row in later:
            row["gold_accuracy"] = base["gold_accuracy"]
            row["clip_diversity"] = 2 * base["clip_diversity"]
        path.write_text("".join(json.dumps(row) + "\n" for row in (base, *later)), encoding="utf-8")
    gold = analyse(collect(plan)).splits[0].trade_offs[0]
    drawn = values(plan, plan.methods[1], "clip_diversity", 0, "values.json")[0]
    right = values(plan, plan.methods[1], "gold_accuracy", 0, "values.json")[0].mean(1)
    # Alone with the base's rectangle, from a corner one standard deviation below it. The values
    # were written with six digits.
    expected = pytest.approx([right.std() * drawn.std()] * 2, rel=1e-4)
    assert list(gold.hypervolume["fixed"].by_seed) == expected


def test_the_tables_hold_the_summary(plan: Plan, summary: dict[str, Any]) -> None:
    text = (plan.folder / "table-unseen.csv").read_text(encoding="utf-8")
    rows = {(row["method"], row["metric"]): row for row in csv.DictReader(io.StringIO(text))}
    assert "edge_density" not in {metric for _, metric in rows}
    for name, metrics in summary["splits"]["unseen"]["methods"].items():
        for metric, entry in metrics.items():
            if metric == "edge_density":
                continue
            assert float(rows[name, metric]["mean"]) == entry["mean"]
    for ending in ("md", "tex"):
        lines = (plan.folder / f"table-seen.{ending}").read_text(encoding="utf-8").splitlines()
        assert sum(any(name in line for name in ("base", *GAINS)) for line in lines) >= 4


def test_the_page_is_self_contained_and_prompts_are_text(plan: Plan, page: Page) -> None:
    assert HOSTILE in page.text and "a<b>&c" in page.text
    assert page.all("script") == [{}], "the page's own, which is there once"
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\s\"'<>]+", page.source)) == namespaces
    policy = next(m for m in page.all("meta") if m.get("http-equiv"))["content"] or ""
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        r"script-src 'sha256-[\w+/]{43}='", policy
    )  # fmt: skip
    for attrs in page.all("img"):
        assert (attrs["src"] or "").startswith("data:image/png;base64,") and attrs["alt"]
    assert not re.search(r"\b(nan|inf|None)\b", page.text)


def test_the_page_holds_figures_and_pictures_of_every_method(plan: Plan, page: Page) -> None:
    embedded = [(attrs["alt"] or "", (attrs["src"] or "")[22:]) for attrs in page.all("img")]
    # 6 prompts, 4 pictures of each, of the base and three methods.
    assert len(embedded) == 6 * 4 * 4
    data = {base64.b64decode(source) for _, source in embedded}
    for method in plan.methods:
        folder = plan.run_folder(method, 0) / "samples" / "final"
        assert all(file.read_bytes() in data for file in folder.glob("*.png"))
    drawn = {path.name for path in (plan.folder / "figures").iterdir()}
    charts = {name.replace(".png", ".svg") for name in drawn if name.endswith(".png")}
    assert {name for name in drawn if name.endswith(".svg")} == charts - {"pictures.svg"}
    assert drawn - charts == {
        "trajectories-unseen.png", "trajectories-seen.png", "fronts-unseen.png",
        "curves-unseen.png", "curves-seen.png", "best-of-n.png", "pictures.png",
    }  # fmt: skip


def test_names_arrive_as_text(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)> $x_1$"
    GAINS[hostile] = GAINS["fixed"]
    try:
        plan = fabricate_comparison(
            tmp_path / "cmp", methods=("ours", hostile), seeds=2, prompts=8, seen=False
        )
        recipes = [method.recipe for method in plan.methods]
        options = ["--seeds", "2", "--summary-only", "--output-dir", str(plan.folder)]
        result = CliRunner().invoke(app, ["compare", *recipes, *options])
    finally:
        del GAINS[hostile]
    assert result.exit_code == 0, result.output
    assert str(plan.folder / "comparison.html") in result.output
    page = Page(plan.folder / "comparison.html")
    assert page.text.count(hostile) >= 5
    assert all((attrs["src"] or "").startswith("data:") for attrs in page.all("img"))


def test_proxy_and_gold_stand_over_the_root_of_the_kl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In standard deviations of the base: the stars, the base and best of n, read off the axes."""
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "fixed"), seeds=2, seen=False)
    for method in plan.methods:
        for seed in plan.seeds:
            add_kl_and_reward(plan.run_folder(method, seed), seed)
    kl, reward = ([[[value]] * 24 for value in pair] for pair in ((0, 0.81), (5, 9)))
    best = {"n": [1, 4], "kl": kl, "reward": reward}
    (plan.folder / "best-of-n.json").write_text(json.dumps(best))
    drawn = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.setdefault(path.name, figure))
    write_results(collect(plan), "adrpo compare")
    # The lines at trained methods' heights are for samples whose KL is not known.
    assert "rewards-over-kl.png" in drawn and "best-of-n.png" not in drawn

    proxy, gold = drawn["rewards-over-kl.png"].axes
    for panel, metric in ((proxy, "reward"), (gold, "gold_accuracy")):
        base = values(plan, plan.methods[0], metric, 0, "values.json")[0]
        stars = [line for line in panel.lines if line.get_marker() == "*"]
        for method, star in zip(plan.methods, stars, strict=True):
            ends = [
                json.loads((plan.run_folder(method, seed) / "evaluations.jsonl").read_text()
                           .splitlines()[-1]) for seed in plan.seeds
            ]  # fmt: skip
            expected_x = np.mean([row["kl"] ** 0.5 for row in ends])
            expected_y = (np.mean([row[metric] for row in ends]) - base.mean()) / base.std()
            # Rounding of float64, and of values.json at the sixth digit.
            assert star.get_xdata() == pytest.approx([expected_x])
            assert star.get_ydata() == pytest.approx([expected_y], abs=1e-5)
    base = values(plan, plan.methods[0], "reward", 0, "values.json")[0]
    (frontier,) = (line for line in proxy.lines if line.get_xdata()[-1] == pytest.approx(0.9))
    assert frontier.get_ydata() == pytest.approx((np.array([5, 9]) - base.mean()) / base.std())

    summary = json.loads((plan.folder / "summary.json").read_text())
    pairs = [(t["reward"], t["price"]) for t in summary["splits"]["unseen"]["trade_offs"]]
    assert ("gold_accuracy", "kl") in pairs and ("clip_score", "kl") in pairs


def add_kl_and_reward(run: Path, seed: int) -> None:
    """To each evaluation of a made-up run, a KL that grows with the step, and a total reward."""
    rows = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    for row in rows:
        file = run / f"samples/step-{row['step']:06d}/values.json"
        table = json.loads(file.read_text())
        kl = np.full_like(table["clip_score"], 0.02 * row["step"] * (1 + seed))
        added = {"kl": kl, "reward": 2 * np.array(table["clip_score"])}
        file.write_text(json.dumps(table | {key: value.tolist() for key, value in added.items()}))
        for key, value in added.items():
            row |= {key: value.mean(), f"{key}_low": value.min(), f"{key}_high": value.max()}
    (run / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_only_what_is_listed_as_a_diversity_is_kept(tmp_path: Path) -> None:
    """A reward of the user is none, whatever its name begins with."""
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours",), seeds=1, seen=False)
    for file in plan.folder.glob("runs/*/samples/step-*/values.json"):
        table = json.loads(file.read_text())
        file.write_text(json.dumps(table | {"entropy_of_colors": table["clip_score"]}))
    (split,) = analyse(collect(plan)).splits
    assert "entropy_of_colors" in split.final["ours"] and set(split.kept["ours"]) == {
        "clip_diversity"
    }


def test_seeds_that_are_not_finished_are_left_out(tmp_path: Path) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "fixed"), prompts=8, seen=False)
    (plan.run_folder(plan.methods[1], 1) / "final/pytorch_lora_weights.safetensors").unlink()
    assert collect(plan).seeds == [0, 2]
    for seed in (0, 2):
        (plan.run_folder(plan.methods[0], seed) / "evaluations.jsonl").unlink()
    with pytest.raises(AdrpoError, match="3 of 6 runs"):
        collect(plan)


def test_a_run_of_other_settings_or_prompts_is_named(tmp_path: Path) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "fixed"), seeds=1, prompts=8)
    run = plan.run_folder(plan.methods[1], 0)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("max_grad_norm: 2.0", "max_grad_norm: 3.0"))
    with pytest.raises(AdrpoError, match=r"training\.max_grad_norm=3\.0.*has 2\.0"):
        collect(plan)
    (run / "config.yaml").write_text(config)
    listing = run / "samples" / "prompts.json"
    listing.write_text(listing.read_text().replace("even", "odd"))
    with pytest.raises(AdrpoError, match="same held-out prompts"):
        collect(plan)


def test_a_reward_that_methods_measure_by_other_models_is_not_compared(tmp_path: Path) -> None:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "fixed"), seeds=2, prompts=8)
    first, second = plan.methods
    options = {"model": "another-clip"}
    reward = [term | {"options": options} for term in second.settings["reward"][:1]]
    reward += second.settings["reward"][1:]
    other = replace(second, settings=second.settings | {"reward": reward})
    for seed in plan.seeds:
        path = plan.run_folder(second, seed) / "config.yaml"
        config = yaml.safe_load(path.read_text())
        config["reward"][0]["options"] = options
        path.write_text(yaml.safe_dump(config))
    for path in plan.folder.glob("runs/*/samples/step-*/values*.json"):
        values = json.loads(path.read_text())
        path.write_text(json.dumps(values | {"reward": values["clip_score"]}))
    page = write_results(collect(replace(plan, methods=[first, other])), "adrpo compare")
    summary = json.loads((plan.folder / "summary.json").read_text())
    assert summary["not_compared"] == ["clip_score", "reward"]
    for found in summary["splits"].values():
        for estimates in (found["base"], *found["methods"].values(), *found["difference"].values()):
            assert not {"clip_score", "reward"} & estimates.keys()
            assert {"clip_score_evaluation", "gold_accuracy"} <= estimates.keys()
        assert {trade_off["reward"] for trade_off in found["trade_offs"]} == {"gold_accuracy"}
    assert "Not compared: CLIP score, reward CLIP. The" in page.read_text()


def test_recipes_must_be_evaluated_alike() -> None:
    alike = {"a": {"evaluation.seed": 1, "training.steps": 2}, "b": {"evaluation.seed": 1}}
    check_evaluated_alike(alike, ())
    with pytest.raises(AdrpoError, match=r"a has evaluation\.seed=1, but b has 2"):
        check_evaluated_alike(alike | {"b": {"evaluation.seed": 2}}, ())


@pytest.mark.parametrize(("facts", "refused"), [(FLOW, False), (LANGUAGE, True)])
def test_only_images_may_be_drawn_in_other_batches(
    tmp_path: Path, facts: Facts, refused: bool
) -> None:
    """The random streams of a language model's evaluation go by its batches."""
    recipe = {"flow": "flow/demo", "llm": "llm/embedded"}[facts.domain]
    for size in (32, 64):
        text = f"extends: {recipe}\nevaluation: {{batch_size: {size}}}\n"
        (tmp_path / f"{size}.yaml").write_text(text, encoding="utf-8")
    recipes = [str(tmp_path / f"{size}.yaml") for size in (32, 64)]
    if refused:
        with pytest.raises(AdrpoError, match=r"32 has evaluation\.batch_size=32, but 64 has 64"):
            Plan.resolve(tmp_path / "cmp", recipes, [], 1, None, [FLOW, LANGUAGE])
    else:
        plan = Plan.resolve(tmp_path / "cmp", recipes, [], 1, None, [LANGUAGE, FLOW])
        assert plan.machine_keys == facts.machine_keys


def test_a_folder_keeps_its_comparison(tmp_path: Path) -> None:
    folder = tmp_path / "cmp"

    def resolve(*recipes: str, seeds: int = 2, overrides: tuple[str, ...] = ()) -> Plan:
        settings = ("evaluation.every=20", *overrides)
        return Plan.resolve(folder, recipes, settings, seeds, None)

    record(resolve("flow/demo"))
    record(resolve("flow/demo"))
    record(resolve("flow/demo", "flow/adrpo", seeds=3))
    before = (folder / "comparison.json").read_bytes()
    with pytest.raises(AdrpoError, match="--set"):
        record(resolve("flow/demo", "flow/adrpo", seeds=3, overrides=("training.steps=2",)))
    assert (folder / "comparison.json").read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(AdrpoError, match=r"other.*without comparison\.json"):
        record(Plan.resolve(tmp_path / "other", ["flow/demo"], [], 1, None))


def test_mistakes_in_a_plan_are_named(tmp_path: Path) -> None:
    with pytest.raises(AdrpoError, match=r"no training\.seed"):
        Plan.resolve(tmp_path, ["flow/demo"], ["training.seed=3"], 1, None)
    with pytest.raises(AdrpoError, match="'flow/demo' twice"):
        Plan.resolve(tmp_path, ["flow/demo", "flow/demo"], [], 1, None)
    with pytest.raises(AdrpoError, match="one of flow/demo; received 'flow/adrpo'"):
        Plan.resolve(tmp_path, ["flow/demo"], [], 1, "flow/adrpo")
