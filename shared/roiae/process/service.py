"""What both sides' services need of their machine: to be the only one of a folder, a socket of their own, a secret."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
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


@contextmanager
def socket_folder() -> Iterator[Path]:
    """A new folder for sockets that no other user can enter.

    Not within a coordinator's or hospital's own folder: a socket's path has at most 107 bytes.
    """
    with TemporaryDirectory(prefix="roiae-") as folder:
        yield Path(folder)


class _SocketTransport(httpx.HTTPTransport):
    """httpx leaves a socket open that it could not connect: a server that is not there yet is not dialled."""

    def __init__(self, path: Path) -> None:
        super().__init__(uds=str(path))
        self._path = path

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if not self._path.is_socket():
            raise httpx.ConnectError("nothing listens there yet", request=request)
        return super().handle_request(request)


def socket_client(path: Path) -> httpx.Client:
    """An HTTP client whose calls all go to the server at this unix socket."""
    return httpx.Client(transport=_SocketTransport(path), timeout=30.0, trust_env=False)


def new_secret(path: Path) -> None:
    """32 random bytes in place of those that were there; their owner's alone."""
    path.unlink(missing_ok=True)
    create_private(path, secrets.token_bytes(32))
