"""Malformed inputs of every kind: a draw of those that ``make faults`` gives to the commands."""

import pytest

from support.tiny_language_trainers import LANGUAGE_MARKS
from tools.faults.inputs.bench import KINDS, InputBench
from tools.faults.trials import GOOD

pytestmark = LANGUAGE_MARKS

ENOUGH = 400


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> InputBench:
    return InputBench(tmp_path_factory.mktemp("bench"), seed=3)


def test_there_are_enough_of_all_kinds_and_none_twice(bench: InputBench) -> None:
    cases = bench.drawn(0)
    assert {case.kind for case in cases} == KINDS.keys()
    assert len(cases) >= ENOUGH
    told = [(case.kind, case.domain, case.what, *case.arguments) for case in cases]
    assert len(told) == len(set(told))


def test_a_draw_of_them_is_told_in_one_line_each(bench: InputBench) -> None:
    rows = list(bench.inputs(12))
    assert {row["trial"] for row in rows} == KINDS.keys()
    assert [row for row in rows if row["outcome"] not in GOOD] == []
    assert sum(row["outcome"] == "named" for row in rows) > len(rows) / 2
