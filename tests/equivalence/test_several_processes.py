"""Two processes that train together are one process: real ones, which talk by Gloo on the CPU."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from started_processes import TESTS, finish, launch, start
from tiny_pipelines import FAMILIES
from tiny_runs import metrics_without_timings, tiny_config

from adrpo.config import FlowConfig, config_to_yaml
from adrpo.evaluation.values import read_values
from adrpo.flow.policy import WEIGHTS_NAME
from adrpo.flow.trainers import build_trainer
from adrpo.runs.directory import RunDirectory

pytestmark = pytest.mark.slow

STEPS = 2
NEAR = 3e-2
"""How far two adapters may be from each other, against what training added to them. The first steps
of AdamW are the signs of the gradient, so that one that is all rounding goes the other way: 3 % are
36 such among 160,000 (2 √(n/N)). A sample that is left out changes signs by the thousand. A jump of
a pixel, below, moves one of nine advantages by a hundredth."""


def config(
    *rewards: str, training: dict[str, Any], held_out: int = 5, **sections: dict[str, Any]
) -> FlowConfig:
    """Nine samples a step, so that shares differ (4 and 5) and the second of three groups is torn,
    and five prompts to evaluate (2 and 3)."""
    settings = tiny_config(
        prompts={"train_size": 5, "held_out_size": held_out},
        training={"steps": STEPS, "prompts_per_step": 3, "micro_batch_size": 4, **training},
        checkpoint={"every": 1, "keep": STEPS + 1},
        **sections,
    )
    rewarded = FlowConfig.model_validate({"reward": [{"name": name} for name in rewards]})
    return settings.model_copy(update={"reward": rewarded.reward})


CONFIGS = {
    # The second reward compares the images of a prompt, and so does the one that only measures.
    "adrpo": config(
        "clip_score",
        "clip_novelty",
        training={"timesteps_per_sample": 2},
        algorithm={"anchor": "ema"},
        evaluation={
            "every": STEPS,
            "seen_prompts": 3,
            "rewards": [{"name": "adrpo.rewards.image:ClipNovelty"}],
        },
    ),
    # Even shares, and rows whose coefficient is 0 in one process alone.
    "fsdp": config(
        "clip_score",
        training={"prompts_per_step": 2, "timesteps_per_sample": 2},
        held_out=4,
        model={"gradient_checkpointing": True},
        algorithm={"beta_0": 1.0, "advantage_clip": [-1.0, 1.0]},
        evaluation={"every": STEPS, "seen_prompts": 2},
    ),
    "flow_grpo": config(
        "clip_score",
        training={},
        sampling={"steps": 3},
        algorithm={"method": "flow_grpo", "updates_per_step": 2},
    ),
    "dpo": config(
        "clip_score",
        training={},
        algorithm={"method": "dpo", "pairs_prompts": 5, "pairs_samples": 3},
    ),
}
METHODS = pytest.mark.parametrize("method", CONFIGS)


def train(recipe: Path, *more: str) -> list[str]:
    """The command line, for a run beside its recipe."""
    folder = recipe.with_suffix("")
    return ["-m", "adrpo", "train", str(recipe), "--output-dir", str(folder), *more]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each run by one process, with as many threads as each of the two has: a matrix product over
    other threads sums in another order."""
    folder = tmp_path_factory.mktemp("one")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {
            name: build_trainer(settings).train(folder / name, progress=False)
            for name, settings in CONFIGS.items()
        }
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Path:
    path = folder / "adrpo.yaml"
    path.write_text(config_to_yaml(CONFIGS["adrpo"]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def left_alone(recipe: Path) -> int:
    """The exit code of the main process after the other one was killed in the second step."""
    processes = start(*train(recipe))
    while processes[0].poll() is None and not (recipe.with_suffix("") / "metrics.jsonl").exists():
        time.sleep(0.02)
    processes[1].kill()
    return finish(processes)[0][0]


@pytest.fixture(scope="module")
def resumed(recipe: Path, left_alone: int) -> subprocess.CompletedProcess[str]:
    """That run, gone on with by `accelerate launch`."""
    return launch("ddp.yaml", *train(recipe, "--resume"))


@pytest.fixture(scope="module")
def sharded(folder: Path) -> Path:
    """A run whose base is in shards."""
    recipe = folder / "fsdp.yaml"
    recipe.write_text(config_to_yaml(CONFIGS["fsdp"]), encoding="utf-8")
    result = launch("fsdp2.yaml", *train(recipe))
    assert result.returncode == 0, result.stderr
    return recipe.with_suffix("")


@pytest.fixture(scope="module")
def two(
    recipe: Path, folder: Path, resumed: subprocess.CompletedProcess[str], sharded: Path
) -> dict[str, Path]:
    """Each run by two processes; that of ADRPO was killed and resumed."""
    assert resumed.returncode == 0, resumed.stderr
    others = folder / "others"
    others.mkdir()
    for name in ("flow_grpo", "dpo"):
        text = config_to_yaml(CONFIGS[name])
        (others / f"{name}.yaml").write_text(text, encoding="utf-8")
    for code, _, errors in finish(start(TESTS / "several_processes.py", others)):
        assert code == 0, errors
    runs = {name: others / name for name in ("flow_grpo", "dpo")}
    return {"adrpo": recipe.with_suffix(""), "fsdp": sharded, **runs}


@METHODS
def test_the_steps_are_those_of_one_process(
    one: dict[str, Path], two: dict[str, Path], method: str
):
    rows = metrics_without_timings(two[method])
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    for row, expected in zip(rows, metrics_without_timings(one[method]), strict=True):
        assert row.keys() == expected.keys()
        if method == "fsdp":
            # All rows are evaluated by the policy, and as many by the reference.
            assert expected.pop("model_calls") < row["model_calls"]
        for name, value in expected.items():
            # Other batches sum in another order, float32 rounding (1e-7). A pixel can thereby jump
            # by one of 256 levels, which moves an image's CLIP score by some 0.01 points; the
            # columns made of rewards are means of nine images' and may be near 0.
            of_rewards = name.startswith(("reward_", "advantage", "weight", "beta", "loss"))
            near = pytest.approx(value, rel=2e-2, abs=2e-3 if of_rewards else 1e-8)
            assert row[name] == near, (row["step"], name)


def change(run: Path) -> torch.Tensor:
    """What training added to the adapter, in one vector."""
    first = torch.load(run / "checkpoints" / "step-000000" / "state.pt", weights_only=True)
    last = load_file(run / "final" / WEIGHTS_NAME)
    # Sorted, the names differ by a prefix only.
    before = torch.cat([value.flatten() for _, value in sorted(first["adapter"].items())])
    return torch.cat([value.flatten() for _, value in sorted(last.items())]) - before


@METHODS
def test_the_adapter_is_that_of_one_process(
    one: dict[str, Path], two: dict[str, Path], method: str
):
    ours, theirs = change(two[method]), change(one[method])
    assert (ours - theirs).norm() < NEAR * theirs.norm()


def test_one_process_goes_on_where_two_stopped(
    one: dict[str, Path], two: dict[str, Path], tmp_path: Path
):
    run = tmp_path / "run"
    shutil.copytree(two["adrpo"], run)
    shutil.rmtree(run / "checkpoints" / f"step-{STEPS:06d}")
    shutil.rmtree(run / "final")
    build_trainer(CONFIGS["adrpo"]).train(run, resume=True, progress=False)
    ours, theirs = change(run), change(one["adrpo"])
    assert (ours - theirs).norm() < NEAR * theirs.norm()


@METHODS
def test_the_evaluations_are_those_of_one_process(
    one: dict[str, Path], two: dict[str, Path], method: str
):
    ours, theirs = (RunDirectory.open(runs[method]) for runs in (two, one))
    for row, expected in zip(ours.read_evaluations(), theirs.read_evaluations(), strict=True):
        assert row.keys() == expected.keys()
        assert [row[name] for name in ("step", "split")] == [expected["step"], expected["split"]]
    files = sorted(theirs.samples.glob("*/values*.json"))
    assert files
    for file in files:
        values = read_values(ours.samples / file.relative_to(theirs.samples))
        expected = read_values(file)
        assert values.keys() == expected.keys()
        for name, column in expected.items():
            # In points of CLIP a jump of a pixel, above; the others are kept with six decimals.
            limit = 0.1 if "clip" in name.lower() else 1e-4
            np.testing.assert_allclose(values[name], column, rtol=0, atol=limit, err_msg=name)


@METHODS
def test_one_process_writes(one: dict[str, Path], two: dict[str, Path], method: str):
    """The same files, none of them twice; only the command line makes a report."""
    ours, theirs = (
        {str(path.relative_to(runs[method])) for path in runs[method].rglob("*")}
        for runs in (two, one)
    )
    assert ours - {"report.html"} == theirs


def test_a_sharded_base_is_the_base_for_every_family():
    names = [name for name in FAMILIES if name != "lumina 2"]
    for code, output, errors in finish(start(TESTS / "sharded_policies.py", *names)):
        assert code == 0, errors
        lines = [json.loads(line) for line in output.splitlines()]
        assert [line["name"] for line in lines] == names
        for line in lines:
            # Each process computes alone with the gathered weights: not a bit differs.
            assert all(line["same"].values()) and "gradient 0" in line["same"], line
            (frozen, adapter), (shard, adapter_kept) = line["whole"], line["sharded"]
            # An odd number of rows leaves one process one row more.
            assert shard < 0.56 * frozen and adapter_kept == adapter > 0, line


def test_the_main_process_speaks(resumed: subprocess.CompletedProcess[str]):
    assert resumed.stdout.count("Report: ") == 1
    assert resumed.stdout.count("Base model -> after step") == 1


def test_a_killed_process_does_not_leave_the_other_waiting(left_alone: int):
    assert left_alone not in (0, -9), "it ended by itself, and did not go on alone"


@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of threads from /proc")
def test_no_thread_outlives_the_group_of_processes():
    """One that does needs the interpreter while it ends, and aborts the process now and then."""
    for code, _, errors in finish(start(TESTS / "leaving_processes.py")):
        assert code == 0, errors


def test_an_error_of_one_process_ends_both_in_one_line(folder: Path):
    recipe = folder / "short.yaml"
    settings = config("several_processes:short_in_second", training={})
    recipe.write_text(config_to_yaml(settings), encoding="utf-8")
    main, second = finish(start(*train(recipe)))
    assert main[0] == second[0] == 2
    lines = main[2].splitlines()
    assert [line.startswith("adrpo: error: reward") for line in lines] == [True], main[2]
    assert "expected 6 values" in lines[0] and "received 5" in lines[0]
    assert "error" not in second[2]
    assert not (folder / "short" / "evaluations.jsonl").exists()
