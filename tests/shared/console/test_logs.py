"""The last line of defence: whatever is in a record, the log has bounded lines that nobody can forge."""

import logging

import pytest

from roiae.console.logs import BURST, LINE, TRACE_LINES, Flood, SafeFormatter
from tests.shared.test_text import HOSTILE


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    trace = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("roiae", logging.WARNING, __file__, 1, message, args, trace)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_record_is_one_line_whatever_is_in_it(text: str) -> None:
    line = SafeFormatter().format(record("%s: %s", text, text))

    assert line.isprintable() and len(line) < LINE + 50


@pytest.mark.parametrize("text", HOSTILE)
def test_a_traceback_is_marked_line_by_line(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError as error:
        first, *lines = SafeFormatter().format(record("it failed", error=error)).split("\n")

    assert first.endswith("it failed")
    assert lines[0] == "  | Traceback (most recent call last):"
    assert all(line.startswith("  | ") and line.isprintable() for line in lines)
    assert len(lines) <= TRACE_LINES + 1 and max(map(len, lines)) < 400


def test_a_place_that_says_the_same_again_and_again_is_cut_short_and_counted() -> None:
    now = [0.0]
    flood = Flood(lambda: now[0])

    passed = [flood.filter(record("%s refused", "b")) for _ in range(BURST + 1000)]
    now[0] = 10.0
    last = record("%s refused", "b")

    assert passed.count(True) == BURST
    assert flood.filter(last)
    assert last.getMessage() == "b refused (1000 more like this were left out)"


def test_a_flood_at_one_place_hides_no_other() -> None:
    flood = Flood(lambda: 0.0)
    for _ in range(BURST + 1):
        flood.filter(record("a"))
    other = record("b")
    other.lineno = 2

    assert flood.filter(other)
