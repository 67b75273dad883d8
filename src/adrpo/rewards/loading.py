"""From a configuration's reward section to callables."""

import difflib
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from adrpo.config import RewardTermSection, written_names
from adrpo.config.places import open_places
from adrpo.config.rewards import taken_name, taken_name_of_trained
from adrpo.config.secrets import resolved
from adrpo.errors import AdrpoError, reading
from adrpo.rewards.base import Logistic, RewardTerm

BUILT_IN = {
    "clip_score": "adrpo.rewards.image:ClipScore",
    "clip_novelty": "adrpo.rewards.image:ClipNovelty",
    "aesthetic": "adrpo.rewards.aesthetic:AestheticScore",
    "blip_score": "adrpo.rewards.blip:BlipScore",
    "image_reward": "adrpo.rewards.image_reward:ImageReward",
    "pick_score": "adrpo.rewards.pick_score:PickScore",
    "hps_score": "adrpo.rewards.hps:HpsScore",
    "unified_reward": "adrpo.rewards.unified_reward:UnifiedReward",
    "ocr_accuracy": "adrpo.rewards.ocr:OcrAccuracy",
    "geneval": "adrpo.rewards.geneval:GenEval",
    "scene_judge": "adrpo.rewards.scene_judge:SceneJudge",
    "scene_judge_strict": "adrpo.rewards.scene_judge:SceneJudgeStrict",
    "jpeg_size": "adrpo.rewards.file_size:JpegSize",
    "vlm_judge": "adrpo.rewards.judge:VlmJudge",
    "question_answer": "adrpo.rewards.questions:QuestionAnswer",
    "multiple_choice": "adrpo.rewards.multiple_choice:MultipleChoice",
    "exact_answer": "adrpo.rewards.text:ExactAnswer",
    "numeric_answer": "adrpo.rewards.numbers:NumericAnswer",
    "format": "adrpo.rewards.text:Format",
    "length": "adrpo.rewards.text:Length",
    "keywords": "adrpo.rewards.text:Keywords",
    "reasoning_gym": "adrpo.rewards.reasoning_gym:ReasoningGym",
    "reward_model": "adrpo.rewards.reward_model:RewardModel",
    "http_reward": "adrpo.rewards.remote:HttpReward",
}
"""Short name -> dotted path."""


WITH_WEIGHTS = ("model", "clip")
"""Options that name a model of the Hub, whose weights are loaded."""

NAMING = (*WITH_WEIGHTS, "tokenizer", "processor")
"""Options that name a repository of the Hub."""


class LogisticConfig(Protocol):
    """Parameters of ``adrpo.rewards.Logistic``."""

    @property
    def location(self) -> float: ...
    @property
    def scale(self) -> float: ...


class TermConfig(Protocol):
    """The settings of one term in a configuration."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> float: ...
    @property
    def logistic(self) -> LogisticConfig | None: ...
    @property
    def options(self) -> Mapping[str, Any]: ...
    @property
    def timeout(self) -> float | None: ...


def build_reward(terms: Sequence[TermConfig], device: str | torch.device) -> list[RewardTerm]:
    """One RewardTerm per configured term, in order.

    A name is a short name (``clip_score``) or a dotted path, "package.module:callable" or
    "package.module.callable". A class is called with its options (and with ``device``, where it
    takes one) and the instance is the reward; a function is the reward itself, with its options
    bound. A term is logged under the last part of its name; a second one of that name gets "_2".

    Raises:
        AdrpoError: no terms, a name that leads nowhere, or options that the reward does not take.
    """
    if not terms:
        raise AdrpoError("expected at least one reward term, received none (key 'reward')")
    built: list[RewardTerm] = []
    for term, name in zip(terms, written_names(term.name for term in terms), strict=True):
        target = _resolve(term.name)
        fitted = term.logistic
        logistic = None if fitted is None else Logistic(fitted.location, fitted.scale)
        function = _bind(term, target, device)
        built.append(RewardTerm(name, term.weight, function, logistic, term.timeout))
    return built


def training_reward(
    terms: Sequence[RewardTermSection],
    device: str | torch.device,
    *,
    measured: Sequence[RewardTermSection] = (),
    replacement: Callable[..., Any] | None = None,
) -> list[RewardTerm]:
    """The terms that training is rewarded by: those of a configuration, or a callable of the
    user's own in their place, logged under its name.

    Raises:
        AdrpoError: as :func:`build_reward`, and where a ``measured`` reward or a metric of every
            evaluation has the callable's name.
    """
    if replacement is None:
        return build_reward(terms, device)
    name = getattr(replacement, "__name__", "reward")
    wrong = taken_name_of_trained([RewardTermSection(name=name)]) or taken_name(measured, [name])
    if wrong is not None:
        raise AdrpoError(wrong)
    return [RewardTerm(name, 1.0, replacement)]


def build_measured(terms: Sequence[TermConfig], device: str | torch.device) -> list[RewardTerm]:
    """``build_reward`` for the rewards that are only measured, of which there may be none."""
    return build_reward(terms, device) if terms else []


def named_models(term: TermConfig) -> dict[str, str]:
    """Option -> folder or Hub id of what the reward of ``term`` loads, its defaults included.

    A reward with an ``url`` has its model elsewhere, and names none.

    Raises AdrpoError for a name that leads nowhere.
    """
    parameters = inspect.signature(_resolve(term.name)).parameters
    if "url" in parameters:
        return {}
    found = {
        name: term.options.get(name, parameters[name].default)
        for name in NAMING
        if name in parameters
    }
    return {name: str(model) for name, model in found.items() if isinstance(model, str)}


def _resolve(name: str) -> Callable[..., Any]:
    path = BUILT_IN.get(name, name)
    module_name, _, attribute = path.replace(":", ".").rpartition(".")
    if not module_name:
        near = difflib.get_close_matches(name, BUILT_IN, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(BUILT_IN)}"
        raise AdrpoError(
            "expected a reward's name or a dotted path 'package.module:callable', "
            f"received {name!r} (key 'reward'); {hint}"
        )
    open_places()
    # The module is the user's: importing it may raise anything.
    with reading(
        f"reward {name!r}: expected an importable module {module_name!r}",
        "put it beside the recipe, in the current folder or on PYTHONPATH, and mend it",
    ):
        module = _import(name, module_name)
    target = getattr(module, attribute, None)
    if target is None:
        near = difflib.get_close_matches(attribute, vars(module), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"see {module.__file__}"
        raise AdrpoError(f"reward {name!r}: module {module_name!r} has no {attribute!r}; {hint}")
    if not callable(target):
        raise AdrpoError(
            f"reward {name!r}: expected a function or a class, "
            f"received {type(target).__name__} in module {module_name!r}"
        )
    return target


def _import(name: str, module_name: str) -> Any:
    """The module of a reward; AdrpoError, without a traceback to keep, where there is none."""
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        own = error.name or ""
        if own != module_name and not module_name.startswith(f"{own}."):
            raise  # of something that the module itself imports
        ours = [Path(place or ".") for place in sys.path]  # not Python's own
        ours = [place for place in ours if not place.is_relative_to(sys.base_prefix)]
        ours = [place for place in ours if not place.is_relative_to(sys.prefix)]
        beside = {path.stem for place in ours for path in place.glob("*.py")}
        near = difflib.get_close_matches(module_name, beside, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "put it beside the recipe, in the current "
        hint += "" if near else "folder or on PYTHONPATH"
        raise AdrpoError(
            f"reward {name!r}: expected an importable module {module_name!r}, received no module "
            f"of this name; {hint}"
        ) from None


def _nearest_option(options: Mapping[str, Any], signature: inspect.Signature) -> str:
    for unknown in (option for option in options if option not in signature.parameters):
        near = difflib.get_close_matches(unknown, signature.parameters, n=1)
        if near:
            return f"did you mean {near[0]!r}?"
    return "correct 'options' of this term"


def _bind(
    term: TermConfig, target: Callable[..., Any], device: str | torch.device
) -> Callable[..., Any]:
    options = resolved(dict(term.options), f"reward {term.name!r}")
    signature = inspect.signature(target)
    if isinstance(target, type) and "device" in signature.parameters:
        options.setdefault("device", device)
    try:
        (signature.bind if isinstance(target, type) else signature.bind_partial)(**options)
    except TypeError as error:
        raise AdrpoError(
            f"reward {term.name!r}: options {sorted(term.options)} do not fit {signature} "
            f"({error}); {_nearest_option(term.options, signature)}"
        ) from error
    if isinstance(target, type):
        with reading(
            f"reward {term.name!r}: expected options that it can be made with, received "
            f"{sorted(term.options)}",
            "change its options, or mend what they name",
        ):
            return target(**options)
    return functools.partial(target, **options) if options else target
