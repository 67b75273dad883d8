"""Accuracy with which the text that a prompt asks for is read in the image."""

import re
from typing import Any

from PIL.Image import Image

from adrpo.embedded.scenes import parse_caption
from adrpo.errors import AdrpoError

QUOTED = re.compile(r'"([^"]*)"|“([^”]*)”')


def named_text(prompt: str) -> str | None:
    """The text that a prompt asks for, or None.

    It is what stands in the first pair of double quotes; without quotes, the word or letter of a
    caption of the scenes world ("the word cat in blue").
    """
    quoted = QUOTED.search(prompt)
    if quoted:
        return quoted[1] or quoted[2] or None
    try:
        return parse_caption(prompt).text
    except ValueError:
        return None


def ocr_accuracy(read: str, target: str) -> float:
    """Share of ``target`` that was read, in [0, 1].

        1 - min(Lev(read, target), |target|) / |target|,   1 where target is a part of read

    Lev is the Levenshtein distance; case and spaces do not count. Words around the target cost
    nothing once it is read in full. Source: flow_grpo's OCR reward (arXiv 2505.05470).

    Raises:
        ValueError: nothing but spaces in ``target``.
    """
    read, target = (re.sub(r"\s", "", text.lower()) for text in (read, target))
    if not target:
        raise ValueError("expected a target with at least one character that is not a space")
    if target in read:
        return 1.0
    return 1 - min(_levenshtein(read, target), len(target)) / len(target)


def _levenshtein(a: str, b: str) -> int:
    """Insertions, deletions and substitutions that turn ``a`` into ``b``, row by row."""
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, start=1):
        above, row = row, [i]
        for j, other in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != other)))
    return row[-1]


class OcrAccuracy:
    """OCR accuracy: :func:`ocr_accuracy` of what a recognizer reads in the image, in [0, 1].

    None, no score, where the prompt asks for no text (see :func:`named_text`).

    The reader is rapidocr's PP-OCR (Apache-2.0) on the CPU; its models are part of its wheel, so
    nothing is downloaded. It takes a lone "o" for "0" and a lone "i" for "1".

    Args:
        detect: False: the image is one line of text, as in the scenes world, where the detector
            misses some lone letters. True: lines are detected first, then read and joined; what
            photographs need.

    Raises:
        AdrpoError: rapidocr is not installed.
    """

    def __init__(self, detect: bool = False) -> None:
        try:
            # rapidocr's engine, which it only looks for when it first reads.
            import onnxruntime  # noqa: F401  # pyright: ignore[reportMissingImports]
            from rapidocr import RapidOCR  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise AdrpoError(
                f"the reward ocr_accuracy needs rapidocr and onnxruntime ({error}): "
                "pip install '.[ocr]' in the folder of adrpo"
            ) from error
        self._reader: Any = RapidOCR(
            params={
                "Global.use_det": detect,
                "Global.use_cls": False,
                "Global.log_level": "error",
            }
        )

    def __call__(
        self, prompts: list[str], images: list[Image], **columns: Any
    ) -> list[float | None]:
        """One accuracy a sample, None where its prompt asks for no text."""
        scores: list[float | None] = []
        for prompt, image in zip(prompts, images, strict=True):
            target = named_text(prompt)
            scores.append(None if target is None else ocr_accuracy(self.read(image), target))
        return scores

    def read(self, image: Image) -> str:
        """The text in the image, "" where there is none."""
        return "".join(self._reader(image.convert("RGB")).txts or ())
