"""A TLS port whose connections are counted, and cut where a client is slow to say what it wants."""

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections import Counter
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from roiae.errors import ServiceError
from roiae_server.visitors import origin

log = logging.getLogger(__name__)

_KEEP_ALIVE = 20  # seconds; longer than the 5 after which a SuperNode closes, so that it never writes to a closed one
_FAREWELL = 0.3  # seconds to read our last answer; until then what the client still sends is received and thrown away


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; `::` takes IPv4 too.

    Raises:
        ServiceError: the port is in use, needs a privilege, or the address is not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=family, dualstack_ipv6=both, backlog=512)
    except OSError as error:
        hint = {
            errno.EADDRINUSE: "Another program listens there, perhaps a coordinator that runs already; stop it",
            errno.EACCES: "A port below 1024 needs CAP_NET_BIND_SERVICE",
            errno.EADDRNOTAVAIL: "This machine does not have that address; 0.0.0.0 takes all",
        }.get(error.errno or 0, "Give an address of this machine")
        why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise ServiceError(f"{host}:{port}: cannot listen ({why}). {hint}, or choose another port.") from error


class _Connection(H11Protocol):
    """uvicorn's HTTP/1.1 with a bound on open connections, and one on the time that a request's headers may take."""

    def __init__(self, listener: "Listener", **uvicorn_own: Any) -> None:
        super().__init__(**uvicorn_own)
        self._listener = listener
        self._origin = ""
        self._headers_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._origin = origin(self.client[0]) if self.client else ""
        if not self._listener.enter(self._origin):
            transport.abort()
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.leave(self._origin)
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._watch()  # part of the headers only, at the start or after an answered request
        else:
            self._unwatch()

    def _watch(self) -> None:
        if self._headers_due is None:
            self._headers_due = self.loop.call_later(self._listener.header_seconds, self.transport.abort)

    def _unwatch(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None


class Listener(uvicorn.Server):
    """Serves an application over TLS on a bound socket.

    Args:
        header_seconds: for a TLS handshake, and for the headers of a request.
        connections: open at once, of all clients.
        client_connections: open at once, of one client.
    """

    def __init__(
        self,
        app: ASGIApp,
        bound: socket.socket,
        tls: ssl.SSLContext,
        *,
        header_seconds: float,
        connections: int,
        client_connections: int,
    ) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a line for each malformed request otherwise
        super().__init__(
            uvicorn.Config(
                app,
                http=_Connection,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # any client could claim another's address
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=1,
            )
        )
        self.header_seconds = header_seconds
        self._bound = bound
        self._tls = tls
        self._connections = connections
        self._client_connections = client_connections
        self._open: Counter[str] = Counter()

    def enter(self, client: str) -> bool:
        """Count a new connection; False where it is one too many."""
        self._open[client] += 1
        return self._open[client] <= self._client_connections and self._open.total() <= self._connections

    def leave(self, client: str) -> None:
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, with a bound on the TLS handshake, which it leaves at a minute."""
        await super().startup(sockets=[])
        if self.should_exit:
            return
        server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(
                self, config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            ),
            sock=self._bound,
            ssl=self._tls,
            ssl_handshake_timeout=self.header_seconds,
            ssl_shutdown_timeout=_FAREWELL,
        )
        self.servers.append(server)
        log.info("listening on %s port %d", *self._bound.getsockname()[:2])
