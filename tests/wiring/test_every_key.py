"""The tables have a row for every key of the settings page, and none for another."""

import pytest

from wiring import text_parts, text_run, text_steps_table
from wiring.flow_methods import ALGORITHM, PAIRS
from wiring.flow_parts import PARTS
from wiring.flow_run import RUN, STOPPED
from wiring.flow_shared_keys import (
    BESIDE,
    COPYING,
    DIFFERENCED,
    LAGGING,
    POINTS,
    REFUSED,
    TIMED,
    shared,
)
from wiring.flow_steps import STEPS
from wiring.image_groups import GROUPED
from wiring.page import keys_of
from wiring.table import AsAt, Elsewhere, Table
from wiring.text_prompts import SOUNDS, TEXTS

METHODS = (
    *(ALGORITHM, PAIRS, LAGGING, POINTS, COPYING, REFUSED, TIMED, BESIDE, GROUPED, DIFFERENCED),
)
SHARED = shared({key: row for table in METHODS for key, row in table.items()})
TABLES: dict[str, tuple[Table, ...]] = {
    "flow": (*METHODS, SHARED, PARTS, RUN, STEPS, STOPPED),
    "llm": (text_steps_table.STEPS, text_run.RUN, text_parts.PARTS, text_parts.LANGUAGE, TEXTS),
    "audio": (text_steps_table.STEPS, text_run.RUN, text_parts.PARTS, text_parts.AUDIO, SOUNDS),
}


@pytest.mark.parametrize("domain", TABLES)
def test_every_key_has_one_row(domain: str) -> None:
    rows, keys = [key for table in TABLES[domain] for key in table], keys_of(domain)
    assert len(keys) > 50
    assert len(rows) == len(set(rows))
    missing, gone = set(keys) - set(rows), set(rows) - set(keys)
    assert not missing, "give each a row in tests/wiring: its changed value, and what shows it"
    assert not gone, "take away the rows of keys that no section has"


@pytest.mark.parametrize("domain", TABLES)
def test_the_tests_that_rows_point_to_are_there_and_name_the_key(domain: str) -> None:
    found = {key: row for table in TABLES[domain] for key, row in table.items()}
    missing = {key: row.missing(key) for key, row in found.items() if isinstance(row, Elsewhere)}
    assert missing, "the table has such rows"
    assert not {key: wrong for key, wrong in missing.items() if wrong}


@pytest.mark.parametrize("domain", TABLES)
def test_a_shared_key_is_seen_at_another_one(domain: str) -> None:
    found = {key: row for table in TABLES[domain] for key, row in table.items()}
    for key, row in found.items():
        if isinstance(row, AsAt):
            assert not isinstance(found[row.key], AsAt), key
            assert key.rpartition(".")[2] == row.key.rpartition(".")[2]
