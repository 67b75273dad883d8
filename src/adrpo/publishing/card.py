"""The card of a run, out of its files: what was trained, how well, and how to load it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from adrpo.metrics import SPLITS
from adrpo.publishing.base import Base
from adrpo.publishing.loading import Loading, loading
from adrpo.publishing.markdown import escaped, fenced, table
from adrpo.publishing.shown import Shown
from adrpo.report.kept import (
    Kept,
    judges_trained_on,
    kept_weights,
    own_reward_lines,
    start_notices,
)
from adrpo.report.numbers import Printed, fixed
from adrpo.report.summary import MetricTable, beside, headline, leading, metric_table, unscored
from adrpo.runs.directory import RunDirectory
from adrpo.runs.facts import read_facts
from adrpo.runs.inputs import own_reward, read_record
from adrpo.runs.notices import notices_of
from adrpo.runs.recipe import described
from adrpo.runs.reward_terms import reward_terms

TEMPLATE = "publishing/card.md.j2"
LOCAL = re.compile(r"(?:^|(?<=:))(?:~|\.{0,2})/(?:[^/:]+/)*(?=[^/:]+)")
"""The folders before the last part of a path, which may stand behind a kind: "coco:/a/b.csv"."""


def card(
    run: RunDirectory, repo: str | None, base: Base, shown: Shown, final: Path | None = None
) -> str:
    """The card of ``run`` as README.md of the repository ``repo``: metadata for the Hub, then text.

    Args:
        run: a finished run.
        repo: None for weights that lie in no repository yet.
        base: of the run.
        shown: the samples, whose files lie beside the card.
        final: the folder of the weights where it has not taken its name ``final/`` yet.

    Raises:
        AdrpoError: a file of the run can't be read, or ``final/`` holds no weights that a library
            loads.
    """
    from huggingface_hub import ModelCard, ModelCardData

    facts = read_facts(run)
    use = loading(final or run.final, repo, base, facts)
    settings = run.read_settings()
    data = ModelCardData(
        base_model=base.hub_id,
        library_name=use.library_name,
        pipeline_tag=facts.task or None,
        tags=["adrpo", *use.tags, *_method_tags(settings)],
        license=base.licence.get("license"),
        license_name=base.licence.get("license_name"),
        license_link=base.licence.get("license_link"),
        widget=shown.widget() or None,
    )
    kept = kept_weights(run, settings, final)
    text = _render(_context(run, _title(repo, base), base, shown, use, kept))
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}"))


def _render(context: Mapping[str, Any]) -> str:
    # Markdown, in which HTML's escapes would be text: each value has a filter of its own.
    environment = Environment(
        autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"md": escaped, "fenced": fenced, "table": table}
    source = resources.files("adrpo").joinpath(TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(source).render(context) + "\n"


def _context(
    run: RunDirectory, title: str, base: Base, shown: Shown, use: Loading, kept: Kept | None
) -> dict[str, Any]:
    settings, facts = run.read_settings(), read_facts(run)
    step = kept.step or None if kept else None
    trained = judges_trained_on(run)
    evaluations = run.read_evaluations()
    first = leading(reward_terms(run))
    found = [
        metric_table(evaluations, split, step, trained=trained, first=first) for split in SPLITS
    ]
    tables = [own for own in found if own is not None]
    said = notices_of(run)
    told = [*start_notices(settings), *own_reward_lines(run), *(f"{line}." for line in said)]
    table = tables[0] if tables else None
    both = (headline(table), beside(table, said))
    sentences = ("".join(text for text, _ in sentence) for sentence in both)
    sentence = " ".join(filter(None, sentences))
    return {
        "title": title,
        "what": _what(use.what, base, settings, cut(described(run))),
        "headline": sentence,
        "notices": [cut(line) for line in [*([kept.sentence] if kept else []), *told]],
        "use": use,
        "results": [(_words(own, facts.samples), _rows(own)) for own in tables],
        "pictures": shown.picture_rows(),
        "completions": shown.completions,
        "training": [["", ""], *_training(run, settings, base)],
        "licence": _licence(base),
        "recipe": yaml.safe_dump(cut(settings), sort_keys=False, allow_unicode=True),
    }


def cut(value: Any) -> Any:
    """``value`` with the paths in its texts cut to their last part: the folders of a machine name
    its users."""
    if isinstance(value, Mapping):
        return {key: cut(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [cut(inner) for inner in value]
    if not isinstance(value, str) or "://" in value:
        return value
    return " ".join(LOCAL.sub("", word) for word in value.split(" "))


def _title(repo: str | None, base: Base) -> str:
    if repo is not None:
        return repo.rpartition("/")[2]
    return f"{base.words if base.is_embedded else base.name}, fine-tuned"


def _what(weights: str, base: Base, settings: Mapping[str, Any], description: str) -> str:
    """The first sentence: which ``weights``, of which base, and how they were trained."""
    about = description.strip().rstrip(".")
    return (
        f"{weights} of {base.words}, trained by online reinforcement learning with the method "
        f"{_method(settings)} of the package adrpo{f': {about}' if about else ''}."
    )


def _method(settings: Mapping[str, Any]) -> str:
    return str(_section(settings, "algorithm").get("method", "adrpo"))


def _method_tags(settings: Mapping[str, Any]) -> list[str]:
    method = _method(settings)
    return [] if method == "adrpo" else [method.replace("_", "-")]


def _section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = settings.get(name)
    return found if isinstance(found, Mapping) else {}


def _words(own: MetricTable, samples: str) -> str:
    """The number of prompts and samples that a table's numbers are over, in words."""
    paired = "; the change is paired, prompt by prompt" if own.final_step is not None else ""
    words = f"{own.split.capitalize()} prompts: {own.prompts} with {own.samples} {samples}, "
    words += f"each number with its 95 % interval{paired}."
    return " ".join([words, *unscored(own, samples)])


def _rows(own: MetricTable) -> list[list[str]]:
    if own.final_step is None:
        return [
            ["Metric", "Base"],
            *([escaped(row.label), _number(row.base)] for row in own.metrics),
        ]
    rows = [["Metric", "Base", f"Fine-tuned, step {own.final_step}", "Change", ""]]
    for row in own.metrics:
        numbers = map(_number, (row.base, row.final, row.change))
        rows.append([escaped(row.label), *numbers, row.verb])
    return rows


def _number(number: Printed | None) -> str:
    return "" if number is None else escaped(f"{number.value} {number.interval}".rstrip())


@dataclass(frozen=True)
class _Key:
    """A setting that the table of a card has: its label, section and key."""

    label: str
    section: str
    key: str


KEYS = (
    _Key("Coefficient of the penalty", "algorithm", "coefficient"),
    _Key("beta_0", "algorithm", "beta_0"),
    _Key("Anchor", "algorithm", "anchor"),
    _Key("Learning rate", "training", "learning_rate"),
    _Key("Prompts a step", "training", "prompts_per_step"),
    _Key("Samples a prompt", "training", "samples_per_prompt"),
    _Key("Adapter's rank", "adapter", "rank"),
    _Key("Adapter's alpha", "adapter", "alpha"),
    _Key("Seed", "training", "seed"),
    _Key("Source of the settings", "settings", "source"),
)


def _training(run: RunDirectory, settings: Mapping[str, Any], base: Base) -> list[list[str]]:
    rows: list[tuple[str, Any]] = [("Base", base.words), ("Method", _method(settings))]
    rows += [("Reward", _reward(run, settings)), *_prompts(run, settings)]
    metrics = run.read_metrics()
    rows.append(("Steps", fixed(metrics[-1]["step"], 0) if metrics else None))
    for place in KEYS:
        section = settings if place.section == "settings" else _section(settings, place.section)
        value = section.get(place.key)
        rows.append((place.label, value.get("schedule") if isinstance(value, Mapping) else value))
    environment = run.read_environment()
    git = environment.get("git")
    rows.append(("adrpo", environment.get("adrpo")))
    rows.append(("Commit", git.get("commit") if isinstance(git, Mapping) else None))
    packages = environment.get("packages")
    for name in ("torch", "diffusers", "transformers", "peft"):
        rows.append((name, packages.get(name) if isinstance(packages, Mapping) else None))
    told = [(name, cut(str(value))) for name, value in rows if value not in (None, "")]
    return [[escaped(name), escaped(value)] for name, value in told]


def _reward(run: RunDirectory, settings: Mapping[str, Any]) -> str:
    """The terms of the reward, with their weights."""
    own = own_reward(run)
    if own is not None:
        return own
    terms = [term for term in settings.get("reward") or () if isinstance(term, Mapping)]
    words = []
    for term in terms:
        weight = term.get("weight", 1)
        words.append(f"{term.get('name')}{'' if weight == 1 else f', weight {weight}'}")
    return "; ".join(words)


def _prompts(run: RunDirectory, settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Sources of the prompts, and how many they were."""
    section, record = _section(settings, "prompts"), read_record(run)
    train = section.get("train") or section.get("source")
    sources = {"train": train, "held_out": section.get("held_out") or train}
    labels = {"train": "Prompts of training", "held_out": "Held-out prompts"}
    found: list[tuple[str, Any]] = []
    for key, source in sources.items():
        count = f"{len(record['prompts'][key])} from " if record else ""
        found.append((labels[key], f"{count}{cut(str(source))}"))
    return found


def _licence(base: Base) -> str:
    if not base.licence_text:
        return (
            f"The licence of {base.words} was not known where this card was written. What holds "
            f"for the base holds for what was trained from it: look at its own page."
        )
    return f"{base.licence_text}: the licence of {base.words}, from which this was trained."
