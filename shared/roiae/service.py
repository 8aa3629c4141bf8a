"""What both sides' services need of their machine: to be the only one of a folder, a port, a secret."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from roiae.errors import ServiceError
from roiae.files import create_private


@contextmanager
def only_one(lock: Path, otherwise: str) -> Iterator[None]:
    """Hold a lock that ends with this process.

    Raises:
        ServiceError: another process holds it; with this message.
    """
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise ServiceError(otherwise) from None
    with held:
        yield


def free_port() -> int:
    """A port that nobody listens on now, on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def new_secret(path: Path) -> None:
    """32 random bytes in place of those that were there; their owner's alone."""
    path.unlink(missing_ok=True)
    create_private(path, secrets.token_bytes(32))
