"""Every key of the domain flow that its model and its prompts show (wiring/flow_parts.py)."""

from pathlib import Path

import pytest

from wiring.flow_parts import PARTS
from wiring.table import Seen

HERE = {key: row for key, row in PARTS.items() if isinstance(row, Seen)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parts")


@pytest.mark.parametrize("key", HERE)
def test_the_model_and_its_prompts_follow_the_key(key: str, folder: Path) -> None:
    HERE[key].effect(folder, HERE[key].value)
