"""benchmarks/peer_loops: the command, its plan and its summary."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from adrpo.flow.domain import build_trainer
from benchmarks.peer_loops import __main__ as command
from benchmarks.peer_loops import one_run
from benchmarks.peer_loops.counting import PARTS
from benchmarks.peer_loops.structures import STRUCTURES
from benchmarks.peer_loops.summary import reached, summarise, to_markdown
from support.tiny_runs import darkness, tiny_config

SMALL = [
    "prompts.train_size=4",
    "prompts.held_out_size=2",
    "sampling.steps=7",
    "training.prompts_per_step=2",
    "training.samples_per_prompt=2",
    "training.micro_batch_size=4",
    "evaluation.samples_per_prompt=2",
    "evaluation.strip_prompts=2",
    "evaluation.sampling.steps=1",
]


def fabricated(loop: str, seed: int, accuracies: list[float], seconds: float) -> dict[str, Any]:
    """A run whose evaluations lie ``seconds`` apart, at half of that of the processor."""
    rows = dict.fromkeys(PARTS, 8)
    step = {
        "seconds": seconds,
        "cpu_seconds": seconds / 2,
        "images": 4,
        "peak_bytes": 10,
        "calls": 3,
    }
    evaluations = [
        {
            "step": n,
            "seconds": n * seconds,
            "cpu_seconds": n * seconds / 2,
            "gold_accuracy": gold,
            "reward": gold / 2,
        }
        for n, gold in enumerate(accuracies)
    ]
    slow = {**step, "seconds": 100.0, "cpu_seconds": 100.0, "peak_bytes": 9}
    steps = [{"step": 1, **slow, **rows}, *({"step": 2, **step, **rows} for _ in range(2))]
    kept = {"loop": loop, "recipe": "flow/awm", "seed": seed, "threads": 1}
    return {**kept, "steps": steps, "evaluations": evaluations}


def test_the_seconds_to_a_gain_lie_on_the_line_between_two_evaluations() -> None:
    run = fabricated("awm", 0, [0.4, 0.44, 0.52, 0.3, 0.9], 10.0)
    # 0.45 is an eighth of the way from 0.44 to 0.52.
    assert reached(run, "gold_accuracy", 0.05) == pytest.approx(
        {"seconds": 11.25, "cpu_seconds": 5.625}
    )
    assert reached(run, "gold_accuracy", 0.1) == pytest.approx(
        {"seconds": 17.5, "cpu_seconds": 8.75}
    )
    assert reached(run, "gold_accuracy", 0.6) is None
    # Half of it, at the same times.
    assert reached(run, "reward", 0.05) == reached(run, "gold_accuracy", 0.1)


def test_the_summary_compares_ours_with_the_fastest_peer() -> None:
    runs = [
        fabricated("awm", 0, [0.4, 0.6], 30.0),
        fabricated("awm", 1, [0.4, 0.6], 50.0),
        # Faster where it gets there, which one of its seeds does not.
        fabricated("diffusion_nft", 0, [0.4, 0.6], 1.0),
        fabricated("diffusion_nft", 1, [0.4, 0.4], 1.0),
        fabricated("ours_awm", 0, [0.4, 0.6], 20.0),
        fabricated("ours_awm", 1, [0.4, 0.6], 20.0),
        fabricated("ours_adrpo", 0, [0.4, 0.4], 20.0),
    ]
    found = summarise(runs)
    fastest = found["fastest"]["gold_accuracy"]["+0.1"]["seconds"]
    assert fastest["fastest"] == "awm" and fastest["seconds"] == pytest.approx(20.0)
    assert fastest["times_ours"] == pytest.approx({"ours_awm": 2.0})
    own = found["loops"]["ours_awm"]
    # The first step warms up.
    assert own["images_per_second"] == pytest.approx(4 / 20)
    assert own["images_per_cpu_second"] == pytest.approx(4 / 10)
    assert own["rows_learnt"] == 2 and own["calls_per_step"] == 3 and own["peak_bytes"] == 10
    both = found["same_method"]["awm"]["images_per_second"]
    assert both == pytest.approx((4 / 20) / ((4 / 30 + 4 / 50) / 2))
    table = to_markdown(found)
    assert "| +0.1 | seconds | awm | ours_awm 2.00 |" in table
    assert "0 (1 of 2)" in table
    assert math.isclose(
        found["loops"]["awm"]["reached"]["gold_accuracy"]["+0.1"]["seconds"][1], 25.0
    )


def test_where_no_peer_gets_there_the_ratio_is_a_bound() -> None:
    runs = [
        fabricated("awm", 0, [0.4, 0.41], 30.0),
        fabricated("flow_grpo", 0, [0.4, 0.42, 0.41], 50.0),
        fabricated("ours_awm", 0, [0.4, 0.5], 10.0),
    ]
    found = summarise(runs)
    assert found["fastest"]["gold_accuracy"]["+0.1"]["cpu_seconds"] == {
        "fastest": None,
        "seconds": 15.0,
        "times_ours": {"ours_awm": pytest.approx(3.0)},
    }
    assert "| +0.1 | cpu seconds | none | ours_awm more than 3.00 |" in to_markdown(found)
    assert summarise(runs[:2])["fastest"]["gold_accuracy"]["+0.02"]["seconds"] is None


def test_another_plan_of_a_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"steps": 1, "every": 1, "threads": None, "overrides": []}
    plan = command.agreed_plan(tmp_path, "first", settings)
    assert (
        plan["environment"]["git"]
        == json.loads((tmp_path / "plan.json").read_text())["environment"]["git"]
    )
    assert command.agreed_plan(tmp_path, "again", settings)["command"] == "first"
    given = ["--loops", "awm", "--steps", "2", "--every", "1", "--output", str(tmp_path)]
    assert command.main(given) == 2
    line = capsys.readouterr().err
    assert "expected steps 1" in line and "received 2" in line and "--output" in line
    assert command.main([*given, "--settings", "training.stepz=3"]) == 2
    assert "did you mean 'steps'?" in capsys.readouterr().err
    assert not list((tmp_path / "rows").iterdir())


def test_each_seed_begins_with_another_loop() -> None:
    runs = command.order(["a", "b"], [5, 6, 7])
    assert runs == [("a", 5), ("b", 5), ("b", 6), ("a", 6), ("a", 7), ("b", 7)]


def test_a_run_tells_its_rows_and_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny_trainer(config: Any) -> Any:
        small = tiny_config(sampling={"steps": 7}, algorithm=config.algorithm.model_dump())
        return build_trainer(small, reward=darkness)

    monkeypatch.setattr(one_run, "build_trainer", tiny_trainer)
    found = one_run.run("flow_factory_nft", 0, 2, 2, SMALL)
    expected = STRUCTURES["flow_factory_nft"].rows(images=4, kept=4, sampling_steps=7)
    for step in found["steps"]:
        assert step["seconds"] > 0 and step["cpu_seconds"] > 0 and step["peak_bytes"] > 1e8
        assert step["rows_text"] == expected["rows_text"] == 0
        # The tiny configuration's batch is of six.
        assert step["rows_learnt"] == 6 * 4 and step["rows_backward"] == 6 * 4
    assert [row["step"] for row in found["evaluations"]] == [0, 2]
    spent = sum(step["seconds"] for step in found["steps"])
    assert found["evaluations"][1]["seconds"] == pytest.approx(spent)


@pytest.mark.slow
def test_a_rehearsal_of_the_command(tmp_path: Path) -> None:
    loops = ["flow_grpo", "ours_flow_grpo"]
    given = ["--loops", *loops, "--seeds", "0", "--steps", "1", "--every", "1", "--threads", "1"]
    given += ["--output", str(tmp_path), "--settings", *SMALL]
    assert command.main(given) == 0
    rows = sorted((tmp_path / "rows").iterdir())
    assert [row.name for row in rows] == [f"{loop}-seed-0.json" for loop in loops]
    first = json.loads(rows[0].read_text())
    kept = first["steps"][0]["rows_learnt"] // 6
    expected = STRUCTURES["flow_grpo"].rows(images=4, kept=kept, sampling_steps=7)
    assert {part: first["steps"][0][part] for part in PARTS} == expected
    # Each image is judged by the same eyes before the first step.
    before = [json.loads(row.read_text())["evaluations"][0]["gold_accuracy"] for row in rows]
    assert before[0] == before[1]
    written = rows[0].stat().st_mtime_ns
    assert command.main(given) == 0
    assert rows[0].stat().st_mtime_ns == written
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["command"].startswith("python -m benchmarks.peer_loops --loops flow_grpo")
    assert set(summary["loops"]) == set(loops)
    assert (tmp_path / "structures.md").read_text().startswith("### flow_grpo")
