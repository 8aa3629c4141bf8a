"""What all commands share, where text that somebody else wrote could get through."""

import logging

import pytest

from roiae.console.cli import log_as_a_service, run_app
from roiae.errors import SetupError


def test_an_error_is_printed_without_what_could_write_to_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def fails(prog_name: str) -> None:
        raise SetupError("first\x1b[2J\u202e\nsecond" + "k" * 1_000_000)

    assert run_app(fails, "roiae-client") == SetupError.exit_code

    first, second = capsys.readouterr().err.splitlines()
    assert first == "roiae-client: first\\x1b[2J\\u202e"
    assert len(second) <= 2000 and second.isprintable()


def test_a_service_logs_no_raw_text_in_a_line_or_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log_as_a_service()
    try:
        raise ValueError("\x1b[2J\nroiae-server: all well")
    except ValueError:
        logging.getLogger("roiae").exception("%s failed", "\x1b[31m\n2026-01-01 all well")

    lines = capsys.readouterr().err.splitlines()
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if "all well" in line and not line.startswith("  | ")] == lines[:1]
