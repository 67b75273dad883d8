"""What several tests of audio start from."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.asked_here import Saying, write_questions


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions of the sounds world in MMAU's layout."""
    return write_questions(tmp_path_factory.mktemp("data") / "mmau")


@pytest.fixture
def saying(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[list[str]], str]], Saying]:
    """Puts a model that says what a function of the choices gives in the place of any."""
    from adrpo.audio.drawing import AnswerDrawing

    def replaced(says: Callable[[list[str]], str]) -> Saying:
        model = Saying(says)
        monkeypatch.setattr(AnswerDrawing, "complete", lambda self, rows: model(rows))
        return model

    return replaced
