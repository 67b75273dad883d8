"""A folder or a Hub id that is named as a model."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adrpo.errors import AdrpoError

if TYPE_CHECKING:
    from torch import Tensor

ADAPTER_CONFIG = "adapter_config.json"
"""File that PEFT writes beside an adapter's weights, with their scale in it."""

MODEL_CONFIG = "config.json"
"""File that describes a model of transformers."""

PIPELINE_INDEX = "model_index.json"
"""File that describes a pipeline of diffusers."""

MODELS = (MODEL_CONFIG, PIPELINE_INDEX)
WEIGHTS = (".safetensors", ".bin")
"""Endings of the files of weights that transformers and diffusers load."""

LORA_WEIGHTS = "pytorch_lora_weights.safetensors"
"""File of an adapter that diffusers writes."""

LOADS = {
    LORA_WEIGHTS: ("diffusers", "pipeline.load_lora_weights({place})"),
    ADAPTER_CONFIG: ("peft", "model = PeftModel.from_pretrained(model, {place})"),
    MODEL_CONFIG: ("transformers", "model = {kind}.from_pretrained({place})"),
}
"""File by which trained weights are known -> the library that loads them, and its line: an adapter
is put on the ``pipeline`` or ``model`` that is there, a whole model has a ``kind``."""

NO_CODE = {"trust_remote_code": False}
"""For every ``Auto*.from_pretrained``: a model's own Python is refused, and not asked about."""

SHOWN = 3
"""Names that an error lists; it counts all of them."""


def first_names(names: Sequence[str]) -> str:
    """The first few of ``names``, in words."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def loads(folder: Path) -> tuple[str, str]:
    """Library and line of LOADS for the weights in ``folder``; two empty texts where it has none
    of the files."""
    return next((LOADS[file] for file in LOADS if (folder / file).is_file()), ("", ""))


def description(name: str) -> dict[str, Any]:
    """The files that describe the model ``name``, a folder or one in the Hub's cache, by their
    names: those of MODELS that are there and hold a mapping."""
    found: dict[str, Any] = {}
    for file in MODELS:
        path = Path(name).expanduser() / file if Path(name).expanduser().is_dir() else None
        path = path or _cached(name, file)
        try:
            content = json.loads(path.read_text(encoding="utf-8")) if path else None
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(content, dict):
            found[file] = content
    return found


def lacks_weights(name: str) -> bool:
    """True where the Hub's cache has what describes the model ``name``, and of its weights none, or
    not all files that an index of theirs names."""
    found = [path for path in (_cached(name, file) for file in MODELS) if path is not None]
    if not found:
        return False
    folder = found[0].parent
    # A cached file is a link, which dangles where the file behind it was removed.
    if not any(file.suffix in WEIGHTS and file.is_file() for file in folder.rglob("*")):
        return True
    for index in folder.rglob("*.safetensors.index.json"):
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, LookupError, AttributeError, RecursionError):
            return True
        if not all((index.parent / shard).is_file() for shard in shards):
            return True
    return False


def _cached(name: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(name, file)
    except HFValidationError:
        return None
    return Path(path) if isinstance(path, str) else None


def refuse_adapter(name: str, folder: Path) -> None:
    """Raise AdrpoError where the folder ``name`` holds an adapter, and no model to put it on."""
    if any((folder / model).is_file() for model in MODELS):
        return
    if not any((folder / file).is_file() for file in (ADAPTER_CONFIG, LORA_WEIGHTS)):
        return
    base = named_base(folder / ADAPTER_CONFIG)
    raise AdrpoError(
        f"model.pretrained: expected a model, received {name}, an adapter"
        f"{f' of {base}' if base else ''}; name its model{f' ({base})' if base else ''} there; "
        f"adrpo sample and evaluate take the adapter beside it, as --lora {name}"
    )


@contextmanager
def whole_models(source: str | Path, base: Any) -> Iterator[None]:
    """A block in which a model that lacks weights is an AdrpoError of ``source``: libraries draw
    what is missing, and say so in a log alone.

    ``base`` is the class of transformers or diffusers whose ``from_pretrained`` loads it.
    """
    found: Any = base.__dict__["from_pretrained"]

    def load(cls: Any, *arguments: Any, **options: Any) -> Any:
        asked = options.pop("output_loading_info", False)
        model, info = found.__func__(cls, *arguments, output_loading_info=True, **options)
        if missing := sorted(map(str, info["missing_keys"])):
            raise AdrpoError(
                f"{source}: expected all weights of a {type(model).__name__}; there are none for "
                f"{len(missing)} of its tensors, such as {missing[0]}; download the model again, "
                f"or name one of that class"
            )
        return (model, info) if asked else model

    base.from_pretrained = classmethod(load)
    try:
        yield
    finally:
        base.from_pretrained = found


def check_words(tokenizer: Any, source: str, what: str = "the model's tokenizer") -> None:
    """Raise AdrpoError where ``tokenizer``, read from ``source``, has no words: without its files
    one still loads, empty, and every text would read the same."""
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise AdrpoError(
            f"expected {what} (tokenizer.json) in {source!r}, found one without words: save the "
            f"model's own tokenizer there with save_pretrained"
        )


def check_finite(source: Path, weights: Mapping[str, "Tensor"]) -> None:
    """Raise AdrpoError where a tensor of ``weights``, read from ``source``, is not finite."""
    broken = [name for name, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise AdrpoError(
            f"{source}: expected finite weights; received NaN or infinity in {len(broken)} of "
            f"{len(weights)} tensors, such as {broken[0]}; take an earlier checkpoint or another "
            f"copy"
        )


def part_settings(file: Path) -> dict[str, Any]:
    """The settings of a part's ``file``; AdrpoError where it is no mapping."""
    found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise AdrpoError(
            f"model.pretrained: expected the settings of a part in {file}; received a "
            f"{type(found).__name__}; download it again"
        )
    return found


def named_base(path: Path) -> str | None:
    """The base that ``path``, PEFT's file of an adapter, names; None where it names none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) and found else None
