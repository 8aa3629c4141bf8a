"""A TLS port whose connections are counted from their first packet on, and cut where a client is slow to speak."""

import asyncio
import errno
import logging
import os
import socket
import ssl
from contextlib import suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from roiae.errors import ServiceError
from roiae_server.gateway.rate_limits import Bucket, origin
from roiae_server.gateway.roll import Caller, Roll
from roiae_server.gateway.settings import Limits
from roiae_server.gateway.slots import Slots

log = logging.getLogger(__name__)

_KEEP_ALIVE = 20  # seconds; longer than the 5 after which a SuperNode closes, so that it never writes to a closed one
_FAREWELL = 0.3  # seconds to read our last answer; until then what the client still sends is received and thrown away
_TICKS = 5  # of uvicorn's, which come ten times a second, between two looks at who is enrolled
_OUT_OF_FILES = 0.1  # seconds to wait where no connection can be taken for lack of file descriptors


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


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 with a place among the slots, and a bound on the time that a request's headers may take."""

    def __init__(self, listener: "TlsServer", plain: socket.socket, address: str, **uvicorn_own: Any) -> None:
        super().__init__(**uvicorn_own)
        self.app_state = {**self.app_state, "connection": self}  # so that a signed request can vouch for it
        self.origin = origin(address)
        self.caller: Caller | None = None
        self._listener, self._plain = listener, plain
        self._headers_due: asyncio.TimerHandle | None = None
        self.greeted = False  # its TLS handshake has begun

    def vouch(self, caller: Caller) -> None:
        """A request on this connection was signed by an enrolled key."""
        if self.caller is None and not self.transport.is_closing():
            self._listener.slots.promote(self, caller)

    def cut(self) -> None:
        """Make room: at once, and without a word."""
        if self.transport is not None:
            self.transport.abort()
        elif self.greeted:
            with suppress(OSError):  # it may be gone already
                self._plain.shutdown(socket.SHUT_RDWR)  # the handshake ends by it
        else:
            self._plain.close()
            self._listener.slots.leave(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.slots.leave(self)
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
            self._headers_due = self.loop.call_later(self._listener.limits.header_seconds, self.transport.abort)

    def _unwatch(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None


class TlsServer(uvicorn.Server):
    """Serves an application over TLS on a bound socket, to callers on the roll before all others."""

    def __init__(self, app: ASGIApp, bound: socket.socket, tls: ssl.SSLContext, limits: Limits, roll: Roll) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a line for each malformed request otherwise
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
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
        self.limits = limits
        self.slots = Slots(limits.strangers_connections, limits.stranger_connections, limits.site_connections)
        self._bound, self._tls, self._roll = bound, tls, roll
        self._handshakes: set[asyncio.Task[None]] = set()
        self._strangers = Bucket(limits.handshakes, 2 * limits.handshakes)
        self._waiting: list[tuple[Connection, socket.socket]] = []
        self._later: asyncio.TimerHandle | None = None
        self._accepting: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but that connections are taken by us: it would count none before its TLS handshake."""
        await super().startup(sockets=[])
        if self.should_exit:
            return
        self._bound.setblocking(False)
        self._accepting = asyncio.create_task(self._accept())
        log.info("listening on %s port %d", *self._bound.getsockname()[:2])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in (self._accepting, *self._handshakes):
            if task is not None:
                task.cancel()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS == 0:
            self._roll.refresh()
            self.slots.keep(self._roll.__contains__)
        return await super().on_tick(counter)

    async def _accept(self) -> None:
        """A handshake costs a millisecond: with strangers there are so many a second, and the newest goes first.

        In a crowd those that came first have waited long and are of no more use to anybody than the rest; a hospital
        that nobody has heard from its address yet is one of the newest when it tries again.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                plain, address = await loop.sock_accept(self._bound)
            except OSError:
                await asyncio.sleep(_OUT_OF_FILES)
                continue
            connection = Connection(
                self,
                plain,
                address[0],
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            )
            self.slots.enter(connection)
            if self.slots.at_home(connection):
                self._greet(connection, plain)
            else:
                self._waiting.append((connection, plain))
                self._greet_strangers()

    def _greet_strangers(self) -> None:
        """As many as may have a handshake now, and the rest when they may."""
        self._waiting = [(held, plain) for held, plain in self._waiting if plain.fileno() >= 0]
        while self._waiting and self._strangers.left() >= 1:
            self._strangers.take()
            self._greet(*self._waiting.pop())
        if self._waiting and self._later is None:
            self._later = asyncio.get_running_loop().call_later(1 / self.limits.handshakes, self._greet_later)

    def _greet_later(self) -> None:
        self._later = None
        self._greet_strangers()

    def _greet(self, connection: Connection, plain: socket.socket) -> None:
        connection.greeted = True
        task = asyncio.create_task(self._shake_hands(connection, plain))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, connection: Connection, plain: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                plain,
                ssl=self._tls,
                ssl_handshake_timeout=self.limits.header_seconds,
                ssl_shutdown_timeout=_FAREWELL,
            )
        except OSError:  # of TLS too: it did not come about
            self.slots.leave(connection)
