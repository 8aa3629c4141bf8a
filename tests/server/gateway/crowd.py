"""A crowd of strangers before a port: connections from many addresses of loopback, held and opened anew."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Behave = Callable[[socket.socket], None]


def silent(connection: socket.socket) -> None:
    """Says nothing at all, not even for TLS."""


def slow(connection: socket.socket) -> None:
    """Shakes hands and then sends headers a letter at a time (Slowloris)."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    with tls.wrap_socket(connection) as talk:
        talk.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nx-")
        while True:
            time.sleep(0.2)
            talk.sendall(b"x")


@contextmanager
def crowd(port: int, behave: Behave, strangers: int, addresses: int) -> Iterator[list[int]]:
    """So many at once, each back at once when it is cut off; yields a count of connections opened so far."""
    ended, opened = threading.Event(), [0]

    def stranger(number: int) -> None:
        address = f"127.0.{1 + number % addresses // 250}.{1 + number % addresses % 250}"
        while not ended.is_set():
            with suppress(OSError), socket.socket() as connection:
                connection.settimeout(2)
                connection.bind((address, 0))
                connection.connect(("127.0.0.1", port))
                opened[0] += 1
                behave(connection)
                with suppress(TimeoutError):
                    connection.recv(1)
            ended.wait(0.02)

    threads = [threading.Thread(target=stranger, args=(number,), daemon=True) for number in range(strangers)]
    for thread in threads:
        thread.start()
    try:
        yield opened
    finally:
        ended.set()
        for thread in threads:
            thread.join(5)
