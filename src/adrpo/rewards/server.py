"""Serves a reward over HTTP to http_reward on other machines.

    python -m adrpo.rewards.server jpeg_size --port 8000 --options '{"quality": 80}'

docs/use/reward-server.md describes the protocol. There is no password: listen where only trusted
machines reach. What a client may ask is bounded (:class:`Limits`).
"""

import argparse
import base64
import io
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from PIL import Image

from adrpo.config import RewardTermSection
from adrpo.errors import AdrpoError
from adrpo.rewards.awaiting import awaited
from adrpo.rewards.base import Scores
from adrpo.rewards.loading import build_reward
from adrpo.runs.serving import BoundedServer, QuietHandler


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of what clients may ask of a server.

    ``connections`` at a time, beyond which the answer is 503; ``body`` bytes of a request and
    ``pixels`` of its images together, beyond which it is 413; ``seconds`` for a request to arrive,
    after which its connection is closed.
    """

    connections: int = 32
    body: int = 256 * 2**20
    pixels: int = 128 * 10**6
    seconds: float = 60.0


class Refused(Exception):
    """A request that is answered by ``status`` and its text, without the reward."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class RewardServer(BoundedServer):
    """Answers a POST to any path with the reward of the samples in it.

    The reward is called for one request at a time. What it raises is the text of a status 500.
    """

    def __init__(
        self,
        address: tuple[str, int],
        reward: Callable[..., Scores | Awaitable[Scores]],
        limits: Limits,
    ) -> None:
        self.reward, self.limits = reward, limits
        self.one_at_a_time = Lock()
        super().__init__(address, Handler, connections=limits.connections, seconds=limits.seconds)

    def scores(self, body: bytes) -> list[float | None]:
        """The reward of a request's samples."""
        try:
            samples = json.loads(body)
            samples |= samples.pop("columns", {})
            pictures = samples.pop("pictures", {})
            if "images" in samples:
                pictures["images"] = samples["images"]
            samples |= self._images(pictures)
        except Refused:
            raise
        except Exception as error:
            raise Refused(
                400, f"expected samples as JSON ({type(error).__name__}: {error})"
            ) from None
        with self.one_at_a_time:
            values = awaited(self.reward(**samples))
        return [_json_number(value) for value in values]

    def _images(
        self, columns: Mapping[str, Sequence[str | None]]
    ) -> dict[str, list[Image.Image | None]]:
        """The images of PNG files in base64, whose sizes are looked at before they are unpacked;
        None is none, but for a sample's own."""
        if None in columns.get("images", ()):
            raise ValueError("an image is null")
        found = {name: [_opened(text) for text in texts] for name, texts in columns.items()}
        images = [image for column in found.values() for image in column if image is not None]
        pixels = sum(image.width * image.height for image in images)
        if pixels > self.limits.pixels:
            raise Refused(
                413,
                f"expected at most {self.limits.pixels} pixels a request, received {pixels}; "
                f"send fewer samples a request (batch_size)",
            )
        return found


class Handler(QuietHandler):
    """One connection to a :class:`RewardServer`: one request and its answer."""

    server: RewardServer

    def do_POST(self) -> None:
        """Answer with the rewards, or with an error and its status."""
        try:
            status, answer = 200, {"rewards": self.server.scores(self._body())}
        except Refused as refused:
            status, answer = refused.status, {"error": str(refused)}
        except Exception as error:  # told to the client, for whom it is raised
            status, answer = 500, {"error": f"{type(error).__name__}: {error}"}
        self.answer(status, json.dumps(answer).encode(), "application/json")

    def _body(self) -> bytes:
        told = self.headers.get("Content-Length", "")
        if not told.isdecimal():
            raise Refused(411, f"expected a Content-Length, received {told!r}")
        if int(told) > self.server.limits.body:
            raise Refused(
                413,
                f"expected at most {self.server.limits.body} bytes, received {told}; send "
                f"fewer samples a request (batch_size)",
            )
        body = self.rfile.read(int(told))
        self.late.cancel()
        return body


def make_server(
    reward: Callable[..., Scores | Awaitable[Scores]],
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    limits: Limits | None = None,
) -> RewardServer:
    """A :class:`RewardServer` of ``reward`` that listens at once; ``port`` 0 takes a free one."""
    return RewardServer((host, port), reward, limits or Limits())


def _opened(text: str | None) -> Image.Image | None:
    if text is None:
        return None
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"])


def _json_number(value: Any) -> float | None:
    """None for what is not finite: it means "no score", and JSON has no number for it."""
    return float(value) if value is not None and math.isfinite(value) else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve one reward until interrupted; the first line written is its address."""
    parser = argparse.ArgumentParser(prog="adrpo.rewards.server", description=__doc__)
    parser.add_argument("reward", help="a reward's short name, or 'package.module:callable'")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--device", default="cpu", help="where the reward's model runs")
    parser.add_argument("--options", type=json.loads, default={}, help="the reward's, as JSON")
    asked = parser.parse_args(arguments)
    settings = RewardTermSection(name=asked.reward, options=asked.options)
    try:
        (term,) = build_reward([settings], asked.device)
    except AdrpoError as error:
        parser.error(str(error))
    with make_server(term.function, asked.host, asked.port) as server:
        host, port = str(server.server_address[0]), server.server_address[1]
        server.serve_until_stopped(f"{term.name} at http://{host}:{port}")


if __name__ == "__main__":
    main()
