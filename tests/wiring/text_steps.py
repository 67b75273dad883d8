"""Steps of the trainers of models that complete prompts, with all that they compute kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from adrpo.audio.run import AudioRun
from adrpo.llm.run import LanguageRun
from adrpo.llm.training_reward import TrainingReward
from adrpo.runs.directory import RunDirectory
from support.tiny_audio_runs import tiny_audio_config, write_thinker
from support.tiny_language_runs import tiny_language_config, write_material
from wiring.adamw import Update
from wiring.rewards import SAID

Run = Any

FEW: dict[str, dict[str, Any]] = {
    "adapter": {"rank": 4, "alpha": 8.0},
    "training": {"steps": 2, "learning_rate": 1e-3},
}
"""Two steps of four prompts with four completions each."""


@dataclass
class TextStep:
    """A generated batch, what it was rewarded by, and the update that was made of it."""

    inputs: list[dict[str, Any]]
    batch: dict[str, Any]
    rewards: Tensor
    beta_0: float
    said: tuple[list[Any], list[Any], dict[str, Any]]
    rows: list[int] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)

    @property
    def completions(self) -> list[Any]:
        return self.said[1]


class Laboratory:
    """What the domains llm and audio have in common, to try a key of both by one text."""

    def __init__(self, domain: str, folder: Path) -> None:
        self.domain, self.folder = domain, folder
        self.form = {"llm": LanguageRun, "audio": AudioRun}[domain]
        self.material = (write_material if domain == "llm" else write_thinker)(folder / "material")
        self._kept: dict[str, Any] = {}
        self._number = 0

    def config(self, **sections: Any) -> Any:
        """A tiny configuration, changed by ``sections``."""
        chosen: dict[str, Any] = {"reward": [{"name": "wiring.rewards:letters"}]}
        for name in {*FEW, *sections}:
            section = sections.get(name, {})
            chosen[name] = FEW.get(name, {}) | section if isinstance(section, dict) else section
        make = tiny_language_config if self.domain == "llm" else tiny_audio_config
        return make(self.material, **chosen)

    def run(self, **sections: Any) -> Any:
        return self.form(self.config(**sections))

    def new_folder(self) -> Path:
        self._number += 1
        return self.folder / f"run-{self._number}"

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, made once."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def steps(self, **sections: Any) -> "WatchedText":
        """The steps of a run with the changed ``sections``, without its evaluations."""
        watched = WatchedText(self.run(**sections), self.new_folder())
        watched.train()
        return watched


class WatchedText:
    """A trainer that is listened to, away from its reference where ``moved``."""

    def __init__(self, run: Run, folder: Path, *, moved: bool = True) -> None:
        self.run = run
        self.config = run.config
        torch.manual_seed(0)
        reward = TrainingReward(run.terms, run.config.training)
        self.trainer = run._trainer(RunDirectory(folder), reward, run.prompts)
        self.steps: list[TextStep] = []
        self.logs: list[dict[str, Any]] = []
        if moved:
            draws = torch.Generator().manual_seed(1)
            for value in self.parameters():
                value.data += 0.05 * torch.randn(value.shape, generator=draws)
        listen(self)

    def train(self) -> None:
        SAID.clear()
        self.trainer.train()

    def parameters(self) -> list[Any]:
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        return [value for value in model.parameters() if value.requires_grad]

    def values(self) -> list[Tensor]:
        return [value.detach().clone() for value in self.parameters()]

    @contextmanager
    def at(self, values: list[Tensor]) -> Iterator[None]:
        """The weights are ``values`` inside."""
        before = self.values()
        self._set(values)
        try:
            yield
        finally:
            self._set(before)

    def _set(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters(), values, strict=True):
            parameter.data.copy_(value)

    def logps(self, batch: dict[str, Any], *, reference: bool = False) -> Tensor:
        """log pi of the batch's completions, with its gradient; by the reference without one."""
        trainer = self.trainer
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        hearing = trainer._hearing(batch["audio"]) if "audio" in batch else nullcontext()
        kept = torch.no_grad() if reference else nullcontext()
        model = trainer._reference() if reference else nullcontext(trainer.model)
        with hearing, kept, model as asked:
            return trainer._get_per_token_logps_and_entropies(
                asked, ids, mask, batch["completion_ids"].shape[1]
            )[0]


class Listener(TrainerCallback):
    """Keeps the weights after every optimizer step, and what is logged."""

    def __init__(self, watched: WatchedText) -> None:
        self.watched = watched

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self.watched.steps[-1].updates[-1].after = self.watched.values()

    def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
        self.watched.logs.append(dict(logs))


def listen(watched: WatchedText) -> None:
    trainer = watched.trainer
    generate, loss = trainer._generate_and_score_completions, trainer._compute_loss
    clip = trainer.accelerator.clip_grad_norm_

    def heard_generate(inputs: list[Any]) -> dict[str, Any]:
        batch = generate(inputs)
        kept = {
            name: value.clone() if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }
        rewards = trainer._rewards.double()
        watched.steps.append(TextStep(inputs, kept, rewards, trainer.beta_0, SAID[-1]))
        return batch

    def heard_loss(model: Any, inputs: dict[str, Any]) -> Tensor:
        watched.steps[-1].rows.append(len(inputs["completion_ids"]))
        return loss(model, inputs)

    def heard_clip(parameters: Any, bound: float, *more: Any) -> Any:
        gradient = [value.grad.clone() for value in watched.parameters()]
        watched.steps[-1].updates.append(Update(gradient, watched.values(), []))
        return clip(parameters, bound, *more)

    trainer._generate_and_score_completions = heard_generate
    trainer._compute_loss = heard_loss
    trainer.accelerator.clip_grad_norm_ = heard_clip
    trainer.add_callback(Listener(watched))
