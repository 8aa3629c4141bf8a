"""The gateway in this process, in front of a scripted SuperLink."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from roiae.errors import ConfigError
from roiae_server.flower.fleet_calls import FLEET_OPERATIONS
from roiae_server.gateway import gateway_app
from roiae_server.gateway_settings import Limits, read_gateway_settings

PULL = "/v1/fleet/pull-messages"
Script = Callable[[httpx.Request], Awaitable[httpx.Response]]


class SuperLink(httpx.AsyncBaseTransport):
    """Reads each request to its end and answers as its script says."""

    def __init__(self, script: Script | None = None) -> None:
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []
        self._script = script

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert isinstance(request.stream, httpx.AsyncByteStream)
        self.bodies.append(b"".join([part async for part in request.stream]))
        return await self._script(request) if self._script else answer(200, self.bodies[-1][::-1])


def answer(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> httpx.Response:
    """An answer whose body has yet to be read, as a network gives it."""
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))


def through(
    superlink: SuperLink, *calls: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]], **limits: float
) -> list[httpx.Response]:
    """Makes these calls at once through a gateway with these limits."""

    async def run() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=superlink, base_url="https://superlink") as upstream:
            app = gateway_app(Limits.model_validate(limits), upstream)
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="https://gateway") as client:
                return await asyncio.gather(*(call(client) for call in calls))

    return asyncio.run(run())


def post(path: str = PULL, **options: object) -> Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]:
    return lambda client: client.post(path, **options)  # type: ignore[arg-type]


def paths_of_flower() -> set[str]:
    """Every path that Flower's SuperLink serves, read as text from the installed source."""
    spec = find_spec("flwr")
    assert spec and spec.origin
    source = (Path(spec.origin).parent / "supercore" / "protobuf" / "translation.py").read_text()
    return set(re.findall(r'"(/v1/[\w/-]+)"', source))


def test_every_fleet_call_but_registration_passes_byte_for_byte() -> None:
    superlink, body = SuperLink(), bytes(range(256)) * 300
    operations = sorted(FLEET_OPERATIONS)

    answers = through(superlink, *(post(f"/v1/fleet/{name}", content=body) for name in operations))

    assert [got.status_code for got in answers] == [200] * len(operations)
    assert {got.content for got in answers} == {body[::-1]}
    assert set(superlink.bodies) == {body}
    assert [request.url.path for request in superlink.requests] == [f"/v1/fleet/{name}" for name in operations]


def test_flower_serves_these_fleet_calls_and_no_others() -> None:
    fleet = {path.removeprefix("/v1/fleet/") for path in paths_of_flower() if path.startswith("/v1/fleet/")}

    assert fleet - FLEET_OPERATIONS == {"register-node", "unregister-node"}
    assert fleet >= FLEET_OPERATIONS


def test_control_runtime_and_registration_are_not_found() -> None:
    superlink = SuperLink()
    closed = sorted(paths_of_flower() - {f"/v1/fleet/{name}" for name in FLEET_OPERATIONS})
    assert {path.split("/")[2] for path in closed} >= {"fleet", "control", "runtime"}

    answers = through(superlink, *(post(path) for path in closed), in_flight=len(closed))

    assert {got.status_code for got in answers} == {404}
    assert superlink.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/health",
        "/docs",
        "/v1/fleet",
        PULL + "/",
        "/v1/fleet/../control/list-runs",
        "/api" + PULL,
        "//v1/fleet/get-run",
    ],
)
def test_any_other_path_is_not_found(path: str) -> None:
    (got,) = through(SuperLink(), post(f"https://gateway{path}"))

    assert got.status_code == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_any_other_method_is_not_found(method: str) -> None:
    (got,) = through(SuperLink(), lambda client: client.request(method, PULL))

    assert got.status_code == 404


def test_headers_of_one_connection_are_not_passed_on() -> None:
    async def script(request: httpx.Request) -> httpx.Response:
        return answer(200, headers={"keep-alive": "5", "connection": "x-hop", "x-hop": "1", "x-end": "2"})

    superlink = SuperLink(script)
    sent = {"te": "trailers", "connection": "x-mine", "x-mine": "1", "upgrade": "h2c", "flwr-signature": "abc"}
    (got,) = through(superlink, post(headers=sent))

    (request,) = superlink.requests
    assert not {"te", "x-mine", "upgrade"} & set(request.headers)
    assert request.headers["flwr-signature"] == "abc"
    assert request.headers["host"] == "superlink"
    assert got.headers["x-end"] == "2"
    assert not {"keep-alive", "x-hop"} & set(got.headers)


def test_a_request_that_declares_too_much_is_refused_unread() -> None:
    superlink = SuperLink()
    (got,) = through(superlink, post(content=b"x" * 101), body_bytes=100)

    assert got.status_code == 413
    assert superlink.requests == []


def test_a_chunked_request_is_cut_at_the_bound_and_never_held() -> None:
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 1024
            yield bytes(1024)

    superlink = SuperLink()
    (got,) = through(superlink, post(content=endless()), body_bytes=100 * 1024)

    assert got.status_code == 413
    assert got.headers["connection"] == "close"
    assert given <= 102 * 1024
    assert superlink.bodies == []


def test_flowers_chunks_fit() -> None:
    (got,) = through(SuperLink(), post("/v1/fleet/push-object", content=bytes(5 * 2**20 + 4096)))

    assert got.status_code == 200


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.PoolTimeout])
def test_a_superlink_that_does_not_answer_is_503(error: type[httpx.TransportError]) -> None:
    async def script(request: httpx.Request) -> httpx.Response:
        raise error("scripted")

    (got,) = through(SuperLink(script), post())

    assert got.status_code == 503
    assert int(got.headers["retry-after"]) > 0


@pytest.mark.parametrize(("upstream", "seen"), [(500, 503), (501, 503), (502, 503), (504, 503), (401, 401), (400, 400)])
def test_the_superlinks_failures_become_503_and_its_refusals_stay(upstream: int, seen: int) -> None:
    async def script(request: httpx.Request) -> httpx.Response:
        return answer(upstream)

    (got,) = through(SuperLink(script), post())

    assert got.status_code == seen


def test_an_outage_of_the_superlink_is_two_lines_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    async def script(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        if 1 < calls < 5:
            raise httpx.ConnectError("illegal header: patient")
        return answer(200)

    async def six_in_a_row(client: httpx.AsyncClient) -> httpx.Response:
        for _ in range(5):
            await client.post(PULL)
        return await client.post(PULL)

    with caplog.at_level("INFO", logger="roiae_server"):
        through(SuperLink(script), six_in_a_row)

    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "patient" not in caplog.text


def test_a_body_that_stops_coming_is_503() -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"a part"
        await asyncio.Event().wait()

    (got,) = through(SuperLink(), post(content=stalled()), idle_seconds=0.05)

    assert got.status_code == 503


def test_a_body_that_trickles_is_503_once_its_time_is_over() -> None:
    async def trickling() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b"."

    (got,) = through(SuperLink(), post(content=trickling()), call_seconds=0.1)

    assert got.status_code == 503


def test_a_client_beyond_its_rate_is_told_to_come_back(caplog: pytest.LogCaptureFixture) -> None:
    answers = through(SuperLink(), *[post(headers={"x-secret": "patient"})] * 5, burst=3, rate=0.001)

    assert sorted(got.status_code for got in answers) == [200, 200, 200, 503, 503]
    assert [got.headers["retry-after"] for got in answers if got.status_code == 503] == ["1", "1"]
    assert caplog.text.count("more than 0.001 requests a second") == 1  # a log must not fill a disk
    assert "patient" not in caplog.text


def test_a_client_with_too_many_unanswered_requests_is_told_to_come_back() -> None:
    waiting: list[asyncio.Event] = []

    async def script(request: httpx.Request) -> httpx.Response:
        waiting.append(asyncio.Event())
        await waiting[-1].wait()
        return answer(200)

    async def refused_then_release(client: httpx.AsyncClient) -> httpx.Response:
        while len(waiting) < 2:
            await asyncio.sleep(0)
        got = await client.post(PULL)
        for event in waiting:
            event.set()
        return got

    answers = through(SuperLink(script), post(), post(), refused_then_release, in_flight=2)

    assert [got.status_code for got in answers] == [200, 200, 503]


def test_settings_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "gateway.json"
    path.write_text(
        '{"host": "127.0.0.1", "port": 70000, "certificate": "c", "key": "k", "ca": "a", "upstream": "http://x"}'
    )

    with pytest.raises(ConfigError) as raised:
        read_gateway_settings(path)

    assert "port: " in str(raised.value)
    assert "upstream: " in str(raised.value)
