"""Two processes go on with an adapter of others: each begins with all of it, as one does."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adrpo.config import AdapterSection, FlowModelSection, config_to_yaml
from adrpo.flow.models.loading import load_policy
from adrpo.flow.models.lora import WEIGHTS_NAME
from adrpo.runs.directory import RunDirectory
from support.started_adapters import digest
from support.started_processes import TESTS, finish, launch, start
from support.tiny_language_runs import tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS
from support.tiny_runs import embedded_config, perturb

pytestmark = [pytest.mark.slow, *LANGUAGE_MARKS]

SCRIPT = TESTS / "support" / "started_adapters.py"
LORA: dict[str, Any] = {"rank": 4, "alpha": 4.0}
WEIGHTS = {"flow": WEIGHTS_NAME, "llm": "adapter_model.safetensors"}


def images(folder: Path) -> Path:
    """An adapter of the embedded model, and a recipe that goes on with it."""
    policy = load_policy(FlowModelSection())
    policy.add_adapter(AdapterSection(**LORA))
    perturb(policy)  # type: ignore[arg-type]
    policy.save_adapter(folder / "flow")
    config = embedded_config(
        prompts={"train_size": 4, "held_out_size": 4},
        adapter=LORA | {"start_from": str(folder / "flow")},
        training={"steps": 1, "samples_per_prompt": 2, "learning_rate": 0.01},
    )
    return written(folder / "flow-run.yaml", config)


def language(folder: Path) -> Path:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    material = write_material(folder / "material")
    config = tiny_language_config(
        material,
        adapter=LORA | {"start_from": str(folder / "llm")},
        training={"steps": 1, "micro_batch_size": 4},
    )
    assert config.adapter is not None
    model: Any = AutoModelForCausalLM.from_pretrained(material / "model")
    targets = list(config.adapter.target_modules)
    lora = LoraConfig(r=4, lora_alpha=4, target_modules=targets, task_type="CAUSAL_LM")
    torch.manual_seed(0)
    adapted: Any = get_peft_model(model, lora)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data += 0.02 * torch.randn(parameter.shape)
    adapted.save_pretrained(folder / "llm")
    return written(folder / "llm-run.yaml", config)


def written(path: Path, config: Any) -> Path:
    path.write_text(config_to_yaml(config), encoding="utf-8")
    return path


def check(folder: Path, domain: str, lines: list[dict[str, Any]]) -> None:
    source = load_file(folder / domain / WEIGHTS[domain])
    expected = digest(source)
    told = [line for line in lines if line["domain"] == domain]
    assert sorted(line["rank"] for line in told) == [0, 1]
    assert {line["policy"] for line in told} == {line["reference"] for line in told} == {expected}
    run = RunDirectory.open(folder / f"{domain}-run")
    assert digest(load_file(run.path / "start" / WEIGHTS[domain])) == expected
    final = load_file(run.final / WEIGHTS[domain])
    assert final.keys() == source.keys()
    assert any(not torch.equal(final[name], value) for name, value in source.items())
    first, last = (run.read_evaluations("unseen")[place] for place in (0, -1))
    distance = {"flow": "divergence", "llm": "kl"}[domain]
    assert first[distance] == 0 < last[distance]


def told_by(*outputs: str) -> list[dict[str, Any]]:
    lines = [line for output in outputs for line in output.splitlines()]
    return [json.loads(line) for line in lines if line.startswith('{"domain"')]


def test_two_processes_begin_with_the_adapter_and_train_it(tmp_path: Path) -> None:
    ended = finish(start(SCRIPT, images(tmp_path), language(tmp_path)))
    assert [code for code, _, _ in ended] == [0, 0], ended[0][2]
    lines = told_by(*(output for _, output, _ in ended))
    for domain in WEIGHTS:
        check(tmp_path, domain, lines)


def test_a_base_in_shards_begins_with_the_adapter_and_trains_it(tmp_path: Path) -> None:
    result = launch("fsdp2.yaml", SCRIPT, images(tmp_path))
    assert result.returncode == 0, result.stderr
    check(tmp_path, "flow", told_by(result.stdout))
