"""A server in a process of its own that misbehaves as its path says, and reports what it saw.

GET /seen answers with one object for each POST of the path in its query, in the order of arrival.
"""

import base64
import io
import json
import re
import subprocess
import sys
import time
import urllib.request
import wave
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

LOCK = Lock()
SEEN: list[dict[str, Any]] = []
UNDER_WAY: list[str] = []

ALWAYS = 1000
# Kind -> status, error, how many times, headers.
FAILURES: dict[str, tuple[int, str, int, dict[str, str]]] = {
    "flaky": (503, "warming up", 2, {}),
    "limited": (429, "too many", 1, {"Retry-After": "1"}),
    "down": (500, "no\nmemory", ALWAYS, {}),
    "refused": (400, "wrong key {key}", ALWAYS, {}),
    "moved": (302, "gone", ALWAYS, {"Location": "/plain"}),
}


def start(*command: str) -> tuple[subprocess.Popen[str], str]:
    """A server's process, and the line it wrote when it was ready."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def seen(server: str, path: str) -> list[dict[str, Any]]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{server}/seen?{path}") as answer:
        return json.load(answer)


def first_token(top: list[tuple[str, float]]) -> dict[str, Any]:
    """A chat completion of one token, with its alternatives."""
    alternatives = [{"token": token, "logprob": logp, "bytes": None} for token, logp in top]
    content = [{**alternatives[0], "top_logprobs": alternatives}]
    return {"choices": [{"index": 0, "logprobs": {"content": content}}]}


def hears(body: dict[str, Any]) -> str | None:
    """The line of the text whose number is that of the sound's frames; None without a sound."""
    parts = body.get("messages", [{"content": []}])[0]["content"]
    if not parts or parts[0]["type"] != "input_audio":
        return None
    assert parts[0]["input_audio"]["format"] == "wav"
    data = base64.b64decode(parts[0]["input_audio"]["data"])
    with wave.open(io.BytesIO(data)) as sound:
        return parts[1]["text"].splitlines()[sound.getnframes()]


def content(kind: str, body: dict[str, Any], rewards: dict[str, list[float]]) -> str:
    said = hears(body)
    if said is not None and kind not in ("malformed", "deaf"):
        message = {"role": "assistant", "content": None if kind == "silent" else said}
        return json.dumps({"choices": [{"index": 0, "message": message}]})
    if kind == "short":
        rewards["rewards"].pop()
    if kind == "malformed":
        return "{'rewards': "
    if kind == "given":
        return body["columns"]["answer"][0]
    if kind == "judge":
        question = body["messages"][0]["content"][1]["text"]
        return question if question.startswith("{") else "null"
    return json.dumps(rewards)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[2]
        with LOCK:
            self.reply(200, json.dumps([entry for entry in SEEN if entry["path"] == path]))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with LOCK:
            UNDER_WAY.append(self.path)
            SEEN.append(
                {
                    "path": self.path,
                    "body": body,
                    "key": self.headers.get("Authorization"),
                    "time": time.monotonic(),
                    "under_way": UNDER_WAY.count(self.path),
                }
            )
            number = sum(entry["path"] == self.path for entry in SEEN)
        self.counted = True
        try:
            self.answer(re.split("[-/?]", self.path[1:])[0], number, body)
        finally:
            self.leave()

    def leave(self) -> None:
        """Count the request as answered: before its answer goes, upon which the next one comes."""
        with LOCK:
            if self.counted:
                UNDER_WAY.remove(self.path)
            self.counted = False

    def answer(self, kind: str, number: int, body: dict[str, Any]) -> None:
        """``number`` counts the path's requests from 1."""
        rewards = {"rewards": [float(len(str(prompt))) for prompt in body.get("prompts", [])]}
        status, error, times, headers = FAILURES.get(kind, (200, "", 0, {}))
        if number <= times:
            error = error.format(key=self.headers.get("Authorization"))
            self.reply(status, json.dumps({"error": error}), headers)
        elif kind == "dying" and number > 5:
            self.reply(500, json.dumps({"error": "no memory"}))
        elif kind == "trickle":
            self.trickle()
        elif kind == "dropped" and number == 1:
            self.connection.close()
        else:
            time.sleep({"slow": 1.5, "busy": 0.1}.get(kind, 0))
            self.leave()
            self.reply(200, content(kind, body, rewards), missing=3 if kind == "cut" else 0)

    def reply(
        self, status: int, answer: str, headers: dict[str, str] | None = None, missing: int = 0
    ) -> None:
        """``missing`` bytes are announced and never sent."""
        content = answer.encode()
        try:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content) + missing))
            self.end_headers()
            self.wfile.write(content)
        except BrokenPipeError:  # the client did not wait
            return

    def trickle(self) -> None:
        """A space each tenth of a second, so that no single wait is long."""
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(15):
                self.wfile.write(b" ")
                time.sleep(0.1)
        except (BrokenPipeError, ConnectionResetError):
            return

    def log_message(self, format: str, *args: Any) -> None:
        return


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
