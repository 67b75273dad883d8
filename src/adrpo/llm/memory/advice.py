"""The memory that ``adrpo doctor`` expects a language model's recipe to take, in words."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adrpo.config import RewardTermSection
from adrpo.config.llm import CompletionConfig
from adrpo.errors import reading_template
from adrpo.llm.context import bytes_of
from adrpo.llm.memory.architecture import Architecture, find_architecture, read_architecture
from adrpo.llm.memory.estimate import Lengths, Scorer, cheaper, estimate
from adrpo.llm.pretrained import model_source, tokenizer_options
from adrpo.memory import BYTES, UNKNOWN, Estimate, estimate_lines

ASSUMED_PROMPT = 256
"""Tokens of the longest prompt, while the prompts or the tokenizer are not on this machine."""

MEASURED_PROMPTS = 8
"""The prompts with most bytes, among which the one with most tokens is looked for."""

TOKENS_PER_BATCH = 16384
"""Tokens of a reward model's pass, where its option does not say."""

REWARD_MODELS = ("reward_model", "adrpo.rewards.reward_model:RewardModel")
"""Names of the reward that runs a model on the GPU."""


def memory_lines(
    config: CompletionConfig, prompts: Sequence[Any], available: float | None
) -> list[str]:
    """The estimate in words (``estimate_lines``), for a GPU of ``available`` bytes or for none.

    ``prompts`` are all that are trained on or evaluated, none where they are not here.

    Raises AdrpoError where :func:`~adrpo.llm.pretrained.model_source` does.
    """
    architecture = find_architecture(config.model)
    if architecture is None:
        return [unknown(config.model.pretrained)]
    found = longest_prompt(config, prompts)
    assumed = "assumed" if found is None else "the longest here"
    completion = config.generation.max_completion_length
    lengths = Lengths(prompt=ASSUMED_PROMPT if found is None else found, completion=completion)
    return described(
        config,
        lambda changed: estimate_recipe(architecture, changed, lengths),
        f"for prompts of {lengths.prompt} tokens ({assumed}) and {completion} more",
        available,
    )


def unknown(pretrained: str) -> str:
    """The line that stands for an estimate where the config.json of the model is not here."""
    return (
        f"{UNKNOWN}the config.json of {pretrained} is not on this machine; the first run fetches "
        f"it, or: hf download {pretrained} config.json"
    )


def described(
    config: CompletionConfig,
    estimated: Callable[[CompletionConfig], Estimate],
    lengths: str,
    available: float | None,
) -> list[str]:
    """The estimate of ``config`` in words, with what is ``estimated`` for cheaper settings.

    Args:
        config: the recipe.
        estimated: the estimate of a changed one.
        lengths: a line, of which rows it holds.
        available: bytes of the GPU; None: there is none.
    """
    totals = {change: estimated(changed).total for change, changed in cheaper(config)}
    lines = estimate_lines(estimated(config), totals, available)
    lines.insert(3, lengths)
    return lines


def estimate_recipe(
    architecture: Architecture, config: CompletionConfig, lengths: Lengths
) -> Estimate:
    """Memory of training ``config``, and of the models that score."""
    scorers, uncounted = scoring_models(config)
    return estimate(architecture, config, lengths, scorers=scorers, uncounted=uncounted)


def scoring_models(config: CompletionConfig) -> tuple[list[Scorer], list[str]]:
    """The models that score on the GPU: those whose size is known, and the names of others."""
    scorers: list[Scorer] = []
    uncounted: list[str] = []
    for term in (*config.reward, *config.evaluation.rewards):
        model = term.options.get("model")
        if not isinstance(model, str) or term.options.get("device") == "cpu":
            continue
        scorer = _scorer(term, model) if term.name in REWARD_MODELS else None
        if scorer is None:
            uncounted.append(f"{term.name} {model}")
        else:
            scorers.append(scorer)
    return scorers, uncounted


def longest_prompt(config: CompletionConfig, prompts: Sequence[Any]) -> int | None:
    """Tokens of the longest of ``prompts``, as training tokenizes them; None where there are none,
    or no tokenizer on this machine."""
    from transformers import AutoTokenizer

    if not prompts:
        return None
    source, options = model_source(config.model), tokenizer_options(config.model)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source, local_files_only=True, **options)
    except Exception:  # a library's: loading the model tells of it
        return None
    return most_tokens(tokenizer, prompts, config.model.chat_template_kwargs)


def most_tokens(tokenizer: Any, prompts: Sequence[Any], template: Mapping[str, Any]) -> int:
    """Tokens of the longest of ``prompts``; ``template`` are variables of the chat template."""
    longest = 0
    for prompt in sorted(prompts, key=bytes_of)[-MEASURED_PROMPTS:]:
        if not isinstance(prompt, str):
            with reading_template():
                prompt = tokenizer.apply_chat_template(
                    prompt, add_generation_prompt=True, tokenize=False, **template
                )
            longest = max(longest, len(tokenizer(prompt, add_special_tokens=False)["input_ids"]))
        else:
            longest = max(longest, len(tokenizer(prompt)["input_ids"]))
    return longest


def _scorer(term: RewardTermSection, model: str) -> Scorer | None:
    """The model of a reward; None where its config.json is not here, or an option is wrong."""
    from adrpo.embedded.weights import weights_path
    from adrpo.rewards.reward_model import EMBEDDED

    size = BYTES.get(str(term.options.get("dtype", "bfloat16")))
    tokens = term.options.get("tokens_per_batch", TOKENS_PER_BATCH)
    source = str(weights_path("language_reward")) if model == EMBEDDED else model
    architecture = read_architecture(source, scores=True)
    if architecture is None or size is None or not isinstance(tokens, int):
        return None
    return Scorer(architecture=architecture, size=size, tokens=tokens)
