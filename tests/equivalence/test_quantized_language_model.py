"""A language model, and one that hears, in 4 bits under a LoRA adapter: weights, a run, memory."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from adrpo.audio.memory.architecture import read_thinker
from adrpo.audio.run import AudioRun
from adrpo.llm.memory.architecture import find_architecture
from adrpo.llm.memory.estimate import Lengths, estimate
from adrpo.llm.run import LanguageRun
from adrpo.llm.training_reward import TrainingReward
from adrpo.runs.directory import RunDirectory
from support.normal_float import rounded
from support.tiny_audio_runs import tiny_audio_config, write_thinker
from support.tiny_language_runs import (
    metrics_without_timings,
    tiny_language_config,
    write_material,
)
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = [
    *LANGUAGE_MARKS,
    pytest.mark.apps,
    pytest.mark.skipif(
        find_spec("bitsandbytes") is None and "ADRPO_EXPECT_APPS" not in os.environ,
        reason="bitsandbytes is not installed: make test-apps",
    ),
]
NF4: dict[str, Any] = {"quantization": "nf4"}
ADAPTER = {"rank": 4, "target_modules": ["q_proj", "down_proj"]}


# A row of a weight fills blocks of 64, which bitsandbytes takes for granted on a CPU.
WIDTH = 64


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"), width=WIDTH)


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One arithmetic in drawing and training, as a GPU has it: where a CPU multiplies bfloat16,
    bitsandbytes draws by another kernel."""
    monkeypatch.setattr("adrpo.runs.quantization.GPU_ONLY", ())
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)


def quantized_run(material: Path, **sections: Any) -> LanguageRun:
    return LanguageRun(tiny_language_config(material, model=NF4, adapter=ADAPTER, **sections))


def trainer_of(run: LanguageRun, folder: Path) -> Any:
    return run._trainer(RunDirectory(folder), TrainingReward(run.terms), run.prompts)


def packed(model: Any) -> dict[str, Any]:
    """The quantised weights, by the names that they have without an adapter."""
    return {
        name.replace(".base_layer", "").removeprefix("base_model.model."): weight
        for name, weight in model.named_parameters()
        if type(weight).__name__ == "Params4bit"
    }


def unpacked(weight: Any) -> torch.Tensor:
    from bitsandbytes.functional import (  # pyright: ignore[reportMissingImports]
        dequantize_4bit,
    )

    return dequantize_4bit(weight.data, weight.quant_state)


def test_each_weight_is_at_its_nearest_level(material: Path, tmp_path: Path) -> None:
    model = trainer_of(quantized_run(material), tmp_path).model
    plain = AutoModelForCausalLM.from_pretrained(material / "model")
    found = packed(model)
    linear = {f"{n}.weight" for n, m in plain.named_modules() if isinstance(m, torch.nn.Linear)}
    assert found.keys() == linear - {"lm_head.weight"}
    for name, weight in found.items():
        own = plain.get_parameter(name)
        # A number between two levels may go to either by the last bit of its quotient.
        far = (unpacked(weight) - rounded(own)).abs() > 1e-6
        assert far.float().mean() < 0.01, name
        assert weight.quant_state.dtype == torch.float32


def test_a_run_trains_the_adapter_alone_and_goes_on_where_it_stopped(
    material: Path, tmp_path: Path
) -> None:
    run = quantized_run(material, training={"steps": 4})
    whole = run.train(tmp_path / "whole", progress=False)
    first = json.loads((whole / "metrics.jsonl").read_text().splitlines()[0])
    assert first["divergence"] == 0  # the reference is the same rounded model
    shorter = quantized_run(material, training={"steps": 2})
    stopped = shorter.train(tmp_path / "stopped", progress=False)
    quantized_run(material, training={"steps": 4}).train(stopped, resume=True, progress=False)
    assert metrics_without_timings(stopped) == metrics_without_timings(whole)
    file = "adapter_model.safetensors"
    assert (stopped / "final" / file).read_bytes() == (whole / "final" / file).read_bytes()


def test_the_adapter_is_in_float32_and_the_base_stays(material: Path, tmp_path: Path) -> None:
    trainer = trainer_of(quantized_run(material), tmp_path)
    before = {name: weight.data.clone() for name, weight in packed(trainer.model).items()}
    trained = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    assert {p.dtype for p in trained.values()} == {torch.float32}
    starts = {name: p.detach().clone() for name, p in trained.items()}
    trainer.train()
    assert all(not torch.equal(p, starts[name]) for name, p in trained.items())
    for name, weight in packed(trainer.model).items():
        assert torch.equal(weight.data, before[name]), name


def test_training_in_4_bits_raises_its_reward(material: Path, tmp_path: Path) -> None:
    run = quantized_run(
        material,
        training={"steps": 30, "learning_rate": 2e-2},
        evaluation={"every": 30},
        checkpoint={"every": 30},
    )
    folder = run.train(tmp_path / "run", progress=False)
    rows = [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]
    base, last = (row["reward"] for row in (rows[0], rows[-1]))
    # Drawn at random a letter is an a in 1 of 17; thirty steps of this rate more than double it.
    assert last > 2 * base


def test_an_adapter_from_4_bits_serves_the_whole_model(material: Path, tmp_path: Path) -> None:
    run = quantized_run(material, training={"learning_rate": 1e-1})
    trainer = trainer_of(run, tmp_path / "run")
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    plain: Any = AutoModelForCausalLM.from_pretrained(material / "model")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        base = plain(ids).logits
        adapted = trainer.model.eval()(ids).logits
        with trainer.model.disable_adapter():
            own_base = trainer.model(ids).logits
        there = PeftModel.from_pretrained(plain, str(tmp_path / "final"))(ids).logits
    # The change that the adapter makes there is the one that it made here, but for the rounding
    # of the weights around it.
    made, makes = adapted - own_base, there - base
    assert torch.cosine_similarity(made.flatten(), makes.flatten(), dim=0) > 0.9


def test_its_memory_is_what_lies_there(material: Path, tmp_path: Path) -> None:
    run = quantized_run(material)
    trainer = trainer_of(run, tmp_path)
    architecture = find_architecture(run.config.model)
    assert architecture is not None
    expected = estimate(architecture, run.config, Lengths(prompt=8, completion=8)).resident
    there = sum(p.nbytes for p in trainer.model.parameters() if not p.requires_grad)
    there += sum(w.quant_state.absmax.nbytes for w in packed(trainer.model).values())
    assert expected["weights"] == there
    assert expected["reference"] == 0


def test_a_thinker_in_4_bits_hears_and_learns_by_its_adapter(tmp_path: Path) -> None:
    folder = write_thinker(tmp_path / "model", width=WIDTH)
    sections: dict[str, Any] = {
        "model": NF4,
        "adapter": {"rank": 2, "target_modules": ["q_proj"]},
        "training": {"steps": 2},
    }
    run = AudioRun(tiny_audio_config(folder, **sections))
    done = run.train(tmp_path / "run", progress=False)
    rows = [json.loads(line) for line in (done / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and rows[0]["divergence"] == 0 < rows[-1]["grad_norm"]
    trainer = trainer_of(run, tmp_path / "again")
    names = packed(trainer.model)
    assert any("audio_tower" in name for name in names)
    assert any(".language_model." in name or name.startswith("model.") for name in names)
    thinker = read_thinker(run.source)
    assert thinker is not None
    there = sum(p.nbytes for p in trainer.model.parameters() if not p.requires_grad)
    there += sum(w.quant_state.absmax.nbytes for w in names.values())
    lengths = Lengths(prompt=8, completion=6)
    # Blocks of 64 that are not full have a scale of their own.
    expected = estimate(thinker.language, run.config, lengths).resident["weights"]
    assert expected == pytest.approx(there, rel=0.02)
