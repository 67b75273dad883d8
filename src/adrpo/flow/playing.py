"""A text-to-image model in a playground."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adrpo.config import FlowConfig
from adrpo.data.base import Prompt, columns_of
from adrpo.evaluation.playing import Asked, Played, scaled_adapter, scores_of, with_columns
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.models.prompt_set import PromptSet
from adrpo.flow.originals import opened
from adrpo.flow.path.draws import initial_noise
from adrpo.rewards.loading import build_measured, build_reward

if TYPE_CHECKING:
    from torch import Tensor


class ImagePlayer:
    """Pictures of ``policy``, which has the adapter that training began with, if any; a
    :class:`~adrpo.evaluation.playing.Player`.

    The noise is that of ``adrpo sample`` for one prompt: the same seed gives the same picture.
    """

    hears = False

    def __init__(
        self, config: FlowConfig, policy: PipelinePolicy, prompts: Sequence[Prompt]
    ) -> None:
        self.prompts = prompts
        self.policy = policy
        self.sampling = config.evaluation.sampling
        self.steps: int | None = self.sampling.steps
        self.reward = build_reward(config.reward, policy.device)
        self.others = build_measured(config.evaluation.rewards, policy.device)
        self._worn: Path | None = None
        self._encoded: PromptSet | None = None

    def base(self, asked: Asked) -> Played:
        with self.policy.reference():
            return self._draw(asked)

    def tuned(self, weights: Path, asked: Asked) -> Played:
        if weights != self._worn:
            self._worn = None  # until it has all of them
            self.policy.load_adapter(weights)
            self._worn = weights
        with scaled_adapter(self.policy.pipeline.transformer, asked.strength):
            return self._draw(asked)

    def _draw(self, asked: Asked) -> Played:
        sampling = self.sampling.model_copy(update={"steps": asked.steps or self.sampling.steps})
        asked_for = self._encoded_of(asked.prompt)
        x_0 = initial_noise(1, asked_for.shapes[0], asked.seed, "sample")
        x_1 = self.policy.sample(x_0, asked_for.conditioning, sampling)
        return self._scored(asked, x_1)

    def _scored(self, asked: Asked, x_1: "Tensor") -> Played:
        images = self.policy.decode(x_1)
        prompt = with_columns(Prompt(asked.prompt), self.prompts)
        columns = {"images": images, **opened(columns_of([prompt]))}
        scores, errors = scores_of(self.reward, self.others, columns)
        return Played(sample=images[0], scores=scores, errors=errors)

    def _encoded_of(self, text: str) -> PromptSet:
        """The prompt as the model reads it, which is the same in every panel; one of the held-out
        prompts has its negative prompt and size."""
        if self._encoded is None or self._encoded[0].text != text:
            prompt = with_columns(Prompt(text), self.prompts)
            self._encoded = PromptSet.encoded(self.policy, [prompt])
        return self._encoded
