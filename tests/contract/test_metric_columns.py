"""Every column that a run writes stands among the metrics: a run of each method and domain."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adrpo.cli import app
from adrpo.cli.domains import door_of
from adrpo.config import load_recipe, recipe_names
from adrpo.config.rewards import written_names
from adrpo.metrics import METRICS, PLACES, REWARDS, unlisted
from adrpo.metrics.metric import File
from adrpo.rewards.loading import BUILT_IN
from adrpo.runs import RunDirectory
from adrpo.runs.facts import read_facts
from support.tiny_language_trainers import LANGUAGE_MARKS
from support.tiny_runs import random_sd3

pytestmark = LANGUAGE_MARKS

EVERYWHERE = [
    "training.steps=1", "training.prompts_per_step=2", "training.samples_per_prompt=2",
    "training.micro_batch_size=4", "evaluation.every=1", "evaluation.samples_per_prompt=2",
    "evaluation.rewards=[{name: support.tiny_runs:of_any_sample}]",
]  # fmt: skip
SHORT = {
    "flow": [
        "sampling.steps=2", "evaluation.sampling.steps=2", "evaluation.seen_prompts=2",
        "prompts.held_out_size=6", "prompts.train_size=8", "training.timesteps_per_sample=1",
    ],
    "llm": ["prompts.train_size=16", "prompts.held_out_size=21"],
    "audio": ["prompts.train_size=8", "prompts.held_out_size=6", "training.warmup_steps=0"],
}  # fmt: skip
"""Domain -> what makes its runs short; a domain without a line here fails."""

MEASURED = {
    "flow": (
        ["evaluation.distances={features: embedded}"],
        ["evaluation.distances.references=scenes"],
    ),
}
"""Domain -> settings of its first run, and of the evaluation of that, with columns that a run has
only where they are asked for."""

RARE = {
    # Without a prompt of two right images, it has no value.
    ("evaluations", "clip_diversity_right"),
    # Of a step whose reward raised.
    ("metrics", "reward_error"),
}
"""Columns that a run of one step may lack."""


def embedded_recipes() -> dict[str, str]:
    """One recipe for each method of each domain whose models ship with the package."""
    found: dict[str, str] = {}
    for name in recipe_names():
        config = load_recipe(name)
        if config.model.pretrained == "embedded":
            method = getattr(config.algorithm, "method", "")
            found.setdefault(f"{config.domain} {method}".strip(), name)
    return found


RECIPES = embedded_recipes()
Columns = dict[tuple[File, str], set[str]]


def adrpo(*arguments: str) -> None:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


def rows(folder: Path, file: File) -> list[dict[str, Any]]:
    path = folder / f"{file}.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Columns:
    """(File, domain) -> all columns that the runs of this module have written."""
    return {}


@pytest.fixture(scope="module")
def ran() -> set[str]:
    """The recipes whose runs are in ``written``."""
    return set()


@pytest.mark.filterwarnings("ignore:evaluation.distances. ")
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_no_column_is_unknown(recipe: str, written: Columns, ran: set[str], tmp_path: Path) -> None:
    config = load_recipe(recipe)
    short = [*EVERYWHERE, *SHORT[config.domain]]
    if "dpo" in recipe:
        short += ["algorithm.pairs_prompts=2", "algorithm.pairs_samples=2"]
    first = ("evaluations", config.domain) not in written
    asked, asked_again = MEASURED.get(config.domain, ([], [])) if first else ([], [])
    if config.domain == "flow" and not first:
        # The embedded model's columns are in the first run's rows.
        short += [f"model.{key}={value}" for key, value in random_sd3().items()]
    adrpo("train", recipe, *short, *asked, "--output-dir", str(tmp_path / "run"))
    files: list[tuple[str, File]] = [("run", "metrics"), ("run", "evaluations")]
    if first:
        again = str(tmp_path / "again")
        adrpo("evaluate", str(tmp_path / "run"), *asked_again, "--output-dir", again)
        files.append(("again", "evaluations"))
        # Reports and comparisons read the domain's facts there, and know no domain themselves.
        for folder in ("run", "again"):
            assert read_facts(RunDirectory.open(tmp_path / folder)) == door_of(config).facts
            assert (tmp_path / folder / "facts.json").is_file()
    names = [*written_names(term.name for term in config.reward), "of_any_sample"]
    listing = json.loads((tmp_path / "run/samples/prompts.json").read_text("utf-8"))
    for folder, file in files:
        assert rows(tmp_path / folder, file)
        for row in rows(tmp_path / folder, file):
            unknown = unlisted(
                row, file, config.domain, rewards=names, categories=listing["categories"]
            )
            assert unknown == [], f"{file}.jsonl: add them to adrpo/metrics, where all columns are"
            written.setdefault((file, config.domain), set()).update(row)
    ran.add(recipe)


def test_no_metric_is_listed_in_vain(written: Columns, ran: set[str]) -> None:
    """After the runs above: what stands among the metrics of a domain is written by it."""
    if ran != set(RECIPES.values()):
        pytest.skip("needs the runs of all methods")
    for metric in METRICS:
        for domain in metric.domains or SHORT:
            if metric not in REWARDS and (metric.file, metric.name) not in RARE:
                assert metric.name in written[metric.file, domain], (metric.name, domain)


def test_a_column_that_nobody_listed_is_told() -> None:
    evaluation = ["step", "gold_accuracy", "gold_accuracy_low", "gold_accuracy_change_high"]
    evaluation += ["gold_accuracy_color", "gold_accuracy_color_low", "taste", "taste_change"]
    told = ["gold_accuracy_shape", "kl", "split_low", "surprise"]
    found = unlisted(
        [*evaluation, *told], "evaluations", "flow", rewards=["taste"], categories=["color"]
    )
    assert found == told
    step = ["step", "loss", "reward_taste_mean"]
    assert unlisted([*step, "loss_low", "taste"], "metrics", "flow", rewards=["taste"]) == [
        "loss_low",
        "taste",
    ]
    # DPO's are columns of pictures alone.
    assert unlisted(["margin"], "metrics", "llm") == ["margin"]


def test_names_are_unique_within_a_file_and_domain() -> None:
    places = [(m.file, domain, m.name) for m in METRICS for domain in m.domains or SHORT]
    assert len(places) == len(set(places))
    assert {place.name for place in PLACES} >= {"step", "split"}


def test_every_reward_with_a_short_name_is_described() -> None:
    assert {metric.name for metric in REWARDS} == BUILT_IN.keys()
