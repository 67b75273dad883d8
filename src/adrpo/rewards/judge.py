"""A vision-language model as judge: the probability that it answers yes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL.Image import Image

from adrpo.errors import AdrpoError
from adrpo.rewards.remote import encode_png
from adrpo.rewards.transport import JsonClient

QUESTION = 'Does this image show what the text says? Text: "{prompt}". Answer Yes or No.'

LARGEST_EXPONENT = 700.0
"""exp of it is near the largest float."""


class VlmJudge:
    """P(Yes): how surely a vision-language model says that an image fits its prompt, in [0, 1].

        p_yes / (p_yes + p_no)

    p_yes is the probability that the answer's first token is one of the forms of "yes" (" Yes",
    "yes", "YES"), summed over those among the ``top_logprobs`` most probable tokens; p_no likewise,
    0 where no form of "no" is among them. None where neither is. One request an image, to any
    server of OpenAI's chat completions with log-probabilities (vLLM and SGLang have them).
    Source: VQAScore (arXiv 2404.01291), with "no" as the only other answer.

    Args:
        url: the endpoint, as "http://host:8000/v1/chat/completions".
        model: the name under which the server has the model.
        question: what is asked about the image; "{prompt}" in it stands for the sample's prompt.
        top_logprobs: how many tokens are looked at; servers allow 20 or fewer.
        extra_body: further keys of the request, as
            {"chat_template_kwargs": {"enable_thinking": False}}: a model that thinks first has no
            score.
        timeout, retries, backoff, concurrency, api_key_env: as for
            :class:`adrpo.rewards.remote.HttpReward`.

    Raises:
        AdrpoError: a setting out of range; on a call, no answer after the last attempt, a status
            that is not tried again, or an answer without log-probabilities.
    """

    def __init__(
        self,
        url: str,
        model: str,
        question: str = QUESTION,
        top_logprobs: int = 20,
        extra_body: Mapping[str, Any] | None = None,
        timeout: float = 60.0,
        retries: int = 4,
        backoff: float = 0.5,
        concurrency: int = 8,
        api_key_env: str | None = None,
    ) -> None:
        if "{prompt}" not in question:
            raise AdrpoError(
                f"vlm_judge: expected a question with '{{prompt}}' in it, received {question!r:.60}"
            )
        if top_logprobs < 2:
            raise AdrpoError(f"vlm_judge: expected top_logprobs >= 2, received {top_logprobs!r}")
        self.model, self.question, self.top_logprobs = model, question, top_logprobs
        self.extra_body = dict(extra_body or {})
        self._client = JsonClient(
            "vlm_judge",
            url,
            timeout=timeout,
            retries=retries,
            backoff=backoff,
            concurrency=concurrency,
            api_key_env=api_key_env,
        )

    def __call__(
        self, prompts: Sequence[str], images: Sequence[Image], **columns: Any
    ) -> list[float | None]:
        """P(Yes) of each image for its prompt."""
        samples = list(zip(prompts, images, strict=True))
        return [
            self._probability(answer) for answer in self._client.post_all(samples, self._request)
        ]

    def _request(self, sample: tuple[str, Image]) -> dict[str, Any]:
        prompt, image = sample
        url = f"data:image/png;base64,{encode_png(image)}"
        return {
            "model": self.model,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": url}},
                        {"type": "text", "text": self.question.replace("{prompt}", prompt)},
                    ],
                }
            ],
            "max_tokens": 1,
            # Servers give log-probabilities before or after the temperature: at 1 they agree.
            "temperature": 1.0,
            "logprobs": True,
            "top_logprobs": self.top_logprobs,
            **self.extra_body,
        }

    def _probability(self, answer: Any) -> float | None:
        try:
            content = answer["choices"][0]["logprobs"]["content"]
            tokens = [
                (str(top["token"]), float(top["logprob"])) for top in content[0]["top_logprobs"]
            ]
        except (KeyError, IndexError, TypeError, ValueError):
            raise AdrpoError(
                f"{self._client.where}: expected an answer with "
                f"choices[0].logprobs.content[0].top_logprobs, received {answer!r:.120}; use a "
                "server that gives log-probabilities"
            ) from None
        return yes_probability(tokens)


def yes_probability(tokens: Sequence[tuple[str, float]]) -> float | None:
    """p_yes / (p_yes + p_no) from (token, log-probability) pairs, None without either answer, and
    where a log-probability is no number; minus infinity is that of an answer that is not given."""
    if any(math.isnan(logp) for _, logp in tokens):
        return None
    tokens = [(token, logp) for token, logp in tokens if logp > -math.inf]
    yes = _log_sum([logp for token, logp in tokens if _word(token) == "yes"])
    no = _log_sum([logp for token, logp in tokens if _word(token) == "no"])
    if yes is None:
        return None if no is None else 0.0
    if no is None:
        return 1.0
    # The logistic function of the difference: no probability is too small for it.
    return 1 / (1 + math.exp(min(no - yes, LARGEST_EXPONENT)))


def _word(token: str) -> str:
    # Ġ and ▁ stand for the space before a word in the vocabularies of some tokenizers.
    return token.strip(" \n\t\u0120\u2581").casefold()


def _log_sum(logps: Sequence[float]) -> float | None:
    if not logps:
        return None
    top = max(logps)
    return top + math.log(sum(math.exp(logp - top) for logp in logps))
