"""Findings of ``adrpo doctor``, and the checks that every domain needs."""

import importlib.util
import os
from collections.abc import Callable, Collection
from pathlib import Path

from adrpo.data.prompts import hub_place
from adrpo.errors import AdrpoError
from adrpo.memory import GIGABYTE, UNFIT, UNKNOWN
from adrpo.runs.downloads import Download
from adrpo.runs.model_folder import description, lacks_weights
from adrpo.runs.published_sizes import published_bytes
from adrpo.runs.quantization import KEY, QUANTIZERS, check_quantizer


class Findings:
    """The findings of a diagnosis: each is printed, and those that are broken are counted.

    ``downloads`` are what a first run fetches; ``unfit`` says which memory training lacks here,
    ``unknown`` why nothing tells what it takes.

    Args:
        say: prints a line.
    """

    def __init__(self, say: Callable[[str], None] = print) -> None:
        self.broken = 0
        self.downloads: list[Download] = []
        self.unfit = ""
        self.unknown = ""
        self._say = say

    def ok(self, what: str, text: str) -> None:
        self._say(f"  ok      {what}: {text}")

    def note(self, what: str, text: str) -> None:
        self._say(f"  note    {what}: {text}")

    def bad(self, what: str, text: str) -> None:
        self.broken += 1
        self._say(f"  BROKEN  {what}: {' '.join(text.split())}")


def check_model(
    findings: Findings,
    what: str,
    model: str,
    *,
    embedded: Collection[str] = ("embedded",),
    weights: bool = True,
    known: float | None = None,
) -> bool:
    """Say whether ``model`` lies on this machine, as a folder, in the Hub's cache, or as one of the
    ``embedded`` ones, and return it.

    Where it doesn't it is a download, with its ``weights`` or without, of so many bytes as are
    ``known``, or as the table of published models has.
    """
    if model in embedded:
        findings.ok(what, "embedded, nothing to download")
    elif Path(model).is_dir():
        findings.ok(what, f"folder {model}")
    elif (described := bool(description(model))) and not (weights and lacks_weights(model)):
        findings.ok(what, f"{model} is in the Hub cache")
    else:
        if known is None and weights:
            known = published_bytes(model)
        findings.downloads.append(Download(model, weights=weights, known=known))
        findings.note(
            what,
            f"{f'the weights of {model} are' if described else f'{model} is'} not on this machine: "
            f"the first run downloads {'them' if described else 'it'} from the Hugging Face Hub "
            f"(some models ask you to accept a license there first)",
        )
        return False
    return True


def note_unfetched(findings: Findings, what: str, source: str) -> None:
    """Say that the prompts of ``source`` are on the Hub, and not looked at before a run."""
    repository, file = hub_place(source)
    findings.downloads.append(Download(repository, kind="dataset", file=file))
    findings.note(
        what,
        f"{source} is not on this machine: the first run fetches it from the Hugging Face Hub",
    )


def check_quantization(findings: Findings, value: str | None) -> None:
    """Say whether all is there that ``value`` of ``model.quantization`` needs."""
    if value is None:
        return
    try:
        check_quantizer(value)
    except AdrpoError as error:
        findings.bad(KEY, str(error).removeprefix(f"{KEY}: "))
    else:
        findings.ok(KEY, f"{value}, and {QUANTIZERS[value]} is installed")


def check_setting(
    findings: Findings, key: str, value: str | None, package: str, without: str
) -> None:
    """Say whether ``package`` is there, which ``value`` of ``key`` needs; None needs nothing, and
    ``without`` is the setting that needs nothing."""
    if value is None:
        return
    if importlib.util.find_spec(package) is None:
        findings.bad(
            key,
            f"expected an installed {package} for {value}, received none: pip install {package}, "
            f"or set {key}={without}",
        )
    else:
        findings.ok(key, f"{value}, and {package} is installed")


def check_device(findings: Findings, device: str) -> None:
    """Say whether the GPU that ``device`` asks for is there."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        findings.bad("device", f"expected a GPU for {device}; torch finds none: set model.device")
    else:
        findings.ok("device", device)


def check_memory(
    findings: Findings, device: str, estimate: Callable[[float | None], list[str]]
) -> None:
    """Say what training would take of the GPU, before anything is loaded; ``estimate`` tells it
    for a GPU of so many bytes, or for none."""
    import torch

    available = None
    if device.startswith("cuda") and torch.cuda.is_available():
        available = float(torch.cuda.get_device_properties(device).total_memory)
    lines = estimate(available)
    for line in lines:
        findings.note("memory", line)
    if lines[0].startswith(UNKNOWN):
        findings.unknown = lines[0].removeprefix(UNKNOWN).partition("; ")[0]
    elif device == "cpu" and (own := _own_memory()) is not None:
        if UNFIT in estimate(own)[0]:
            findings.unfit = f"{lines[0]}, and this machine has {own / GIGABYTE:.0f} GB of memory"
    elif UNFIT in lines[0]:
        findings.unfit = lines[0]


def _own_memory() -> float | None:
    """Bytes of this machine's memory; None where the system does not tell."""
    names = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")
    if any(name not in getattr(os, "sysconf_names", {}) for name in names):
        return None
    pages, size = map(os.sysconf, names)
    return float(pages * size)
