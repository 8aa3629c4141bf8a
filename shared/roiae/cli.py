"""What both commands share: an error becomes one message and its exit code, never a traceback."""

import signal
import sys
from types import FrameType

import typer

from roiae.errors import RoiaeError


def run_app(app: typer.Typer, name: str) -> int:
    """Run a typer application and return its exit code; a defect of ours keeps its traceback.

    A signal ends the command with 128 and its number: 130 for Ctrl-C, 143 for SIGTERM.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        app(prog_name=name)
    except RoiaeError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    print(f"stopped by {signal.Signals(number).name}; what was completed is kept", file=sys.stderr)
    sys.exit(128 + number)
