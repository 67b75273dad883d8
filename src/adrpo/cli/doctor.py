"""``adrpo doctor``: what is installed, what works, and what a recipe would need."""

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adrpo.cli.completion import words_beginning
from adrpo.cli.domains import door_named, missing_packages
from adrpo.cli.quiet import silence_loading
from adrpo.cli.verdict import verdict
from adrpo.errors import AdrpoError

if TYPE_CHECKING:
    from adrpo.config import RewardTermSection
    from adrpo.runs.findings import Findings

GIGABYTE = 1e9
HARMFUL_WHEN_BROKEN = ("torchvision", "torchaudio")


def doctor(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE_OR_MODEL [KEY=VALUE]...]",
            help="Also check what this recipe needs, with these settings; or a model, a folder or "
            "one in the Hub's cache, in the recipe of its domain's embedded one.",
            show_default=False,
            autocompletion=words_beginning,
        ),
    ] = None,
    tried: Annotated[
        bool,
        typer.Option(
            "--try",
            help="Load its model and try the arithmetic that training rests on: padding, "
            "batches, the reference, gradients.",
        ),
    ] = False,
) -> None:
    """Check the installation, and what a recipe needs; exit code 1 if it can't train here."""
    from adrpo.config import names_and_overrides
    from adrpo.runs.findings import Findings

    names, overrides = names_and_overrides(arguments or [], least=0)
    recipe = next(iter(names), None)
    if recipe is not None:
        recipe, overrides = around(recipe, overrides)
    if recipe is None and (overrides or tried):
        received = " ".join([*overrides, *(["--try"] if tried else [])])
        raise AdrpoError(f"expected a recipe beside its settings; received {received}")
    findings = Findings(typer.echo)
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
        check_recipe(findings, recipe, overrides)
        if tried and not findings.broken:
            typer.echo("Arithmetic")
            try_model(findings, recipe, overrides)
    ready, line = verdict(findings)
    typer.echo(line)
    if not ready:
        raise typer.Exit(1)


def around(name: str, overrides: Sequence[str]) -> tuple[str, list[str]]:
    """The recipe ``name``; or, where it is a model's, the usual one of the model's domain and the
    settings that put the model into it, before ``overrides``.

    Raises AdrpoError, with the command that does it, for a model of no domain or of several, or one
    that is not on this machine.
    """
    from adrpo.config import DOMAINS, find_recipe, recipe_names
    from adrpo.config.recipes import SUFFIXES
    from adrpo.runs.model_folder import description, refuse_adapter

    if name in recipe_names() or name.endswith(SUFFIXES):
        find_recipe(name)
        return name, list(overrides)
    folder = Path(name).expanduser()
    if (folder / "config.yaml").is_file():
        return str(folder / "config.yaml"), list(overrides)
    refuse_adapter(name, folder)
    doors = [door_named(domain) for domain in DOMAINS]
    described = description(name)
    found = [door for door in doors if door.reads(described)]
    if len(found) == 1:
        (door,) = found
        recipe, *freed = door.usual
        freed += [f"model.{key}=null" for key in door.own_keys]
        return recipe, [f"model.pretrained={name}", *freed, *overrides]
    if described or folder.exists() or name == "embedded":
        received = ", ".join(described) or "none of them"
        raise AdrpoError(
            f"expected a recipe or a model that one domain trains; received {name} with "
            f"{received}; name a recipe of its domain: adrpo doctor RECIPE model.pretrained={name}"
        )
    if name.count("/") == 1 and name.partition("/")[0] not in DOMAINS:
        raise AdrpoError(
            f"expected a recipe or a model that is on this machine; received {name}; fetch it "
            f"(hf download {name}), or name a recipe of its domain: adrpo doctor RECIPE "
            f"model.pretrained={name}"
        )
    find_recipe(name)  # a misspelt one
    return name, list(overrides)


def check_packages(findings: "Findings") -> None:
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


def check_harmful(findings: "Findings") -> None:
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


def check_machine(findings: "Findings") -> None:
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


def check_embedded(findings: "Findings") -> None:
    """Load each embedded model as training and evaluation do, and name its size."""
    from adrpo.config import DOMAINS
    from adrpo.embedded.weights import weights_path

    for domain in DOMAINS:
        door = door_named(domain)
        for name, load in door.embedded().items():
            try:
                load()
            except Exception as error:  # a diagnosis must go on to the next model
                if isinstance(error, ModuleNotFoundError) and error.name in door.packages:
                    needed = (
                        f"needs {error.name}: pip install '.[{door.extra}]' in the folder of adrpo"
                    )
                    findings.note(name, needed)
                else:
                    findings.bad(name, f"does not load ({type(error).__name__}: {error})")
                continue
            size = sum(file.stat().st_size for file in weights_path(name).rglob("*"))
            findings.ok(name, f"loads, {size / 1e6:.1f} MB")


def check_recipe(findings: "Findings", recipe: str, overrides: Sequence[str] = ()) -> None:
    """Everything of a recipe that can be checked without loading its model."""
    from adrpo.config import load_recipe

    try:
        config = load_recipe(recipe, overrides)
        config.check_trains()
    except AdrpoError as error:
        findings.bad("configuration", str(error))
        return
    findings.ok("configuration", "valid")
    _check_rewards(findings, (*config.reward, *config.evaluation.rewards))
    door = door_named(config.domain)
    if missing := missing_packages(door):
        findings.bad(
            "packages",
            f"no {' and no '.join(missing)}: pip install '.[{door.extra}]' in the folder of adrpo",
        )
        return
    try:
        door.check(findings, config)
    except AdrpoError as error:
        findings.bad("model", str(error))


def try_model(findings: "Findings", recipe: str, overrides: Sequence[str] = ()) -> None:
    """Load the model of a recipe, and hold what it computes against what it ought to."""
    from adrpo.config import load_recipe
    from adrpo.runs.trials import tell

    config = load_recipe(recipe, overrides)
    tell(findings, door_named(config.domain).tried(config))


def _check_rewards(findings: "Findings", terms: "Sequence[RewardTermSection]") -> None:
    """Build each reward whose model needs no download, as the trainer would."""
    from adrpo.rewards.image import EMBEDDED
    from adrpo.rewards.loading import WITH_WEIGHTS, build_reward, named_models
    from adrpo.runs.findings import check_model

    for term in terms:
        what = f"reward {term.name}"
        try:
            named = named_models(term)
        except AdrpoError as error:
            findings.bad(what, f"cannot be built ({error})")
            continue
        # All are looked at, and each that is missing is a download.
        here = [
            check_model(
                findings,
                what,
                model,
                embedded=EMBEDDED,
                weights=option in WITH_WEIGHTS,
            )
            for option, model in named.items()
        ]
        weights = term.options.get("weights")
        file_is_here = weights is None or Path(str(weights)).expanduser().is_file()
        if not all(here) and file_is_here:
            continue  # else building says which file is missing, before it loads a model
        try:
            build_reward([term], "cpu")
        except Exception as error:  # a user's reward may raise anything; that is the finding
            findings.bad(what, f"cannot be built ({type(error).__name__}: {error})")
        else:
            findings.ok(what, f"can be built, weight {term.weight:g}")
