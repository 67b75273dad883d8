"""Two processes that train together are one process: real ones, which talk by Gloo on the CPU."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from adrpo.config import config_to_yaml
from adrpo.errors import AdrpoWarning
from adrpo.evaluation.values import read_values
from adrpo.flow.domain import build_trainer
from adrpo.flow.models.lora import WEIGHTS_NAME
from adrpo.runs.directory import RunDirectory
from support.event_files import read_events
from support.shared_steps import CONFIGS, STEPS, config
from support.started_processes import TESTS, finish, launch, start
from support.tiny_pipelines import FAMILIES
from support.tiny_runs import metrics_without_timings

BY_DEEPSPEED = (
    pytest.mark.deepspeed,
    pytest.mark.skipif(
        find_spec("deepspeed") is None and "ADRPO_EXPECT_DEEPSPEED" not in os.environ,
        reason="trains by it: make test-deepspeed",
    ),
)
ENGINE_RUNS = [
    pytest.param("FSDP2", marks=pytest.mark.slow),
    pytest.param("ZeRO-3", marks=BY_DEEPSPEED),
]
BY_ENGINE = pytest.mark.parametrize("engine", ENGINE_RUNS)
CONFIGURATIONS = {"FSDP2": "fsdp2.yaml", "ZeRO-3": "deepspeed-zero3.yaml"}
"""Engine -> the configuration that asks for it."""

NEAR = 3e-2
"""How far two adapters may be from each other, against what training added to them. The first steps
of AdamW are the signs of the gradient, so that one that is all rounding goes the other way: 3 % are
36 such among 160,000 (2 √(n/N)). A sample that is left out changes signs by the thousand. A jump of
a pixel, below, moves one of nine advantages by a hundredth."""


ALONGSIDE = ("flow_grpo", "fdfo", "crd", "dgpo", "dpo", "sizes")
"""Runs that share the start of their processes."""
METHOD_RUNS = [pytest.param(name, marks=pytest.mark.slow) for name in ("adrpo", *ALONGSIDE)]
METHODS = pytest.mark.parametrize("run", [*METHOD_RUNS, *ENGINE_RUNS])
SHARDED_OR_NOT = pytest.mark.parametrize("run", [METHOD_RUNS[0], *ENGINE_RUNS])
"""A run: by the name of its configuration, or by an engine, of the one for shards."""


def configuration(run: str) -> str:
    return "sharded" if run in CONFIGURATIONS else run


Runs = Callable[[str], Path]
"""The folder of a run, which is trained when it is first asked for."""


def train(recipe: Path, *more: str) -> list[str]:
    """The command line, for a run beside its recipe."""
    folder = recipe.with_suffix("")
    return ["-m", "adrpo", "train", str(recipe), "--output-dir", str(folder), *more]


def write(folder: Path, name: str) -> Path:
    """The recipe of a configuration, in ``folder``."""
    path = folder / f"{name}.yaml"
    path.write_text(config_to_yaml(CONFIGS[name]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@contextmanager
def one_thread() -> Iterator[None]:
    """As many as each of two processes has: a product over other threads sums in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Each run by one process."""

    @cache
    def trained(name: str) -> Path:
        with one_thread():
            folder = tmp_path_factory.mktemp("one") / name
            return build_trainer(CONFIGS[name]).train(folder, progress=False)

    return lambda run: trained(configuration(run))


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Path:
    return write(folder, "adrpo")


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


def launched(engine: str, *command: str) -> None:
    result = launch(CONFIGURATIONS[engine], *command)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def by_engine(folder: Path) -> Runs:
    """A run whose base is in shards."""

    @cache
    def trained(engine: str) -> Path:
        parent = folder / engine
        parent.mkdir()
        recipe = write(parent, configuration(engine))
        launched(engine, *train(recipe))
        return recipe.with_suffix("")

    return trained


@pytest.fixture(scope="module")
def others(folder: Path) -> Callable[[], Path]:
    """The folder of the runs that share the start of their processes."""

    @cache
    def trained() -> Path:
        parent = folder / "others"
        parent.mkdir()
        for name in ALONGSIDE:
            write(parent, name)
        for code, _, errors in finish(start(TESTS / "support" / "several_processes.py", parent)):
            assert code == 0, errors
        return parent

    return trained


@pytest.fixture(scope="module")
def two(
    request: pytest.FixtureRequest, recipe: Path, by_engine: Runs, others: Callable[[], Path]
) -> Runs:
    """Each run by two processes; that of ADRPO was killed and resumed."""

    def trained(run: str) -> Path:
        if run in CONFIGURATIONS:
            return by_engine(run)
        if run != "adrpo":
            return others() / run
        resumed: subprocess.CompletedProcess[str] = request.getfixturevalue("resumed")
        assert resumed.returncode == 0, resumed.stderr
        return recipe.with_suffix("")

    return trained


@METHODS
def test_the_steps_are_those_of_one_process(one: Runs, two: Runs, run: str):
    rows = metrics_without_timings(two(run))
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    for row, expected in zip(rows, metrics_without_timings(one(run)), strict=True):
        assert row.keys() == expected.keys()
        if run == "fdfo":
            # A call has as many rows as fit a share, so that a smaller one fills up less of it.
            drawn_and_learned = 6 * 3 + 6 * 2
            assert min(row["model_calls"], expected.pop("model_calls")) >= drawn_and_learned
        if run == "flow_grpo":
            # Each process fills its last batch, so that all calls have one shape.
            assert expected.pop("model_calls") <= row["model_calls"]
        if run in CONFIGURATIONS:
            # All rows are evaluated by the policy, and as many by the reference.
            assert expected.pop("model_calls") < row["model_calls"]
        for name, value in expected.items():
            # Other batches sum in another order, float32 rounding (1e-7). A pixel can thereby jump
            # by one of 256 levels, which moves an image's CLIP score by some 0.01 points; the
            # columns made of rewards are means of nine images' and may be near 0.
            of_rewards = name.startswith(("reward_", "advantage", "weight", "beta", "loss"))
            near = pytest.approx(value, rel=2e-2, abs=2e-3 if of_rewards else 1e-8)
            assert row[name] == near, (row["step"], name)


def change(folder: Path) -> torch.Tensor:
    """What training added to the adapter, in one vector."""
    first = torch.load(folder / "checkpoints" / "step-000000" / "state.pt", weights_only=True)
    last = load_file(folder / "final" / WEIGHTS_NAME)
    # Sorted, the names differ by a prefix only.
    before = torch.cat([value.flatten() for _, value in sorted(first["adapter"].items())])
    return torch.cat([value.flatten() for _, value in sorted(last.items())]) - before


@METHODS
def test_the_adapter_is_that_of_one_process(one: Runs, two: Runs, run: str):
    ours, theirs = change(two(run)), change(one(run))
    assert (ours - theirs).norm() < NEAR * theirs.norm()


def without_the_last_step(run: Path, copy: Path) -> Path:
    """A copy of a run that stopped before its last step."""
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints" / f"step-{STEPS:06d}")
    shutil.rmtree(copy / "final")
    return copy


@SHARDED_OR_NOT
def test_one_process_goes_on_where_two_stopped(one: Runs, two: Runs, run: str, tmp_path: Path):
    folder = without_the_last_step(two(run), tmp_path / "run")
    with one_thread(), pytest.warns(AdrpoWarning, match="states of 2 processes, and 1 go on"):
        build_trainer(CONFIGS[configuration(run)]).train(folder, resume=True, progress=False)
    ours, theirs = change(folder), change(one(run))
    assert (ours - theirs).norm() < NEAR * theirs.norm()


@BY_ENGINE
def test_an_engine_goes_on_where_one_process_stopped(one: Runs, engine: str, tmp_path: Path):
    recipe = write(tmp_path, configuration(engine))
    folder = without_the_last_step(one(engine), recipe.with_suffix(""))
    launched(engine, *train(recipe, "--resume"))
    ours, theirs = change(folder), change(one(engine))
    assert (ours - theirs).norm() < NEAR * theirs.norm()


@METHODS
def test_the_evaluations_are_those_of_one_process(one: Runs, two: Runs, run: str):
    ours, theirs = (RunDirectory.open(runs(run)) for runs in (two, one))
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
            # In points of CLIP, the reward among them, a jump of a pixel, above.
            limit = 0.1 if "clip" in name.lower() or name == "reward" else 1e-4
            np.testing.assert_allclose(values[name], column, rtol=0, atol=limit, err_msg=name)


@METHODS
def test_one_process_writes(one: Runs, two: Runs, run: str):
    """The same files, none of them twice; only the command line makes a report."""
    ours, theirs = (
        {str(path.relative_to(runs(run))) for path in runs(run).rglob("*")} for runs in (two, one)
    )
    # The process that was left alone when the other was killed has kept its traceback.
    ours = {name for name in ours if not name.startswith("adrpo-traceback-")}
    # Files of events are named by their process.
    ours, theirs = ({name for name in names if "tfevents" not in name} for names in (ours, theirs))
    assert ours - {"report.html"} == theirs


@pytest.mark.slow
def test_the_main_process_sends_each_step_to_a_tracker_once(two: Runs):
    """Also where two processes went on with what two had begun."""
    events = read_events(two("adrpo") / "tensorboard")
    for name, steps in (("train/reward_mean", [1, STEPS]), ("unseen/clip_score", [0, STEPS])):
        assert [step for step, _ in events.scalars[name]] == steps


@BY_ENGINE
def test_a_sharded_base_is_the_base_for_every_family(engine: str):
    names = list(FAMILIES)
    processes = start(
        TESTS / "support" / "sharded_policies.py", engine, *names, DS_ACCELERATOR="cpu"
    )
    for code, output, errors in finish(processes):
        assert code == 0, errors
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        assert [line["name"] for line in lines] == names
        for line in lines:
            # Each process computes alone with the gathered weights: not a bit differs. But ZeRO-3's
            # hooks on a layer's output may change the order in which gradients are summed where a
            # block reads a parameter itself: float32 rounding (1e-7) of a few terms.
            differences = line["differences"]
            drawn = [differences.pop(name) for name in ("sample", "reference", "policy")]
            assert drawn == [0, 0, 0] and "gradient 0" in differences, line
            summed_anew = engine == "ZeRO-3" and line["name"] in ("sana", "z-image")
            limit = 5e-6 if summed_anew else 0
            assert all(value <= limit for value in differences.values()), line
            (frozen, adapter), (shard, adapter_kept) = line["whole"], line["sharded"]
            # An odd number of rows leaves one process one row more.
            assert shard < 0.56 * frozen and adapter_kept == adapter > 0, line


@pytest.mark.slow
def test_the_main_process_speaks(resumed: subprocess.CompletedProcess[str]):
    assert resumed.stdout.count("Report: ") == 1
    assert resumed.stdout.count("Base model -> after step") == 1


@pytest.mark.slow
def test_a_killed_process_does_not_leave_the_other_waiting(left_alone: int):
    assert left_alone not in (0, -9), "it ended by itself, and did not go on alone"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of threads from /proc")
def test_no_thread_outlives_the_group_of_processes():
    """One that does needs the interpreter while it ends, and aborts the process now and then."""
    for code, _, errors in finish(start(TESTS / "support" / "leaving_processes.py")):
        assert code == 0, errors


@pytest.mark.slow
def test_an_error_of_one_process_ends_both_in_one_line(folder: Path):
    recipe = folder / "short.yaml"
    settings = config("support.several_processes:short_in_second", training={})
    recipe.write_text(config_to_yaml(settings), encoding="utf-8")
    main, second = finish(start(*train(recipe)))
    assert main[0] == second[0] == 2
    # On a machine that is slow with its loading, a line is printed of that, too.
    lines = [line for line in main[2].splitlines() if not line.endswith(" so far")]
    assert [line.startswith("adrpo: error: reward") for line in lines] == [True], main[2]
    assert "expected 4 values" in lines[0] and "received 3" in lines[0]
    assert "error" not in second[2]
    assert not (folder / "short" / "evaluations.jsonl").exists()
