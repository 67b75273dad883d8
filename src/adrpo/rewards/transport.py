"""JSON over HTTP, with retries and a bounded number of requests at a time."""

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, NoReturn, TypeVar

from adrpo.errors import AdrpoError

LONGEST_WAIT = 30.0
"""Seconds between two attempts at most."""

CHUNK = 1 << 16

T = TypeVar("T")


class _Answer(NamedTuple):
    status: int
    content: bytes
    retry_after: float


class JsonClient:
    """Sends JSON objects by POST and reads JSON answers.

    A connection that fails, an answer that takes longer than ``timeout``, and the statuses 429 and
    500 to 599 are tried again, ``retries`` times, after ``backoff`` seconds, then twice as many
    and so on (or what the server's Retry-After asks for), LONGEST_WAIT at most. Nothing is drawn
    at random, so that a run's generators stay as they are. Redirections are refused: they would
    carry the key elsewhere.

    Args:
        name: who asks, for messages.
        url: http or https, without a user or a password in it.
        timeout: seconds for one answer.
        retries: further attempts after the first.
        backoff: seconds before the first of them.
        concurrency: requests under way at a time.
        api_key_env: environment variable with a key, sent as "Authorization: Bearer ..."; read
            for each request, kept nowhere and never part of a message.

    Raises:
        AdrpoError: a setting out of range, or an environment variable that is not set.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        timeout: float,
        retries: int,
        backoff: float,
        concurrency: int,
        api_key_env: str | None,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            # Without the url itself: the user in it may come with a password.
            raise AdrpoError(
                f"{name}: expected a url as http://host:port/path, without a user in it, received "
                f"one with the scheme {parts.scheme!r} and the host {parts.hostname!r}"
            )
        for setting, value, least in (
            ("timeout", timeout, 1e-3),
            ("retries", retries, 0),
            ("backoff", backoff, 0),
            ("concurrency", concurrency, 1),
        ):
            if value < least:
                raise AdrpoError(f"{name}: expected {setting} >= {least:g}, received {value!r}")
        self._name, self._url = name, url
        # A query may hold a key.
        self.where = f"{name}: {parts._replace(query='', fragment='').geturl()}"
        self._timeout, self._retries, self._backoff = timeout, retries, backoff
        self._concurrency, self._api_key_env = concurrency, api_key_env
        self._key()

    def post_all(
        self,
        parts: Sequence[T],
        payload: Callable[[T], dict[str, Any]],
        *,
        keep: Callable[[T, Any], None] | None = None,
    ) -> list[Any]:
        """The answers to ``payload(part)`` of each part, in their order.

        Payloads are made in the requests' threads, so that only those under way are in memory.
        The first failure ends the others, but for those under way. ``keep(part, answer)`` is
        called in the request's thread for each answer as it arrives, so that it outlives a failure.

        Raises:
            AdrpoError: no answer after the last attempt, a status that is not tried again, or an
                answer that is not JSON.
        """
        if not parts:
            return []

        def ask(part: T) -> Any:
            answer = self._post(payload(part))
            if keep is not None:
                keep(part, answer)
            return answer

        with ThreadPoolExecutor(min(self._concurrency, len(parts))) as pool:
            answers = [pool.submit(ask, part) for part in parts]
            try:
                return [answer.result() for answer in answers]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _post(self, payload: dict[str, Any]) -> Any:
        body = json.dumps(payload, allow_nan=False).encode()
        reason, attempts = "", self._retries + 1
        for attempt in range(attempts):
            asked = 0.0
            try:
                answer = self._send(body)
            except (OSError, http.client.HTTPException) as error:
                reason = _describe(error)
            else:
                if 200 <= answer.status < 300:
                    return self._parse(answer.content)
                reason, asked = self._describe_status(answer), answer.retry_after
                if answer.status != 429 and answer.status < 500:
                    raise AdrpoError(
                        f"{self.where}: expected an answer, received {reason}; correct the url "
                        "or the request"
                    )
            if attempt + 1 < attempts:
                time.sleep(min(max(self._backoff * 2**attempt, asked), LONGEST_WAIT))
        raise AdrpoError(
            f"{self.where}: expected an answer, received {reason} at attempt {attempts} of "
            f"{attempts}; see whether the server runs, or raise timeout or retries"
        )

    def _send(self, body: bytes) -> _Answer:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := self._key():
            headers["Authorization"] = f"Bearer {key}"
        deadline = time.monotonic() + self._timeout
        request = urllib.request.Request(self._url, data=body, headers=headers, method="POST")
        try:
            response: Any = _OPENER.open(request, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            content = _read(response, deadline)
            asked = response.headers.get("Retry-After", "")
        return _Answer(response.status, content, float(asked) if asked.isdecimal() else 0.0)

    def _parse(self, content: bytes) -> Any:
        try:
            return json.loads(content, parse_constant=_refuse_constant)
        except ValueError as error:
            raise AdrpoError(
                f"{self.where}: expected an answer in JSON ({_one_line(error)}), received "
                f"{content[:60].decode(errors='replace')!r}; correct the server"
            ) from None

    def _describe_status(self, answer: _Answer) -> str:
        text = _one_line(answer.content[:500].decode(errors="replace"))
        if key := self._key():
            text = text.replace(key, "***")
        return f"status {answer.status} ({text:.200})"

    def _key(self) -> str:
        if self._api_key_env is None:
            return ""
        key = os.environ.get(self._api_key_env, "").strip()
        # What can't stand in a header would be quoted by the exception that says so.
        if not key or not key.isascii() or not key.isprintable():
            raise AdrpoError(
                f"{self._name}: expected a key of printable ASCII in the environment variable "
                f"{self._api_key_env!r} (option 'api_key_env'), received "
                f"{'another text' if key else 'none'}; set the variable"
            )
        return key


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _read(response: Any, deadline: float) -> bytes:
    content = b""
    # The socket's timeout starts anew with each packet: a trickle would never end.
    while chunk := response.read1(CHUNK):
        content += chunk
        if time.monotonic() > deadline:
            raise TimeoutError
    if response.length:
        raise http.client.IncompleteRead(content, response.length)
    return content


def _describe(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return "nothing before the timeout"
    return f"{type(reason).__name__} ({_one_line(reason)})"


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
