"""Measurements of a language model's run: seen prompts, the best so far, another run's base."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from adrpo.config import LanguageConfig
from adrpo.errors import AdrpoError
from adrpo.evaluation.values import read_values, summarise, values_path
from adrpo.llm.run import LanguageRun
from adrpo.runs.directory import RunDirectory
from support.tiny_language_runs import metrics_without_timings, tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


def config(material: Path, **sections: dict[str, Any] | None) -> LanguageConfig:
    """Both splits, in batches that tear a prompt's completions."""
    evaluation = {"seen_prompts": 3, "samples_per_prompt": 2, "batch_size": 5}
    given = sections.pop("evaluation", None) or {}
    return tiny_language_config(material, evaluation=evaluation | given, **sections)


def train(settings: LanguageConfig, folder: Path, **options: Any) -> Path:
    return LanguageRun(settings).train(folder, progress=False, **options)


@pytest.fixture(scope="module")
def measured(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(config(material), tmp_path_factory.mktemp("measured") / "run")


def final(run: Path, name: str = "model.safetensors") -> bytes:
    return (run / "final" / name).read_bytes()


# --- seen prompts ---


def test_prompts_of_training_are_measured_apart(material: Path, measured: Path, tmp_path: Path):
    run = RunDirectory.open(measured)
    rows = run.read_evaluations()
    assert [(row["step"], row["split"]) for row in rows] == [
        (step, split) for step in (0, 2, 4) for split in ("unseen", "seen")
    ]
    assert {row["split"]: row["prompts"] for row in rows} == {"unseen": 6, "seen": 3}
    asked = LanguageRun(config(material))
    listing = json.loads((run.samples / "prompts.json").read_text(encoding="utf-8"))
    assert listing["seen_categories"] == [prompt.category for prompt in asked.prompts[:3]]
    # Training and the other split are as they are without them.
    alone = train(config(material, evaluation={"seen_prompts": 0}), tmp_path / "alone")
    assert metrics_without_timings(alone) == metrics_without_timings(measured)
    assert final(alone) == final(measured)
    unseen = RunDirectory.open(alone).read_evaluations()
    assert unseen == run.read_evaluations("unseen")


# --- early stopping ---


def turning(material: Path, adapter: dict[str, Any] | None) -> LanguageConfig:
    """What is watched rises while the reward is low, and then falls."""
    watched = [{"name": "support.tiny_language_runs:near_a_fifth"}]
    evaluation = {
        "every": 1, "rewards": watched, "early_stopping": "near_a_fifth", "patience": 2,
        "samples_per_prompt": 4,
    }  # fmt: skip
    return config(
        material,
        adapter=adapter,
        evaluation=evaluation,
        training={"steps": 9, "learning_rate": 1e-2},
        checkpoint={"every": 1, "keep": 20},
    )


@pytest.mark.parametrize(
    ("adapter", "name"),
    [(None, "model.safetensors"), ({"rank": 2}, "adapter_model.safetensors")],
    ids=["whole", "adapter"],
)
def test_a_run_ends_when_its_metric_no_longer_rises(
    material: Path, tmp_path: Path, adapter: dict[str, Any] | None, name: str
):
    settings = turning(material, adapter)
    run = train(settings, tmp_path / "run")
    evaluations = RunDirectory.open(run).read_evaluations("unseen")
    values = [row["near_a_fifth"] for row in evaluations]
    best = values.index(max(values))
    # Two evaluations after the best one, and no step more.
    assert 0 < best and len(values) == best + 3 < 10
    assert len(metrics_without_timings(run)) == best + 2
    # The weights of the best step are kept, and not the last ones.
    kept, last = (run / f"checkpoints/checkpoint-{step}" / name for step in (best, best + 2))
    assert kept.read_bytes() == final(run, name) != last.read_bytes()

    # It stays ended, whether it is resumed as it is or from any of its steps.
    before = metrics_without_timings(run)
    train(settings, run, resume=True)
    for left in (best + 2, 1):
        again = tmp_path / f"again-{left}"
        shutil.copytree(run, again)
        shutil.rmtree(again / "final")
        for later in range(left + 1, best + 3):
            shutil.rmtree(again / f"checkpoints/checkpoint-{later}")
        train(settings, again, resume=True)
        assert metrics_without_timings(again) == before
        assert final(again, name) == final(run, name)


def test_another_metric_is_refused_by_those_that_there_are(material: Path, tmp_path: Path):
    settings = config(material, evaluation={"early_stopping": "clip_score"})
    with pytest.raises(AdrpoError, match=r"early_stopping: expected one of .*share_of_a.*'clip_s"):
        train(settings, tmp_path / "run")


# --- the base of another run ---


def test_taking_a_base_over_changes_nothing(
    material: Path, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from adrpo.llm.drawing import CompletionDrawing

    draws: list[str] = []
    draw = CompletionDrawing.draw

    def counted(self: CompletionDrawing, *arguments: Any) -> Any:
        draws.append(self.split)
        return draw(self, *arguments)

    monkeypatch.setattr(CompletionDrawing, "draw", counted)
    run = train(config(material), tmp_path / "run", base=measured)
    assert draws == ["unseen", "seen"] * 2
    assert metrics_without_timings(run) == metrics_without_timings(measured)
    assert final(run) == final(measured)
    ours, theirs = RunDirectory.open(run), RunDirectory.open(measured)
    assert ours.read_evaluations() == theirs.read_evaluations()
    for file in theirs.samples.rglob("*.*"):
        copy = ours.samples / file.relative_to(theirs.samples)
        assert copy.read_bytes() == file.read_bytes(), file


@pytest.mark.parametrize(
    ("section", "changed"),
    [
        ("generation", {"temperature": 0.5}),
        # The random numbers of a completion go by its batch.
        ("evaluation", {"batch_size": 4}),
        ("prompts", {"held_out_size": 5}),
    ],
)
def test_another_base_is_refused(
    material: Path, measured: Path, tmp_path: Path, section: str, changed: dict[str, Any]
):
    (key,) = changed
    settings = config(material, **{section: changed})
    with pytest.raises(AdrpoError, match=rf"--base: expected .* has {section}\.{key}="):
        train(settings, tmp_path / "run", base=measured)
    assert not (tmp_path / "run").exists()


def test_a_base_is_drawn_alike_whatever_the_share(material: Path):
    """Each of two processes draws the batches in which it has a part, and takes its rows."""
    from adrpo.llm.drawing import CompletionDrawing
    from adrpo.runs.processes import Processes

    run = LanguageRun(config(material))
    with run.subject() as subject:
        whole = subject.evaluator.drawing.draw()
        parts = [
            CompletionDrawing(
                run.config, subject.trainer, None, run.held_out,
                processes=Processes(rank=rank, count=4),
            ).draw()
            for rank in range(4)
        ]  # fmt: skip
    assert [text for part in parts for text in part.texts] == whole.texts
    assert [ids for part in parts for ids in part.ids] == whole.ids
    for name in ("kl", "entropy", "length"):
        together = [value for part in parts for value in getattr(part, name).tolist()]
        assert together == getattr(whole, name).tolist()


def test_the_row_of_each_split_is_of_its_values_against_its_base(measured: Path):
    run = RunDirectory.open(measured)
    listing = json.loads((run.samples / "prompts.json").read_text(encoding="utf-8"))
    sizes = {}
    for split, categories in (("unseen", "categories"), ("seen", "seen_categories")):
        base, last = (read_values(values_path(run, step, split)) for step in (0, 4))
        row = run.read_evaluations(split)[-1]
        expected = summarise(last, listing[categories], base)
        assert {name: row.get(name) for name in expected} == expected
        assert expected["kl_change"] > 0
        sizes[split] = last["reward"].shape
    assert sizes == {"unseen": (6, 2), "seen": (3, 2)}
