"""Serves a reward over HTTP to http_reward on other machines.

    python -m adrpo.rewards.server jpeg_size --port 8000 --options '{"quality": 80}'

docs/use/reward-server.md describes the protocol. There is no password: listen where only trusted
machines reach.
"""

import argparse
import base64
import io
import json
import math
import sys
from collections.abc import Awaitable, Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from PIL import Image

from adrpo.config import RewardTermSection
from adrpo.errors import AdrpoError
from adrpo.rewards.awaiting import awaited
from adrpo.rewards.base import Scores
from adrpo.rewards.loading import build_reward


def make_server(
    reward: Callable[..., Scores | Awaitable[Scores]], host: str = "127.0.0.1", port: int = 8000
) -> ThreadingHTTPServer:
    """A server that answers a POST to any path with the reward of the samples in it.

    The reward is called for one request at a time. What it raises is the text of a status 500.
    """
    one_at_a_time = Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                samples = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                samples |= samples.pop("columns", {})
                if "images" in samples:
                    samples["images"] = [_decode_png(image) for image in samples["images"]]
                with one_at_a_time:
                    values = awaited(reward(**samples))
                status, answer = 200, {"rewards": [_json_number(value) for value in values]}
            except Exception as error:  # told to the client, for whom it is raised
                status, answer = 500, {"error": f"{type(error).__name__}: {error}"}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return ThreadingHTTPServer((host, port), Handler)


def _decode_png(text: str) -> Image.Image:
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
        host, port = server.server_address[:2]
        sys.stdout.write(f"{term.name} at http://{host}:{port}\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main()
