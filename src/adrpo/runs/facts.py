"""Facts of a domain in a run's files: whoever reads the run needs to know no domain."""

import json
from dataclasses import asdict, dataclass

from adrpo.errors import AdrpoError
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import write_durably

FILE = "facts.json"
KINDS = {"*.png": "pictures", "*.jsonl": "completions"}
"""Files in samples/ -> what is shown there, for runs without a FILE."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A domain, in the words and keys that reports and comparisons need."""

    domain: str
    samples: str = "samples"
    """The word for what the model draws: pictures, completions."""
    machine_keys: tuple[str, ...] = ("model.device",)
    """Keys of the configuration that touch speed and memory only."""
    task: str = ""
    """The task of the models, by the Hub's word for it; empty in runs of earlier versions."""
    base_class: str = ""
    """Package and class that load a base: "diffusers.DiffusionPipeline"; empty as ``task``."""
    embedded: str = ""
    """Arguments of that class's ``from_pretrained`` for the embedded base, as Python has them, with
    ``weights_path`` of ``adrpo.embedded.weights``; empty as ``task``."""


def write_facts(run: RunDirectory, facts: Facts) -> None:
    """Write ``facts`` beside the run's configuration."""
    text = json.dumps(asdict(facts), indent=1) + "\n"
    write_durably(run.path / FILE, text.encode())


def read_facts(run: RunDirectory) -> Facts:
    """The facts of ``run``; of one that was written before there were any, what its files show.

    Raises AdrpoError where the file holds something else.
    """
    path = run.path / FILE
    if not path.exists():
        return _from_files(run)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Facts(
            domain=str(found["domain"]),
            samples=str(found["samples"]),
            machine_keys=tuple(map(str, found["machine_keys"])),
            task=str(found.get("task", "")),
            base_class=str(found.get("base_class", "")),
            embedded=str(found.get("embedded", "")),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdrpoError(
            f"{path}: expected the keys {', '.join(Facts.__dataclass_fields__)}; received "
            f"{type(error).__name__}: {error}; delete the file to read the run without it"
        ) from None


def _from_files(run: RunDirectory) -> Facts:
    domain = str(run.read_settings().get("domain", ""))
    for pattern, word in KINDS.items():
        if next(run.samples.rglob(pattern), None) is not None:
            return Facts(domain=domain, samples=word)
    return Facts(domain=domain)
