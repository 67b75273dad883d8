"""Finished runs made up for tests of what is published: the layout of a run, no training."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from adrpo.runs.directory import RunDirectory
from adrpo.runs.facts import Facts, write_facts
from adrpo.runs.manifest import sealed_folder
from support.fabricated_run import fabricate

TENSORS = {"transformer.a.lora_A.weight": torch.arange(6.0).reshape(2, 3)}


def published_run(folder: Path, **sizes: Any) -> RunDirectory:
    """A fabricated run of pictures with one tensor for an adapter."""
    from adrpo.flow.facts import FACTS

    run = RunDirectory(fabricate(folder, **{"prompts": 12, "samples": 2, **sizes}))
    write_facts(run, FACTS)
    with sealed_folder(run.final) as partial:
        save_file(TENSORS, partial / "pytorch_lora_weights.safetensors")
    return run


def language_run(folder: Path, model: str, *, facts: Facts) -> RunDirectory:
    """A run of a language model with an adapter of PEFT's, another than a new one."""
    run = RunDirectory(fabricate(folder, pictured=0, prompts=12, samples=2))
    text = run.read_config_yaml().replace("domain: flow", f"domain: {facts.domain}")
    run.config.write_text(text.replace("pretrained: embedded", f"pretrained: {model}"))
    write_facts(run, facts)
    base = AutoModelForCausalLM.from_pretrained(model)
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"]))
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    with sealed_folder(run.final) as partial:
        adapted.save_pretrained(partial)
        (partial / "training_args.bin").write_bytes(b"a pickle")
    return run
