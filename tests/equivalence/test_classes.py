"""Settings that must leave the result as it is, in one table: each class by its domain, what it
changes, and how far its weights may be from those of the plain run.

Classes that need processes of their own, an engine or another family are in test_several_processes,
test_language_several_processes, test_audio_processes and test_released_encoders;
rows of images whose coefficient is 0, which no reference reads, in identities/test_flow_objective.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adrpo.audio.run import AudioRun
from adrpo.flow.domain import build_trainer
from adrpo.llm import ADRPOConfig, arguments
from adrpo.llm.run import LanguageRun
from support.tiny_audio_runs import tiny_audio_config, write_thinker
from support.tiny_language_runs import tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS
from support.tiny_runs import tiny_config

pytestmark = LANGUAGE_MARKS

STEPS = 4
RATE = 1e-3


@dataclass(frozen=True)
class Class:
    """Sections or options of the trainer that are changed, or a run of which all from step ``stop``
    on is lost and made again; weights may be apart by ``most``
    and ``mean`` of the way that AdamW can have moved a weight (steps x learning rate)."""

    domain: str
    name: str
    sections: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    stop: int = 0
    most: float = 0.0
    mean: float = 0.0


# Sums of a gradient in another order differ in their last bits (1e-7). AdamW divides a gradient by
# its own size, so that one which is all rounding takes its steps another way: such weights may be
# apart by a share of their way, and there are few of them.
ROUNDING: dict[str, Any] = {"most": 0.5, "mean": 1e-3}
CLASSES = (
    Class("image", "micro-batches of one", {"training": {"micro_batch_size": 1}}, **ROUNDING),
    Class("image", "unequal micro-batches", {"training": {"micro_batch_size": 4}}, **ROUNDING),
    Class("image", "checkpointing", {"model": {"gradient_checkpointing": True}}, **ROUNDING),
    Class("image", "encoders released", {"model": {"encoders": "released"}}),
    Class("image", "embeddings cached", {"model": {"embedding_cache": "CACHE"}}),
    Class("image", "prompts encoded singly", {"model": {"encoder_batch_size": 1}}, **ROUNDING),
    Class("image", "decoded in slices", {"model": {"vae_slicing": True}}, **ROUNDING),
    Class("image", "stopped before the first step", stop=1),
    Class("image", "stopped in the middle", stop=2),
    Class("language", "accumulation", {"training": {"micro_batch_size": 4}}, **ROUNDING),
    Class("language", "checkpointing", {"model": {"gradient_checkpointing": True}}, **ROUNDING),
    Class("language", "all reference rows", options={"reference_rows": "all"}, **ROUNDING),
    Class("language", "stopped in the middle", stop=2),
    Class("audio", "accumulation", {"training": {"micro_batch_size": 4}}, **ROUNDING),
    Class("audio", "checkpointing", {"model": {"gradient_checkpointing": True}}, **ROUNDING),
    Class("audio", "all reference rows", options={"reference_rows": "all"}, **ROUNDING),
    Class("audio", "stopped in the middle", stop=2),
)


@dataclass(frozen=True)
class Domain:
    """A configuration by what it changes, how it is trained, and the name of its weights."""

    config: Callable[..., Any]
    run: Callable[[Any], Any]
    weights: str
    checkpoint: str


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Domain]:
    texts = write_material(tmp_path_factory.mktemp("texts"))
    thinker = write_thinker(tmp_path_factory.mktemp("thinker"))
    return {
        "image": Domain(
            tiny_config, build_trainer, "pytorch_lora_weights.safetensors", "step-{:06d}"
        ),
        "language": Domain(
            lambda **sections: tiny_language_config(texts, **sections),
            LanguageRun,
            "model.safetensors",
            "checkpoint-{}",
        ),
        "audio": Domain(
            lambda **sections: tiny_audio_config(thinker, **sections),
            AudioRun,
            "adapter_model.safetensors",
            "checkpoint-{}",
        ),
    }


def config(domain: Domain, sections: dict[str, Any]) -> Any:
    """The class's sections over what all have."""
    shared: dict[str, Any] = {
        "training": {"steps": STEPS, "learning_rate": RATE},
        "evaluation": {"every": STEPS},
        "checkpoint": {"every": 1, "keep": STEPS + 1},
    }
    names = shared.keys() | sections.keys()
    return domain.config(**{n: shared.get(n, {}) | sections.get(n, {}) for n in names})


@pytest.fixture(scope="module")
def plain(
    domains: dict[str, Domain], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The plain run of a domain, made once."""
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            domain = domains[name]
            folder = tmp_path_factory.mktemp("plain") / name
            made[name] = domain.run(config(domain, {})).train(folder, progress=False)
        return made[name]

    return of


def distance(ours: Path, theirs: Path, domain: Domain) -> torch.Tensor:
    """By weight, how far two runs end apart, in the unit of the table."""
    one, other = (
        torch.cat([value.flatten() for _, value in sorted(load_file(path).items())])
        for path in (run / "final" / domain.weights for run in (ours, theirs))
    )
    return (one - other).abs() / (STEPS * RATE)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: f"{kind.domain}: {kind.name}")
def test_the_weights_are_those_of_the_plain_run(
    kind: Class,
    domains: dict[str, Domain],
    plain: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    domain, folder = domains[kind.domain], tmp_path / "run"
    sections = {
        name: {k: str(tmp_path / "cache") if v == "CACHE" else v for k, v in section.items()}
        for name, section in kind.sections.items()
    }
    if kind.stop:
        shutil.copytree(plain(kind.domain), folder)
        shutil.rmtree(folder / "final")
        for step in range(kind.stop, STEPS + 1):
            shutil.rmtree(folder / "checkpoints" / domain.checkpoint.format(step))
    if kind.options:
        monkeypatch.setattr(arguments, "ADRPOConfig", partial(ADRPOConfig, **kind.options))
    domain.run(config(domain, sections)).train(folder, resume=bool(kind.stop), progress=False)
    apart = distance(folder, plain(kind.domain), domain)
    assert float(apart.max()) <= kind.most and float(apart.mean()) <= kind.mean


def test_another_seed_is_further_apart_than_any_class(
    domains: dict[str, Domain], plain: Callable[[str], Path], tmp_path: Path
):
    """Else the bounds of the table would say nothing."""
    for name, domain in domains.items():
        other = domain.run(config(domain, {"training": {"seed": 1}}))
        run = other.train(tmp_path / name, progress=False)
        assert float(distance(run, plain(name), domain).mean()) > 20 * ROUNDING["mean"], name
