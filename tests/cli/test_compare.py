"""``adrpo compare``: scheduling with a stand-in program, and one real comparison, tiny."""

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import adrpo
from adrpo.comparison import LocalWorkers, Plan, collect, jobs_of, record, run_jobs, schedule
from adrpo.comparison.analysis import analyse, to_json
from adrpo.comparison.cluster import check_reachable
from adrpo.comparison.schedule import Failure, Job
from adrpo.comparison.workers import LOST, visible_gpus
from adrpo.config import load_flow_config
from adrpo.data.base import Prompt
from adrpo.errors import AdrpoError
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.runs.directory import RunDirectory
from adrpo.runs.inputs import Inputs
from adrpo.runs.lock import exclusive
from support.command_line import Command
from support.event_files import read_events
from support.tiny_runs import random_sd3

# Writes what `adrpo train` writes, as far as the schedule looks, in milliseconds. Seed 1 of the
# method "bad" fails; "slow" never ends.
STAND_IN = """
import json, os, pathlib, sys, time
recipe = pathlib.Path(sys.argv[2]).stem
folder = pathlib.Path(sys.argv[sys.argv.index("--output-dir") + 1])
seed = next(a for a in sys.argv if a.startswith("training.seed=")).partition("=")[2]
gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "-")
print("threads", os.environ["OMP_NUM_THREADS"], "resume", "--resume" in sys.argv, flush=True)
folder.mkdir(parents=True, exist_ok=True)
(folder / "config.yaml").write_text("{}")
(folder / "pid").write_text(str(os.getpid()))
(folder / "gpus").write_text(gpus)
at_work = folder.parent / ("gpus-" + gpus)
if gpus != "-":
    at_work.touch(exist_ok=False)  # raises where another is at work on the same ones
    time.sleep(0.2)
if recipe == "slow":
    time.sleep(600)
if recipe == "bad" and seed == "1":
    print("adrpo: error: out of paint", file=sys.stderr)
    sys.exit(2)
(folder / "metrics.jsonl").write_text("".join(json.dumps({"step": s}) + "\\n" for s in (1, 2, 3)))
(folder / "evaluations.jsonl").write_text(json.dumps({"step": 3}) + "\\n")
(folder / "final").mkdir()
(folder / "final" / "weights").touch()
at_work.unlink(missing_ok=True)
"""


def plan_of(tmp_path: Path, *names: str, seeds: int = 2) -> Plan:
    for name in names:
        text = "extends: flow/demo\ntraining: {steps: 3}\n"
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    recipes = [str(tmp_path / f"{name}.yaml") for name in names]
    plan = Plan.resolve(tmp_path / "cmp", recipes, [], seeds, None)
    record(plan)
    return plan


def workers(tmp_path: Path, kind: Any = LocalWorkers, **options: Any) -> Any:
    (tmp_path / "stand_in.py").write_text(STAND_IN, encoding="utf-8")
    program = [sys.executable, "-S", str(tmp_path / "stand_in.py")]
    return kind(**{"threads": 1, "gpus": []} | options, program=program)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_failure_is_told_and_the_others_finish(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "bad", "good")
    seen: list[tuple[int, int]] = []
    told: list[Failure] = []
    failures = run_jobs(
        jobs_of(plan), [], workers=workers(tmp_path, parallel=2, threads=3),
        on_progress=lambda steps, running: seen.append((steps, running)), on_failure=told.append,
    )  # fmt: skip
    assert failures == told
    assert [(f.job.folder.name, f.reason) for f in failures] == [("bad-seed1", "out of paint")]
    assert sum(job.is_finished() for job in jobs_of(plan)) == 3
    assert seen[-1] == (9, 0) and max(running for _, running in seen) <= 2
    log = jobs_of(plan)[0].log.read_text()
    assert log == "threads 3 resume False\n"

    # Again: the finished ones are kept, the failed one goes on.
    times = {job.folder: (job.folder / "pid").read_text() for job in jobs_of(plan)}
    again = run_jobs(jobs_of(plan), [], workers=workers(tmp_path, parallel=2))
    assert len(again) == 1
    changed = [
        job for job in jobs_of(plan) if (job.folder / "pid").read_text() != times[job.folder]
    ]
    assert [job.folder.name for job in changed] == ["bad-seed1"]
    assert changed[0].log.read_text().count("resume True") == 1


class Losing(LocalWorkers):
    """Workers whose machines are lost with the first ``losses`` trainings of seed 0."""

    losses = 0

    def start(self, arguments: Sequence[str], log: Path) -> Any:
        if "training.seed=0" not in arguments or not self.losses:
            return super().start(arguments, log)
        self.losses -= 1
        return Lost()


class Lost:
    """A training that nothing is heard of any more."""

    def poll(self) -> int:
        return LOST


@pytest.mark.parametrize(("losses", "failed"), [(schedule.RETRIES, 0), (schedule.RETRIES + 1, 1)])
def test_a_lost_training_is_tried_again_a_few_times(
    losses: int, failed: int, tmp_path: Path
) -> None:
    plan = plan_of(tmp_path, "good")
    first, _ = jobs_of(plan)
    lost: list[Job] = []
    many = workers(tmp_path, Losing, parallel=1)
    many.losses = losses
    failures = run_jobs(jobs_of(plan), [], workers=many, on_loss=lost.append)
    assert lost == [first] * schedule.RETRIES
    assert [(f.job, f.reason) for f in failures] == [
        (first, "its machine was lost, again and again")
    ] * failed
    assert first.is_finished() == (not failed)


def test_ctrl_c_stops_all_children(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "slow", seeds=3)
    pids = [plan.run_folder(plan.methods[0], seed) / "pid" for seed in (0, 1)]

    def interrupt_once_both_run(_steps: int, _running: int) -> None:
        if all(pid.exists() and pid.read_text() for pid in pids):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(
            jobs_of(plan), [], workers=workers(tmp_path, parallel=2),
            on_progress=interrupt_once_both_run,
        )  # fmt: skip
    assert not any(is_alive(int(pid.read_text())) for pid in pids)
    assert not plan.run_folder(plan.methods[0], 2).exists()


def test_a_run_killed_before_its_configuration_starts_anew(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "good", seeds=1)
    folder = plan.run_folder(plan.methods[0], 0)
    # All that a run has beside its configuration, whose writing the kill cut short.
    files = Inputs(held_out=[Prompt("a")]).files()
    RunDirectory.create(folder, "", files).config.rename(folder / ".config.yaml.partial")
    assert len(list(folder.iterdir())) == 4
    assert run_jobs(jobs_of(plan), [], workers=workers(tmp_path, parallel=1)) == []
    assert not (folder / "environment.json").exists()


@pytest.mark.parametrize(
    ("gpus", "processes", "groups"),
    [
        (["0", "1", "5"], 1, {"0", "1", "5"}),
        (["0", "1", "2", "3", "4"], 2, {"0,1", "2,3"}),  # the last one has nobody to train with
    ],
)
def test_each_training_has_gpus_of_its_own(
    gpus: list[str], processes: int, groups: set[str], tmp_path: Path
) -> None:
    plan = plan_of(tmp_path, "good", seeds=7)
    many = workers(tmp_path, gpus=gpus, processes=processes)
    assert many.slots == len(groups)
    assert run_jobs(jobs_of(plan), [], workers=many) == []
    assert {(job.folder / "gpus").read_text() for job in jobs_of(plan)} == groups


def test_trainings_beyond_the_gpus_share_them_evenly_and_say_so(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "slow", seeds=4)
    shared = workers(tmp_path, gpus=["0", "1"], parallel=4)
    assert shared.sentence() == "4 at a time on GPU 0; 1, which several trainings share."
    works = [shared.start(job.arguments([]), job.log) for job in jobs_of(plan)]
    for work in works:
        work.ask_to_stop()
        work.stop(time.monotonic() + 10)
    assert [work.gpus for work in works] == [("0",), ("1",)] * 2  # type: ignore[attr-defined]


def test_more_processes_than_gpus_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AdrpoError, match=r"--processes: expected at most 2.*\(0, 1\); received 3"):
        workers(tmp_path, gpus=["0", "1"], processes=3)
    assert workers(tmp_path, processes=3).groups == []  # on the CPU


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999"])
def test_a_cluster_where_nobody_listens_is_named(address: str) -> None:
    with pytest.raises(AdrpoError, match=f"--cluster: .*received {address}, where nobody listens"):
        check_reachable(address)
    check_reachable("auto")


@pytest.mark.parametrize(
    ("named", "gpus"),
    [
        ("2, 0", ["2", "0"]),
        ("", []),
        ("-1", []),
        ("3,-1,4", ["3"]),
        ("GPU-89", ["GPU-89"]),
    ],
)
def test_the_visible_gpus_are_those_that_cuda_sees(named: str, gpus: list[str]) -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": named}) == gpus


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["flow/dmo"], "flow/dmo"),
        (["flow/demo", "--set", "trainig.steps=3"], "trainig"),
        (["flow/demo", "--reference", "flow/adrpo"], "flow/adrpo"),
        (["flow/demo", "--summary-only"], "--summary-only"),
        (["flow/demo", "llm/embedded"], "compare each domain by itself"),
        (["flow/demo", "--set", "evaluation.early_stopping=gold_accuracy"], "early_stopping=null"),
    ],
)
def test_mistakes_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                capsys: pytest.CaptureFixture[str], arguments: list[str],
                                named: str) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    command = Command(monkeypatch, capsys)
    assert command("compare", *arguments) == 2
    assert named in command.err and command.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


TINY = [
    "training.steps=4", "training.prompts_per_step=2", "training.samples_per_prompt=3",
    "sampling.steps=2", "prompts.train_size=6", "prompts.held_out_size=6",
    "evaluation.every=4", "evaluation.samples_per_prompt=2", "evaluation.strip_prompts=2",
    "evaluation.sampling.steps=2", "checkpoint.every=1",
]  # fmt: skip


def minute(*more: str) -> list[str]:
    """Settings of a tiny run of the random model."""
    return [*TINY, *(f"model.{key}={value}" for key, value in random_sd3().items()), *more]


def test_a_call_that_trains_nothing_leaves_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(tmp_path, "good")
    before = (plan.folder / "comparison.json").read_bytes()
    command = Command(monkeypatch, capsys)
    more = ["compare", str(tmp_path / "good.yaml"), "--output-dir", str(plan.folder)]
    assert command(*more, "--seeds", "3", "--summary-only") == 2
    with exclusive(plan.folder):
        assert command(*more, "--seeds", "3") == 2
    assert "another adrpo holds" in command.err
    assert (plan.folder / "comparison.json").read_bytes() == before


def test_a_killed_training_goes_on_to_the_same_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two recipes x two seeds, trained whole in this process, which saves their start. A second
    comparison has three of the runs; the fourth is a child of ``adrpo compare``, killed after
    its first step and resumed by the same command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(adrpo.__file__).parents[1]))
    (tmp_path / "bold.yaml").write_text("extends: flow/demo\nadapter: {alpha: 32.0}\n")
    recipes, overrides = ["flow/demo", "bold.yaml"], minute("trackers=tensorboard")
    plan = Plan.resolve(Path("runs/compare"), recipes, overrides, 2, None)
    whole = Plan.resolve(Path("runs/whole"), recipes, overrides, 2, None)
    record(plan)
    record(whole)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for job in jobs_of(whole):
            config = load_flow_config(job.method.recipe, [*overrides, f"training.seed={job.seed}"])
            FlowTrainer(config).train(job.folder, progress=False)
    finally:
        torch.set_num_threads(threads)
    *kept, victim = jobs_of(plan)
    for job in kept:
        shutil.copytree(whole.run_folder(job.method, job.seed), job.folder)

    arguments = ["compare", *recipes, "--seeds", "2", "--threads", "1"]
    arguments += [part for override in overrides for part in ("--set", override)]
    command = Command(monkeypatch, capsys)
    with monkeypatch.context() as patched:
        patched.setattr(schedule, "_start", kill_after_a_step(schedule._start))
        assert command(*arguments) == 2
    assert f"{victim.folder.name} failed: killed by signal 9" in command.out
    assert victim.folder.name in command.err and "Traceback" not in command.err
    assert 0 < victim.steps_done() < victim.method.steps

    arguments += ["--best-of", "1", "--best-of", "2", "--guidance", "1", "--guidance", "2"]
    assert command(*arguments) == 0, command.out + command.err
    assert "| flow/demo | " in command.out and "comparison.html" in command.out
    ours = json.loads(Path("runs/compare/summary.json").read_text())
    del ours["command"], ours["environment"]
    for file in ("best-of-n.json", "guidance.json"):
        shutil.copy(plan.folder / file, whole.folder / file)
    check_tracked(plan)
    # The same machine, threads and draws: bit for bit, as resuming promises.
    assert ours == json.loads(json.dumps(to_json(analyse(collect(whole)))))

    # The best of one and guidance 1 are the base itself; this process may have other threads than
    # the run had.
    best = json.loads(Path("runs/compare/best-of-n.json").read_text())
    base = json.loads((victim.folder / "samples/step-000000/values.json").read_text())
    assert best["n"] == [1, 2]
    np.testing.assert_allclose(best["clip_score"][0], base["clip_score"], rtol=0, atol=1e-3)
    assert best["clip_score"][1] != best["clip_score"][0]
    guided = json.loads(Path("runs/compare/guidance.json").read_text())
    assert guided["guidance"] == [1, 2]
    for name in ("clip_score", "clip_diversity", "divergence"):
        np.testing.assert_allclose(guided[name][0], base[name], rtol=0, atol=1e-3)
    assert np.mean(guided["divergence"][1]) > 1e-3
    assert "| base, guidance 2 | " in command.out and "| best of 2 by chance | " in command.out


def check_tracked(plan: Plan) -> None:
    """Each run has a tracker of its own, which the killed one went on with; the row at which the
    kill came may have been written and not sent."""
    for job in jobs_of(plan):
        sent = read_events(job.folder / "tensorboard").scalars["train/reward_mean"]
        steps = [step for step, _ in sent]
        assert steps == sorted(set(steps)) and {1, job.method.steps} <= set(steps)


def kill_after_a_step(start: Callable[..., Any]) -> Callable[..., Any]:
    """``start``, whose process is killed once it has saved its first step."""

    def started(job: Job, *arguments: Any) -> Any:
        entry = start(job, *arguments)

        def kill() -> None:
            while not (job.folder / "checkpoints" / "step-000001").exists():
                time.sleep(0.01)
            entry.work._process.kill()

        threading.Thread(target=kill, daemon=True).start()
        return entry

    return started
