"""The tensors of a LoRA file, converted by diffusers or PEFT, with none of them lost on the way.

diffusers leaves out what it does not know, or what fits no layer, with a line in its log: the rest
is drawn with as if it were the adapter. Here each tensor of a file is followed through diffusers'
own converters to a layer, and the error names those that reach none.
"""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from adrpo.errors import AdrpoError, reading
from adrpo.runs.model_folder import ADAPTER_CONFIG, first_names

PEFT_PREFIX = "base_model.model."
"""Beginning of PEFT's names in its own files."""

MATRICES = {"lora_A": "lora_B", "lora_B": "lora_A"}

READS = frozenset({"item", "tolist", "__float__"})
"""Functions by which a converter takes the number out of a tensor."""


class _Followed(Tensor):
    """A tensor that knows from which tensors of a file it was computed."""

    sources: frozenset[str]
    taken: set[str]

    @classmethod
    def of(cls, name: str, value: Tensor, taken: set[str]) -> Self:
        """``value`` as the tensor ``name`` of a file; names whose numbers were taken out of their
        tensors are added to ``taken``."""
        followed = value.as_subclass(cls)
        followed.sources, followed.taken = frozenset({name}), taken
        return followed

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs or {})
        given = [leaf for leaf in tree_leaves((args, kwargs)) if hasattr(leaf, "sources")]
        names = frozenset[str]().union(*(leaf.sources for leaf in given))
        if given and getattr(func, "__name__", "") in READS:
            given[0].taken.update(names)
        for leaf in tree_leaves(result):
            if isinstance(leaf, cls):
                leaf.sources, leaf.taken = names, given[0].taken
        return result


Parts = dict[str, dict[str, Tensor]]
"""Part of a pipeline -> its tensors under PEFT's names."""


def weights_file(source: Path) -> Path:
    """The file of weights that ``source`` is, or the one in it that diffusers would read.

    Raises AdrpoError where there is none, or more than one that it might be.
    """
    from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE

    if source.is_file():
        return source
    usual = source / LORA_WEIGHT_NAME_SAFE
    found = [usual] if usual.is_file() else sorted(source.glob("*.safetensors"))
    if len(found) != 1:
        names = first_names([path.name for path in found])
        raise AdrpoError(
            f"{source}: expected the folder of a LoRA adapter, with {usual.name} in it or one "
            f"other .safetensors file; received {f'{len(found)}: {names}' if found else 'none'}; "
            f"name the file"
        )
    return found[0]


def is_peft(source: Path) -> bool:
    """True where ``source`` is a folder that PEFT's own ``save_pretrained`` wrote."""
    return (source / ADAPTER_CONFIG).is_file()


def convert(pipeline: Any, file: Path) -> Parts:
    """The tensors of ``file``, converted as ``pipeline.load_lora_weights`` converts them.

    Raises AdrpoError where diffusers reads no such file for this pipeline, or leaves a tensor of it
    out.
    """
    from safetensors.torch import load_file

    with naming_the_file(pipeline, file):
        raw = load_file(file)
        if all(name.startswith(PEFT_PREFIX) for name in raw):
            raise AdrpoError(_foreign(pipeline, file, raw, len(raw)))
        taken: set[str] = set()
        followed = {name: _Followed.of(name, value, taken) for name, value in raw.items()}
        options: dict[str, Any] = {"return_alphas": True, "return_lora_metadata": True}
        if hasattr(pipeline, "unet"):
            options["unet_config"] = pipeline.unet.config
        values, *more = pipeline.lora_state_dict(followed, **options)
        alphas = more[0] or {} if len(more) > 1 else {}
        kept = [*values.values(), *alphas.values()]
        reached = taken.union(*(value.sources for value in kept if hasattr(value, "sources")))
        if lost := sorted(raw.keys() - reached):
            raise AdrpoError(
                f"{file}: expected tensors that diffusers reads into {type(pipeline).__name__}; "
                f"it leaves out {listed(lost, len(raw))}; {ADVICE}"
            )
        parts = _by_part(pipeline, file, values)
        _check_alphas(file, alphas, values)
    return parts


ADVICE = "save the adapter by the pipeline's save_lora_weights, and name that file"


def _by_part(pipeline: Any, file: Path, values: Mapping[str, Tensor]) -> Parts:
    """``values`` under PEFT's names, by the part that stands before them.

    Raises AdrpoError where one names no part of ``pipeline``.
    """
    parts: Parts = {}
    foreign = []
    for name, value in values.items():
        part, _, rest = name.partition(".")
        if isinstance(getattr(pipeline, part, None), nn.Module) and rest:
            parts.setdefault(part, {})[rest] = value.as_subclass(Tensor)
        else:
            foreign.append(name)
    if foreign:
        raise AdrpoError(_foreign(pipeline, file, foreign, len(values)))
    return {part: _in_pefts_names(part, own) for part, own in parts.items()}


def _foreign(pipeline: Any, file: Path, names: Iterable[str], count: int) -> str:
    names = sorted(names)
    if all(name.startswith(PEFT_PREFIX) for name in names):
        way = (
            f"these are PEFT's names: name the folder in which {ADAPTER_CONFIG}, which has the "
            f"scale, lies beside adapter_model.safetensors"
        )
    else:
        way = f"diffusers has no converter of such names for this pipeline: {ADVICE}"
    return (
        f"{file}: expected names that begin with a part of {type(pipeline).__name__}, as "
        f"transformer.; received {listed(names, count)}; {way}"
    )


def _in_pefts_names(part: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """``values`` of ``part`` with the names that diffusers gives them as it loads them."""
    from diffusers.utils import (
        convert_state_dict_to_diffusers,
        convert_state_dict_to_peft,
        convert_unet_state_dict_to_peft,
    )

    if part.startswith("text_encoder"):
        return convert_state_dict_to_peft(convert_state_dict_to_diffusers(values))
    first = next(iter(values))
    if "lora_A" in first or ".lokr_" in first:
        return values
    return convert_unet_state_dict_to_peft(values)


def _check_alphas(file: Path, alphas: Mapping[str, Any], values: Mapping[str, Tensor]) -> None:
    """Raise AdrpoError where a layer has a scale and no matrices."""
    scaled = {name.removesuffix(".alpha") for name in alphas}
    starts = {name[: place.start()] for name in values for place in re.finditer(r"\.|$", name)}
    if alone := sorted(scaled - starts):
        raise AdrpoError(
            f"{file}: expected both matrices of each layer that has a scale; there are none for "
            f"{listed(alone, len(scaled))}; {ADVICE}"
        )


def check_fits(source: Path, component: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Raise AdrpoError where one of ``values``, under PEFT's names, fits no layer of ``component``,
    or is half of an update."""
    unfit = sorted(name for name, value in values.items() if not _fits(component, name, value))
    kind = type(component).__name__
    if unfit:
        way = "name an adapter of this model"
        if all(name.endswith("alpha") for name in unfit):
            way = (
                "diffusers reads no such scales for this model: multiply each lora_B by alpha / "
                "rank, and leave them out"
            )
        raise AdrpoError(
            f"{source}: expected an adapter whose tensors all fit a layer of {kind}; received "
            f"{listed(unfit, len(values))} that do not; {way}"
        )
    halves = sorted(
        name
        for name in values
        for one, other in MATRICES.items()
        if f".{one}.weight" in name and name.replace(f".{one}.", f".{other}.") not in values
    )
    if halves:
        raise AdrpoError(
            f"{source}: expected lora_A and lora_B of each layer; received "
            f"{listed(halves, len(values))} without the other; save the adapter again"
        )


def _fits(component: nn.Module, name: str, value: Tensor) -> bool:
    layer, found, rest = name.partition(".lora_")
    if not found:
        layer, found, rest = name.partition(".lokr_")
    try:
        # CLIP's text model has lost a level of its names.
        module = component.get_submodule(layer.removeprefix("text_model."))
    except AttributeError:
        try:
            module = component.get_submodule(layer)
        except AttributeError:
            return False
    if rest == "A.weight":
        return value.shape[1] == _width(module, "in_features", "in_channels")
    if rest == "B.weight":
        return value.shape[0] == _width(module, "out_features", "out_channels")
    return found == ".lokr_" or rest == "B.bias" or rest.startswith("magnitude_vector")


def _width(module: nn.Module, *names: str) -> int | None:
    return next((getattr(module, name) for name in names if hasattr(module, name)), None)


def listed(names: list[str], count: int) -> str:
    """The number of ``names`` among ``count`` tensors, and the first of them."""
    return f"{len(names)} of {count}: {first_names(names)}"


@contextmanager
def of_all_layers(source: Path) -> Iterator[None]:
    """A context in which an adapter that lacks layers of its own header is refused: PEFT warns, and
    leaves them as they are."""
    with warnings.catch_warnings():
        lacking = r"While injecting the PEFT adapters[\s\S]*additional target modules"
        warnings.filterwarnings("error", lacking, RuntimeWarning)
        try:
            yield
        except RuntimeWarning as warning:
            layers = " ".join(str(warning).partition("target modules: ")[2].split())[:200]
            raise AdrpoError(
                f"{source}: expected a tensor for each layer that its header names; there are none "
                f"for {layers}; take another copy"
            ) from None


@contextmanager
def naming_the_file(pipeline: Any, source: Path) -> Iterator[None]:
    """A context in which what diffusers, PEFT and safetensors raise becomes an AdrpoError of
    ``source``, and diffusers does not log what is checked here."""
    import diffusers
    from diffusers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    kind, version = type(pipeline).__name__, diffusers.__version__
    try:
        with reading(
            f"{source}: expected a LoRA file that diffusers {version} reads into {kind}", ADVICE
        ):
            yield
    finally:
        logging.set_verbosity(level)
