"""The command line, run in this process."""

import sys

import pytest

from adrpo.cli import main


class Command:
    """Runs ``adrpo ARGUMENTS`` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        self._monkeypatch.setattr(sys, "argv", ["adrpo", *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        self.out, self.err = self._capsys.readouterr()
        # sys.exit(None) is a success for the shell.
        return int(stopped.value.code or 0)
