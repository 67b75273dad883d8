"""A playground of real runs draws what ``adrpo sample`` draws, at any strength of the adapter."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from adrpo.cli.domains import door_of
from adrpo.errors import AdrpoError
from adrpo.evaluation.playing import Asked, Playground, open_playground
from adrpo.evaluation.targets import Target
from adrpo.flow.domain import build_trainer
from adrpo.flow.models.lora import WEIGHTS_NAME
from adrpo.runs.manifest import seal
from support.tiny_runs import embedded_config

PROMPT, SEED = "a red circle", 5


def times(source: Path, factor: float, folder: Path) -> Path:
    """The adapter in ``source``, ``factor`` times as strong, in ``folder``."""
    values = load_file(source / WEIGHTS_NAME)
    stronger = {key: v * factor if "lora_B" in key else v for key, v in values.items()}
    save_file(stronger, folder / WEIGHTS_NAME)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run, and a copy of it whose adapter is another."""
    folder = tmp_path_factory.mktemp("runs")
    config = embedded_config(
        training={"steps": 2, "learning_rate": 0.02},
        evaluation={"every": 2, "rewards": [{"name": "jpeg_size"}], "sampling": {"steps": 2}},
        checkpoint={"every": 1},
        prompts={"held_out_size": 2},
    )
    one = build_trainer(config).train(folder / "one", progress=False)
    two = Path(shutil.copytree(one, folder / "two"))
    seal(times(one / "final", -2.0, two / "final"))
    return [str(one), str(two)]


@pytest.fixture(scope="module")
def ground(runs: list[str]) -> Iterator[Playground]:
    with open_playground(runs, door_of) as playground:
        yield playground


def sampled(run: str, folder: Path, *, step: int | None = None, final: Path | None = None) -> Any:
    """The picture of ``adrpo sample`` for PROMPT."""
    target = Target.resolve(run, door_of, step=step)
    weights = target.final if final is None else final
    drawn = target.door.sample(
        target.config, weights, [PROMPT], size=1, seed=SEED, output_dir=folder
    )
    assert len(list(drawn)) == 1
    return np.asarray(Image.open(folder / "000.png"))


def pictures(ground: Playground, place: int | None = None, **asked: Any) -> list[Any]:
    panels = ground.play(Asked(prompt=PROMPT, seed=SEED, **asked), place)
    assert all(panel.played is not None for panel in panels), panels
    return [np.asarray(panel.played.sample) for panel in panels if panel.played is not None]


def test_the_same_seed_gives_the_picture_of_adrpo_sample(
    ground: Playground, runs: list[str], tmp_path: Path
) -> None:
    base, one, two = pictures(ground)
    assert (base == sampled(runs[0], tmp_path / "base", step=0)).all()
    assert (one == sampled(runs[0], tmp_path / "one")).all()
    assert (two == sampled(runs[1], tmp_path / "two")).all()
    assert (base != one).any() and (one != two).any()
    _, earlier, _ = pictures(ground, place=1)
    assert (earlier == sampled(runs[0], tmp_path / "earlier", step=1)).all()
    assert (earlier != one).any()
    # One model wears all of these weights in turn, and goes back to each.
    for again, before in zip(pictures(ground), (base, one, two), strict=True):
        assert (again == before).all()


def test_the_strength_is_that_of_an_adapter_with_a_factor(
    ground: Playground, runs: list[str], tmp_path: Path
) -> None:
    base, without, _ = pictures(ground, strength=0.0)
    assert (without == base).all()
    weights = times(Path(runs[0]) / "final", 1.5, tmp_path)
    _, one, _ = pictures(ground, strength=1.5)
    expected = sampled(runs[0], tmp_path / "out", final=weights)
    # Scaled in the layer or in the file, which rounds elsewhere.
    assert np.abs(one.astype(int) - expected.astype(int)).max() <= 1
    assert (one != base).any()


def test_steps_and_seed_are_those_that_are_asked_for(ground: Playground) -> None:
    assert ground.steps == 2
    two, three = (pictures(ground, steps=steps)[0] for steps in (2, 3))
    assert (two != three).any()
    (other, *_) = (p.played for p in ground.play(Asked(prompt=PROMPT, seed=SEED + 1)))
    assert other is not None and (np.asarray(other.sample) != two).any()


def test_the_scores_are_those_of_the_runs_rewards(ground: Playground) -> None:
    known = ground.prompts[0]
    for panel in ground.play(Asked(prompt=known)):
        played = panel.played
        assert played is not None and played.errors == []
        assert list(played.scores) == ["reward", "clip_score", "jpeg_size"]
        reward = ground.runs[0].player.reward  # type: ignore[attr-defined]
        (expected,) = reward[0].function(prompts=[known], images=[played.sample])
        assert played.scores["clip_score"] == pytest.approx(expected)


def test_runs_of_one_setting_share_a_model(ground: Playground) -> None:
    assert ground.runs[0].player is ground.runs[1].player
    assert ground.titles == ["Base", "one", "two"]
    assert ground.places == [1, 2] and ground.runs[0].steps == (1, 2)


def test_an_unfinished_run_is_played_with_its_checkpoints(runs: list[str], tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs[0], tmp_path / "run"))
    shutil.rmtree(run / "final")
    with open_playground([str(run)], door_of) as playground:
        assert playground.places == [1, 2]
        (_, own) = pictures(playground)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(AdrpoError, match="expected a finished run"):
        with open_playground([str(run)], door_of):
            pass
    assert own.shape == (64, 64, 3)


def test_a_picture_without_numbers_is_told(
    ground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy: Any = ground.runs[0].player.policy  # type: ignore[attr-defined]
    found = policy.sample
    monkeypatch.setattr(
        policy, "sample", lambda *arguments: torch.full_like(found(*arguments), torch.nan)
    )
    for panel in ground.play(Asked(prompt=PROMPT)):
        assert panel.played is not None and panel.played.sample is None
        assert np.isnan(panel.played.scores["reward"])
