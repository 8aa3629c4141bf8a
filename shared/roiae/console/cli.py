"""What all commands share: an error becomes one message and its exit code, never a traceback."""

import logging
import signal
import sys
from collections.abc import Callable
from types import FrameType

import typer
import typer.core

from roiae.console.logs import LINE, Flood, SafeFormatter
from roiae.errors import RoiaeError
from roiae.text import shown_lines

MAX_LINES = 1000  # of an error's message: one for each bad row of a manifest


def new_app() -> typer.Typer:
    """A command line that helps in plain text."""
    # With rich installed, the last Typer that Flower allows escapes brackets for a markup that is off: \[required].
    typer.core.HAS_RICH = False
    return typer.Typer(
        add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
    )


def run_app(app: Callable[..., object], name: str) -> int:
    """Run a command and return its exit code; a defect of ours keeps its traceback.

    A signal ends the command with 128 and its number: 130 for Ctrl-C, 143 for SIGTERM.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        app(prog_name=name)
    except RoiaeError as error:
        print(f"{name}: {shown_lines(error, MAX_LINES, LINE)}", file=sys.stderr)
        return error.exit_code
    return 0


def log_as_a_service() -> None:
    """Log our own lines, bounded, and only warnings of the libraries': Flower has a line for every call."""
    handler = logging.StreamHandler()
    handler.setFormatter(SafeFormatter())
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.startswith(("roiae", "__main__")))
    handler.addFilter(Flood())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _stop(number: int, frame: FrameType | None) -> None:
    print(f"stopped by {signal.Signals(number).name}; what was completed is kept", file=sys.stderr)
    sys.exit(128 + number)
