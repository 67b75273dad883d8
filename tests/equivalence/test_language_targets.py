"""Evaluating and sampling a language model again, from what its run left."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adrpo.cli.app import app
from adrpo.cli.domains import door_of
from adrpo.config import LanguageConfig, config_to_yaml, load_recipe
from adrpo.errors import AdrpoError
from adrpo.evaluation.playing import Asked, open_playground
from adrpo.evaluation.targets import Target, evaluate_target
from adrpo.llm.run import LanguageRun
from adrpo.runs.directory import RunDirectory
from support.tiny_language_runs import tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS

LORA: dict[str, Any] = {"rank": 4, "alpha": 8.0}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module", params=[None, LORA], ids=["all weights", "LoRA"])
def run(
    request: pytest.FixtureRequest, material: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    config = tiny_language_config(
        material,
        adapter=request.param,
        # Without a reference of TRL's own, so that the evaluation keeps one.
        algorithm={"method": "fixed_beta", "beta_0": 0.0},
    )
    return LanguageRun(config).train(tmp_path_factory.mktemp("run") / "a", progress=False)


def resolve(run: Path) -> Target:
    return Target.resolve(str(run), door_of)


def sample_completions(
    target: Target, prompts: Sequence[str], *, size: int, seed: int
) -> list[tuple[str, str]]:
    """(prompt, completion), as the screen shows them."""
    lines = target.door.sample(
        target.config, target.final, prompts, size=size, seed=seed, output_dir=Path("unused")
    )
    pairs = (line.partition("\n    ") for line in lines)
    return [(prompt, completion) for prompt, _, completion in pairs]


def test_an_adapter_is_measured_over_its_base(material: Path, tmp_path: Path) -> None:
    """Beside a recipe without an adapter, whose model it is an adapter of."""
    trained = tiny_language_config(material, adapter=LORA)
    run = LanguageRun(trained).train(tmp_path / "run", progress=False)
    recipe = tmp_path / "base.yaml"
    recipe.write_text(config_to_yaml(tiny_language_config(material)), encoding="utf-8")
    model, final = str(material / "model"), run / "final"
    target = Target.resolve(model, door_of, recipe=str(recipe), lora=final)
    row = evaluate_target(target, tmp_path / "evaluation")
    own = RunDirectory.open(run).read_evaluations("unseen")[-1]
    assert own["kl"] > 0
    assert row | {"step": own["step"]} == own | {"target": model}
    asked = sample_completions(target, [], size=3, seed=0)
    assert asked == sample_completions(resolve(run), [], size=3, seed=0)
    target = Target.resolve(model, door_of, recipe=str(recipe), lora=tmp_path)
    with pytest.raises(AdrpoError, match="expected the weights"):
        evaluate_target(target, tmp_path / "none")


def test_a_run_that_kept_an_earlier_step_is_asked_as_that_step(run: Path, tmp_path: Path) -> None:
    """Of step 0 it kept the base, which is then all that is measured."""
    assert resolve(run).step == 4
    stopped = tmp_path / "stopped"
    shutil.copytree(run, stopped)
    (stopped / "manifest.json").unlink()  # its files are another run's from here on
    config: Any = load_recipe(run / "config.yaml")
    settings = config.evaluation.model_copy(update={"early_stopping": "reward"})
    changed = config.model_copy(update={"evaluation": settings})
    (stopped / "config.yaml").write_text(config_to_yaml(changed), encoding="utf-8")
    rows = RunDirectory.open(run).read_evaluations("unseen")
    for best in (2, 0):
        given = [row | {"reward": float(row["step"] == best)} for row in rows]
        lines = "".join(json.dumps(row) + "\n" for row in given)
        (stopped / "evaluations.jsonl").write_text(lines, encoding="utf-8")
        target = resolve(stopped)
        assert (target.step, target.final) == (best, stopped / "final" if best else None)


def test_the_evaluation_of_a_run_is_its_own_last_one(run: Path, tmp_path: Path) -> None:
    row = evaluate_target(resolve(run), tmp_path / "again")
    base, last = (RunDirectory.open(run).read_evaluations()[i] for i in (0, -1))
    assert row == last | {"target": str(run)}
    assert base["reward"] != last["reward"]
    # And it can be evaluated beside others, as a run.
    assert RunDirectory.open(tmp_path / "again").read_evaluations()[0]["reward"] == base["reward"]


@pytest.mark.parametrize("adapter", [None, LORA], ids=["all weights", "LoRA"])
def test_autocast_is_the_same_in_training_and_after_it(
    adapter: dict[str, Any] | None, material: Path, tmp_path: Path
) -> None:
    config = tiny_language_config(
        material,
        adapter=adapter,
        model={"autocast": "bfloat16"},
        algorithm={"method": "fixed_beta", "beta_0": 0.0},
    )
    run = LanguageRun(config).train(tmp_path / "run", progress=False)
    evaluate_target(resolve(run), tmp_path / "again")
    base, last = (RunDirectory.open(run).read_evaluations()[i] for i in (0, -1))
    again = RunDirectory.open(tmp_path / "again").read_evaluations()
    assert again == [row | {"target": str(run)} for row in (base, last)]
    # The reference that is kept for evaluations rounds as the policy does.
    assert base["kl"] == 0 < last["kl"]


def test_sampling_asks_what_is_asked(run: Path, material: Path) -> None:
    target = resolve(run)
    first = sample_completions(target, ["a b c", "f e d"], size=2, seed=3)
    assert [prompt for prompt, _ in first] == ["a b c", "f e d"]
    assert sample_completions(target, ["a b c", "f e d"], size=2, seed=3) == first
    assert sample_completions(target, ["a b c", "f e d"], size=2, seed=4) != first
    # The weights are the trained ones: the base says something else with the same numbers.
    config = material / f"{run.parent.name}.yaml"
    config.write_text(config_to_yaml(target.config), encoding="utf-8")
    base = Target.resolve(str(material / "model"), door_of, recipe=str(config))
    assert sample_completions(base, ["a b c", "f e d"], size=2, seed=3) != first
    # Without prompts, the held-out ones.
    held_out = [prompt.content for prompt in LanguageRun(target.config).held_out[:2]]
    assert [prompt for prompt, _ in sample_completions(target, [], size=2, seed=3)] == held_out


def test_weights_of_another_model_are_refused(run: Path, tmp_path: Path) -> None:
    target = resolve(run)
    empty = replace(target, name="run", final=tmp_path)
    with pytest.raises(AdrpoError, match="expected the weights that this run's training left"):
        sample_completions(empty, ["a b c"], size=2, seed=0)
    with pytest.raises(AdrpoError, match="expected the weights that this run's training left"):
        evaluate_target(empty, tmp_path / "out" / "evaluation")
    # Before its base was measured.
    assert list((tmp_path / "out").iterdir()) == []


def test_the_command_line_tells_a_language_model_from_others(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    app(["sample", str(run), "-p", "a b c", "--seed", "3"], standalone_mode=False)
    ((prompt, completion),) = sample_completions(resolve(run), ["a b c"], size=1, seed=3)
    assert capsys.readouterr().out == f"{prompt}\n    {completion}\n"
    app(["evaluate", str(run), "--samples-per-prompt", "3"], standalone_mode=False)
    assert "change against the base" in capsys.readouterr().out
    rows = (tmp_path / "runs/evaluation/evaluations.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["samples"] for row in rows] == [18, 18]
    app(["sample", str(run), "--size", "3"], standalone_mode=False)
    assert capsys.readouterr().out.count("\n    ") == 3
    with pytest.raises(AdrpoError, match="expected no --steps"):
        app(["sample", str(run), "--steps", "3"], standalone_mode=False)


def test_a_run_is_evaluated_on_the_prompts_of_another_file(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them, not a share, and by their own columns; what was trained on may be gone."""
    config = resolve(run).config
    monkeypatch.chdir(tmp_path)
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    (moved / "manifest.json").unlink()  # its settings are another run's from here on
    written = (moved / "config.yaml").read_text(encoding="utf-8")
    (moved / "config.yaml").write_text(
        written.replace(config.prompts.source, "gone.jsonl"), encoding="utf-8"
    )
    table = "prompt,category\nd e f,d\na b,a\nc a,c\n"
    (tmp_path / "other.csv").write_text(table, encoding="utf-8")
    app(["evaluate", "moved", "--prompts", "other.csv"], standalone_mode=False)
    capsys.readouterr()
    again = RunDirectory.open(tmp_path / "runs/evaluation")
    assert [row["prompts"] for row in again.read_evaluations()] == [3, 3]
    listing = json.loads((again.samples / "prompts.json").read_text(encoding="utf-8"))
    assert listing["categories"] == ["d", "a", "c"]
    # What was evaluated is what its own configuration says, beside what had been trained on.
    prompts = load_recipe(again.config, form=LanguageConfig).prompts
    assert (prompts.held_out, prompts.held_out_size) == ("other.csv", None)
    assert prompts.source == "gone.jsonl"


def test_a_playground_draws_what_sample_says(run: Path) -> None:
    target = resolve(run)
    base = replace(target, final=None)
    asked = Asked(prompt="b c d", seed=3)
    ((_, before),) = sample_completions(base, ["b c d"], size=1, seed=3)
    ((_, after),) = sample_completions(target, ["b c d"], size=1, seed=3)
    with open_playground([str(run)], door_of) as ground:
        for _ in range(2):  # the base comes back after the run's weights
            said = [panel.played.sample for panel in ground.play(asked) if panel.played]
            assert said == [before, after]
        (_, none) = ground.play(replace(asked, strength=0.0))
        (_, half) = ground.play(replace(asked, strength=0.5))
        (_, whole) = ground.play(asked)
        assert none.played is not None and half.played is not None and whole.played is not None
        assert none.played.sample == before
        assert none.played.scores["kl"] == pytest.approx(0, abs=1e-6)
        # A smaller change is nearer to the base, on the same words.
        if half.played.sample == whole.played.sample:
            assert 0 < half.played.scores["kl"] < whole.played.scores["kl"]
        # A prompt of the user's own has no category, without which this reward raises.
        assert np.isnan(whole.played.scores["share_of_a"]) and whole.played.errors
        (own, _) = ground.play(Asked(prompt=ground.prompts[0]))
        assert own.played is not None and own.played.scores["share_of_a"] >= 0


def test_half_the_strength_of_all_weights_lies_halfway(run: Path) -> None:
    if (run / "final" / "adapter_config.json").is_file():
        return  # an adapter has a scale of its own
    with open_playground([str(run)], door_of) as ground:
        player: Any = ground.runs[0].player
        first = [value.clone() for value in player._own]
        ground.play(Asked(prompt="b c d"))
        last = [value.clone() for value in player._own]
        assert any((a != b).any() for a, b in zip(first, last, strict=True))
        seen: list[Any] = []
        player._draw = lambda asked: seen.append([v.clone() for v in player._own])
        player.tuned(ground.runs[0].weights(ground.places[-1]), Asked(prompt="b", strength=0.5))
        for a, b, between in zip(first, last, seen[0], strict=True):
            torch.testing.assert_close(between, (a + b) / 2)
        assert all((a == b).all() for a, b in zip(player._own, last, strict=True))
