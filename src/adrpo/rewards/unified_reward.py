"""UnifiedReward: a vision-language model that writes a score of an image for its prompt."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from PIL.Image import Image

from adrpo.errors import AdrpoError, AdrpoWarning, reading, reading_template
from adrpo.rewards.image import ANOTHER, batches, load_image_processor, resolve_model
from adrpo.runs.model_folder import NO_CODE, check_finite, check_words
from adrpo.runs.picture_processor import of_pictures

Form = Literal["final", "dimensions"]

QUESTIONS: dict[Form, str] = {
    "final": (
        "You are given a text caption and a generated image based on that caption. Your task is "
        "to evaluate this image based on two key criteria:\n"
        "1. Alignment with the Caption: Assess how well this image aligns with the provided "
        "caption. Consider the accuracy of depicted objects, their relationships, and attributes "
        "as described in the caption.\n"
        "2. Overall Image Quality: Examine the visual quality of this image, including clarity, "
        "detail preservation, color accuracy, and overall aesthetic appeal.\n"
        "Extract key elements from the provided text caption, evaluate their presence in the "
        "generated image using the format: 'element (type): value' (where value=0 means not "
        "generated, and value=1 means generated), and assign a score from 1 to 5 after "
        "'Final Score:'.\n"
        "Your task is provided as follows:\nText Caption: [{prompt}]"
    ),
    "dimensions": (
        "You are presented with a generated image and its associated text caption. Your task is "
        "to analyze the image across multiple dimensions in relation to the caption. "
        "Specifically:\n"
        "Provide overall assessments for the image along the following axes (each rated from 1 to "
        "5):\n"
        "- Alignment Score: How well the image matches the caption in terms of content.\n"
        "- Coherence Score: How logically consistent the image is (absence of visual glitches, "
        "object distortions, etc.).\n"
        "- Style Score: How aesthetically appealing the image looks, regardless of caption "
        "accuracy.\n\n"
        "Output your evaluation using the format below:\n\n"
        "Alignment Score (1-5): X\nCoherence Score (1-5): Y\nStyle Score (1-5): Z\n\n"
        "Your task is provided as follows:\nText Caption: [{prompt}]"
    ),
}
"""Questions as the models were trained on them, word for word; source:
github.com/CodeGoat24/UnifiedReward."""

LABELS: dict[Form, tuple[str, ...]] = {
    "final": ("Final Score",),
    "dimensions": ("Alignment Score (1-5)", "Coherence Score (1-5)", "Style Score (1-5)"),
}
"""Words before the numbers of an answer."""

LEAST, GREATEST = 1.0, 5.0
KINDS = ("qwen2_5_vl", "qwen3_vl")
"""Architectures, as config.json names them."""


class UnifiedReward:
    """UnifiedReward: the score, from 1 to 5, that a vision-language model writes of an image.

    The model is shown the image, asked the question that it was trained on with the prompt in it,
    and its answer is taken token by token, the likeliest each time. ``form: final`` reads the
    number behind "Final Score:" (UnifiedReward 1.0 and 1.5), ``form: dimensions`` the mean of those
    behind "Alignment Score (1-5):", "Coherence Score (1-5):" and "Style Score (1-5):" (2.0). An
    answer without them, or with one outside 1 to 5, is no score: None; the first is warned of. Some
    trainers divide the score by 5: give the term ``weight: 0.2`` for their scale. Special tokens
    in a prompt are left out of the question. Source: arXiv 2503.05236.

    Args:
        model: a folder or Hub id of Qwen2.5-VL's or Qwen3-VL's architecture with its tokenizer,
            as CodeGoat24/UnifiedReward-qwen-3b, -qwen-7b, or CodeGoat24/UnifiedReward-2.0-qwen-3b
            with ``form: dimensions``; their cards have the licences. LLaVA-OneVision's (-7b-v1.5)
            are in no layout of transformers: serve them, for ``http_reward``.
        form: which question is asked, and what is read.
        device: where the model runs.
        dtype: of its weights and arithmetic; in bfloat16 an answer may depend on what is asked
            beside it.
        batch_size: images that are asked about at once; a memory knob.
        max_new_tokens: tokens of an answer at most; one that is cut before its score has none.

    Raises:
        AdrpoError: no such model, one of another architecture or without weights, no chat
            template, or a setting out of range.
    """

    def __init__(
        self,
        model: str | Path = "CodeGoat24/UnifiedReward-qwen-3b",
        form: Form = "final",
        device: str | torch.device = "cpu",
        dtype: Literal["bfloat16", "float32"] = "bfloat16",
        batch_size: int = 4,
        max_new_tokens: int = 512,
    ) -> None:
        dtypes = {"bfloat16": torch.bfloat16, "float32": torch.float32}
        if dtype not in dtypes:
            raise AdrpoError(f"unified_reward: expected {' or '.join(dtypes)}, received {dtype!r}")
        if form not in get_args(Form):
            raise AdrpoError(
                f"unified_reward: expected form {' or '.join(get_args(Form))}, received {form!r}"
            )
        for name, value in (("batch_size", batch_size), ("max_new_tokens", max_new_tokens)):
            if value < 1:
                raise AdrpoError(f"unified_reward: expected {name} >= 1, received {value!r}")
        self.form: Form = form
        self.batch_size, self.max_new_tokens = batch_size, max_new_tokens
        self._model, self._processor = _load(str(model), dtypes[dtype])
        self._model.to(device).eval().requires_grad_(False)
        self._device = torch.device(device)
        self._told = False
        added = self._processor.tokenizer.added_tokens_decoder.values()
        self._special_tokens = [str(token.content) for token in added if token.special]

    def __call__(
        self, prompts: Sequence[str], images: Sequence[Image], **columns: Any
    ) -> list[float | None]:
        """The score of each image for its prompt."""
        samples = list(zip(prompts, images, strict=True))
        answers = [text for part in batches(samples, self.batch_size) for text in self._ask(part)]
        scores = [parsed_score(answer, self.form) for answer in answers]
        if None in scores and not self._told:
            self._told = True
            answer = answers[scores.index(None)]
            warnings.warn(
                f"unified_reward: expected an answer with '{LABELS[self.form][0]}:' and a number "
                f"from 1 to 5, received {answer[-60:]!r} at its end; such samples have no score",
                AdrpoWarning,
                stacklevel=2,
            )
        return scores

    @torch.inference_mode()
    def _ask(self, samples: Sequence[tuple[str, Image]]) -> list[str]:
        """The model's answer about each (prompt, image)."""
        processor = self._processor
        with reading_template():
            texts = [
                processor.apply_chat_template(
                    [{"role": "user", "content": [
                        {"type": "image"},
                        {"type": "text", "text": self._question(prompt)},
                    ]}],
                    tokenize=False,
                    add_generation_prompt=True,
                )
                for prompt, _ in samples
            ]  # fmt: skip
        pictures = [[image.convert("RGB")] for _, image in samples]
        inputs = processor(text=texts, images=pictures, padding=True, return_tensors="pt")
        inputs = inputs.to(self._device)
        ids = self._model.generate(**inputs, max_new_tokens=self.max_new_tokens)
        answers = ids[:, inputs["input_ids"].shape[1] :]
        return processor.tokenizer.batch_decode(answers, skip_special_tokens=True)

    def _question(self, prompt: str) -> str:
        before = ""
        # Again and again: "<|im<|im_end|>_end|>" holds one, and then another.
        while prompt != before:
            before = prompt
            for token in self._special_tokens:
                prompt = prompt.replace(token, "")
        return QUESTIONS[self.form].replace("{prompt}", prompt)


def parsed_score(answer: str, form: Form) -> float | None:
    """The score in a model's ``answer``: the mean of the numbers behind the form's labels, each the
    first of its kind; None where one is missing or lies outside 1 to 5.

    >>> parsed_score("cat (animal): 1\\nFinal Score: 3.62", "final")
    3.62
    >>> parsed_score("Final Score: ten", "final")
    """
    numbers: list[float] = []
    for label in LABELS[form]:
        found = re.search(rf"{re.escape(label)}:\s*(\d+(?:\.\d+)?)", answer)
        if found is None or not LEAST <= float(found[1]) <= GREATEST:
            return None
        numbers.append(float(found[1]))
    return sum(numbers) / len(numbers)


def _load(name: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """The model and its processor."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    source = resolve_model(name, "vision-language")
    with reading(f"unified_reward: expected a vision-language model, received {source!r}", ANOTHER):
        config = AutoConfig.from_pretrained(source, **NO_CODE)
    if config.model_type not in KINDS:
        raise AdrpoError(
            f"unified_reward: expected a model of {' or '.join(KINDS)} in {source!r}, received "
            f"{config.model_type}: name a model of that architecture, or serve this one for "
            "http_reward"
        )
    with reading(f"unified_reward: expected a vision-language model, received {source!r}", ANOTHER):
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            source, dtype=dtype, output_loading_info=True, **NO_CODE
        )
    model, info = loaded
    if info["missing_keys"]:
        raise AdrpoError(
            f"expected a complete vision-language model in {source!r}, but its weights lack "
            f"{len(info['missing_keys'])} tensors, {min(info['missing_keys'])!r} among them: "
            "download it again"
        )
    check_finite(Path(source), dict(model.named_parameters()))
    settings = model.generation_config
    # What is left of it, such as a penalty on repetitions, holds.
    settings.do_sample = False
    settings.temperature = settings.top_p = settings.top_k = None
    return model, _processor(source, config)


def _processor(source: str, config: Any) -> Any:
    """The architecture's own processor, without its part for videos, which needs torchvision."""
    from transformers import AutoTokenizer
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    kind: Any = PROCESSOR_MAPPING[type(config)]
    with reading(f"unified_reward: expected a tokenizer in {source!r}", ANOTHER):
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left", **NO_CODE)
        written, _ = kind.get_processor_dict(source)
    check_words(tokenizer, source)
    template = written.get("chat_template") or tokenizer.chat_template
    if not template:
        raise AdrpoError(
            f"expected a chat template beside the vision-language model in {source!r}, found "
            "none: download it again"
        )
    return of_pictures(kind, load_image_processor(source, "vision-language"), tokenizer, template)
