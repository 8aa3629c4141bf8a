"""The gateway as the process that the coordinator starts, over real TLS."""

import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import trustme

from roiae.errors import ServiceError
from roiae_server import gateway
from roiae_server.listener import bind
from tests.scripted_server import Quiet, serving


class SuperLink(Quiet):
    """Reverses a body; fails as the path asks."""

    def do_POST(self) -> None:  # noqa: N802
        if self.path.endswith("/get-fab"):  # promises ten bytes, gives three, hangs up
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
            self.close_connection = True
        elif self.path.endswith("/get-run"):
            self.answer(500)
        elif self.path.endswith("/pull-object"):  # never answers
            self.rfile.read()
        else:
            super().do_POST()


class Door:
    """A running gateway."""

    def __init__(self, process: subprocess.Popen[str], port: int, trust: ssl.SSLContext) -> None:
        self.process, self.port, self.trust = process, port, trust

    def post(self, operation: str, **options: object) -> httpx.Response:
        url = f"https://127.0.0.1:{self.port}/v1/{operation}"
        return httpx.post(url, verify=self.trust, trust_env=False, **options)  # type: ignore[arg-type]

    def connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        return self.trust.wrap_socket(plain, server_hostname="127.0.0.1")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        return int(chosen.getsockname()[1])


def settings_in(folder: Path, ca: trustme.CA, upstream: int, **limits: float) -> dict[str, object]:
    """Settings of a gateway, its certificate files written to this folder."""
    leaf = ca.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(folder / "server.key")
    leaf.cert_chain_pems[0].write_to_path(folder / "server.crt")
    ca.cert_pem.write_to_path(folder / "ca.crt")
    return {
        "host": "127.0.0.1",
        "port": free_port(),
        "certificate": str(folder / "server.crt"),
        "key": str(folder / "server.key"),
        "upstream": f"https://127.0.0.1:{upstream}",
        "ca": str(folder / "ca.crt"),
        "limits": limits,
    }


@contextmanager
def running(folder: Path, ca: trustme.CA, upstream: int, **limits: float) -> Iterator[Door]:
    settings = settings_in(folder, ca, upstream, **limits)
    (folder / "gateway.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "roiae_server.gateway", str(folder / "gateway.json")]
    trust = ssl.create_default_context()
    ca.configure_trust(trust)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            assert "listening on 127.0.0.1" in process.stderr.readline()
            yield Door(process, int(str(settings["port"])), trust)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def door(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with (
        serving(SuperLink, ca.issue_cert("127.0.0.1")) as upstream,
        running(tmp_path_factory.mktemp("gateway"), ca, upstream, header_seconds=0.3, client_connections=4) as door,
    ):
        yield door


def cut_off(connection: ssl.SSLSocket) -> bool:
    """Whether the other side ends the connection without a word."""
    with suppress(ConnectionResetError, ssl.SSLEOFError):
        return connection.recv(1) == b""
    return True


def test_a_fleet_call_passes_over_tls_byte_for_byte(door: Door) -> None:
    body = bytes(range(256)) * 4096

    got = door.post("fleet/push-object", content=body)

    assert (got.status_code, got.content) == (200, body[::-1])
    assert "date" in got.headers  # a hospital's doctor compares clocks by it
    assert "server" not in got.headers


def test_a_chunked_body_passes(door: Door) -> None:
    assert door.post("fleet/push-messages", content=iter([b"abc", b"def"])).content == b"fedcba"


def test_a_control_call_is_not_found(door: Door) -> None:
    assert door.post("control/list-runs").status_code == 404
    assert door.post("fleet/register-node").status_code == 404


def test_an_internal_error_of_the_superlink_is_503(door: Door) -> None:
    assert door.post("fleet/get-run").status_code == 503


def test_an_answer_that_breaks_off_reaches_the_client_broken_off(door: Door) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        door.post("fleet/get-fab")


def test_a_chunked_body_without_end_is_refused_and_cut_off(door: Door) -> None:
    with door.connect() as connection:
        connection.sendall(b"POST /v1/fleet/push-object HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(9):
            connection.sendall(b"100000\r\n" + bytes(2**20) + b"\r\n")
        assert connection.recv(12) == b"HTTP/1.1 413"
        with pytest.raises((ConnectionResetError, BrokenPipeError, ssl.SSLError)):
            while True:
                connection.sendall(bytes(100))
                time.sleep(0.01)


def test_headers_that_trickle_in_are_cut_off(door: Door) -> None:
    began = time.monotonic()
    with door.connect() as connection:
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


def test_one_client_holds_no_more_than_its_connections(door: Door) -> None:
    held = [door.connect() for _ in range(4)]
    try:
        with door.connect() as fifth:
            assert cut_off(fifth)
    finally:
        for connection in held:
            connection.close()


def test_a_superlink_that_is_down_is_503_and_sigterm_ends_the_gateway(ca: trustme.CA, tmp_path: Path) -> None:
    with running(tmp_path, ca, upstream=free_port()) as door:
        assert door.post("fleet/pull-messages").status_code == 503
        door.process.send_signal(signal.SIGTERM)
        door.process.wait(timeout=2)


def test_sigterm_ends_the_gateway_in_the_midst_of_a_call(ca: trustme.CA, tmp_path: Path) -> None:
    with (
        serving(SuperLink, ca.issue_cert("127.0.0.1")) as upstream,
        running(tmp_path, ca, upstream) as door,
        door.connect() as connection,
    ):
        connection.sendall(b"POST /v1/fleet/pull-object HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n")
        door.process.send_signal(signal.SIGTERM)
        door.process.wait(timeout=3)


def test_a_port_in_use_is_one_message(
    ca: trustme.CA,
    tmp_path: Path,
    run_main: Callable[[Callable[[], None], list[str]], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = settings_in(tmp_path, ca, 1)
    (tmp_path / "gateway.json").write_text(json.dumps(settings))
    with bind("127.0.0.1", int(str(settings["port"]))):
        code = run_main(gateway.main, ["gateway", str(tmp_path / "gateway.json")])

    assert code == ServiceError.exit_code
    assert "Another program listens there" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["server.crt", "server.key", "ca.crt"])
def test_a_missing_certificate_or_key_is_named(
    missing: str,
    ca: trustme.CA,
    tmp_path: Path,
    run_main: Callable[[Callable[[], None], list[str]], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "gateway.json").write_text(json.dumps(settings_in(tmp_path, ca, 1)))
    (tmp_path / missing).unlink()

    assert run_main(gateway.main, ["gateway", str(tmp_path / "gateway.json")]) == 9
    assert missing in capsys.readouterr().err


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ServiceError, match=r"does not have that address"):
        bind("192.0.2.1", 1)
