"""The lines that take what a run trained elsewhere, for the page to show and to copy."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from adrpo.runs.directory import RunDirectory
from adrpo.runs.inputs import own_reward
from adrpo.runs.model_folder import MODEL_CONFIG, description, loads

TITLES = {
    "diffusers": "Load the adapter in diffusers",
    "peft": "Load the adapter with PEFT",
    "transformers": "Load the model with transformers",
}
"""Library that loads the weights -> what its line does."""


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
    library, line = loads(final)
    if not library:
        return []
    described = description(str(final)).get(MODEL_CONFIG, {})
    kind = next(iter(described.get("architectures") or ["AutoModelForCausalLM"]))
    folder = json.dumps(final.as_posix(), ensure_ascii=False)
    return [Snippet(TITLES[library], line.format(place=folder, kind=kind))]
