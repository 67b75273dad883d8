"""A reward on another machine, over HTTP; docs/use/reward-server.md describes what is sent."""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL.Image import Image

from adrpo.errors import AdrpoError
from adrpo.rewards.completions import Completion, column
from adrpo.rewards.transport import JsonClient


class HttpReward:
    """The values of a reward that runs on another machine, of images or of completions.

    The samples are sent as JSON, images in it as PNG (RGB, in base64), never as pickles; the
    server answers with one number or null a sample. ``adrpo.rewards.server`` is such a server.

    Args:
        url: where the server takes POST requests, "http://host:port/path".
        batch_size: samples a request.
        columns: columns of the data that are sent, too; their values must be JSON, or pictures,
            such as the originals of a model that edits: PNG as the images.
        timeout: seconds for one answer.
        retries: further attempts after a failed connection, a timeout, or status 429 or 500 to
            599; any other status fails at once.
        backoff: seconds before the first of them, doubled for each further one.
        concurrency: requests under way at a time.
        api_key_env: environment variable whose content is sent as a bearer token.

    Raises:
        AdrpoError: a setting out of range; on a call, no answer after the last attempt, a status
            that is not tried again, or an answer that is not one number or null a sample.
    """

    def __init__(
        self,
        url: str,
        batch_size: int = 32,
        columns: Sequence[str] = (),
        timeout: float = 60.0,
        retries: int = 4,
        backoff: float = 0.5,
        concurrency: int = 4,
        api_key_env: str | None = None,
    ) -> None:
        if batch_size < 1:
            raise AdrpoError(f"http_reward: expected batch_size >= 1, received {batch_size!r}")
        self.batch_size, self.columns = batch_size, tuple(columns)
        self._client = JsonClient(
            "http_reward",
            url,
            timeout=timeout,
            retries=retries,
            backoff=backoff,
            concurrency=concurrency,
            api_key_env=api_key_env,
        )

    def __call__(
        self,
        prompts: Sequence[Any],
        images: Sequence[Image] | None = None,
        completions: Sequence[Completion] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """One value a sample, None where the server has none."""
        samples: dict[str, Sequence[Any]] = {"prompts": prompts}
        if images is not None:
            samples["images"] = images
        if completions is not None:
            samples["completions"] = completions
        for name in self.columns:
            samples[name] = _json_column(columns, name, len(prompts))
        parts = [
            slice(start, min(start + self.batch_size, len(prompts)))
            for start in range(0, len(prompts), self.batch_size)
        ]
        answers = self._client.post_all(parts, lambda part: self._payload(samples, part))
        scores: list[float | None] = []
        for part, answer in zip(parts, answers, strict=True):
            scores += self._rewards(answer, part.stop - part.start)
        return scores

    def _payload(self, samples: Mapping[str, Sequence[Any]], part: slice) -> dict[str, Any]:
        payload: dict[str, Any] = {name: list(values[part]) for name, values in samples.items()}
        if "images" in payload:
            payload["images"] = [encode_png(image) for image in payload["images"]]
        own = {name: payload.pop(name) for name in self.columns}
        pictures = {
            name: [None if value is None else encode_png(value) for value in own.pop(name)]
            for name in self.columns
            if _has_pictures(own[name])
        }
        parts = {"columns": own, "pictures": pictures}
        return payload | {name: part for name, part in parts.items() if part}

    def _rewards(self, answer: Any, count: int) -> list[float | None]:
        values = answer.get("rewards") if isinstance(answer, dict) else None
        if not isinstance(values, list) or len(values) != count:
            received = f"{len(values)} of them" if isinstance(values, list) else f"{answer!r:.60}"
            raise AdrpoError(
                f"{self._client.where}: expected an object with {count} 'rewards', one per sample, "
                f"received {received}; correct the server"
            )
        for value in values:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and math.isfinite(value)):
                raise AdrpoError(
                    f"{self._client.where}: expected each reward as a finite number or null, "
                    f"received {value!r:.60}; correct the server"
                )
        return [None if value is None else float(value) for value in values]


def encode_png(image: Image) -> str:
    """The image as RGB in a PNG file, in base64."""
    file = io.BytesIO()
    # Level 1: at the default level encoding costs more than a fast network saves.
    image.convert("RGB").save(file, format="PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _has_pictures(values: Sequence[Any]) -> bool:
    """True of a column of pictures, some of which may be missing."""
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, Image) for value in known)


def _json_column(columns: Mapping[str, Any], name: str, count: int) -> Sequence[Any]:
    values = column(columns, name, count, reward="http_reward", option="columns")
    if _has_pictures(values):
        return values
    try:
        json.dumps(list(values), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AdrpoError(
            f"http_reward: expected values that JSON can hold in the column {name!r} ({error}); "
            "take it out of the option 'columns'"
        ) from None
    return values
