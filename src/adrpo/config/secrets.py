"""Keys and passwords in options: named in files, read from the environment, shown nowhere."""

import os
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

from adrpo.config.fields import refusal
from adrpo.errors import AdrpoError

WHOLE = re.compile(r"env:([A-Za-z_]\w*)")
WITHIN = re.compile(r"\{env:([A-Za-z_]\w*)\}")
SECRET = re.compile(
    r"(^|[-_.])(api[-_]?key|access[-_]?key|private[-_]?key|key|auth|authorization|bearer|token|"
    r"access[-_]?token|secret|password|passwd|pwd|sig|signature|credentials?)$",
    re.IGNORECASE,
)
"""Names under which a text is a secret in a URL's query."""
OPTIONS = re.compile(
    r"(^|[-_.])(api[-_]?key|access[-_]?key|private[-_]?key|auth|authorization|bearer|"
    r"(api|auth|access|bearer|hf)[-_]?token|secret|password|passwd|pwd|credentials?)$",
    re.IGNORECASE,
)
"""Names of options that hold a secret: a column may be called key or token, and does not."""

HIDDEN = "***"

_resolved: set[str] = set()


def refuse_plain_secrets(options: dict[str, Any]) -> dict[str, Any]:
    """Return ``options``, if no secret stands in them as it is.

    Raises the error of a field for a text under a secret's name, and for a URL with a user, or with
    such a name in its query: what stands in options is kept in config.yaml and report.html.
    """
    for path, value in _texts(options):
        name = path.rpartition(".")[2]
        if OPTIONS.search(name) and not _is_reference(value):
            raise refusal(_advice(path, "a text"))
        parts = _url(value)
        if parts is None:
            continue
        if "@" in parts.netloc:
            raise refusal(_advice(path, "a URL with a user in it"))
        for key, text in urllib.parse.parse_qsl(parts.query, keep_blank_values=True):
            if SECRET.search(key) and not WITHIN.fullmatch(text):
                raise refusal(_advice(path, f"a URL with {key}= in its query"))
    return options


def resolved(value: Any, where: str) -> Any:
    """``value`` with the environment variables that texts in it name: "env:NAME" is the whole of
    one, "{env:NAME}" a part.

    Args:
        value: JSON.
        where: what asks, for errors.

    Raises:
        AdrpoError: a variable that is not set, or empty.
    """
    if isinstance(value, dict):
        return {key: resolved(item, where) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(item, where) for item in value]
    if not isinstance(value, str):
        return value
    if whole := WHOLE.fullmatch(value):
        return _variable(whole[1], where)
    return WITHIN.sub(lambda found: _variable(found[1], where), value)


def redacted(text: str) -> str:
    """``text`` without the secrets that were resolved in this process."""
    for secret in sorted(_resolved, key=len, reverse=True):
        for form in (secret, urllib.parse.quote(secret, safe="")):
            text = text.replace(form, HIDDEN)
    return text


def _variable(name: str, where: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise AdrpoError(
            f"{where}: expected the environment variable {name!r}, which its options name, "
            f"received none; set it"
        )
    _resolved.add(value)
    return value


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each text in ``value`` with the keys that lead to it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, path)


def _is_reference(value: str) -> bool:
    """True of a text that is nothing but references, but for a word such as Bearer."""
    return bool(WHOLE.fullmatch(value) or WITHIN.search(value)) or not value


def _url(text: str) -> urllib.parse.SplitResult | None:
    if "://" not in text:
        return None
    try:
        return urllib.parse.urlsplit(text)
    except ValueError:
        return None


def _advice(path: str, received: str) -> str:
    return (
        f"expected {path} without a secret in it, since config.yaml and report.html keep what "
        f"stands here, received {received}; write env:NAME, or {{env:NAME}} within a text, and set "
        f"the environment variable NAME"
    )
