"""Early stopping decides from the evaluations on disk alone."""

from pathlib import Path

import pytest

from adrpo.config import default_config, load_recipe
from adrpo.errors import AdrpoError
from adrpo.evaluation.early_stopping import EarlyStopping
from adrpo.runs import RunDirectory
from adrpo.runs.kept_weights import kept_step
from adrpo.runs.manifest import sealed_folder


def run_with(folder: Path, values: list[float], name: str = "score") -> RunDirectory:
    run = RunDirectory.create(folder / "run", "domain: flow\n")
    for step, value in enumerate(values):
        row = {"step": step, "split": "unseen", name: value, f"{name}_low": value}
        run.append_evaluation(row)
        # The other split must not count.
        run.append_evaluation(row | {"split": "seen", name: 100.0 + step})
    return run


@pytest.mark.parametrize(
    ("values", "reached", "improved"),
    [
        ([1.0], False, True),
        ([1.0, 2.0], False, True),
        ([1.0, 2.0, 1.5], False, False),
        ([1.0, 2.0, 1.5, 1.9], True, False),
        # An equal value is no new best one.
        ([1.0, 2.0, 2.0, 2.0], True, False),
        ([1.0, 2.0, 1.5, 2.5], False, True),
    ],
)
def test_two_evaluations_below_the_best_stop_a_run(
    tmp_path: Path, values: list[float], reached: bool, improved: bool
):
    stopping = EarlyStopping("score", 2)
    run = run_with(tmp_path, values)
    assert (stopping.reached(run), stopping.improved(run)) == (reached, improved)


def test_of_what_less_is_better_the_least_is_kept(tmp_path: Path):
    run = run_with(tmp_path, [3.0, 1.0, 2.0, 2.5], "divergence")
    stopping = EarlyStopping("divergence", 2)
    assert kept_step(run, "divergence") == 1
    assert stopping.reached(run) and not stopping.improved(run)


@pytest.mark.parametrize("domain", ["flow", "llm"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("edge_density", "neither more nor less is better"),
        ("velocity_norm_ratio", "neither more nor less is better"),
        ("completion_length", "neither more nor less is better"),
        ("samples", "neither more nor less is better"),
        ("kl", "the untrained model has the least"),
        ("divergence", "the untrained model has the least"),
        ("divergence_low", "the untrained model has the least"),
    ],
)
def test_what_training_cannot_improve_is_refused_before_anything_is_loaded(
    tmp_path: Path, domain: str, name: str, reason: str
):
    path = tmp_path / "recipe.yaml"
    reward = "reward: [{name: jpeg_size}]"
    path.write_text(f"domain: {domain}\n{reward}\nevaluation: {{early_stopping: {name}}}\n")
    with pytest.raises(AdrpoError) as caught:
        load_recipe(path)
    assert str(caught.value) == (
        f"{path}: evaluation.early_stopping: expected a metric that training may improve, received "
        f"{name!r}, of which {reason}; name a reward or a judge, or null"
    )


def test_a_term_that_training_lowers_is_refused():
    lowered = "reward=[{name: clip_score}, {name: jpeg_size, weight: -0.5}]"
    with pytest.raises(
        AdrpoError, match=r"early_stopping: .* with the weight -0.5; name the whole"
    ):
        default_config([lowered, "evaluation.early_stopping=jpeg_size"])
    for name in ("clip_score", "reward"):
        default_config([lowered, f"evaluation.early_stopping={name}"])


@pytest.mark.parametrize("name", ["gold_accuracy", "gold_accuracy_color", "reward", "my_own"])
def test_what_may_get_better_is_taken(name: str):
    assert default_config([f"evaluation.early_stopping={name}"]).evaluation.early_stopping == name


def test_it_is_off_unless_a_metric_is_named(tmp_path: Path):
    stopping = EarlyStopping(None)
    run = run_with(tmp_path, [3.0, 2.0, 1.0, 0.0])
    assert not stopping.active
    assert not stopping.reached(run) and not stopping.improved(run)


def test_an_evaluation_without_a_value_is_never_the_best(tmp_path: Path):
    run = run_with(tmp_path, [1.0, float("nan"), 2.0, float("nan")])
    assert not EarlyStopping("score", 2).reached(run)
    assert EarlyStopping("score", 1).reached(run)


def test_what_is_kept_is_of_the_best_step_or_of_the_last(tmp_path: Path):
    run = run_with(tmp_path, [1.0, 3.0, 2.0])
    for step in (1, 2):
        run.append_metrics({"step": step})
    assert kept_step(run, "score") == 1
    assert kept_step(run, None) == 2
    run.metrics.unlink()
    run.evaluations.unlink()
    assert kept_step(run, None) is kept_step(run, "score") is None


def test_an_unknown_metric_is_refused_with_the_known_ones(tmp_path: Path):
    stopping = EarlyStopping("gold")
    with pytest.raises(AdrpoError, match=r"early_stopping: expected one of score; received 'gold'"):
        stopping.improved(run_with(tmp_path, [1.0]))


def test_the_best_adapter_becomes_the_final_one(tmp_path: Path):
    stopping = EarlyStopping("score", 2)
    run = run_with(tmp_path, [1.0])
    stopping.folder(run).mkdir()
    (stopping.folder(run) / "adapter").write_text("best")
    run.final.mkdir()
    (run.final / "adapter").write_text("last")
    (run.final / "stale").write_text("")
    with sealed_folder(run.final) as folder:
        stopping.copy_best(run, folder)
    assert sorted(p.name for p in run.final.iterdir()) == ["adapter", "manifest.json"]
    assert (run.final / "adapter").read_text() == "best"
