"""GenEval: whether the objects that a prompt asks for are found in the image."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial as bind
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import normalize

from adrpo.data.published import read_geneval
from adrpo.errors import AdrpoError
from adrpo.rewards.detection import Box, Detection, Detector, load_detector
from adrpo.rewards.image import ClipScore

THRESHOLD = 0.3
"""An object counts where its score is greater."""

COUNTING_THRESHOLD = 0.9
"""An object counts where its score is greater, for prompts of the tag ``counting``."""

MAX_OBJECTS = 16
"""Objects of one class that are looked at, the most confident ones."""

POSITION_MARGIN = 0.1
"""Share of the two objects' summed width or height by which an offset is shortened."""

RELATIONS = ("left of", "right of", "above", "below")

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")

COLOR_TEMPLATES = (
    "a photo of a {color} {label}",
    "a photo of a {color}-colored {label}",
    "a photo of a {color} object",
)

BACKGROUND = "#999"
"""Color of what a mask leaves out."""

CLASS_NAMES = {
    "mouse": "computer mouse",
    "remote": "tv remote",
    "keyboard": "computer keyboard",
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
}
"""Detectors' names of COCO's classes -> GenEval's. The last six are Pascal VOC's names, which the
published configurations of transformers' COCO models use for the classes that both sets have."""


@dataclass(frozen=True)
class Requirement:
    """``count`` objects of the class ``label``, all of the color, all so placed.

    ``position``: (relation, index): each lies so relative to each object of that earlier
    requirement.
    """

    label: str
    count: int
    color: str | None = None
    position: tuple[str, int] | None = None


@dataclass(frozen=True)
class Task:
    """Requirements of one prompt: all of ``include``, and of each class in ``exclude`` fewer
    objects than its count."""

    tag: str
    include: tuple[Requirement, ...]
    exclude: tuple[Requirement, ...] = ()


Objects = Mapping[str, Sequence[Detection]]
"""Class -> its objects, the most confident first."""

ColorReader = Callable[[str, Sequence[Detection]], Sequence[str]]
"""From a class and objects of it to the color of each."""


def class_name(label: str) -> str:
    """GenEval's name of a detector's class."""
    return CLASS_NAMES.get(label, label)


def confident_objects(detections: Iterable[Detection], tag: str) -> dict[str, list[Detection]]:
    """The objects that count: per class at most 16, most confident first, nothing suppressed.

    Those with score > 0.3, or > 0.9 for the tag "counting". Classes have GenEval's names.
    """
    threshold = COUNTING_THRESHOLD if tag == "counting" else THRESHOLD
    likely = [found for found in detections if found.score > threshold]
    # The box settles equal scores, so that the detector's order never matters.
    likely.sort(key=lambda found: (-found.score, found.box))
    objects: defaultdict[str, list[Detection]] = defaultdict(list)
    for found in likely:
        objects[class_name(found.label)].append(found)
    return {label: same[:MAX_OBJECTS] for label, same in objects.items()}


def relations(box: Box, other: Box) -> frozenset[str]:
    """Place of ``box`` relative to ``other``: none, one or two of ``RELATIONS``.

        d  = center(box) - center(other)
        d' = sign(d) max(|d| - 0.1 (size(box) + size(other)), 0) / ||d||_2
        left of: d'_x < -1/2,  right of: d'_x > 1/2,  above: d'_y < -1/2,  below: d'_y > 1/2

    d, the sizes (width, height) and the maximum are per axis, y points down. Where the shortened
    offset, before the division, is less than 0.001 pixels on both axes, there is no relation.
    """
    offset = [(box[i] + box[i + 2] - other[i] - other[i + 2]) / 2 for i in (0, 1)]
    sizes = [abs(box[i + 2] - box[i]) + abs(other[i + 2] - other[i]) for i in (0, 1)]
    shortened = [
        math.copysign(max(abs(d) - POSITION_MARGIN * size, 0), d)
        for d, size in zip(offset, sizes, strict=True)
    ]
    if max(map(abs, shortened)) < 1e-3:
        return frozenset()
    x, y = (d / math.hypot(*offset) for d in shortened)
    holds = (x < -0.5, x > 0.5, y < -0.5, y > 0.5)
    return frozenset(name for name, held in zip(RELATIONS, holds, strict=True) if held)


def is_satisfied(task: Task, objects: Objects, colors: ColorReader) -> bool:
    """GenEval's verdict: every requirement of ``include`` is met, and none of ``exclude`` reached.

    A requirement looks at the ``count`` most confident objects of its class: all must have the
    color and the position, and there may be more objects, unless ``exclude`` forbids it (which is
    how counts are exact). A position relative to a requirement that is not met is not met either.
    """
    groups: list[Sequence[Detection] | None] = []
    for required in task.include:
        found = objects.get(required.label, [])[: required.count]
        met = (
            len(found) == required.count
            and (required.color is None or set(colors(required.label, found)) == {required.color})
            and _is_placed(required, found, groups)
        )
        groups.append(found if met else None)
    return None not in groups and not any(_is_reached(limit, objects) for limit in task.exclude)


def satisfied_share(task: Task, objects: Objects, colors: ColorReader) -> float:
    """A graded verdict to train on, in [0, 1]: the mean over the parts of the task. These are

    - for each requirement of ``include`` the number: max(0, 1 - |n - count| / count), n all objects
      of the class;
    - where it asks for a color: the share of its objects that have it, 0 unless n = count;
    - where it asks for a position: 1 if all its objects have it, else 0; 0 unless n = count, their
      colors are right, and so are number, colors and position of the objects it refers to;
    - for each class of ``exclude`` that ``include`` does not name: 1 below its count, else 0.

    1 implies :func:`is_satisfied`; the converse fails where more objects are found than asked for.

    Source: the reward of Flow-GRPO (arXiv 2505.05470). Its published server differs on GenEval's
    prompts in two points: a number beyond twice the count scores less than 0, and a missed position
    adds a part of 1 beside the part of 0.
    """
    parts: list[float] = []
    groups: list[Sequence[Detection] | None] = []
    for required in task.include:
        found = objects.get(required.label, [])
        met = len(found) == required.count
        parts.append(max(0.0, 1 - abs(len(found) - required.count) / required.count))
        if required.color is not None:
            right = list(colors(required.label, found)).count(required.color) if met else 0
            parts.append(right / required.count)
            met = right == required.count
        if required.position is not None:
            met = met and _is_placed(required, found, groups)
            parts.append(float(met))
        groups.append(found if met else None)
    included = {required.label for required in task.include}
    others = [limit for limit in task.exclude if limit.label not in included]
    parts += [float(not _is_reached(limit, objects)) for limit in others]
    return sum(parts) / len(parts)


def _is_placed(
    required: Requirement,
    found: Sequence[Detection],
    groups: Sequence[Sequence[Detection] | None],
) -> bool:
    if required.position is None:
        return True
    relation, index = required.position
    targets = groups[index]
    return targets is not None and all(
        relation in relations(one.box, other.box) for one in found for other in targets
    )


def _is_reached(limit: Requirement, objects: Objects) -> bool:
    return len(objects.get(limit.label, [])) >= limit.count


class ColorClassifier:
    """The color of an object: zero-shot classification by CLIP among ten names.

        argmax over colors of cos(image, mean of the three templates' unit embeddings)

    The image is the object's box, cut out after everything outside of its mask became grey (#999);
    without a mask, the box as it is.
    """

    def __init__(self, clip: ClipScore) -> None:
        self._clip = clip
        self._texts: dict[str, Tensor] = {}

    def __call__(self, image: Image, label: str, objects: Sequence[Detection]) -> list[str]:
        """One of ``COLORS`` for each object, all of the class ``label``."""
        if label not in self._texts:
            self._texts[label] = self._embed_colors(label)
        crops = self._clip.embed_images([cut_out(image, found) for found in objects])
        return [COLORS[index] for index in (crops @ self._texts[label].T).argmax(dim=1).tolist()]

    def _embed_colors(self, label: str) -> Tensor:
        texts = [
            template.format(color=color, label=label)
            for color in COLORS
            for template in COLOR_TEMPLATES
        ]
        rows = self._clip.embed_texts(texts).unflatten(0, (len(COLORS), len(COLOR_TEMPLATES)))
        return normalize(rows.mean(dim=1), dim=-1)


def cut_out(image: Image, found: Detection) -> Image:
    """The object's box, rounded to pixels, in RGB, on grey where it has a mask.

    Raises:
        AdrpoError: the mask is not of the image's size.
    """
    image = image.convert("RGB")
    if found.mask is not None:
        if found.mask.shape != (image.height, image.width):
            raise AdrpoError(
                f"geneval: expected a mask [height, width] of the image, "
                f"[{image.height}, {image.width}], for {found.label!r}, received "
                f"{list(found.mask.shape)}; correct the detector"
            )
        blank = PillowImage.new("RGB", image.size, BACKGROUND)
        shape = PillowImage.fromarray(found.mask.astype(np.uint8) * 255)
        image = PillowImage.composite(image, blank, shape)
    left, top, right, bottom = map(round, found.box)
    return image.crop((left, top, right, bottom))


class GenEval:
    """GenEval: 1 where the image shows what its prompt asks for, else 0, by an object detector.

    None for a prompt that the metadata lack. The rules and constants are those of GenEval (Ghosh et
    al., arXiv 2310.11513; github.com/djghosh13/geneval, MIT): :func:`confident_objects`,
    :func:`relations`, :func:`is_satisfied`, :class:`ColorClassifier`. Its overall score is the mean
    over the six tags of each tag's mean, which differs from the mean over all prompts.

    GenEval's own detector is mmdetection's Mask2Former (Swin-S, COCO). The default here is its
    authors' checkpoint of that architecture: other weights, so other values. Name the results
    GenEval-HF and measure the baseline again. Beyond the weights, images are resized by Pillow,
    and sides that are no multiple of 32 are stretched to one instead of padded.

    Args:
        metadata: evaluation_metadata.jsonl of the repository above, a file of Flow-GRPO's
            (dataset/geneval of github.com/yifan123/flow_grpo), or another of that form.
        detector: what :func:`adrpo.rewards.detection.load_detector` takes, or a detector.
        clip: the CLIP of the colors, as ``ClipScore`` takes it; GenEval's is OpenAI's ViT-L/14.
        partial: score by :func:`satisfied_share` instead, a denser reward to train on.
        device: where the models run, in float32.

    Raises:
        AdrpoError: a file or model that is missing or of another form, or a class that the
            detector can't find.
    """

    def __init__(
        self,
        metadata: str | Path,
        detector: str | Path | Detector = "facebook/mask2former-swin-small-coco-instance",
        clip: str | Path = "openai/clip-vit-large-patch14",
        partial: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        self._tasks = read_tasks(metadata)
        self._score = satisfied_share if partial else is_satisfied
        if isinstance(detector, str | Path):
            detector = load_detector(detector, device)
        self._detector = detector
        labels = getattr(detector, "labels", None)
        if labels is not None:
            _check_classes(self._tasks.values(), labels)
        self._colors = ColorClassifier(ClipScore(clip, device))

    def __call__(
        self, prompts: list[str], images: list[Image], **columns: Any
    ) -> list[float | None]:
        """One score a sample, None where its prompt is not in the metadata."""
        texts = [prompt.strip() for prompt in prompts]
        known = [row for row, text in enumerate(texts) if text in self._tasks]
        found = self._detector([images[row] for row in known]) if known else []
        if len(found) != len(known):
            raise AdrpoError(
                f"geneval: expected {len(known)} lists of detections, one an image, received "
                f"{len(found)}; correct the detector"
            )
        scores: list[float | None] = [None] * len(prompts)
        for row, detections in zip(known, found, strict=True):
            task = self._tasks[texts[row]]
            objects = confident_objects(detections, task.tag)
            scores[row] = float(self._score(task, objects, bind(self._colors, images[row])))
        return scores


def _check_classes(tasks: Iterable[Task], labels: Iterable[str]) -> None:
    asked = {required.label for task in tasks for required in (*task.include, *task.exclude)}
    unknown = sorted(asked - set(map(class_name, labels)))
    if unknown:
        raise AdrpoError(
            f"geneval: expected a detector of all classes in the metadata, but it lacks "
            f"{len(unknown)}, {unknown[0]!r} among them; name a detector of COCO's classes"
        )


def read_tasks(path: str | Path) -> dict[str, Task]:
    """Prompt -> what it asks for, from a file with one JSON object a line:

        {"tag": ..., "prompt": ..., "include": [...], "exclude": [...]}

    ``exclude`` may be absent. Entries are {"class": name, "count": n}, in ``include`` also with
    "color": name and "position": [relation, index of an earlier entry]. Blank lines are skipped.

    Raises:
        AdrpoError: a file that is missing, empty or not UTF-8, a line of another form, or one
            prompt with two meanings.
    """
    path = Path(path)
    prompts = read_geneval(path)
    lines = enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1)
    rows = [(number, json.loads(line)) for number, line in lines if line.strip()]
    tasks: dict[str, Task] = {}
    for prompt, (number, row) in zip(prompts, rows, strict=True):
        where = f"{path}, line {number}"
        task = Task(
            prompt.category,
            _read_requirements(row.get("include"), where),
            _read_requirements(row.get("exclude", []), where),
        )
        if not task.include and not task.exclude:
            raise AdrpoError(f"{where}: expected an object to include or exclude, received none")
        if tasks.setdefault(prompt.text, task) != task:
            raise AdrpoError(
                f"{where}: expected the requirements of an earlier line with this prompt, received "
                "others; remove one of the two"
            )
    return tasks


def _read_requirements(entries: Any, where: str) -> tuple[Requirement, ...]:
    if not isinstance(entries, list):
        raise AdrpoError(f"{where}: expected lists of objects, received {entries!r:.60}")
    return tuple(_read_requirement(entry, index, where) for index, entry in enumerate(entries))


def _read_requirement(entry: Any, index: int, where: str) -> Requirement:
    match entry:
        case {"class": str(label), "count": int(count)} if count >= 1:
            color, position = entry.get("color"), entry.get("position")
        case _:
            raise AdrpoError(
                f'{where}: expected "class" and a "count" of 1 or more, received {entry!r:.80}'
            )
    if color is not None and color not in COLORS:
        raise AdrpoError(f"{where}: expected a color of {', '.join(COLORS)}, received {color!r}")
    match position:
        case None:
            return Requirement(class_name(label), count, color)
        case [str(relation), int(target)] if relation in RELATIONS and 0 <= target < index:
            return Requirement(class_name(label), count, color, (relation, target))
    raise AdrpoError(
        f"{where}: expected a position [{' | '.join(RELATIONS)}, index of an earlier object], "
        f"received {position!r:.60}"
    )
