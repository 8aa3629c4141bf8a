"""The gateway as the process that the coordinator starts, over real TLS."""

import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node

from roiae.errors import ServiceError
from roiae_server.gateway import app as gateway
from roiae_server.gateway.tls_server import bind
from tests.server.gateway.real_gateway import Door, scripted_superlink

BEAT = "fleet/send-node-heartbeat"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    door = Door(tmp_path_factory.mktemp("gateway") / "coordinator")
    with scripted_superlink() as upstream, door.running(upstream, header_seconds=0.3, stranger_connections=4):
        yield door


def connect(door: Door) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", door.port), timeout=5)
    return door.trust.wrap_socket(plain, server_hostname="127.0.0.1")


def cut_off(connection: ssl.SSLSocket) -> bool:
    """Whether the other side ends the connection without a word."""
    with suppress(ConnectionResetError, ssl.SSLEOFError):
        return connection.recv(1) == b""
    return True


def test_a_fleet_call_passes_over_tls_byte_for_byte(door: Door) -> None:
    body = SendNodeHeartbeatRequest(node=Node(node_id=7), heartbeat_interval=30).SerializeToString()

    got = door.post(BEAT, content=body)

    assert (got.status_code, got.content) == (200, body[::-1])
    assert "date" in got.headers  # a hospital's doctor compares clocks by it
    assert "server" not in got.headers


def test_a_chunked_body_passes(door: Door) -> None:
    body = SendNodeHeartbeatRequest(node=Node(node_id=7), heartbeat_interval=30).SerializeToString()

    assert door.post(BEAT, content=iter([body[:3], body[3:]])).content == body[::-1]


def test_who_is_not_enrolled_gets_nothing(door: Door) -> None:
    assert door.post(BEAT, site=None).status_code == 401
    assert door.post("control/list-runs", site=None).status_code == 404
    assert door.post("control/list-runs").status_code == 404
    assert door.post("fleet/register-node").status_code == 404


def test_an_internal_error_of_the_superlink_is_503(door: Door) -> None:
    assert door.post("fleet/get-run").status_code == 503


def test_an_answer_that_breaks_off_reaches_the_client_broken_off(door: Door) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        door.post("fleet/get-fab")


def test_a_chunked_body_without_end_is_refused_and_cut_off(door: Door) -> None:
    (request,) = list(door.sign["alpha"].auth_flow(httpx.Request("POST", "https://x/")))
    signature = b"".join(b"%s: %s\r\n" % pair for pair in request.headers.raw if pair[0].startswith(b"flwr-"))
    with connect(door) as connection:
        connection.sendall(b"POST /v1/fleet/push-object HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n")
        connection.sendall(signature + b"\r\n")
        for _ in range(2):
            connection.sendall(b"100000\r\n" + bytes(2**20) + b"\r\n")
        assert connection.recv(12) == b"HTTP/1.1 413"
        with pytest.raises((ConnectionResetError, BrokenPipeError, ssl.SSLError)):
            while True:
                connection.sendall(bytes(100))
                time.sleep(0.01)


def test_headers_that_trickle_in_are_cut_off(door: Door) -> None:
    began = time.monotonic()
    with connect(door) as connection:
        connection.sendall(b"POST /v1/fleet/get-run HTTP/1.1\r\n")
        connection.settimeout(0.05)
        while time.monotonic() - began < 5:
            try:
                if cut_off(connection):
                    break
            except TimeoutError:
                with suppress(OSError):
                    connection.sendall(b"x")
    assert 0.25 < time.monotonic() - began < 5


def test_a_handshake_that_does_not_come_is_cut_off(door: Door) -> None:
    with socket.create_connection(("127.0.0.1", door.port), timeout=5) as connection:
        assert connection.recv(1) == b""


def test_a_stranger_that_holds_too_many_connections_loses_its_oldest(door: Door) -> None:
    plain = [socket.create_connection(("127.0.0.1", door.port), timeout=5)]  # without even a handshake
    held = [connect(door) for _ in range(4)]
    try:
        assert plain[0].recv(1) == b""
        held[-1].sendall(b"POST /v1/fleet/get-run HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        assert held[-1].recv(12) == b"HTTP/1.1 401"
    finally:
        for connection in (*plain, *held):
            connection.close()


def test_a_site_that_is_removed_loses_its_connection_at_once(tmp_path: Path) -> None:
    door = Door(tmp_path / "coordinator")
    with scripted_superlink() as upstream, door.running(upstream), door.client("beta") as client:
        assert client.post(BEAT).status_code == 200
        (stream,) = list(client._transport._pool.connections)  # type: ignore[attr-defined]
        began = time.monotonic()
        door.folder.remove_site("beta")
        while not stream.has_expired():  # it can be read from: the other side has ended it
            assert time.monotonic() - began < 3
            time.sleep(0.05)
        assert client.post(BEAT).status_code == 401


def test_a_superlink_that_is_down_is_503_and_sigterm_ends_the_gateway(tmp_path: Path) -> None:
    with Door(tmp_path / "coordinator").running(tmp_path / "nobody") as door:
        assert door.post("fleet/pull-messages").status_code == 503
        assert door.post("fleet/pull-messages", site=None).status_code == 503
        door.process.send_signal(signal.SIGTERM)
        door.process.wait(timeout=2)


def test_sigterm_ends_the_gateway_in_the_midst_of_a_call(tmp_path: Path) -> None:
    door = Door(tmp_path / "coordinator")
    with scripted_superlink() as upstream, door.running(upstream), connect(door) as connection:
        connection.sendall(b"POST /v1/fleet/pull-object HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n")
        door.process.send_signal(signal.SIGTERM)
        door.process.wait(timeout=3)


def test_a_port_in_use_is_one_message(
    tmp_path: Path, run_main: Callable[[Callable[[], None], list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    door = Door(tmp_path / "coordinator")
    settings = door.settings(tmp_path / "nobody")
    with bind("127.0.0.1", door.port):
        code = run_main(gateway.main, ["gateway", str(settings)])

    assert code == ServiceError.exit_code
    assert "Another program listens there" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["server.crt", "server.key", "ca.key"])
def test_a_missing_certificate_or_key_is_named(
    missing: str,
    tmp_path: Path,
    run_main: Callable[[Callable[[], None], list[str]], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    door = Door(tmp_path / "coordinator")
    settings = door.settings(tmp_path / "nobody")
    (door.folder.pki / missing).unlink()

    assert run_main(gateway.main, ["gateway", str(settings)]) == 9
    assert missing in capsys.readouterr().err


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ServiceError, match=r"does not have that address"):
        bind("192.0.2.1", 1)
