"""A playground: which weights its runs wear, and what a panel says where a model can't draw."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from adrpo.config import FlowConfig
from adrpo.data.base import Prompt
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.evaluation.playing import (
    Asked,
    Played,
    PlayedRun,
    Playground,
    _shared,
    open_playground,
    scaled_adapter,
    scores_of,
    with_columns,
)
from adrpo.evaluation.targets import Target
from adrpo.rewards.base import RewardTerm


@dataclass
class Recording:
    """A player that writes down what it is asked."""

    prompts: Sequence[Prompt] = (Prompt("a"), Prompt("b"))
    steps: int | None = 4
    hears: bool = False
    asked: list[tuple[Path | None, Asked]] = field(default_factory=list[Any])

    def base(self, asked: Asked) -> Played:
        self.asked.append((None, asked))
        return Played(sample="base", scores={})

    def tuned(self, weights: Path, asked: Asked) -> Played:
        self.asked.append((weights, asked))
        if asked.prompt == "broken":
            raise AdrpoError("the weights are none")
        return Played(sample=weights.name, scores={})


def ended(name: str, *steps: int, player: Recording, folder: Path = Path()) -> PlayedRun:
    return PlayedRun(name, folder / name, steps, folder / name / "final", player)


def test_each_run_takes_its_last_weights_up_to_the_place(tmp_path: Path) -> None:
    player = Recording()
    for step in (10, 20):
        checkpoint = tmp_path / "one" / "checkpoints" / f"step-{step:06d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "a.safetensors").touch()
        (checkpoint / "manifest.json").write_text(f'{{"step": {step}, "sha256": {{}}}}')
    one = ended("one", 10, 20, 30, player=player, folder=tmp_path)
    two = ended("two", 15, player=player, folder=tmp_path)
    ground = Playground([one, two], "pictures")
    assert (ground.titles, ground.places) == (["Base", "one", "two"], [10, 15, 20, 30])
    asked = Asked(prompt="a", seed=3, strength=0.5, steps=2)
    seen = {place: [p.title for p in ground.play(asked, place)] for place in (10, 29, 30)}
    assert seen == {
        10: ["Base", "one, step 10", "two, step 15"],
        29: ["Base", "one, step 20", "two, step 15"],
        30: ["Base", "one, step 30", "two, step 15"],
    }
    assert {own for _, own in player.asked} == {asked}
    assert [weights.name for weights, _ in player.asked if weights] == [
        "step-000010", "final", "step-000020", "final", "final", "final",
    ]  # fmt: skip
    assert [panel.title for panel in ground.play(asked)] == seen[30]


def test_a_base_is_there_once_for_each_model() -> None:
    shared, other = Recording(), Recording(prompts=(Prompt("b"), Prompt("c")), hears=True)
    runs = [ended(name, 1, player=p) for name, p in (("x", shared), ("y", shared), ("z", other))]
    ground = Playground(runs, "pictures")
    assert ground.titles == ["Base of x", "Base of z", "x", "y", "z"]
    assert ground.prompts == ["a", "b", "c"]
    assert ground.hears


def test_a_model_that_cannot_draw_says_so_in_its_place() -> None:
    ground = Playground([ended("one", 1, player=Recording())], "pictures")
    base, tuned = ground.play(Asked(prompt="broken"))
    assert base.played is not None and (tuned.played, tuned.error) == (None, "the weights are none")


@pytest.mark.parametrize("asked", [Asked(prompt=" "), Asked(prompt="a", strength=1.6)])
def test_what_can_not_be_drawn_is_refused(asked: Asked) -> None:
    player = Recording()
    with pytest.raises(AdrpoError, match=r"play: expected a (prompt|strength from 0 to 1\.5)"):
        Playground([ended("one", 1, player=player)], "pictures").play(asked)
    assert player.asked == []


@pytest.mark.parametrize(
    ("other", "shares"), [({"trackers": "tensorboard"}, True), ({"adapter": {"rank": 3}}, False)]
)
def test_runs_whose_model_is_the_same_share_it(other: dict[str, Any], shares: bool) -> None:
    door: Any = None
    first, second = (
        Target(name="a", door=door, config=FlowConfig.model_validate(own), final=None, step=1)
        for own in ({}, other)
    )
    assert (_shared(first) == _shared(second)) is shares


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdrpoError, match=r"play: expected the folder of a run, received .*nowhere"):
        with open_playground([str(tmp_path / "nowhere")], lambda config: pytest.fail()):
            pass


def test_the_strength_multiplies_what_an_adapter_adds() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3))
    x = torch.randn(5, 4)
    before = model(x)
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=8, target_modules=["0"]), model)
    layer: Any = model[0]
    nn.init.normal_(layer.lora_B["default"].weight)
    added = model(x) - before
    for strength in (0.0, 0.5, 1.5):
        with scaled_adapter(model, strength):
            torch.testing.assert_close(model(x) - before, strength * added)
    torch.testing.assert_close(model(x) - before, added)
    with scaled_adapter(model, 0.5, name="another"):
        torch.testing.assert_close(model(x) - before, added)


def test_a_prompt_of_ones_own_has_the_columns_of_one_that_says_the_same() -> None:
    known = [Prompt("a", "letters", {"answer": "A", "audio": "theirs.wav"})]
    own = Prompt("a", columns={"audio": None})
    assert with_columns(own, known) == known[0]
    heard = with_columns(Prompt("a", columns={"audio": "own.wav"}), known, clip=Path("own.wav"))
    assert heard == Prompt("a", "letters", {"answer": "A", "audio": "own.wav"})
    assert with_columns(Prompt("b"), known) == Prompt("b")


def test_of_several_that_say_the_same_the_first_is_taken_and_it_is_said() -> None:
    known = [Prompt("a", columns={"image": f"{place}.png", "mask": None}) for place in range(2)]
    said = "2 of the run's prompts say 'a', with other values in image; the first one's"
    with pytest.warns(AdrpoWarning, match=said):
        assert with_columns(Prompt("a"), known) == known[0]
    sounds = [
        Prompt("a", columns={"audio": {"array": np.array([0.0, 1.0, end]), "sampling_rate": 8}})
        for end in (0.5, 0.25, 0.5)
    ]
    with pytest.warns(AdrpoWarning, match="with other values in audio"):
        assert with_columns(Prompt("a"), sounds[:2]).columns == sounds[0].columns
    assert with_columns(Prompt("a"), sounds[::2]).columns["audio"] is sounds[0].columns["audio"]
    # Of equal ones there is nothing to say, nor where one's own clip stands in for theirs.
    assert with_columns(Prompt("a"), [known[0], known[0]]) == known[0]
    clips = [Prompt("a", columns={"audio": f"{place}.wav"}) for place in range(2)]
    own = Prompt("a", columns={"audio": "own.wav"})
    assert with_columns(own, clips, clip=Path("own.wav")) == own


def test_scores_are_told_apart_from_what_is_missing() -> None:
    def length(prompts: list[str], **_: Any) -> list[float]:
        return [float(len(prompt)) for prompt in prompts]

    def right(prompts: list[str], *, answer: list[str], **_: Any) -> list[float]:
        return [1.0 for _ in answer]

    terms = [RewardTerm("length", 2.0, length)]
    scores, errors = scores_of(terms, [RewardTerm("right", 1.0, right)], {"prompts": ["abc"]})
    assert scores == {"reward": 6.0, "length": 3.0}
    (error,) = errors
    assert "right" in error and "answer" in error
