"""The judge of the scenes world as a reward: what a caption asks for, checked in the pixels."""

from typing import Any, ClassVar, Literal, get_args

from PIL.Image import Image

from adrpo.embedded.gold import GOLD, STRICT, Thresholds, satisfied_share
from adrpo.embedded.rendering import SIZE
from adrpo.embedded.scenes import parse_caption
from adrpo.errors import AdrpoError

Value = Literal["verdict", "share", "mean"]


class SceneJudge:
    """Scene judge: what the picture meets of its caption's requirements, in [0, 1].

        share   = requirements that hold / requirements of the caption
        verdict = 1 where all hold, else 0
        mean    = (share + verdict) / 2

    The requirements (:func:`adrpo.embedded.gold.requirements`) are read from the pixels without any
    learned part: a verifiable reward, as GenEval's is for photographs. The verdict is the metric
    ``gold_accuracy``, so a run with this reward is trained on that metric, and says so. A share
    alone pays a picture for all but the hardest requirement; the mean pays for the whole as much
    again.

    None, no score, where the prompt is no caption of the scenes world.

    Args:
        value: which of the three.

    Raises:
        AdrpoError: another ``value``, or a picture that is not 64 x 64, the judge's only size.

    >>> import numpy as np
    >>> from adrpo.embedded.rendering import render
    >>> picture = render(parse_caption("a red circle"), np.random.default_rng(0))
    >>> prompts = ["a red circle", "a blue circle", "a dog"]
    >>> SceneJudge()(prompts, [picture] * 3)
    [1.0, 0.4, None]
    """

    name: ClassVar[str] = "scene_judge"
    limits: ClassVar[Thresholds] = GOLD

    def __init__(self, value: Value = "mean") -> None:
        if value not in get_args(Value):
            raise AdrpoError(
                f"{self.name}: expected value {', '.join(get_args(Value))}; received {value!r}"
            )
        self.value = value

    def __call__(
        self, prompts: list[str], images: list[Image], **columns: Any
    ) -> list[float | None]:
        """One score a sample, None where its prompt is no scene's caption."""
        return [self._score(*pair) for pair in zip(prompts, images, strict=True)]

    def _score(self, prompt: str, image: Image) -> float | None:
        try:
            scene = parse_caption(prompt)
        except ValueError:
            return None
        if image.size != (SIZE, SIZE):
            raise AdrpoError(
                f"{self.name}: expected pictures of {SIZE} x {SIZE} pixels, those of the embedded "
                f"model; received {image.width} x {image.height}; take another reward"
            )
        share = satisfied_share(image, scene, self.limits)
        verdict = float(share == 1)
        return {"share": share, "verdict": verdict, "mean": (share + verdict) / 2}[self.value]


class SceneJudgeStrict(SceneJudge):
    """Scene judge with narrower limits (:data:`adrpo.embedded.gold.STRICT`), a check on the other.

    Measured beside a training by ``scene_judge`` (``evaluation.rewards``) it tells whether the
    policy has learned what a caption asks for, or where the limits of that judge lie: its pictures
    then pass the one and fail the other. Takes and returns what :class:`SceneJudge` does.
    """

    name = "scene_judge_strict"
    limits = STRICT
