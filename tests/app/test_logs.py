"""Log lines: colours are for terminals."""

import io
import sys
from collections.abc import Iterator

import pytest
import structlog

from scaler.app.logs import configure_logs

ESCAPE = "\x1b"


class FakeStderr(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("what", "terminal", "no_color", "coloured"),
    [
        ("a terminal", True, "", True),
        ("a pipe or a file", False, "", False),
        ("a terminal of someone who wants none", True, "1", False),
    ],
)
def test_console_lines_are_coloured_only_where_colours_are_wanted(
    what: str, terminal: bool, no_color: str, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", FakeStderr(terminal))
    monkeypatch.setenv("NO_COLOR", no_color)
    configure_logs("info", "console")
    structlog.get_logger("headstart").warning("not kept", what="learned capacity")
    line = sys.stderr.getvalue()
    assert "not kept" in line
    assert (ESCAPE in line) == coloured
