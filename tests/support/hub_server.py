"""A server on loopback that speaks as much of the Hub's API as an upload by huggingface_hub needs.

Small files come within the commit, weights by LFS or by Xet. Of Xet it gives out a store on this
machine's disk, which hf_xet itself writes and reads in the place of the one behind the Hub.
"""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

TOKEN = "hf_tokenOfTheTests"


@dataclass
class Repository:
    """A repository: its files by name, the pointers of LFS as their checksums, its commits, and the
    ``sizes`` of files that it says it has."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    pointers: dict[str, str] = field(default_factory=dict[str, str])
    commits: list[str] = field(default_factory=list[str])
    card: str = ""
    sizes: dict[str, int] = field(default_factory=dict[str, int])


@contextmanager
def as_the_hub(store: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[HubServer]":
    """A server in the place of the Hub, to which the user has logged in; without Xet."""
    server = HubServer(store)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield server
    server.close()


class HubServer:
    """The Hub, with ``repositories`` by name, ``blobs`` by checksum and the ``calls`` it was sent.

    ``refusal`` is the status and words with which it refuses what would change something.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.refusal: tuple[int, str] | None = None
        hub = self

        class Handler(_Handler):
            server_of = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and content of the answer to a call."""
        parts = path.partition("?")[0].strip("/").split("/")
        if method == "PUT":
            return self._take(parts[-1], body)
        if parts[0] == "api" and parts[1] in ("repos", "validate-yaml"):
            return (200, {}) if parts[1] == "validate-yaml" else self._create(json.loads(body))
        name = "/".join(parts[2:4]) if parts[0] == "api" else "/".join(parts[:2])
        found = self.repositories.get(name.removesuffix(".git"))
        if found is None:
            return 404, {"error": "Repository not found"}
        if parts[0] != "api":
            return 200, self._batch(json.loads(body))
        if len(parts) == 4:
            return 200, self._info(name, found)
        if parts[4] == "preupload":
            files = json.loads(body)["files"]
            return 200, {"files": [_mode(file["path"]) for file in files]}
        if parts[4] == "commit":
            return self._commit(name, found, [json.loads(line) for line in body.splitlines()])
        return 404, {"error": f"no {path} here"}

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = f"{asked.get('organization') or 'tester'}/{asked['name']}"
        status = 409 if name in self.repositories else 200
        private = asked.get("visibility") == "private"
        self.repositories.setdefault(name, Repository(private))
        return status, {"url": f"{self.url}/{name}", "name": name}

    def _info(self, name: str, found: Repository) -> dict[str, Any]:
        card = {"cardData": {"license": found.card}} if found.card else {}
        siblings = [{"rfilename": file, "size": size} for file, size in found.sizes.items()]
        return {"id": name, "private": found.private, "tags": [], "siblings": siblings, **card}

    def _batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        places = [(own, f"{self.url}/blobs/{own['oid']}") for own in asked["objects"]]
        objects = [{**own, "actions": {"upload": {"href": place}}} for own, place in places]
        return {"transfer": "basic", "objects": objects}

    def _take(self, oid: str, body: bytes) -> tuple[int, Any]:
        assert hashlib.sha256(body).hexdigest() == oid
        self.blobs[oid] = body
        return 200, {}

    def _commit(self, name: str, found: Repository, lines: list[Any]) -> tuple[int, Any]:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                found.commits.append(value["summary"])
            elif line["key"] == "file":
                found.files[value["path"]] = base64.b64decode(value["content"])
            else:
                found.pointers[value["path"]] = value["oid"]
        oid = f"{len(found.commits):040x}"
        return 200, {"commitUrl": f"{self.url}/{name}/commit/{oid}", "commitOid": oid}


def _mode(path: str) -> dict[str, Any]:
    return {
        "path": path,
        "uploadMode": "lfs" if path.endswith(".safetensors") else "regular",
        "shouldIgnore": False,
    }


class _Handler(BaseHTTPRequestHandler):
    server_of: HubServer

    def _any(self) -> None:
        hub = self.server_of
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.calls.append(f"{self.command} {self.path}")
        headers = {}
        # The place that takes the bytes of LFS is another one, which has no token.
        is_known = self.headers.get("Authorization") == f"Bearer {TOKEN}" or self.command == "PUT"
        if not is_known:
            status, content = 401, {"error": "Invalid username or password."}
        elif hub.refusal is not None and "repos/create" in self.path:
            status, content = hub.refusal[0], {"error": hub.refusal[1]}
        elif "xet-write-token" in self.path:
            until = int(time.time()) + 3600
            place = f"local://{hub.store}"
            status, content = 200, {"accessToken": "xet", "exp": until, "casUrl": place}
            headers = {
                "X-Xet-Cas-Url": place,
                "X-Xet-Access-Token": "xet",
                "X-Xet-Token-Expiration": str(until),
            }
        else:
            status, content = hub.answer(self.command, self.path, body)
            if status == 404:
                headers = {"X-Error-Code": "RepoNotFound"}
        self._reply(status, json.dumps(content).encode(), headers)

    def _reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_HEAD = _any

    def log_message(self, format: str, *args: Any) -> None:
        return
