"""The only public port of a coordinator: TLS, the fleet calls of enrolled sites, and nothing else.

The SuperLink behind it serves control, runtime and registration calls beside the fleet calls, and asks no user for a
password: whoever reaches them starts runs. So it listens at a socket of the service's own user, and this process lets
a closed set of paths through: signed by an enrolled key, saying no more than a node may say (`flower/fleet_calls.py`),
bounded for each key by size, time, rate and number. Whoever has no such key gets 401 or 404, and has no body read.

A stock SuperNode tries again after 502, 503 and 504, and goes deaf for good after any other error. So whatever may pass
(too many calls, a slow line, a SuperLink that restarts or fails with 500) is answered 503; only what repeating would
not mend (400, 401, 403, 404, 413, and the SuperLink's own refusals) has another number.

    python -m roiae_server.gateway.app SETTINGS.json
"""

import asyncio
import logging
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from roiae.errors import RoiaeError, SetupError
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from roiae_server.flower.fleet_calls import (
    ANNOUNCES,
    CONNECTS,
    FLEET_OPERATIONS,
    Conversation,
    RefusedError,
    call_bytes,
)
from roiae_server.gateway.rate_limits import Account, RateLimits
from roiae_server.gateway.reply_size import ReplySize
from roiae_server.gateway.roll import Caller, Roll
from roiae_server.gateway.settings import GatewaySettings, Limits, read_gateway_settings
from roiae_server.gateway.superlink_door import SuperLinkDoor, superlink_client
from roiae_server.gateway.tls_server import TlsServer, bind

log = logging.getLogger(__name__)

# RFC 9110, 7.6.1: about one connection, never passed on. `Connection` itself may name more.
_HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te"}
_HOP_BY_HOP |= {b"trailer", b"transfer-encoding", b"upgrade"}
_EACH_SIDES_OWN = {b"host", b"date", b"server"}


class Reception:
    """ASGI middleware: who calls, and whether it is too much.

    An enrolled caller is named in the scope's `account` and `caller`, and its connection is its own from then on.
    """

    def __init__(self, app: ASGIApp, roll: Roll, rates: RateLimits, size: ReplySize) -> None:
        self._app, self._roll, self._visitors, self._size = app, roll, rates, size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = self._roll.caller(scope["headers"])
        if caller is None:
            admitted = self._visitors.admit_stranger(scope["client"][0])
            await (self._app if admitted else _try_again())(scope, receive, send)
            return
        account = self._visitors.account(caller, self._size.bytes)
        if refusal := account.refusal(self._visitors.limits):  # first: used signatures are remembered, each for minutes
            account.tell(refusal, 503)
            await _try_again()(scope, receive, send)
            return
        if not self._roll.first_use(caller, scope["headers"]):
            await _try_again()(scope, receive, send)  # also where two of a node's calls had the very same time
            return
        if connection := scope.get("state", {}).get("connection"):
            connection.vouch(caller)
        account.in_flight += 1
        try:
            await self._app({**scope, "caller": caller, "account": account}, receive, send)
        finally:
            account.in_flight -= 1


class Fleet:
    """The fleet calls: each is read whole, checked, handed on, and its answer streamed back."""

    def __init__(self, limits: Limits, door: SuperLinkDoor, size: ReplySize) -> None:
        self._limits, self._door, self._size = limits, door, size
        self._began = time.monotonic()
        self._conversations: dict[bytes, Conversation] = {}

    async def serve(self, operation: str, request: Request, send: Send) -> None:
        answer = await self._ask(operation, request)
        if isinstance(answer, Response):
            await answer(request.scope, request.receive, send)
            return
        try:
            async with asyncio.timeout(self._limits.call_seconds):
                await _relay(answer, send, request.scope["account"])
        except httpx.HTTPError as error:
            # The status is out: all that is left is to break off, which a SuperNode takes for a lost connection.
            self._door.note(error)
        except TimeoutError:
            pass  # the client reads too slowly: broken off as well
        finally:
            await answer.aclose()

    async def _ask(self, operation: str, request: Request) -> httpx.Response | Response:
        """The SuperLink's answer, its body yet to come, or what we answer in its place."""
        caller: Caller | None = request.scope.get("caller")
        if caller is None:
            return _refused(401) if await self._door.answers() else _try_again()
        account: Account = request.scope["account"]
        if operation == CONNECTS and not account.may_connect():
            return _try_again()
        conversation = self._conversations.setdefault(caller.pem, Conversation(self._began))
        size = self._size.bytes
        try:
            async with asyncio.timeout(self._limits.call_seconds):
                body = await self._body(request, call_bytes(operation, size))
            account.volume.take(len(body))
            conversation.check(operation, body, size)
        except RefusedError as refused:
            account.tell(refused.why, refused.status)
            return _refused(refused.status)
        except (ClientDisconnect, TimeoutError):
            return _try_again()  # gone, or sending too slowly
        return await self._hand_on(operation, request, body, conversation)

    async def _hand_on(
        self, operation: str, request: Request, body: bytes, conversation: Conversation
    ) -> httpx.Response | Response:
        headers = _passed_on(request.headers.raw)
        call = self._door.client.build_request("POST", f"/v1/fleet/{operation}", content=body, headers=headers)
        try:
            async with asyncio.timeout(self._limits.call_seconds):
                answer = await self._door.client.send(call, stream=operation != ANNOUNCES)
        except TimeoutError:
            return _try_again()
        except httpx.HTTPError as error:
            self._door.note(error)
            return _try_again()
        self._door.note(None)
        if answer.status_code >= 500:
            request.scope["account"].tell(f"the SuperLink fails at its {operation}", answer.status_code)
            await answer.aclose()
            return _try_again()
        if operation != ANNOUNCES:
            return answer
        if answer.status_code == 200:
            conversation.announced(answer.content)
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

    async def _body(self, request: Request, most: int) -> bytes:
        """All that the client sends.

        Raises:
            RefusedError: it is more than the call may weigh.
            TimeoutError: it stops coming.
        """
        too_large = RefusedError(413, f"sends a call of more than {most} bytes")
        if int(request.headers.get("content-length", "0")) > most:  # the HTTP parser let nothing but digits pass
            raise too_large
        parts, received = request.stream(), bytearray()
        while True:
            async with asyncio.timeout(self._limits.idle_seconds):
                part = await anext(parts, None)
            if part is None:
                return bytes(received)
            received += part
            if len(received) > most:
                raise too_large


class _FleetCall:
    """The endpoint of one of the fleet calls."""

    def __init__(self, operation: str, fleet: Fleet) -> None:
        self._operation, self._fleet = operation, fleet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._fleet.serve(self._operation, Request(scope, receive), send)


def gateway_app(limits: Limits, upstream: httpx.AsyncClient, roll: Roll, size: ReplySize) -> Starlette:
    """The gateway as an ASGI application; it closes `upstream` when it ends."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with upstream:
            yield

    fleet = Fleet(limits, SuperLinkDoor(upstream), size)
    app = Starlette(
        routes=[
            Route(f"/v1/fleet/{operation}", _FleetCall(operation, fleet), methods=["POST"])
            for operation in sorted(FLEET_OPERATIONS)
        ],
        middleware=[Middleware(Reception, roll=roll, rates=RateLimits(limits), size=size)],
        exception_handlers={404: _not_found, 405: _not_found},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


async def _relay(answer: httpx.Response, send: Send, account: Account) -> None:
    headers = _passed_on(answer.headers.raw)
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    async for part in answer.aiter_raw():
        account.volume.take(len(part))
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _passed_on(raw: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    headers = [(name.lower(), value) for name, value in raw]
    named = {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}
    dropped = _HOP_BY_HOP | _EACH_SIDES_OWN | named
    if any(name == b"transfer-encoding" for name, _ in headers):
        dropped |= {b"content-length"}  # RFC 9112, 6.3: two lengths in one request are how requests are smuggled
    return [(name, value) for name, value in headers if name not in dropped]


def _try_again() -> Response:
    """503 rather than 429 or 408, whatever the cause: a stock SuperNode goes deaf for good at those."""
    return Response(status_code=503, headers={"retry-after": "1", "connection": "close"})


def _refused(status: int) -> Response:
    return Response(status_code=status, headers={"connection": "close"})


async def _not_found(request: Request, error: Exception) -> Response:
    return _refused(404)


def serve(settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT, which end it within two seconds.

    Raises:
        SetupError: the coordinator's folder, its certificate or its key is missing or does not fit.
        ServiceError: the port cannot be had.
    """
    folder, limits = CoordinatorFolder.open(settings.folder), settings.limits
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = folder.server_certificate, folder.server_key
    try:
        tls.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        what = f"{certificate}, {key}: {error.strerror}" if certificate.is_file() else f"{certificate}: no such file"
        raise SetupError(
            f"{what}. Expected this server's certificate and its own key, in PEM; `roiae-server renew` writes both."
        ) from error
    roll = Roll(folder)
    app = gateway_app(limits, superlink_client(settings.upstream, limits), roll, ReplySize(folder.superlink))
    with bind(settings.host, settings.port) as socket:
        TlsServer(app, socket, tls, limits, roll).run()


def main() -> None:
    if len(sys.argv) != 2:
        print("usage: python -m roiae_server.gateway.app SETTINGS.json", file=sys.stderr)
        sys.exit(2)
    logging.basicConfig(format="%(asctime)s gateway: %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line a call otherwise
    try:
        serve(read_gateway_settings(Path(sys.argv[1])))
    except RoiaeError as error:
        print(f"gateway: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
