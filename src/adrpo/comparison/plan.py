"""The plan of a comparison: recipes x seeds, and the record that guards its folder.

<comparison>/comparison.json              recipes, overrides, seeds, and each resolved configuration
<comparison>/runs/<method>-seed<k>/       a run directory
<comparison>/runs/<method>-seed<k>.log    what its process printed
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adrpo.comparison.primary import Primary
from adrpo.config import load_recipe, resolve_settings, written_names
from adrpo.errors import AdrpoError
from adrpo.metrics import with_role
from adrpo.runs.durable import write_durably
from adrpo.runs.facts import Facts
from adrpo.runs.resuming import flatten, unflatten

RECORD = "comparison.json"
SEED_KEY = "training.seed"

SHARED = ("domain", "model.", "prompts.", "evaluation.")
"""Keys and sections in which the recipes of a comparison must agree."""

WORDS = ("description", "source", "trackers")
"""Keys that say something of a run, or who hears of it, and do not touch its course."""

Flat = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One recipe of a comparison: its name here, what ``adrpo train`` is given, and the keys."""

    name: str
    recipe: str
    settings: Flat
    """The resolved configuration as dotted keys, without the seed."""

    @property
    def steps(self) -> int:
        return int(self.settings["training.steps"])


@dataclass(frozen=True)
class Plan:
    """A comparison: every method is trained once with every seed."""

    folder: Path
    methods: tuple[Entry, ...]
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]
    reference: str
    primary: Primary
    machine_keys: tuple[str, ...] = Facts.machine_keys
    """Keys in which methods that are evaluated alike may differ."""

    @property
    def reward(self) -> list[Any]:
        """The settings of the terms of the reference's reward."""
        (settings,) = (own.settings for own in self.methods if own.name == self.reference)
        return settings.get("reward", [])

    @property
    def evaluations(self) -> int:
        """The fewest evaluations after the base's that a method has."""
        return min(
            -(-method.steps // int(method.settings["evaluation.every"])) for method in self.methods
        )

    def run_folder(self, method: Entry, seed: int) -> Path:
        return self.folder / "runs" / f"{method.name.replace('/', '-')}-seed{seed}"

    @classmethod
    def resolve(
        cls,
        folder: Path,
        recipes: Sequence[str],
        overrides: Sequence[str],
        seeds: int,
        reference: str | None,
        facts: Iterable[Facts] = (),
        primary: str | None = None,
    ) -> "Plan":
        """Check the recipes and what they share; ``reference`` defaults to the first, ``facts``
        are those of the domains, and ``primary`` is METRIC=METHOD.

        What a comparison in ``folder`` has declared as primary stays so. Raises AdrpoError for a
        recipe that does not load, two of one name, an override of the seed, an unknown reference,
        another primary comparison than the declared one, recipes that are not evaluated alike, or
        early stopping.
        """
        if any(override.partition("=")[0].strip() == SEED_KEY for override in overrides):
            raise AdrpoError(
                f"compare: expected no {SEED_KEY} among the overrides, received one; a "
                f"comparison trains with the seeds 0 to N - 1 of --seeds N"
            )
        methods = tuple(_entry(recipe, overrides) for recipe in recipes)
        names = [method.name for method in methods]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise AdrpoError(
                f"compare: expected recipes of different names, received {twice!r} twice; copy "
                f"one of them to a file of another name"
            )
        chosen = names[0] if reference is None else _name(reference)
        if chosen not in names:
            raise AdrpoError(
                f"compare: expected --reference to be one of {', '.join(names)}; received "
                f"{reference!r}"
            )
        settings = {method.name: method.settings for method in methods}
        domain = methods[0].settings.get("domain")
        own = next((known for known in facts if known.domain == domain), Facts(domain=str(domain)))
        check_evaluated_alike(settings, own.machine_keys)
        stopping = methods[0].settings.get("evaluation.early_stopping")
        if stopping is not None:
            raise AdrpoError(
                f"compare: expected evaluation.early_stopping=null, since runs of one comparison "
                f"have one length; received {stopping!r}; add --set evaluation.early_stopping=null"
            )
        return cls(
            folder,
            methods,
            tuple(overrides),
            tuple(range(seeds)),
            chosen,
            _primary(folder, primary, methods, chosen),
            own.machine_keys,
        )


def _primary(folder: Path, text: str | None, methods: Sequence[Entry], reference: str) -> Primary:
    """The primary comparison that ``folder`` has declared, or else the one of ``text``."""
    given = Primary.parse(text, [method.name for method in methods], reference)
    measured = [reward_names(method.settings, "reward", "evaluation.rewards") for method in methods]
    shared = [name for name in measured[0] if all(name in others for others in measured)]
    shared += distances_of(methods[0].settings)
    given.check_metric(str(methods[0].settings.get("domain")), shared)
    path = folder / RECORD
    if not path.exists():
        return given
    declared = Primary.from_json(_read_record(path))
    if text is not None and declared.declared and declared != given:
        raise AdrpoError(
            f"{folder}: expected the primary comparison that was declared before its runs, "
            f"{declared.metric or 'the metric of the rule'}={declared.method}; received --primary "
            f"{text}; leave it out, or choose another --output-dir"
        )
    # A recipe that came later was not declared before the first run either.
    compared = declared.method in {entry.name for entry in methods}
    return declared if declared.declared and compared else replace(given, declared=False)


def distances_of(settings: Flat) -> list[str]:
    """Metrics of ``evaluation.distances``: from the base where it names no references."""
    if settings.get("evaluation.distances.features") is None:
        return []
    own = settings.get("evaluation.distances.references") is None
    return [metric.name for metric in with_role("distance") if metric.against_base == own]


def reward_names(settings: Flat, *keys: str) -> list[str]:
    """Metrics of the rewards under ``keys``: those trained on, or those that are only measured."""
    return [
        name
        for key in keys
        for name in written_names(str(term["name"]) for term in settings.get(key, []))
    ]


def check_evaluated_alike(settings: Mapping[str, Flat], machine_keys: Collection[str]) -> None:
    """Raise AdrpoError, naming the first key, where two methods differ in a SHARED section in more
    than their domain's ``machine_keys``."""
    (first, expected), *others = settings.items()
    for name, received in others:
        key = _first_difference(
            expected, received, lambda key: key in machine_keys or not key.startswith(SHARED)
        )
        if key is not None:
            way_out = f"give all the same with --set {key}=VALUE"
            if key == "domain":
                way_out = "compare each domain by itself"
            raise AdrpoError(
                f"compare: expected recipes with one model, one set of prompts and one "
                f"evaluation; {first} has {key}={expected.get(key)!r}, but {name} has "
                f"{received.get(key)!r}; {way_out}"
            )


def record(plan: Plan) -> None:
    """Write comparison.json: the recipes and seeds that are compared now. Runs of others stay.

    Raises AdrpoError, and writes nothing, as ``check_folder`` does.
    """
    check_folder(plan)
    (plan.folder / "runs").mkdir(parents=True, exist_ok=True)
    content = {
        "recipes": {method.name: method.recipe for method in plan.methods},
        "overrides": list(plan.overrides),
        "seeds": list(plan.seeds),
        "primary": _kept_primary(plan).to_json(),
        "settings": {method.name: method.settings for method in plan.methods},
    }
    write_durably(plan.folder / RECORD, (json.dumps(content, indent=1) + "\n").encode())


def _kept_primary(plan: Plan) -> Primary:
    """The plan's primary comparison, or the declared one of the folder where the plan leaves out
    its method: fewer recipes take nothing back."""
    path = plan.folder / RECORD
    known = Primary.from_json(_read_record(path)) if path.exists() else plan.primary
    return known if known.declared else plan.primary


def check_folder(plan: Plan) -> None:
    """Raise AdrpoError where the folder holds something else, or a comparison with other overrides
    or other settings of the same recipes."""
    path = plan.folder / RECORD
    if path.exists():
        _check_extends(plan, _read_record(path))
    elif plan.folder.exists() and (not plan.folder.is_dir() or any(plan.folder.iterdir())):
        raise AdrpoError(
            f"{plan.folder}: expected a comparison's folder, or a new or empty one; received one "
            f"without {RECORD}; choose another --output-dir"
        )


def left_out(plan: Plan) -> list[str]:
    """The recipes and seeds of the folder's record that ``plan`` does not take, in words."""
    path = plan.folder / RECORD
    if not path.exists():
        return []
    found = _read_record(path)
    names = {method.name for method in plan.methods}
    return [
        *(name for name in found["recipes"] if name not in names),
        *(f"seed {seed}" for seed in found["seeds"] if seed not in plan.seeds),
    ]


def without_seed(settings: Flat) -> Flat:
    """The keys of a configuration that make up the method: all but the seed."""
    return {key: value for key, value in settings.items() if key != SEED_KEY}


def settings_that_differ(settings: Flat, reference: Flat) -> dict[str, tuple[Any, Any]]:
    """Key -> (own value, the reference's) where the two differ, words aside."""
    keys = sorted(settings.keys() | reference.keys())
    return {
        key: (settings.get(key), reference.get(key))
        for key in keys
        if key not in WORDS and settings.get(key) != reference.get(key)
    }


def _entry(recipe: str, overrides: Sequence[str]) -> Entry:
    config = load_recipe(recipe, overrides)
    config.check_trains()
    return Entry(_name(recipe), recipe, without_seed(flatten(config.model_dump(mode="json"))))


def _name(recipe: str) -> str:
    """A recipe's name as it stands; a path's file name without its ending."""
    return Path(recipe).stem if recipe.endswith((".yaml", ".yml")) else recipe


def _first_difference(expected: Flat, received: Flat, left_out: Any) -> str | None:
    keys = sorted(expected.keys() | received.keys())
    return next(
        (key for key in keys if not left_out(key) and expected.get(key) != received.get(key)),
        None,
    )


def _read_record(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        keys = {"recipes", "overrides", "seeds", "settings"}
        if not isinstance(found, dict) or not keys <= found.keys():
            raise ValueError("keys are missing")
    except (RecursionError, ValueError) as error:
        raise AdrpoError(
            f"{path}: expected the record of a comparison, received something else ({error}); "
            f"restore the file, or choose another --output-dir"
        ) from None
    return found


def _check_extends(plan: Plan, found: dict[str, Any]) -> None:
    way_out = "use the comparison's own settings, or choose another --output-dir"
    if found["overrides"] != list(plan.overrides):
        raise AdrpoError(
            f"{plan.folder} holds a comparison with --set {found['overrides']}, received "
            f"{list(plan.overrides)}; {way_out}"
        )
    ours = {method.name: method for method in plan.methods}
    for name, written in found["settings"].items():
        if name not in ours:
            continue
        resolved = resolve_settings(unflatten(written), str(plan.folder / RECORD))
        settings = without_seed(flatten(resolved))
        key = _first_difference(settings, ours[name].settings, lambda key: key in WORDS)
        if key is not None:
            raise AdrpoError(
                f"{plan.folder} holds runs of {name} with {key}={settings.get(key)!r}, but the "
                f"recipe now has {ours[name].settings.get(key)!r}; {way_out}"
            )
