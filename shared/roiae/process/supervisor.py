"""Child processes that stay up: started in order, restarted when they end, and gone when their parent is.

What each prints goes to a log file of its own that is rotated. A killed parent leaves nothing behind: on Linux the
kernel kills the children with it.
"""

import ctypes
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType

from roiae.text import shown

STOP_SECONDS = 10.0  # between SIGTERM and SIGKILL
BACK_OFF = (0.5, 5.0)  # seconds before a child that ended is started again: first, and at most
STEADY_SECONDS = 60.0  # a child that ran this long starts again without the back-off of earlier failures
TICK_SECONDS = 0.2
LOG_BYTES, LOG_FILES = 5_000_000, 3
LINE_CHARACTERS = 4000  # of a line; the rest of a longer one is left out
PR_SET_PDEATHSIG = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """A program to keep running."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)  # besides this process's own
    final: Callable[[int], bool] = lambda code: False  # whether an exit code means that its work is over
    idle: Callable[[int], bool] = lambda code: False  # whether it means that those beside it have lost nothing
    meaning: Callable[[int], str] = lambda code: ""  # what an exit code means to a person, where that is known
    echo: bool = False  # whether its output is also printed here


class _Child:
    def __init__(self, service: Service, logs: Path) -> None:
        self.service = service
        self._log = RotatingFileHandler(logs / f"{service.name}.log", "a", LOG_BYTES, LOG_FILES, "utf-8")
        self._reader: threading.Thread | None = None
        self._wait, self.started, self.due = BACK_OFF[0], 0.0, 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.over = False

    def start(self) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self.service.environment}
        self.process = subprocess.Popen(
            self.service.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which ends its children in order
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
        assert self.process.stdout
        output = io.TextIOWrapper(self.process.stdout, "utf-8", "replace", newline="\n")  # a lone \r ends no line
        self._reader = threading.Thread(target=self._copy, args=(output,), daemon=True)
        self._reader.start()
        self.started = time.monotonic()

    def ended(self) -> int | None:
        """The exit code of a child that has ended; when to start it again is then set."""
        assert self.process
        code = self.process.poll()
        if code is not None:
            self.process = None
            if time.monotonic() - self.started > STEADY_SECONDS:
                self._wait = BACK_OFF[0]
            self.due = time.monotonic() + self._wait
            self._wait = min(2 * self._wait, BACK_OFF[1])
        return code

    def stop(self) -> None:
        self.end()
        if self._reader is not None:
            self._reader.join()
        self._log.close()

    def end(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("%s did not end in %.0f s and is killed", self.service.name, STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it started, too
        process.wait()

    def _copy(self, stream: io.TextIOWrapper) -> None:
        with stream:
            for line in _lines(stream):
                safe = shown(line, LINE_CHARACTERS)  # a library's own lines may hold what a peer wrote
                self._log.emit(logging.makeLogRecord({"msg": safe}))
                if self.service.echo:
                    print(safe, flush=True)


class Supervisor:
    """Keeps services running; a context in which they are up, in the order given, and ends them in the reverse.

    Args:
        logs: the folder for their output, a file each.
        together: makes the same services anew, which are all started when one has ended that was not idle; None where
            each is started again by itself.
    """

    def __init__(
        self, services: Sequence[Service], logs: Path, together: Callable[[], Sequence[Service]] | None = None
    ) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._together = together
        self._children = [_Child(service, logs) for service in services]

    def __enter__(self) -> "Supervisor":
        try:
            for child in self._children:
                child.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def run(self, tick: Callable[[], bool] = lambda: True) -> int | None:
        """Restart what ends, until a service's work is over or `tick`, called several times a second, says stop.

        Returns:
            The exit code of the service whose work is over; None when `tick` ended it.
        """
        while tick():
            for child in self._children:
                if child.over:
                    continue
                if child.process is None:
                    if time.monotonic() >= child.due:
                        child.start()
                    continue
                code = child.ended()
                if code is None:
                    continue
                if child.service.final(code):
                    child.over = True
                    return code
                why = f" ({meaning})" if (meaning := child.service.meaning(code)) else ""
                log.warning("%s ended with code %d%s and is started again", child.service.name, code, why)
                if self._together and not child.service.idle(code):
                    self._end_beside(child)
                    for each, service in zip(self._children, self._together(), strict=True):
                        each.service = service
            time.sleep(TICK_SECONDS)
        return None

    def _end_beside(self, ended: _Child) -> None:
        for child in reversed(self._children):
            if child.process is not None:
                child.end()
                child.due = ended.due

    def stop(self) -> None:
        for child in reversed(self._children):
            child.stop()


def _lines(stream: io.TextIOWrapper) -> Iterator[str]:
    """What a child prints, line by line, no line longer than is shown: it need not end one, ever."""
    begins = True
    while piece := stream.readline(LINE_CHARACTERS + 1):
        if begins:
            yield piece.rstrip("\n")
        begins = piece.endswith("\n")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
