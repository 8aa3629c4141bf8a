"""The gateway in this process, in front of a scripted SuperLink."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from flwr.proto.fleet_pb2 import PushMessagesResponse

from roiae.errors import ConfigError
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from roiae_server.flower.fleet_calls import FLEET_OPERATIONS
from roiae_server.gateway.app import gateway_app
from roiae_server.gateway.reply_size import ReplySize, write_reply_size
from roiae_server.gateway.roll import Roll
from roiae_server.gateway.settings import Limits, read_gateway_settings
from tests.server.gateway.node_calls import BETA, NodeAuth, Replayed, federation, new_key, object_id, part, push, tree

FLEET = "/v1/fleet/"
PULL = FLEET + "pull-messages"
Script = Callable[[httpx.Request], Awaitable[httpx.Response]]
Call = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


class SuperLink(httpx.AsyncBaseTransport):
    """Is healthy, reads each call to its end, and answers as its script says."""

    def __init__(self, script: Script | None = None) -> None:
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []
        self._script = script

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/health":
            return httpx.Response(200)
        self.requests.append(request)
        assert isinstance(request.stream, httpx.AsyncByteStream)
        self.bodies.append(b"".join([part async for part in request.stream]))
        return await self._script(request) if self._script else answer(200, self.bodies[-1][::-1])


def answer(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> httpx.Response:
    """An answer whose body has yet to be read, as a network gives it."""
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))


class Federation:
    """A coordinator's folder with alpha and beta enrolled, and a gateway before it."""

    def __init__(self, path: Path) -> None:
        self.folder: CoordinatorFolder
        self.folder, self.sign = federation(path, "alpha", "beta")

    def through(self, superlink: SuperLink, *calls: Call, **limits: float) -> list[httpx.Response]:
        """Makes these calls at once through a gateway with these limits."""

        async def run() -> list[httpx.Response]:
            async with httpx.AsyncClient(transport=superlink, base_url="https://superlink") as upstream:
                bounds = Limits.model_validate(limits)
                app = gateway_app(bounds, upstream, Roll(self.folder), ReplySize(self.folder.superlink))
                async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://gateway") as client:
                    return await asyncio.gather(*(call(client) for call in calls))

        return asyncio.run(run())

    def signed(self, operation: str = "pull-messages", site: str = "alpha", **options: object) -> Call:
        return post(FLEET + operation, auth=self.sign[site], **options)

    def one_by_one(self, *calls: Call) -> Call:
        """The last one's answer."""

        async def run(client: httpx.AsyncClient) -> httpx.Response:
            for call in calls:
                answered = await call(client)
            return answered

        return run


@pytest.fixture
def at(tmp_path: Path) -> Federation:
    return Federation(tmp_path / "coordinator")


def post(path: str = PULL, **options: object) -> Call:
    return lambda client: client.post(path, **options)  # type: ignore[arg-type]


def paths_of_flower() -> set[str]:
    """Every path that Flower's SuperLink serves, read as text from the installed source."""
    spec = find_spec("flwr")
    assert spec and spec.origin
    source = (Path(spec.origin).parent / "supercore" / "protobuf" / "translation.py").read_text()
    return set(re.findall(r'"(/v1/[\w/-]+)"', source))


def test_every_fleet_call_of_an_enrolled_node_passes_but_registration(at: Federation) -> None:
    superlink = SuperLink()
    operations = sorted(FLEET_OPERATIONS - {"push-messages", "push-object"})

    answers = at.through(superlink, *(at.signed(name) for name in operations), in_flight=len(operations))

    assert [got.status_code for got in answers] == [200] * len(operations)
    assert sorted(request.url.path for request in superlink.requests) == [FLEET + name for name in operations]


def test_flower_serves_these_fleet_calls_and_no_others() -> None:
    fleet = {path.removeprefix(FLEET) for path in paths_of_flower() if path.startswith(FLEET)}

    assert fleet - FLEET_OPERATIONS == {"register-node", "unregister-node"}
    assert fleet >= FLEET_OPERATIONS


@pytest.mark.parametrize("signed", [True, False])
def test_control_runtime_and_registration_are_not_found_by_anybody(at: Federation, signed: bool) -> None:
    superlink = SuperLink()
    closed = sorted(paths_of_flower() - {FLEET + name for name in FLEET_OPERATIONS})
    assert {path.split("/")[2] for path in closed} >= {"fleet", "control", "runtime"}

    calls = [post(path, auth=at.sign["alpha"] if signed else None) for path in closed]
    answers = at.through(superlink, *calls, in_flight=len(closed))

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
def test_any_other_path_is_not_found(at: Federation, path: str) -> None:
    (got,) = at.through(SuperLink(), post(f"https://gateway{path}", auth=at.sign["alpha"]))

    assert got.status_code == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_any_other_method_is_not_found(at: Federation, method: str) -> None:
    (got,) = at.through(SuperLink(), lambda client: client.request(method, PULL, auth=at.sign["alpha"]))

    assert got.status_code == 404


def test_a_call_that_nobody_enrolled_signed_is_401_and_its_body_never_read(at: Federation) -> None:
    async def forbidden() -> AsyncIterator[bytes]:
        raise AssertionError("it was read")
        yield b""

    superlink = SuperLink()
    answers = at.through(superlink, post(content=forbidden()), post(content=forbidden(), auth=NodeAuth(new_key())))

    assert [got.status_code for got in answers] == [401, 401]
    assert {got.headers["connection"] for got in answers} == {"close"}
    assert superlink.requests == []


def test_a_stranger_learns_that_the_superlink_is_down_as_a_hospitals_doctor_asks(at: Federation) -> None:
    class Down(SuperLink):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("scripted")

    (got,) = at.through(Down(), post())

    assert got.status_code == 503


def test_a_key_that_is_removed_is_nobodys_at_once(at: Federation) -> None:
    async def remove(client: httpx.AsyncClient) -> httpx.Response:
        at.folder.remove_site("alpha")
        return httpx.Response(200)

    (got,) = at.through(SuperLink(), at.one_by_one(at.signed(), remove, at.signed()))

    assert got.status_code == 401


def test_a_signature_that_was_overheard_is_good_for_nothing(at: Federation) -> None:
    superlink = SuperLink()

    async def replay(client: httpx.AsyncClient) -> httpx.Response:
        first = await client.post(PULL, auth=at.sign["alpha"])
        return await client.post(PULL, auth=Replayed(first.request.headers))

    (got,) = at.through(superlink, replay)

    assert got.status_code == 503  # two calls of an honest node in the same microsecond: it tries again
    assert len(superlink.requests) == 1


def test_headers_of_one_connection_are_not_passed_on(at: Federation) -> None:
    async def script(request: httpx.Request) -> httpx.Response:
        return answer(200, headers={"keep-alive": "5", "connection": "x-hop", "x-hop": "1", "x-end": "2"})

    superlink = SuperLink(script)
    sent = {"te": "trailers", "connection": "x-mine", "x-mine": "1", "upgrade": "h2c"}
    (got,) = at.through(superlink, at.signed(headers=sent))

    (request,) = superlink.requests
    assert not {"te", "x-mine", "upgrade"} & set(request.headers)
    assert "flwr-signature" in request.headers
    assert request.headers["host"] == "superlink"
    assert got.headers["x-end"] == "2"
    assert not {"keep-alive", "x-hop"} & set(got.headers)


def test_a_request_that_declares_too_much_is_refused_unread(at: Federation) -> None:
    superlink = SuperLink()
    (got,) = at.through(superlink, at.signed(content=bytes(5000)))

    assert got.status_code == 413
    assert superlink.requests == []


def test_a_chunked_request_is_cut_at_the_bound(at: Federation) -> None:
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 1024
            yield bytes(1024)

    superlink = SuperLink()
    (got,) = at.through(superlink, at.signed("push-object", content=endless()))

    assert got.status_code == 413
    assert got.headers["connection"] == "close"
    assert given <= 2**20 + 10 * 1024  # a reply may weigh one MiB where no run has said more
    assert superlink.bodies == []


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.PoolTimeout])
def test_a_superlink_that_does_not_answer_is_503(at: Federation, error: type[httpx.TransportError]) -> None:
    async def script(request: httpx.Request) -> httpx.Response:
        raise error("scripted")

    (got,) = at.through(SuperLink(script), at.signed())

    assert got.status_code == 503
    assert int(got.headers["retry-after"]) > 0


@pytest.mark.parametrize("operation", ["pull-messages", "push-messages"])
@pytest.mark.parametrize(("upstream", "seen"), [(500, 503), (501, 503), (502, 503), (504, 503), (401, 401), (400, 400)])
def test_the_superlinks_failures_become_503_and_its_refusals_stay(
    at: Federation, operation: str, upstream: int, seen: int
) -> None:
    async def script(request: httpx.Request) -> httpx.Response:
        return answer(upstream)

    body = push(tree("m")).SerializeToString() if operation == "push-messages" else b""
    (got,) = at.through(SuperLink(script), at.signed(operation, content=body))

    assert got.status_code == seen


def test_an_outage_of_the_superlink_is_two_lines_in_the_log(at: Federation, caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    async def script(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        if 1 < calls < 5:
            raise httpx.ConnectError("illegal header: patient")
        return answer(200)

    with caplog.at_level("INFO", logger="roiae_server"):
        at.through(SuperLink(script), at.one_by_one(*[at.signed()] * 6))

    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "patient" not in caplog.text


def test_a_body_that_stops_coming_is_503(at: Federation) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"a part"
        await asyncio.Event().wait()

    (got,) = at.through(SuperLink(), at.signed(content=stalled()), idle_seconds=0.05)

    assert got.status_code == 503


def test_a_body_that_trickles_is_503_once_its_time_is_over(at: Federation) -> None:
    async def trickling() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b"."

    (got,) = at.through(SuperLink(), at.signed(content=trickling()), call_seconds=0.1)

    assert got.status_code == 503


def test_a_site_beyond_its_rate_is_told_to_come_back_and_no_other_is(
    at: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    calls = [at.signed(headers={"x-secret": "patient"})] * 5 + [at.signed(site="beta")]
    answers = at.through(SuperLink(), *calls, burst=3, rate=0.001)

    assert [got.status_code for got in answers] == [200, 200, 200, 503, 503, 200]
    assert caplog.text.count("alpha: more than 0.001 requests a second") == 1  # a log must not fill a disk
    assert "patient" not in caplog.text


def test_strangers_use_up_nothing_of_a_site_that_shares_their_address(at: Federation) -> None:
    stranger = post(auth=NodeAuth(new_key()))
    answers = at.through(SuperLink(), *[stranger] * 5, at.signed(), stranger_burst=2, stranger_rate=0.001)

    assert [got.status_code for got in answers] == [401, 401, 503, 503, 503, 200]


def test_a_crowd_of_strangers_is_bounded_in_all(at: Federation) -> None:
    answers = at.through(SuperLink(), *[post()] * 9, strangers_rate=1, stranger_burst=100)

    assert sorted(got.status_code for got in answers) == [401] * 5 + [503] * 4


def test_a_site_with_too_many_unanswered_requests_is_told_to_come_back(at: Federation) -> None:
    waiting: list[asyncio.Event] = []

    async def script(request: httpx.Request) -> httpx.Response:
        waiting.append(asyncio.Event())
        await waiting[-1].wait()
        return answer(200)

    async def refused_then_release(client: httpx.AsyncClient) -> httpx.Response:
        while len(waiting) < 2:
            await asyncio.sleep(0)
        got = await client.post(PULL, auth=at.sign["alpha"])
        for event in waiting:
            event.set()
        return got

    answers = at.through(SuperLink(script), at.signed(), at.signed(), refused_then_release, in_flight=2)

    assert [got.status_code for got in answers] == [200, 200, 503]


def test_a_site_beyond_its_bytes_is_told_to_come_back_whichever_way_they_went(at: Federation) -> None:
    async def large(request: httpx.Request) -> httpx.Response:
        return answer(200, bytes(2**20))

    superlink = SuperLink(large)
    (got,) = at.through(superlink, at.one_by_one(*[at.signed()] * 12))

    assert got.status_code == 503
    assert len(superlink.requests) == 9  # eight replies of the largest size at once, and the one that passed them
    write_reply_size(at.folder.superlink, 2**24)
    (got,) = at.through(superlink, at.one_by_one(*[at.signed()] * 12))
    assert got.status_code == 200


def test_a_node_that_connects_anew_all_the_time_is_told_to_wait(at: Federation) -> None:
    superlink = SuperLink()
    answers = at.through(superlink, *[at.signed("activate-node")] * 8, at.signed("activate-node", "beta"))

    assert [got.status_code for got in answers] == [200] * 5 + [503] * 3 + [200]


def test_an_instruction_of_a_hospital_is_403_and_names_it(at: Federation, caplog: pytest.LogCaptureFixture) -> None:
    superlink = SuperLink()
    body = push(tree("m"), reply_to_message_id="", src_node_id=1, dst_node_id=BETA).SerializeToString()
    answers = at.through(superlink, *[at.signed("push-messages", content=body)] * 3)

    assert [got.status_code for got in answers] == [403] * 3
    assert superlink.requests == []
    assert caplog.text.count("alpha: sends an instruction, which is the coordinator's alone; 403") == 1


def test_a_reply_passes_with_the_parts_that_the_superlink_asks_for_and_no_others(at: Federation) -> None:
    content = b"x" * 1000

    async def script(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("push-messages"):
            wanted = PushMessagesResponse(objects_to_push=[object_id("c")], session_id="s")
            return answer(200, wanted.SerializeToString())
        return answer(200)

    announce = at.signed("push-messages", content=push(tree("m", [tree("c")])).SerializeToString())
    deliver, other = (
        at.signed("push-object", content=part("s", name, content).SerializeToString()) for name in ("c", "m")
    )
    foreign = at.signed("push-object", "beta", content=part("s", "c", content, BETA).SerializeToString())
    superlink = SuperLink(script)

    def last(*calls: Call) -> int:
        return at.through(superlink, at.one_by_one(*calls))[0].status_code

    assert last(announce, deliver) == 200
    assert last(announce, deliver, deliver) == 200  # the answer to the first was lost on the way
    assert last(announce, other) == 403
    before = len(superlink.requests)
    assert last(announce, deliver, at.signed("push-object", content=b"\xff\xff")) == 400
    assert len(superlink.requests) == before + 2
    assert last(announce, announce, foreign, foreign) == 200  # adopted: see the test of conversations


def test_settings_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "gateway.json"
    path.write_text('{"host": "127.0.0.1", "port": 70000, "folder": "f"}')

    with pytest.raises(ConfigError) as raised:
        read_gateway_settings(path)

    assert "port: " in str(raised.value)
    assert "upstream: " in str(raised.value)
