"""Log lines that nobody else can forge, stretch or multiply, whatever text of a peer's got into a record."""

import logging
import time
from collections.abc import Callable

from roiae.text import shown, shown_lines

LINE = 2000  # characters of a message
TRACE_LINES, TRACE_LINE = 80, 300
BURST, EVERY_SECONDS = 60, 1.0  # records of one place in the code: at once, and then one in so many seconds


class SafeFormatter(logging.Formatter):
    """One line a record; a traceback below it is marked line by line, so that no text in it passes for a record."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = shown(record.message, LINE)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802
        whole = super().formatException(ei)  # type: ignore[arg-type]
        return "  | " + shown_lines(whole, TRACE_LINES, TRACE_LINE).replace("\n", "\n  | ")


class Flood(logging.Filter):
    """Lets each place in the code log so much and no more: what a peer makes it say again and again is counted.

    The number that was left out is told with the next record of that place. A flood hides what the same place says of
    other peers meanwhile, and nothing else.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._places: dict[tuple[str, int], tuple[float, float, int]] = {}  # tokens, when counted, left out since

    def filter(self, record: logging.LogRecord) -> bool:
        place, now = (record.name, record.lineno), self._clock()
        tokens, counted, left_out = self._places.get(place, (float(BURST), now, 0))
        tokens = min(float(BURST), tokens + (now - counted) / EVERY_SECONDS)
        if tokens < 1:
            self._places[place] = (tokens, now, left_out + 1)
            return False
        self._places[place] = (tokens - 1, now, 0)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} more like this were left out)", ()
        return True
