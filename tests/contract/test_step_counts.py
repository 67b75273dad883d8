"""What a step of training costs, counted: calls, tokens, bytes, and waits for a GPU.

Seconds depend on the machine and are measured elsewhere; a count that has grown is a fault or is
written down here.
"""

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adrpo.flow.domain import build_trainer
from adrpo.flow.training.loop import TrainingLoop
from adrpo.runs.directory import RunDirectory
from support.tiny_language_trainers import LANGUAGE_MARKS, PROMPTS, SETTINGS, config, small_steps
from support.tiny_runs import darkness, tiny_config
from tools.pretend_cuda import PretendCuda

pytestmark = LANGUAGE_MARKS
ROOT = Path(__file__).parents[2]

SIMPLE = {"_now": 12, "decode": 2, "finite_samples": 1, "_masks": 1, "accumulate_gradient": 2}
GROUPED = SIMPLE | {"_now": 14, "of_groups": 2, "sent": 5}
ON_THEIR_POINTS = {"decode": 2, "finite_samples": 1, "step": 1}
WAITS: dict[str, tuple[dict[str, Any], dict[str, int], dict[str, int]]] = {
    # Settings, waits by function with one micro-batch, and how many more with two. Two of each
    # update are of the gradient's norm, where a real GPU has one: torch asks the pretended one for
    # its device and moves the norms there. A wait for the clock is one at either end of a part.
    "adrpo": ({"anchor": "ema"}, SIMPLE | {"apply_gradient": 2}, {"decode": 2}),
    "diffusion_nft": ({}, SIMPLE | {"apply_gradient": 2}, {"decode": 2}),
    "crd": ({}, GROUPED | {"apply_gradient": 2}, {"decode": 2}),
    "dgpo": ({}, GROUPED | {"apply_gradient": 2}, {"decode": 2}),
    "fdfo": (
        {"updates_per_step": 4},
        ON_THEIR_POINTS | {"_now": 22, "_update": 4, "apply_gradient": 8},
        {"decode": 2, "_now": 8},
    ),
    "flow_grpo": (
        {"updates_per_step": 2},
        ON_THEIR_POINTS | {"_now": 18, "_update": 2, "apply_gradient": 4},
        {"decode": 2, "_now": 8},
    ),
    "dpo": (
        {"pairs_prompts": 4, "pairs_samples": 2},
        {"_now": 8, "_backpropagate": 1, "apply_gradient": 2},
        {"_now": 4, "_backpropagate": 1},
    ),
}


def prepared(folder: Path, micro_batches: int, device: str = "cpu", **more: Any) -> TrainingLoop:
    """A trainer of eight images a step, before its first."""
    training = {"steps": 4, "samples_per_prompt": 4, "micro_batch_size": 8 // micro_batches}
    reward = {} if "rewards" in more else {"reward": darkness}
    settings = tiny_config(
        model={"device": device}, sampling={"steps": 3}, training=training, **more
    )
    trainer = build_trainer(settings, **reward)
    trainer.prepare(RunDirectory.create(folder / f"run{micro_batches}", "domain: flow\n"))
    return trainer


@pytest.fixture
def waits_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("gpu_proof.waits")


@pytest.mark.parametrize("method", WAITS)
def test_the_host_waits_for_a_gpu_only_where_it_is_named(
    method: str, waits_of: Any, tmp_path: Path
):
    """None for a step of the sampler, and none for a micro-batch of learning but the clock's."""
    settings, once, more = WAITS[method]
    for micro_batches in (1, 2):
        with PretendCuda() as gpu:
            algorithm = {"method": method, **settings}
            trainer = prepared(tmp_path, micro_batches, "cuda", algorithm=algorithm)
            trainer.step(1)
            gpu.waits.clear()
            trainer.step(2)
        found = Counter(waits_of.place_of(wait)[1] for wait in gpu.waits)
        expected = Counter(once) + (Counter(more) if micro_batches == 2 else Counter())
        assert found == expected
        assert waits_of.summary(gpu.waits)["beyond"] == []


def test_a_step_calls_each_part_as_often_as_it_must(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Prompts are read once a run; images are decoded by micro-batches; one update a step."""
    trainer = prepared(tmp_path, 4)
    pipeline, called = trainer.policy.pipeline, Counter[str]()
    parts = {
        name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)
    }
    assert set(parts) == {"transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"}
    for name, part in parts.items():
        part.register_forward_hook(lambda *_, name=name: called.update([name]))
    decode = pipeline.vae.decode
    monkeypatch.setattr(
        pipeline.vae, "decode", lambda *a, **o: (called.update(["decode"]), decode(*a, **o))[1]
    )
    trainer.optimizer.register_step_post_hook(lambda *_: called.update(["update"]))
    trainer.step(1)
    # Of four micro-batches: three steps of the sampler, the policy, the reference.
    assert called == {"transformer": 4 * (3 + 1 + 1), "decode": 4, "update": 1}


def test_a_step_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Bytes at the peak of a step, and those alive after it, are the last step's to the byte."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    memory = importlib.import_module("counted_memory").LiveBytes()
    trainer = prepared(tmp_path, 2)
    trainer.step(1)  # what the optimizer keeps is made here
    with memory:
        trainer.step(2)
        peaks, left = [], []
        for step in (3, 4):
            peaks.append(memory.added(lambda step=step: trainer.step(step)))
            left.append(memory.live)
    assert peaks[0] == peaks[1] > 0 and left[0] == left[1]


def test_a_language_step_costs_what_stock_grpo_does(model: str, tmp_path: Path):
    """Forward calls, of the model and its reference, and the tokens in them; fewer tokens for the
    reference where a coefficient is 0."""
    trl = pytest.importorskip("trl")
    from adrpo.llm import ADRPOTrainer

    def counted(trainer: Any) -> Counter[str]:
        found = Counter[str]()

        def count(module: nn.Module, arguments: Any, inputs: dict[str, Any]) -> None:
            name = "reference" if module is trainer.ref_model else "model"
            kind = "training" if torch.is_grad_enabled() else "other"
            found.update({f"{name}, {kind}": 1, f"{name}, tokens": inputs["input_ids"].numel()})

        for each in (trainer.model, trainer.ref_model):
            each.register_forward_pre_hook(count, with_kwargs=True)
        trainer.train()
        return found

    options = {"max_steps": 1, "beta": 0.04}
    stock = trl.GRPOConfig(str(tmp_path), **(SETTINGS | options))
    expected = counted(trl.GRPOTrainer(model, small_steps, stock, PROMPTS))
    assert expected["model, training"] == expected["reference, other"] == 1

    def ours(**more: Any) -> tuple[Counter[str], float]:
        settings = config(tmp_path, try_arithmetic=False, **options, **more)
        trainer = ADRPOTrainer(model, small_steps, settings, PROMPTS)
        found = counted(trainer)
        return found, trainer.state.log_history[0]["adrpo/reference_frac"]

    # Unscaled, no coefficient is 0.
    assert ours(scale_rewards="none") == (expected, 1)
    found, share = ours()
    assert 0 < share < 1
    fewer = {"reference, tokens": share * expected["reference, tokens"]}
    assert found == dict(expected) | fewer
