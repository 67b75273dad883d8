"""``adrpo doctor``: what is installed, what works, and what a recipe would need."""

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adrpo.cli.packages import missing_language_packages
from adrpo.cli.quiet import silence_loading
from adrpo.errors import AdrpoError

if TYPE_CHECKING:
    from adrpo.config import FlowConfig, LanguageConfig, RewardTermSection

GIGABYTE = 1e9
UNFETCHED = 200
"""Prompts that a set counts for in the estimate of memory while it isn't here."""
HARMFUL_WHEN_BROKEN = ("torchvision", "torchaudio")


class Findings:
    """Prints each finding and counts those that are broken."""

    def __init__(self) -> None:
        self.broken = 0

    def ok(self, what: str, text: str) -> None:
        typer.echo(f"  ok      {what}: {text}")

    def note(self, what: str, text: str) -> None:
        typer.echo(f"  note    {what}: {text}")

    def bad(self, what: str, text: str) -> None:
        self.broken += 1
        typer.echo(f"  BROKEN  {what}: {' '.join(text.split())}")


def doctor(
    recipe: Annotated[
        str | None,
        typer.Argument(help="Also check what this recipe needs.", show_default="none"),
    ] = None,
) -> None:
    """Check the installation; exit code 1 if something required is broken."""
    findings = Findings()
    typer.echo("Packages")
    check_packages(findings)
    check_harmful(findings)
    typer.echo("Machine")
    check_machine(findings)
    typer.echo("Embedded models")
    silence_loading()
    check_embedded(findings)
    if recipe is not None:
        typer.echo(f"Recipe {recipe}")
        check_recipe(findings, recipe)
    if findings.broken:
        typer.echo(f"{findings.broken} broken")
        raise typer.Exit(1)
    typer.echo("All good.")


def check_packages(findings: Findings) -> None:
    """Compare what is installed with what adrpo's own metadata requires."""
    from packaging.requirements import Requirement

    findings.ok("python", platform.python_version())
    try:
        declared = importlib.metadata.requires("adrpo") or []
    except importlib.metadata.PackageNotFoundError:
        findings.note("adrpo", "runs from a source folder; its requirements are not checked")
        return
    for requirement in map(Requirement, declared):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = requirement.name
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            findings.bad(name, f"not installed; run: pip install '{requirement}'")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            findings.ok(name, version)
        else:
            findings.bad(name, f"{version} is installed; run: pip install '{requirement}'")


def check_harmful(findings: Findings) -> None:
    """Find a torchvision or torchaudio that is installed and cannot be imported.

    Both hold compiled code for one version and build of torch. transformers, peft and diffusers
    see that they are installed and then fail at their own import.
    """
    for name in HARMFUL_WHEN_BROKEN:
        if importlib.util.find_spec(name) is None:
            continue
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever it raises is the finding
            findings.bad(
                name,
                f"installed, but its import fails ({type(error).__name__}: {error}), which breaks "
                f"transformers and diffusers; adrpo does not need it: pip uninstall {name}",
            )
        else:
            findings.ok(name, "works (adrpo does not need it)")


def check_machine(findings: Findings) -> None:
    """Device, threads and memory that a run would get."""
    import torch

    findings.ok("cpu", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    if not torch.cuda.is_available():
        findings.note("gpu", "none; the embedded model does not need one, real models do")
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        findings.ok("gpu", f"{device.name}, {device.total_memory / GIGABYTE:.0f} GB")
    free = shutil.disk_usage(Path.cwd()).free
    findings.ok("disk", f"{free / GIGABYTE:.1f} GB free here")


def check_embedded(findings: Findings) -> None:
    """Load each embedded model as training and evaluation do, and name its size."""
    from adrpo.config import FlowModelSection
    from adrpo.embedded.weights import weights_path
    from adrpo.flow.models.loading import load_policy
    from adrpo.rewards.image import EMBEDDED, ClipScore
    from adrpo.rewards.reward_model import RewardModel

    loaders: dict[str, Callable[[], object]] = {"pipeline": lambda: load_policy(FlowModelSection())}
    loaders |= {folder: partial(ClipScore, name, "cpu") for name, folder in EMBEDDED.items()}
    loaders["language_model"] = _load_language_model
    loaders["language_reward"] = partial(RewardModel, "embedded")
    for name, load in loaders.items():
        try:
            load()
        except Exception as error:  # a diagnosis must go on to the next model
            findings.bad(name, f"does not load ({type(error).__name__}: {error})")
            continue
        size = sum(file.stat().st_size for file in weights_path(name).rglob("*"))
        findings.ok(name, f"loads, {size / 1e6:.1f} MB")


def _load_language_model() -> object:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from adrpo.embedded.weights import weights_path

    folder = weights_path("language_model")
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def check_recipe(findings: Findings, recipe: str) -> None:
    """Everything of a recipe that can be checked without loading its model."""
    from adrpo.config import FlowConfig, find_recipe, load_recipe

    try:
        config = load_recipe(find_recipe(recipe))
    except AdrpoError as error:
        findings.bad("configuration", str(error))
        return
    findings.ok("configuration", "valid")
    _check_rewards(findings, (*config.reward, *config.evaluation.rewards))
    if not isinstance(config, FlowConfig):
        _check_language(findings, config)
        return
    _check_model(findings, "model", config.model.pretrained)
    _check_model(findings, "evaluation.clip", config.evaluation.clip)
    _check_setting(findings, "model.quantization", config.model.quantization, "torchao", "null")
    optimizer = None if config.training.optimizer == "adamw" else config.training.optimizer
    _check_setting(findings, "training.optimizer", optimizer, "bitsandbytes", "adamw")
    prompts = _check_prompts(findings, config)
    _check_device(findings, config)
    _check_memory(findings, config, prompts)


def _check_setting(
    findings: Findings, key: str, value: str | None, package: str, without: str
) -> None:
    """Whether ``package`` is there, which ``value`` of ``key`` needs; None needs nothing, and
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


def _check_language(findings: Findings, config: "LanguageConfig") -> None:
    """What only a language model's recipe needs."""
    missing = missing_language_packages()
    if missing:
        findings.bad(
            "packages",
            f"no {' and no '.join(missing)}: pip install '.[llm]' in the folder of adrpo",
        )
        return
    from adrpo.llm.pretrained import PACKAGE, model_source
    from adrpo.llm.prompt_rows import load_prompt_rows

    if config.model.gguf_file is None and not config.model.pretrained.startswith(PACKAGE):
        _check_model(findings, "model", config.model.pretrained)
    else:
        try:
            findings.ok("model", f"folder {model_source(config.model)}")
        except AdrpoError as error:
            findings.bad("model", str(error))
    try:
        train, held_out = load_prompt_rows(config.prompts)
    except AdrpoError as error:
        findings.bad("prompts", str(error))
    else:
        source = config.prompts.source
        findings.ok("prompts", f"{len(train)} and {len(held_out)} held out from {source}")


def _check_model(findings: Findings, what: str, model: str) -> bool:
    """Whether ``model`` lies on this machine."""
    from adrpo.rewards.image import EMBEDDED

    if model in EMBEDDED:
        findings.ok(what, "embedded, nothing to download")
    elif Path(model).is_dir():
        findings.ok(what, f"folder {model}")
    elif _is_cached(model):
        findings.ok(what, f"{model} is in the Hub cache")
    else:
        findings.note(
            what,
            f"{model} is not on this machine: the first run downloads it from the Hugging Face "
            f"Hub (some models ask you to accept a license there first)",
        )
        return False
    return True


def _is_cached(model: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        names = ("model_index.json", "config.json")
        return any(isinstance(try_to_load_from_cache(model, name), str) for name in names)
    except HFValidationError:
        return False


def _check_rewards(findings: Findings, terms: "Sequence[RewardTermSection]") -> None:
    """Build each reward whose model needs no download, as the trainer would."""
    from adrpo.rewards.loading import build_reward

    for term in terms:
        what = f"reward {term.name}"
        model = term.options.get("model")
        if isinstance(model, str) and not _check_model(findings, what, model):
            continue
        try:
            build_reward([term], "cpu")
        except Exception as error:  # a user's reward may raise anything; that is the finding
            findings.bad(what, f"cannot be built ({type(error).__name__}: {error})")
        else:
            findings.ok(what, f"can be built, weight {term.weight:g}")


def _check_prompts(findings: Findings, config: "FlowConfig") -> int:
    """How many prompts will be encoded; a set that is still to be fetched counts as UNFETCHED."""
    from adrpo.data.prompts import load_prompts

    prompts = config.prompts
    sets = {
        "train": (prompts.train, prompts.train_size, config.training.seed),
        "held_out": (prompts.held_out, prompts.held_out_size, config.evaluation.seed),
    }
    total = config.evaluation.seen_prompts
    for name, (source, size, seed) in sets.items():
        if _is_unfetched(source):
            total += UNFETCHED
            findings.note(
                f"prompts.{name}",
                f"{source} is not on this machine: the first run fetches it from the Hugging Face "
                f"Hub",
            )
            continue
        try:
            count = len(load_prompts(source, size=size, seed=seed))
        except AdrpoError as error:
            findings.bad(f"prompts.{name}", str(error))
        else:
            total += count
            findings.ok(f"prompts.{name}", f"{count} from {source}")
    return total


def _is_unfetched(source: str) -> bool:
    """Whether ``source`` is a file of the Hub that its cache does not have."""
    from huggingface_hub import try_to_load_from_cache

    from adrpo.data.published import HUB, PUBLISHED

    name, _, place = source.partition(":")
    file = PUBLISHED[name].hub if name in PUBLISHED else None
    if file is None or place.partition(":")[0] != HUB:
        return False
    found = try_to_load_from_cache(
        file.repository, file.name, repo_type="dataset", revision=file.revision
    )
    return not isinstance(found, str)


def _check_memory(findings: Findings, config: "FlowConfig", prompts: int) -> None:
    """What training would take of the GPU, before anything is loaded."""
    import torch

    from adrpo.flow.memory.advice import memory_lines
    from adrpo.flow.models.loading import resolve_device

    device = resolve_device(config.model.device)
    available = None
    if device.type == "cuda" and torch.cuda.is_available():
        available = float(torch.cuda.get_device_properties(device).total_memory)
    for line in memory_lines(config, prompts, available):
        findings.note("memory", line)


def _check_device(findings: Findings, config: "FlowConfig") -> None:
    import torch

    from adrpo.flow.models.loading import resolve_device

    device = resolve_device(config.model.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        findings.bad("device", f"expected a GPU for {device}; torch finds none: set model.device")
    else:
        findings.ok("device", str(device))
