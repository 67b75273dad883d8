"""A real browser that stays open while a page goes on, asked by Chromium's own protocol."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync")
MOST_SECONDS = 120


class Tab:
    """A tab of a browser."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._calls = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=MOST_SECONDS))
            if answer.get("id") == self._calls:
                return answer["result"]

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The value of ``expression`` as soon as it is true."""
        end = time.monotonic() + MOST_SECONDS
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"{expression} never became true"
            time.sleep(0.2)
        return value


@contextmanager
def opened(url: str, profile: Path) -> Iterator[Tab]:
    """A tab of a new browser with the page at ``url``."""
    from websockets.sync.client import connect

    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0"]
    process = subprocess.Popen([*command, "about:blank"], stderr=subprocess.DEVNULL)
    try:
        port_file, end = profile / "DevToolsActivePort", time.monotonic() + MOST_SECONDS
        while not (port_file.is_file() and port_file.read_text().count("\n")):
            assert time.monotonic() < end and process.poll() is None, "the browser did not start"
            time.sleep(0.1)
        port = port_file.read_text().split("\n")[0]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/json") as answer:
            tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
        with connect(tabs[0]["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
            tab = Tab(socket)
            tab.call("Page.navigate", url=url)
            yield tab
    finally:
        process.terminate()
        process.wait(MOST_SECONDS)
