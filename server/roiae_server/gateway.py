"""The only public port of a coordinator: TLS, the fleet calls of Flower, and nothing else.

The SuperLink behind it, on loopback, serves its control, runtime and registration calls on the same port as the fleet
calls, and asks no user for a password: whoever reaches them starts runs. So this process lets a closed set of paths
through, bounded by size, time, rate and number, and answers 404 to all others.

A stock SuperNode tries again after 502, 503 and 504, and goes deaf for good after any other error. So whatever may pass
(too many calls, a slow line, a SuperLink that restarts or fails with 500) is answered 503; only what repeating would
not mend (404, 413, and the SuperLink's own refusals such as 401) keeps its number.

    python -m roiae_server.gateway SETTINGS.json
"""

import asyncio
import logging
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from roiae.config import read_settings
from roiae.errors import ConfigError, RoiaeError, SetupError
from roiae_server.listener import Listener, bind
from roiae_server.visitors import BoundVisitors, try_again

log = logging.getLogger(__name__)

FLEET_OPERATIONS = frozenset(
    {
        "activate-node",
        "confirm-message-received",
        "deactivate-node",
        "get-fab",
        "get-run",
        "pull-messages",
        "pull-object",
        "push-messages",
        "push-object",
        "send-node-heartbeat",
    }
)

# RFC 9110, 7.6.1: about one connection, never passed on. `Connection` itself may name more.
_HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te"}
_HOP_BY_HOP |= {b"trailer", b"transfer-encoding", b"upgrade"}
_EACH_SIDES_OWN = {b"host", b"date", b"server"}


class Limits(BaseModel):
    """How much one client, and all together, may ask of the gateway. A client is an IPv4 address or an IPv6 /64."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    body_bytes: int = Field(8 * 2**20, ge=1, description="largest request; Flower cuts arrays in chunks of 5 MiB")
    rate: float = Field(100.0, gt=0, description="requests a second of one client, in the long run")
    burst: int = Field(500, ge=1, description="requests of one client at once; a model is a handful")
    in_flight: int = Field(16, ge=1, description="unanswered requests of one client")
    client_connections: int = Field(32, ge=1, description="open connections of one client")
    connections: int = Field(512, ge=1, description="open connections of all clients")
    header_seconds: float = Field(10.0, gt=0, description="for a TLS handshake, and for the headers of a request")
    idle_seconds: float = Field(30.0, gt=0, description="without a byte of a request's body")
    call_seconds: float = Field(180.0, gt=0, description="for a request's body, and again for its answer")
    upstream_seconds: float = Field(25.0, gt=0, description="that the SuperLink may be silent; a SuperNode waits 30")


class GatewaySettings(BaseModel):
    """What `python -m roiae_server.gateway` reads from its file, in JSON or YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str
    port: int = Field(ge=1, le=65535)
    certificate: Path = Field(description="of this server, PEM, with the chain up to its CA")
    key: Path
    upstream: str = Field(pattern=r"^https://[^/]+$", description="of the SuperLink, https://HOST:PORT")
    ca: Path = Field(description="that signed the SuperLink's certificate, PEM")
    limits: Limits = Limits()


def gateway_app(limits: Limits, upstream: httpx.AsyncClient) -> Starlette:
    """The gateway as an ASGI application; it closes `upstream` when it ends."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with upstream:
            yield

    superlink = _SuperLink(upstream)
    paths = [f"/v1/fleet/{operation}" for operation in sorted(FLEET_OPERATIONS)]
    app = Starlette(
        routes=[Route(path, _Forward(path, superlink, limits), methods=["POST"]) for path in paths],
        middleware=[
            Middleware(BoundVisitors, rate=limits.rate, burst=limits.burst, in_flight=limits.in_flight),
        ],
        exception_handlers={404: _not_found, 405: _not_found},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


def upstream_client(settings: GatewaySettings) -> httpx.AsyncClient:
    """Calls to the SuperLink, over TLS that only `settings.ca` vouches for, whatever proxy the environment names.

    Raises:
        SetupError: the CA file cannot be read as PEM.
    """
    try:
        trust = ssl.create_default_context(cafile=settings.ca)
    except (OSError, ssl.SSLError) as error:
        raise SetupError(f"{settings.ca}: cannot be read as a CA certificate in PEM ({error.strerror}).") from error
    return httpx.AsyncClient(
        base_url=settings.upstream,
        verify=trust,
        trust_env=False,
        timeout=httpx.Timeout(settings.limits.upstream_seconds, connect=5.0),
        # The SuperLink closes a connection that was idle for 5 s; one that is closed while we write would cost a call.
        limits=httpx.Limits(max_connections=settings.limits.connections, keepalive_expiry=4.0),
    )


class _TooLargeError(Exception):
    """A request's body passes the bound."""


class _SuperLink:
    """What is behind the gateway, and one log line each time that it stops or begins to answer."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self._answers = True

    def note(self, failure: str | None) -> None:
        if self._answers and failure:
            log.warning("the SuperLink fails (%s): hospitals are told 503 and try again", failure)
        elif failure is None and not self._answers:
            log.info("the SuperLink answers again")
        self._answers = failure is None


class _Forward:
    """One fleet call, streamed to the SuperLink and back."""

    def __init__(self, path: str, superlink: _SuperLink, limits: Limits) -> None:
        self._path = path
        self._superlink = superlink
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._ask(Request(scope, receive))
        if isinstance(answer, Response):
            await answer(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._limits.call_seconds):
                await _relay(answer, send)
        except httpx.HTTPError as error:
            # The status is out: all that is left is to break off, which a SuperNode takes for a lost connection.
            self._superlink.note(type(error).__name__)
        except TimeoutError:
            pass  # the client reads too slowly: broken off as well
        finally:
            await answer.aclose()

    async def _ask(self, request: Request) -> httpx.Response | Response:
        """The SuperLink's answer, its body yet to come, or what we answer in its place."""
        declared = request.headers.get("content-length", "0")
        if int(declared) > self._limits.body_bytes:  # the HTTP parser let nothing but digits pass
            return _too_large()
        call = self._superlink.client.build_request(
            "POST", self._path, content=self._body(request), headers=_passed_on(request.headers.raw)
        )
        try:
            async with asyncio.timeout(self._limits.call_seconds):
                answer = await self._superlink.client.send(call, stream=True)
        except _TooLargeError:
            return _too_large()
        except (ClientDisconnect, TimeoutError):
            return try_again()  # gone, or sending too slowly
        except httpx.HTTPError as error:
            self._superlink.note(type(error).__name__)
            return try_again()
        if answer.status_code >= 500:
            self._superlink.note(str(answer.status_code))
            await answer.aclose()
            return try_again()
        self._superlink.note(None)
        return answer

    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """What the client sends, as it comes; a chunked body declares no length and is counted."""
        parts = request.stream()
        received = 0
        while True:
            async with asyncio.timeout(self._limits.idle_seconds):
                part = await anext(parts, None)
            if part is None:
                return
            received += len(part)
            if received > self._limits.body_bytes:
                raise _TooLargeError
            yield part


async def _relay(answer: httpx.Response, send: Send) -> None:
    headers = _passed_on(answer.headers.raw)
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    async for part in answer.aiter_raw():
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _passed_on(raw: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    headers = [(name.lower(), value) for name, value in raw]
    named = {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}
    dropped = _HOP_BY_HOP | _EACH_SIDES_OWN | named
    if any(name == b"transfer-encoding" for name, _ in headers):
        dropped |= {b"content-length"}  # RFC 9112, 6.3: two lengths in one request are how requests are smuggled
    return [(name, value) for name, value in headers if name not in dropped]


def _too_large() -> Response:
    return Response(status_code=413, headers={"connection": "close"})


async def _not_found(request: Request, error: Exception) -> Response:
    return Response(status_code=404, headers={"connection": "close"})


def read_gateway_settings(path: Path) -> GatewaySettings:
    """Raises ConfigError where the file is missing or a setting unknown, ill-typed or impossible."""
    try:
        return GatewaySettings.model_validate(read_settings(path))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
        raise ConfigError(f"{path}: {problems}. Expected the settings that `roiae-server start` writes.") from None


def serve(settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT, which end it within two seconds.

    Raises:
        SetupError: a certificate or key is missing or does not fit.
        ServiceError: the port cannot be had.
    """
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        tls.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as error:
        missing = next((path for path in (settings.certificate, settings.key) if not path.is_file()), None)
        what = f"{missing}: no such file" if missing else f"{settings.certificate}, {settings.key}: {error.strerror}"
        raise SetupError(
            f"{what}. Expected this server's certificate and its own key, in PEM; `roiae-server renew` writes both."
        ) from error
    limits, upstream = settings.limits, upstream_client(settings)
    with bind(settings.host, settings.port) as socket:
        Listener(
            gateway_app(limits, upstream),
            socket,
            tls,
            header_seconds=limits.header_seconds,
            connections=limits.connections,
            client_connections=limits.client_connections,
        ).run()


def main() -> None:
    if len(sys.argv) != 2:
        print("usage: python -m roiae_server.gateway SETTINGS.json", file=sys.stderr)
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
