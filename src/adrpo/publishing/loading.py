"""Code that loads what a run left in ``final/``, told by the files there."""

import json
from dataclasses import dataclass
from pathlib import Path

from adrpo.errors import AdrpoError
from adrpo.publishing.base import Base
from adrpo.runs.facts import Facts
from adrpo.runs.model_folder import ADAPTER_CONFIG, LORA_WEIGHTS, MODEL_CONFIG, loads

HERE = "path/to/final"
"""Place of weights that lie in no repository, in code: they know of no folder where they stay."""

NO_NAME = (
    f"In the code {HERE} stands for the place of this folder, or for the name of the repository "
    f"that it was uploaded to."
)


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Weights in words, the library that loads them, and the code for it."""

    what: str
    library_name: str
    tags: tuple[str, ...]
    words: str
    code: str


def loading(final: Path, repo: str | None, base: Base, facts: Facts) -> Loading:
    """The code that loads ``final`` from the repository ``repo`` on its ``base``, and more of it.

    Args:
        final: an adapter of diffusers, one of PEFT, or a whole model of transformers.
        repo: the repository's name; None for weights that lie in none.
        base: what an adapter is put on.
        facts: of the run's domain.

    Raises:
        AdrpoError: a folder that is none of these.
    """
    library, line = loads(final)
    if not library:
        raise AdrpoError(
            f"{final}: expected an adapter ({LORA_WEIGHTS} or {ADAPTER_CONFIG}) or a model "
            f"({MODEL_CONFIG}); received a folder without any; restore it, or train again"
        )
    package, _, kind = (facts.base_class or "transformers.AutoModel").rpartition(".")
    line = line.format(place=_text(repo or HERE), kind=kind)
    open_place = "" if repo else f" {NO_NAME}"
    if library == "transformers":
        return Loading(
            what="A fine-tuned copy",
            library_name=library,
            tags=(),
            words=f"It is a whole model, to be loaded as its base is.{open_place}",
            code=f"from {package} import {kind}\n\n{line}",
        )
    on, imports = (
        ("model", "from peft import PeftModel\n") if library == "peft" else ("pipeline", "")
    )
    return Loading(
        what="A LoRA adapter",
        library_name=library,
        tags=("lora",),
        words=f"{_words_on(base)}{open_place}",
        code=f"{_loaded(on, base, facts, imports)}\n{line}",
    )


def _loaded(variable: str, base: Base, facts: Facts, imports: str = "") -> str:
    """Lines that load the base into ``variable``."""
    if not facts.base_class:  # of an earlier version, whose runs don't say it
        return f"{imports}\n{variable} = ...  # the base, as you load it"
    package, _, name = facts.base_class.rpartition(".")
    imports += f"from {package} import {name}\n"
    place = _text(base.hub_id or base.name)
    if base.is_embedded and facts.embedded:
        imports = f"from adrpo.embedded.weights import weights_path\n{imports}"
        place = facts.embedded
    return f"{imports}\n{variable} = {name}.from_pretrained({place})"


def _words_on(base: Base) -> str:
    if base.hub_id is not None:
        return f"It is put on {base.name}."
    if base.is_embedded:
        return "It is put on the model that ships with the package adrpo."
    return (
        f"It is put on {base.name}, a folder of the machine that trained: name your own copy of "
        f"that model in its place."
    )


def _text(value: str) -> str:
    """``value`` as Python has it."""
    return json.dumps(value, ensure_ascii=False)
