"""``adrpo compare --cluster`` on a real cluster of Ray: two nodes, one of which is lost."""

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from adrpo.comparison import LocalWorkers, Plan, jobs_of, record, run_jobs
from adrpo.comparison.cluster import ClusterWorkers
from adrpo.errors import AdrpoError
from support.tiny_runs import adapter_bytes, metrics_without_timings

pytestmark = [
    pytest.mark.apps,
    pytest.mark.skipif(
        find_spec("ray") is None and "ADRPO_EXPECT_APPS" not in os.environ,
        reason="runs on a Ray cluster: make test-apps",
    ),
    # Ray's own: sockets and processes that it leaves to the operating system.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
]
TINY = (
    "training.steps=12", "training.prompts_per_step=1", "training.samples_per_prompt=2",
    "prompts.train_size=2", "prompts.held_out_size=2", "evaluation.every=12",
    "evaluation.samples_per_prompt=2", "evaluation.strip_prompts=1", "checkpoint.every=1",
    "model.device=cpu",
)  # fmt: skip


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes with a core each, and room for nothing else."""
    import ray
    from ray.cluster_utils import Cluster

    path = os.pathsep.join(part for part in sys.path if part)
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("RAY_DISABLE_MEMORY_MONITOR", "1")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # 15 by itself: beside other tests it starves
    size: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=size)
    cluster.add_node(**size)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def plan_in(folder: Path, name: str) -> Plan:
    plan = Plan.resolve(folder / name, ["flow/demo"], list(TINY), 2, None)
    record(plan)
    return plan


def test_a_lost_machine_leaves_the_rows_as_they_are_on_one(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = plan_in(tmp_path, "cluster")
    jobs = jobs_of(plan)
    workers = ClusterWorkers(nodes.address, parallel=None, threads=1, processes=1)
    assert workers.slots == 2 and "2 machines" in workers.sentence()
    lost: list[str] = []

    def lose_one_once_both_train(steps: int, running: int) -> None:
        if len(nodes.list_all_nodes()) == 2 and all(job.steps_done() >= 1 for job in jobs):
            # Each has a core, and so one of the two runs.
            nodes.remove_node(nodes.list_all_nodes()[1], allow_graceful=False)

    failures = run_jobs(
        jobs, plan.overrides, workers=workers, on_progress=lose_one_once_both_train,
        on_loss=lambda job: lost.append(job.folder.name),
    )  # fmt: skip
    assert failures == [] and len(lost) == 1
    (victim,) = [job for job in jobs if job.folder.name in lost]
    assert "lost: " in victim.log.read_text()

    alone = plan_in(tmp_path, "alone")
    assert run_jobs(jobs_of(alone), alone.overrides, workers=LocalWorkers(threads=1)) == []
    for ours, theirs in zip(jobs, jobs_of(alone), strict=True):
        assert metrics_without_timings(ours.folder) == metrics_without_timings(theirs.folder)
        assert adapter_bytes(ours.folder) == adapter_bytes(theirs.folder)


def test_what_a_cluster_cannot_do_is_said(nodes: Any) -> None:
    with pytest.raises(AdrpoError, match="--cluster: expected room for a training with 9 cores"):
        ClusterWorkers(nodes.address, parallel=None, threads=9, processes=1)
