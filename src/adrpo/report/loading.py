"""The lines that take what a run trained elsewhere, for the page to show and to copy."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from adrpo.runs.directory import RunDirectory
from adrpo.runs.inputs import own_reward
from adrpo.runs.model_folder import ADAPTER_CONFIG, LORA_WEIGHTS, MODEL_CONFIG, description


@dataclass(frozen=True)
class Snippet:
    """Lines to copy, and what they do."""

    title: str
    text: str


def snippets(run: RunDirectory) -> list[Snippet]:
    """Lines for what ``run`` trained: to load it, to ask it, to repeat the run.

    Before ``final/`` is there, the line that goes on in their place. A reward that Python gave is
    not in the configuration, and such a run is not repeated by a line.
    """
    folder = str(run.path)
    train = ["adrpo", "train", str(run.config), "--output-dir"]
    found = []
    if run.final.is_dir():
        found += _loads(run.final)
        found.append(Snippet("Ask the trained model", shlex.join(["adrpo", "sample", folder])))
    elif run.metrics.exists() and own_reward(run) is None:
        again = shlex.join([*train, folder, "--resume"])
        found.append(Snippet("Go on from the last checkpoint, once it has stopped", again))
    if run.metrics.exists() and own_reward(run) is None:
        found.append(Snippet("Repeat the run", shlex.join([*train, f"{folder}-again"])))
    return found


def _loads(final: Path) -> list[Snippet]:
    """The line that loads what lies in ``final``, by the library that wrote it."""
    folder = json.dumps(final.as_posix(), ensure_ascii=False)
    if (final / LORA_WEIGHTS).is_file():
        return [Snippet("Load the adapter in diffusers", f"pipeline.load_lora_weights({folder})")]
    if (final / ADAPTER_CONFIG).is_file():
        line = f"model = PeftModel.from_pretrained(model, {folder})"
        return [Snippet("Load the adapter with PEFT", line)]
    if (final / MODEL_CONFIG).is_file():
        described = description(str(final)).get(MODEL_CONFIG, {})
        kind = next(iter(described.get("architectures") or ["AutoModelForCausalLM"]))
        return [Snippet("Load the model with transformers", f"{kind}.from_pretrained({folder})")]
    return []
