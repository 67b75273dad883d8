"""Every key of the domains llm and audio, changed once (wiring/text_*.py)."""

import pytest

from support.tiny_audio_trainers import AUDIO_MARKS
from wiring.table import Seen, Table
from wiring.text_parts import PARTS
from wiring.text_prompts import SOUNDS, TEXTS
from wiring.text_run import RUN
from wiring.text_steps import Laboratory
from wiring.text_steps_table import STEPS

pytestmark = AUDIO_MARKS

BOTH: Table = {**STEPS, **RUN, **PARTS}
ROWS = {
    domain: {key: row for key, row in table.items() if isinstance(row, Seen)}
    for domain, table in (("llm", BOTH | TEXTS), ("audio", BOTH | SOUNDS))
}


@pytest.fixture(scope="module", params=ROWS)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    return Laboratory(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("key", list(dict.fromkeys(key for rows in ROWS.values() for key in rows)))
def test_what_is_seen_follows_the_key(key: str, lab: Laboratory) -> None:
    row = ROWS[lab.domain].get(key)
    if row is None:
        return
    row.effect(lab, row.value)
