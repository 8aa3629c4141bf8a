"""Every way in which a hospital cannot reach its coordinator, with real sockets."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from roiae.console.doctor import Level
from roiae_client.service.connectivity import Coordinator, check_reach
from tests.scripted_server import Quiet, serving

Reach = Callable[..., list[tuple[Level, str]]]
NOW = datetime.now(UTC)


class Gateway(Quiet):
    """A coordinator's gateway: a SuperLink refuses the unsigned fleet call, everything else is not found."""

    fleet, other, skew = 401, 404, 0.0

    def do_POST(self) -> None:  # noqa: N802
        self.body()
        self.close_connection = True  # as the gateway does after all that it answers itself
        self.answer(self.fleet if self.path.startswith("/v1/fleet/") else self.other)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(time.time() + self.skew)


class Proxy(Quiet):
    """Opens a tunnel to wherever it is asked for."""

    def do_CONNECT(self) -> None:  # noqa: N802
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response(200)
            self.end_headers()
            _pump(self.connection, there)
        self.close_connection = True


def _pump(one: socket.socket, other: socket.socket) -> None:
    import select

    while True:
        for ready in select.select([one, other], [], [])[0]:
            if not (data := ready.recv(65536)):
                return
            (other if ready is one else one).sendall(data)


class Refusing(Quiet):
    def do_CONNECT(self) -> None:  # noqa: N802
        self.answer(403)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def reach(ca: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Level and text of what the doctor says of a scripted coordinator."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    ca.cert_pem.write_to_path(tmp_path / "ca.crt")
    with ExitStack() as stack:

        def run(
            handler: type[Quiet] = Gateway,
            certificate: trustme.LeafCert | None = None,
            proxy: type[Quiet] | None = None,
            **given: Any,
        ) -> list[tuple[Level, str]]:
            port = given.pop("port", None) or stack.enter_context(serving(handler, certificate))
            if proxy is not None:
                monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{stack.enter_context(serving(proxy))}")
            address = Coordinator(given.pop("host", "127.0.0.1"), port, tmp_path / "ca.crt", timeout=0.5)
            return [(found.level, f"{found.what} → {found.fix}") for found in check_reach(address)]

        yield run


def failure(findings: list[tuple[Level, str]]) -> str:
    """The one failure, which is the last thing looked at."""
    *before, (level, text) = findings
    assert level is Level.FAIL
    assert all(earlier is Level.PASS for earlier, _ in before)
    return text


def test_a_coordinator_in_order_passes(reach: Reach, ca: trustme.CA) -> None:
    valid_for_a_year = ca.issue_cert("127.0.0.1", not_after=NOW + timedelta(days=365))
    findings = reach(Gateway, valid_for_a_year)

    assert [level for level, _ in findings] == [Level.PASS] * 6
    assert "holds 365 days" in findings[3][1]


def test_a_certificate_near_its_end_is_a_warning(reach: Reach, ca: trustme.CA) -> None:
    findings = reach(Gateway, ca.issue_cert("127.0.0.1", not_after=NOW + timedelta(days=12, hours=1)))

    assert findings[3][0] is Level.WARN
    assert "expires in 12 days" in findings[3][1]


def test_a_name_that_does_not_resolve_is_named(reach: Reach) -> None:
    assert "coordinator.invalid does not resolve" in failure(reach(host="coordinator.invalid", port=1))


def test_a_closed_port_is_named(reach: Reach) -> None:
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]

    assert f"127.0.0.1:{port} refuses the connection" in failure(reach(port=port))


def test_an_expired_certificate_is_told_with_its_day(reach: Reach, ca: trustme.CA) -> None:
    expired = ca.issue_cert("127.0.0.1", not_before=NOW - timedelta(9), not_after=NOW - timedelta(2))

    assert f"expired on {NOW - timedelta(2):%Y-%m-%d}" in failure(reach(Gateway, expired))


def test_a_certificate_not_yet_valid_points_at_the_clock(reach: Reach, ca: trustme.CA) -> None:
    early = ca.issue_cert("127.0.0.1", not_before=NOW + timedelta(1))

    assert "set the clock that is wrong" in failure(reach(Gateway, early))


def test_a_certificate_for_another_name_is_told_with_its_names(reach: Reach, ca: trustme.CA) -> None:
    text = failure(reach(Gateway, ca.issue_cert("fl.example.org", "fl.example.com")))

    assert "not for 127.0.0.1 but for fl.example.org, fl.example.com" in text


def test_an_unknown_ca_is_told_by_name(reach: Reach) -> None:
    stranger = trustme.CA(organization_name="Hospital Web Proxy")

    text = failure(reach(Gateway, stranger.issue_cert("127.0.0.1")))

    assert "O=Hospital Web Proxy" in text
    assert "TLS inspection" in text


def test_a_plain_http_port_is_told_from_a_broken_line(reach: Reach) -> None:
    assert "speaks plain HTTP" in failure(reach(Gateway))


def test_a_port_that_says_nothing_is_a_failed_handshake(reach: Reach) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "the handshake fails (TimeoutError)" in failure(reach(port=silent.getsockname()[1]))


@pytest.mark.parametrize(
    ("behind", "level"),
    [(-3600, Level.FAIL), (-10, Level.FAIL), (-4, Level.WARN), (0, Level.PASS), (120, Level.WARN), (310, Level.FAIL)],
)
def test_the_clock_fails_where_node_authentication_would(
    reach: Reach, ca: trustme.CA, behind: float, level: Level
) -> None:
    handler = type("Skewed", (Gateway,), {"skew": behind})

    findings = reach(handler, ca.issue_cert("127.0.0.1"))

    assert findings[-1][0] is level
    assert "clock: " in findings[-1][1]


@pytest.mark.parametrize(
    ("fleet", "other", "level", "said"),
    [
        (503, 404, Level.WARN, "the federation behind it does not"),
        (404, 404, Level.FAIL, "is no roiae coordinator"),
        (401, 200, Level.FAIL, "lets control calls through"),
    ],
)
def test_what_the_gateway_answers_is_judged(
    reach: Reach, ca: trustme.CA, fleet: int, other: int, level: Level, said: str
) -> None:
    handler = type("Odd", (Gateway,), {"fleet": fleet, "other": other})

    findings = reach(handler, ca.issue_cert("127.0.0.1"))

    assert any(found is level and said in text for found, text in findings)


def test_a_ca_file_that_is_none_is_named(reach: Reach, ca: trustme.CA, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")

    assert "ca.crt: is no CA certificate in PEM" in failure(reach(Gateway, ca.issue_cert("127.0.0.1")))


def test_a_proxy_is_used_as_the_supernode_will(reach: Reach, ca: trustme.CA) -> None:
    findings = reach(Gateway, ca.issue_cert("127.0.0.1", not_after=NOW + timedelta(365)), proxy=Proxy)

    assert [level for level, _ in findings] == [Level.PASS] * 6
    assert "the proxy" in findings[0][1]
    assert "through the proxy" in findings[1][1]


def test_a_proxy_that_is_itself_https_is_not_tried(reach: Reach, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "https://user:secret@127.0.0.1:1")

    text = failure(reach(port=1))

    assert "give it as http://" in text
    assert "secret" not in text


def test_a_proxy_that_refuses_is_quoted(reach: Reach) -> None:
    text = failure(reach(proxy=Refusing))

    assert "403" in text
    assert "allow CONNECT to 127.0.0.1:" in text
