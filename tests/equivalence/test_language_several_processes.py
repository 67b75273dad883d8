"""A language model's run by two real processes, which talk by Gloo on the CPU, beside one's.

Each process draws the completions of its part of a batch from random numbers of its own, so that
two processes train on other completions than one. All else is the same: the prompts of a step, what
a step makes of given completions, and the evaluations.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adrpo.config import LanguageConfig, config_to_yaml
from adrpo.evaluation.values import read_values, values_path
from adrpo.runs.directory import RunDirectory
from support.started_processes import TESTS, environment, finish, launch, start
from support.tiny_language_runs import metrics_without_timings, tiny_language_config, write_material

pytestmark = pytest.mark.slow

SCRIPT = TESTS / "support" / "language_run_processes.py"
STEPS = 4


def config(material: Path, **sections: dict[str, Any] | None) -> LanguageConfig:
    """Twelve completions a step, so that the second of three groups is torn; shares of three
    prompts, whose completions are drawn in batches of five."""
    settings: dict[str, Any] = {
        "training": {"steps": STEPS, "prompts_per_step": 3, "micro_batch_size": 3},
        "evaluation": {"samples_per_prompt": 2, "batch_size": 5, "seen_prompts": 3},
        "checkpoint": {"every": 1, "keep": STEPS + 1},
    }
    return tiny_language_config(material, **(settings | sections))


def write(material: Path, name: str, **sections: dict[str, Any] | None) -> Path:
    path = material / f"{name}.yaml"
    path.write_text(config_to_yaml(config(material, **sections)), encoding="utf-8")
    return path


def train(recipe: Path, folder: Path, *more: str) -> list[str]:
    return ["-m", "adrpo", "train", str(recipe), "--output-dir", str(folder), *more]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def two(material: Path) -> Path:
    """The run of two processes by the command line."""
    folder = material / "two"
    result = launch("ddp.yaml", *train(write(material, "tiny"), folder))
    assert result.returncode == 0, result.stderr
    return folder


def test_a_run_is_written_once(two: Path):
    run = RunDirectory.open(two)
    rows = run.read_metrics()
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert [row["samples"] for row in rows] == [12] * STEPS
    evaluated = [(row["step"], row["split"]) for row in run.read_evaluations()]
    assert evaluated == [(step, split) for step in (0, 2, 4) for split in ("unseen", "seen")]
    trained = load_file(two / "final/model.safetensors")
    saved = load_file(two / f"checkpoints/checkpoint-{STEPS}/model.safetensors")
    assert trained.keys() == saved.keys()
    assert all(torch.equal(trained[name], saved[name]) for name in saved)
    assert (two / "report.html").is_file()
    left = {path.name for path in two.iterdir() if path.name.startswith(".")}
    assert not left


def test_an_evaluation_is_that_of_one_process_bit_for_bit(material: Path, two: Path):
    """Of the base, which both have; the shares of 3 prompts tear batches of 5 completions."""
    recipe = write(material, "first", training={"steps": 1, "prompts_per_step": 3})
    subprocess.run(
        [sys.executable, *train(recipe, material / "first")],
        env=environment(), check=True, capture_output=True,
    )  # fmt: skip
    ours, theirs = (RunDirectory.open(run) for run in (two, material / "first"))
    for split in ("unseen", "seen"):
        values = [read_values(values_path(run, 0, split)) for run in (ours, theirs)]
        assert values[0].keys() == values[1].keys()
        assert all((values[0][name] == values[1][name]).all() for name in values[0])
    assert ours.read_evaluations()[:2] == theirs.read_evaluations()[:2]
    for name in ("base.jsonl", "prompts.json"):
        assert (ours.samples / name).read_bytes() == (theirs.samples / name).read_bytes()


@pytest.mark.parametrize("adapter", [None, {"rank": 2}], ids=["whole", "adapter"])
def test_given_the_completions_two_processes_make_the_steps_of_one(
    material: Path, tmp_path: Path, adapter: dict[str, Any] | None
):
    # As many at a time as a process has: what is logged of tokens is their mean in each such part.
    # A term is normalised in its whole group, of which a process may have a part.
    parts = {
        "steps": STEPS, "prompts_per_step": 3, "micro_batch_size": 12,
        "reward_normalization": "group",
    }  # fmt: skip
    settings = config(material, adapter=adapter, training=parts)
    recipes = {name: tmp_path / f"{name}.yaml" for name in ("one", "both")}
    for recipe in recipes.values():
        recipe.write_text(config_to_yaml(settings), encoding="utf-8")
    one = subprocess.run(
        [sys.executable, str(SCRIPT), str(recipes["one"])],
        env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert one.returncode == 0, one.stderr
    for code, _, errors in finish(start(SCRIPT, recipes["both"])):
        assert code == 0, errors
    expected, found = (metrics_without_timings(tmp_path / name) for name in recipes)
    for row, theirs in zip(expected, found, strict=True):
        assert row.keys() == theirs.keys()
        for key, value in row.items():
            if key == "entropy":  # TRL's mean over processes, of each one's mean over tokens
                continue
            # float32 sums over other rows, and what AdamW makes of gradients that are all rounding.
            near = value if value is None else pytest.approx(value, rel=2e-3, abs=1e-5)
            assert theirs[key] == near, (key, row["step"])
    name = "model.safetensors" if adapter is None else "adapter_model.safetensors"
    weights = [load_file(tmp_path / run / "final" / name) for run in recipes]
    before = load_file(tmp_path / "one/checkpoints/checkpoint-1" / name)
    apart = sum(float((weights[1][key] - weights[0][key]).square().sum()) for key in before)
    moved = sum(float((before[key] - weights[0][key]).square().sum()) for key in before)
    # The first steps of AdamW are the signs of the gradient: one that is all rounding goes the
    # other way. Another part of a batch left out changes signs by the dozen.
    assert apart < 1e-3 * moved, apart / moved


def test_killed_processes_resume_to_the_same_end(material: Path, two: Path, tmp_path: Path):
    folder = tmp_path / "run"
    command = train(material / "tiny.yaml", folder)
    processes = start(*command)
    metrics = folder / "metrics.jsonl"
    while all(process.poll() is None for process in processes):
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= 2:
            break
        time.sleep(0.01)
    for process in processes:
        process.kill()
    finish(processes)
    assert not (folder / "final").exists(), "the run ended before it could be killed"
    for code, _, errors in finish(start(*command, "--resume")):
        assert code == 0, errors
    assert metrics_without_timings(folder) == metrics_without_timings(two)
    evaluations = (folder / "evaluations.jsonl").read_text(encoding="utf-8")
    assert evaluations == (two / "evaluations.jsonl").read_text(encoding="utf-8")
    name = "final/model.safetensors"
    assert (folder / name).read_bytes() == (two / name).read_bytes()


def test_another_number_of_processes_is_refused(material: Path, two: Path, tmp_path: Path):
    """One process after two would draw its completions by another random state."""
    folder = tmp_path / "run"
    shutil.copytree(two, folder)
    shutil.rmtree(folder / "final")
    shutil.rmtree(folder / f"checkpoints/checkpoint-{STEPS}")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = subprocess.run(
        [sys.executable, *train(material / "tiny.yaml", folder, "--resume")],
        env=environment(), check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 2
    assert "expected 2 processes" in result.stderr and "received 1" in result.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_an_error_of_one_process_ends_all_in_one_line(material: Path, tmp_path: Path):
    settings = config(material).model_dump(mode="json")
    settings["reward"] = [{"name": "support.language_run_processes:short_in_second"}]
    # The base is evaluated by another reward, so that it is TRL that meets the error.
    recipe = tmp_path / "short.yaml"
    recipe.write_text(json.dumps(settings), encoding="utf-8")
    ended = finish(start(*train(recipe, tmp_path / "run")))
    assert [code for code, _, _ in ended] == [2, 2]
    lines = [
        [line for line in errors.splitlines() if "adrpo: error" in line] for *_, errors in ended
    ]
    assert len(lines[0]) == 1 and not lines[1], lines
    assert "received" in lines[0][0] and "short_in_second" in lines[0][0]
    assert "Traceback" not in ended[0][2] + ended[1][2]


@pytest.mark.parametrize(
    ("sections", "count", "line"),
    [
        ({"training": {"prompts_per_step": 1, "samples_per_prompt": 3}}, 2, "multiple of 2"),
        ({"training": {"prompts_per_step": 3, "micro_batch_size": 4}}, 2, "divisor of 6"),
    ],
)
def test_unequal_parts_are_refused_before_anything_is_written(
    material: Path, tmp_path: Path, sections: dict[str, Any], count: int, line: str
):
    recipe = tmp_path / "uneven.yaml"
    recipe.write_text(config_to_yaml(config(material, **sections)), encoding="utf-8")
    ended = finish(start(*train(recipe, tmp_path / "run")))
    assert [code for code, _, _ in ended] == [2] * count
    assert line in ended[0][2] and not (tmp_path / "run").exists()


def test_shards_are_refused_in_one_line(material: Path, tmp_path: Path):
    recipe = write(material, "shards")
    result = launch("fsdp2.yaml", *train(recipe, tmp_path / "run"))
    assert result.returncode != 0 and not (tmp_path / "run").exists()
    told = [line for line in result.stderr.splitlines() if line.startswith("adrpo: error")]
    assert len(told) == 1 and "recipes/accelerate/ddp.yaml" in told[0]
