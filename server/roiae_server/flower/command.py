"""How the SuperLink is started: for `service.py`, which has no need of Flower itself."""

import sys
from pathlib import Path


def superlink_command(state: Path, socket: Path) -> tuple[str, ...]:
    """The SuperLink at a unix socket.

    Args:
        state: holds the database and the secret that our executor shows.
        socket: in a folder that no other user can enter.
    """
    return (sys.executable, "-m", "roiae_server.flower.superlink_process", str(state), str(socket))
