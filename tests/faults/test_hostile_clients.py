"""A reward server and clients that are slow, greedy or wrong: bounds on threads, bytes, pixels."""

import base64
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from PIL import Image

from adrpo.errors import AdrpoError
from adrpo.rewards.remote import HttpReward, encode_png
from adrpo.rewards.server import Limits, RewardServer, make_server


def lengths(prompts: list[str], **columns: Any) -> list[float]:
    return [float(len(prompt)) for prompt in prompts]


@contextmanager
def serving(**limits: Any) -> Iterator[tuple[str, RewardServer]]:
    with make_server(lengths, port=0, limits=Limits(**limits)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", server
        finally:
            server.shutdown()
            thread.join()


def post(url: str, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            text = error.read()
        return error.code, json.loads(text) if text else {}


def slow_client(url: str) -> socket.socket:
    """A connection that begins a request and never ends it."""
    client = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
    client.sendall(b"POST / HTTP/1.1\r\nContent-Le")
    return client


def answer_until_closed(client: socket.socket) -> bytes:
    """All that the server says before it hangs up; TimeoutError where it doesn't."""
    client.settimeout(30)
    said = b""
    try:
        while part := client.recv(4096):
            said += part
    except ConnectionError:
        pass
    return said


def test_slow_clients_hold_a_bounded_number_of_threads_and_not_for_good() -> None:
    with serving(connections=4, seconds=1.0) as (url, _):
        before = threading.active_count()
        clients = [slow_client(url) for _ in range(20)]
        time.sleep(0.3)
        # A thread and a timer for each of four; the other sixteen were turned away.
        assert threading.active_count() - before <= 8
        said = [answer_until_closed(client) for client in clients]
        # What a client has not sent yet may cost it the answer, and the connection is reset.
        assert all(answer == b"" or answer.startswith(b"HTTP/1.0 503") for answer in said)
        assert any(said)
        for client in clients:
            client.close()
        # Its places are free again: the reward's own client waits and asks again.
        assert HttpReward(url, retries=6, backoff=0.2)(prompts=["abc"]) == [3.0]


def test_a_client_that_trickles_is_hung_up_on() -> None:
    with serving(seconds=0.5) as (url, _):
        client = slow_client(url)
        begun = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - begun < 20:
                client.sendall(b"x")
                time.sleep(0.05)
        client.close()


def test_a_reward_may_take_longer_than_a_request() -> None:
    def slow(prompts: list[str], **_: Any) -> list[float]:
        time.sleep(1.0)
        return [1.0] * len(prompts)

    with make_server(slow, port=0, limits=Limits(seconds=0.3)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        assert HttpReward(url, retries=0)(prompts=["a"]) == [1.0]
        server.shutdown()


def test_a_large_body_is_refused_before_it_is_read() -> None:
    with serving(body=100) as (url, _):
        status, answer = post(url, json.dumps({"prompts": ["a" * 200]}).encode())
        assert status == 413
        assert answer["error"].startswith("expected at most 100 bytes, received 2")
        # A client fails at once, and says what to do.
        with pytest.raises(AdrpoError, match=r"status 413 .*batch_size"):
            HttpReward(url)(prompts=["a" * 200])


def bomb(side: int) -> str:
    """A PNG of a few kilobytes that unpacks to side x side pixels."""
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def test_pictures_that_unpack_to_too_much_are_not_unpacked() -> None:
    with serving(pixels=10_000) as (url, _):
        for images in ([bomb(200)], [bomb(80)] * 2):
            body = json.dumps({"prompts": ["a"] * len(images), "images": images}).encode()
            status, answer = post(url, body)
            assert status == 413 and "pixels a request" in answer["error"]
        own = encode_png(Image.new("RGB", (80, 80)))
        assert post(url, json.dumps({"prompts": ["ab"], "images": [own]}).encode()) == (
            200, {"rewards": [2.0]}
        )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[1, 2]", {}, 400),
        (b'{"prompts": ["a"], "images": ["no png"]}', {}, 400),
        (b'{"prompts": ["a"], "images": ["aGVsbG8="]}', {}, 400),
        (b'{"images": 3}', {}, 400),
        (b"{}", {"Content-Length": "-1"}, 411),
        (b'{"wrong": ["a"]}', {}, 500),
    ],
)
def test_what_is_no_request_is_answered(body: bytes, headers: dict[str, str], status: int) -> None:
    with serving() as (url, _):
        assert post(url, body, **headers)[0] == status
        assert post(url, b'{"prompts": ["abcd"]}') == (200, {"rewards": [4.0]})


def test_its_own_process_is_quiet_tells_where_it_listens_and_ends_in_one_line() -> None:
    command = [sys.executable, "-m", "adrpo.rewards.server", "length", "--port", "0"]
    options = ["--options", '{"target": 3}', "--host", "0.0.0.0"]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip().rpartition(" ")[2]
    url = address.replace("0.0.0.0", "127.0.0.1")
    post(url, b"{")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines() == [
        "note: 0.0.0.0 is no address of this machine alone: whoever reaches it can ask, there is "
        "no password",
        "stopped",
    ]
