"""What the tests of text rewards share."""

from typing import Any

import pytest

from adrpo.errors import AdrpoError

CITIES = ["Paris", "London", "New York", "a Roman town"]


def one(reward: Any, completion: Any, **columns: Any) -> float | None:
    """The reward of one completion whose row has ``columns``."""
    (value,) = reward(["q"], [completion], **{name: [column] for name, column in columns.items()})
    return value


def refusal(call: Any) -> str:
    """The one line that ``call`` is refused with."""
    with pytest.raises(AdrpoError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)
