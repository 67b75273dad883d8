"""A run that takes the evaluation of its base from another one is the run that measured it."""

import json
from pathlib import Path
from typing import Any

import pytest

from adrpo.comparison import Plan, jobs_of, record
from adrpo.config import FlowConfig
from adrpo.errors import AdrpoError
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.runs.directory import RunDirectory
from support.tiny_runs import adapter_bytes, metrics_without_timings, noisy_darkness, tiny_config


def config(**sections: dict[str, Any]) -> FlowConfig:
    """Both splits, and (with noisy_darkness) evaluations that draw from NumPy's generator."""
    sections = {"training": {"steps": 1}, "evaluation": {"seen_prompts": 2}} | sections
    return tiny_config(**sections)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("measured") / "run"
    return FlowTrainer(config(), reward=noisy_darkness).train(run, progress=False)


def test_taking_it_over_changes_nothing(measured: Path, tmp_path: Path):
    trainer = FlowTrainer(config(), reward=noisy_darkness)
    calls = trainer.policy.model_calls
    run = trainer.train(tmp_path / "run", progress=False, base=measured)
    saved = FlowTrainer(config(), reward=noisy_darkness)
    saved.train(tmp_path / "again", progress=False)
    # Two steps of 2 x 4 and 2 x 2 images, and of each image v and v_ref for its divergence; and two
    # steps of four images that the reward is tried on.
    difference = (saved.policy.model_calls) - (trainer.policy.model_calls - calls)
    assert difference == (4 + 2) * 2 * (2 + 2) + 4 * 2

    assert metrics_without_timings(run) == metrics_without_timings(measured)
    assert adapter_bytes(run) == adapter_bytes(measured)
    ours, theirs = RunDirectory.open(run), RunDirectory.open(measured)
    assert ours.read_evaluations() == theirs.read_evaluations()
    assert {row["split"] for row in ours.read_evaluations()} == {"seen", "unseen"}
    for file in theirs.samples.rglob("*.*"):
        copy = ours.samples / file.relative_to(theirs.samples)
        assert copy.read_bytes() == file.read_bytes(), file


@pytest.mark.parametrize(
    ("section", "settings", "key"),
    [
        ("reward", {"name": "jpeg_size"}, "reward"),
        ("evaluation", {"samples_per_prompt": 3}, "evaluation.samples_per_prompt"),
        ("training", {"seed": 3}, "training.seed"),
    ],
)
def test_another_evaluation_is_refused(
    measured: Path, tmp_path: Path, section: str, settings: dict[str, Any], key: str
):
    changed = config().model_dump(mode="json")
    changed[section] = [settings] if section == "reward" else changed[section] | settings
    trainer = FlowTrainer(FlowConfig.model_validate(changed))
    with pytest.raises(AdrpoError, match=f"--base: expected .* has {key}="):
        trainer.train(tmp_path / "run", progress=False, base=measured)
    assert not (tmp_path / "run").exists()


def test_a_run_without_an_evaluation_is_refused(measured: Path, tmp_path: Path):
    empty = RunDirectory.create(
        tmp_path / "empty", (measured / "config.yaml").read_text(encoding="utf-8")
    )
    trainer = FlowTrainer(config(), reward=noisy_darkness)
    with pytest.raises(AdrpoError, match="no row of step 0 for seen, unseen prompts"):
        trainer.train(tmp_path / "run", progress=False, base=empty.path)
    with pytest.raises(AdrpoError, match=r"^--base: .*expected a run directory"):
        trainer.train(tmp_path / "run", progress=False, base=tmp_path)


@pytest.mark.parametrize(
    ("recipe", "rewards", "differs"),
    [
        ("flow/demo", ("clip_score", "jpeg_size"), {}),
        # Of language models the draws count, too.
        ("llm/embedded", ("question_answer", "length"), {"generation": {"temperature": 0.5}}),
    ],
)
def test_a_comparison_measures_a_base_once_for_each_seed_and_reward(
    tmp_path: Path, recipe: str, rewards: tuple[str, str], differs: dict[str, Any]
):
    own, another = rewards
    given = {
        "one": {"reward": [{"name": own}]},
        "two": {"reward": [{"name": own}]},
        "other": {"reward": [{"name": another}]},
    }
    if differs:
        given["otherwise"] = given["one"] | differs
    for name, content in given.items():
        content = {"extends": recipe} | content
        (tmp_path / f"{name}.yaml").write_text(json.dumps(content), encoding="utf-8")
    plan = Plan.resolve(
        tmp_path / "compare", [str(tmp_path / f"{name}.yaml") for name in given], [], 2, None
    )
    record(plan)
    jobs = {(job.method.name, job.seed): job for job in jobs_of(plan)}
    # Of a key that is given twice the last is taken: each job has its own seed.
    for (_, seed), job in jobs.items():
        given_seeds = [w for w in job.arguments(["training.seed=9"]) if "training.seed" in w]
        assert given_seeds[-1] == f"training.seed={seed}"
    one = jobs.pop(("one", 0))
    assert not any(job.starts_as(one) for job in jobs.values())
    one.folder.mkdir()
    (one.folder / "samples" / "base").mkdir(parents=True)
    (one.folder / "metrics.jsonl").write_text('{"step": 1}\n', encoding="utf-8")
    assert [key for key, job in jobs.items() if job.starts_as(one)] == [("two", 0)]
    two = jobs["two", 0]
    assert two.arguments([], one)[-2:] == ["--base", str(one.folder)]
    two.folder.mkdir()
    (two.folder / "config.yaml").touch()
    assert two.arguments([], one)[-1] == "--resume"
