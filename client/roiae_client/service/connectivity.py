"""Can this hospital reach its coordinator? Name, port, TLS and the gateway, each failure translated into its cause."""

import http.client
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from cryptography import x509

from roiae.console.doctor import Finding, check_clock, check_expiry, failed, passed, warned
from roiae.identity.certificates import certificate_names
from roiae.text import shown

_FLEET, _CONTROL = "/v1/fleet/pull-messages", "/v1/control/list-runs"
_OLD_TLS = {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "WRONG_SSL_VERSION", "NO_PROTOCOLS_AVAILABLE"}

# X509_V_ERR_* of OpenSSL
_NOT_YET_VALID, _EXPIRED, _WRONG_NAME, _WRONG_ADDRESS = 9, 10, 62, 64


@dataclass(frozen=True)
class Coordinator:
    """Where a coordinator is, and how this machine gets there.

    Args:
        ca: the federation's CA certificate, PEM.
        bundle: other CA certificates that this hospital trusts, PEM.
        timeout: seconds for each step.
    """

    host: str
    port: int
    ca: Path
    bundle: Path | None = None
    timeout: float = 10.0

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def proxy(self) -> str | None:
        """`HTTPS_PROXY`, unless `NO_PROXY` excepts this host: what the SuperNode will use."""
        proxies = getproxies()
        return None if proxy_bypass(self.host) else proxies.get("https") or proxies.get("all")

    def dial(self) -> http.client.HTTPConnection:
        """A connection to the coordinator's port, through the proxy where there is one; no TLS yet.

        Raises:
            OSError: nobody answers, or the proxy refuses.
        """
        if self.proxy is None:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        else:
            proxy = urlsplit(self.proxy if "//" in self.proxy else f"//{self.proxy}")
            connection = http.client.HTTPConnection(proxy.hostname or "", proxy.port or 80, timeout=self.timeout)
            login = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}"
            given = {"Proxy-Authorization": f"Basic {b64encode(login.encode()).decode()}"} if proxy.username else {}
            connection.set_tunnel(self.host, self.port, given)
        connection.connect()
        return connection

    def trust(self) -> ssl.SSLContext:
        """
        Raises:
            OSError, ssl.SSLError: a CA file cannot be read as PEM.
        """
        context = ssl.create_default_context(cafile=self.ca)
        if self.bundle:
            context.load_verify_locations(self.bundle)
        return context


def check_reach(coordinator: Coordinator) -> Iterator[Finding]:
    """Findings in the order of a connection; the first that fails is the last."""
    yield (name := check_name(coordinator))
    if name.level == "FAIL":
        return
    port, connection = check_port(coordinator)
    yield port
    if connection is None:
        return
    tls = check_tls(coordinator, connection.sock)
    if isinstance(tls, Finding):
        yield tls
        return
    with tls:
        yield passed(f"TLS: {tls.version()}, a certificate for {coordinator.host} from the federation's CA")
        yield check_expiry("the coordinator's certificate", _end(tls), "tell the coordinator: `roiae-server renew`")
    yield from check_gateway(coordinator)


def check_name(coordinator: Coordinator) -> Finding:
    """Resolves the coordinator's name, or the proxy's where there is one: then the proxy resolves the other."""
    host, named = coordinator.host, ""
    if coordinator.proxy is not None:
        address = urlsplit(coordinator.proxy if "//" in coordinator.proxy else f"//{coordinator.proxy}")
        if address.scheme == "https":
            return failed("the proxy's own address is https://", "give it as http:// in HTTPS_PROXY")
        host, named = address.hostname or "", "the proxy "
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return failed(
            f"name: {named}{host} does not resolve ({error.strerror})",
            "check the spelling and this machine's DNS; inside a hospital, ask whether outside names are resolved",
        )
    return passed(f"name: {named}{host} is {found[0][4][0]}")


def check_port(coordinator: Coordinator) -> tuple[Finding, http.client.HTTPConnection | None]:
    """Opens the port, through the proxy where there is one."""
    through = " through the proxy" if coordinator.proxy else ""
    try:
        connection = coordinator.dial()
    except ConnectionRefusedError:
        what, fix = "refuses the connection", "is the coordinator running, and is the port right?"
        if through:
            fix = "is the proxy running, and are name and port in HTTPS_PROXY right?"
    except TimeoutError:
        what, fix = "does not answer", f"let this machine out to {coordinator.address}, TCP, in the firewall"
    except OSError as error:  # http.client's words for what the proxy answered, or the system's
        what = f"cannot be reached ({error.strerror or error})"
        fix = f"ask the proxy's owner to allow CONNECT to {coordinator.address}" if through else "check the network"
    else:
        return passed(f"port: {coordinator.address} answers{through}"), connection
    return failed(f"port: {coordinator.address} {what}{through}", fix), None


def check_tls(coordinator: Coordinator, plain: socket.socket) -> ssl.SSLSocket | Finding:
    """TLS on an open connection, or why there is none."""
    try:
        trust = coordinator.trust()
    except (OSError, ssl.SSLError) as error:
        plain.close()
        files = " or ".join(map(str, filter(None, (coordinator.ca, coordinator.bundle))))
        return failed(f"{files}: is no CA certificate in PEM ({error.strerror})", "`roiae-client join` again")
    try:
        return trust.wrap_socket(plain, server_hostname=coordinator.host)
    except ssl.SSLCertVerificationError as error:
        return _untrusted(coordinator, error)
    except ssl.SSLError as error:
        if error.reason in _OLD_TLS:
            return failed("TLS: the other side speaks a version that this machine refuses", "update the older side")
        return _no_tls(coordinator, str(error.reason))
    except OSError as error:
        return _no_tls(coordinator, type(error).__name__)


def certificate_days(coordinator: Coordinator) -> int | None:
    """Days that the coordinator's certificate still holds; None where it cannot be seen."""
    try:
        with coordinator.trust().wrap_socket(coordinator.dial().sock, server_hostname=coordinator.host) as tls:
            return (_end(tls) - datetime.now(UTC)).days
    except OSError:
        return None


def check_gateway(coordinator: Coordinator) -> Iterator[Finding]:
    """A fleet call is answered, a control call is not found, and the clocks agree."""
    try:
        fleet, date = _post(coordinator, _FLEET)
        now = time.time()
        control, _ = _post(coordinator, _CONTROL)
    except (OSError, http.client.HTTPException) as error:
        yield failed(
            f"gateway: {coordinator.address} breaks off ({type(error).__name__})",
            "does something on the way cut HTTPS? Else tell the coordinator",
        )
        return
    if fleet == 404:
        yield failed(f"gateway: {coordinator.address} is no roiae coordinator", "compare host and port with the kit's")
    elif fleet >= 500:
        yield warned(
            f"gateway: answers, but the federation behind it does not ({fleet})",
            "nothing here: the service tries again until the coordinator runs `roiae-server start`",
        )
    else:
        yield passed("gateway: answers fleet calls")
    if control != 404:
        yield failed(f"gateway: lets control calls through ({control})", "tell the coordinator at once; do not start")
    yield check_clock(date, now)


def _post(coordinator: Coordinator, path: str) -> tuple[int, str | None]:
    """Status and Date of an empty call, on a connection of its own: a gateway may close one after any answer."""
    connection = coordinator.dial()
    connection.sock = coordinator.trust().wrap_socket(connection.sock, server_hostname=coordinator.host)
    with closing(connection):
        connection.request("POST", path, headers={"content-type": "application/x-protobuf"})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("date")


def _end(tls: ssl.SSLSocket) -> datetime:
    certificate = tls.getpeercert()
    assert certificate  # verified, so it is there
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)


def _untrusted(coordinator: Coordinator, error: ssl.SSLCertVerificationError) -> Finding:
    seen = _unverified(coordinator)
    issuer = shown(seen.issuer.rfc4514_string()) if seen else "an issuer that was not shown again"
    if error.verify_code in (_WRONG_NAME, _WRONG_ADDRESS):
        return failed(
            f"TLS: the certificate is not for {coordinator.host} but for {_names(seen)}",
            "the kit's host must be a name in the certificate: tell the coordinator (`roiae-server renew`)",
        )
    if error.verify_code == _EXPIRED:
        end = f" on {seen.not_valid_after_utc:%Y-%m-%d}" if seen else ""
        return failed(
            f"TLS: the certificate expired{end}; this machine's clock says {datetime.now(UTC):%Y-%m-%d}",
            "tell the coordinator (`roiae-server renew`), or set this machine's clock",
        )
    if error.verify_code == _NOT_YET_VALID:
        start = f" before {seen.not_valid_before_utc:%Y-%m-%d %H:%M} UTC" if seen else " yet"
        return failed(
            f"TLS: the certificate is not valid{start}; this machine's clock says {datetime.now(UTC):%Y-%m-%d %H:%M}",
            "set the clock that is wrong, here or at the coordinator",
        )
    return failed(
        f"TLS: the certificate was issued by {issuer}, not by the federation's CA ({error.verify_message})",
        f"if that is your own proxy, have {coordinator.address} excepted from TLS inspection, or name its CA as "
        "`ca_bundle` in site.yaml; else this is another federation, or ca.crt is: compare the CA's fingerprint by "
        "telephone and `roiae-client join` again",
    )


def _no_tls(coordinator: Coordinator, why: str) -> Finding:
    """Asks once more, in plain HTTP, to tell a server without TLS from a line that is cut."""
    said = b""
    with suppress(OSError), coordinator.dial().sock as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        said = plain.recv(5)
    if said == b"HTTP/":
        return failed(
            f"TLS: {coordinator.address} speaks plain HTTP", "compare the port with the kit's; a coordinator speaks TLS"
        )
    return failed(
        f"TLS: the handshake fails ({why})", "the port speaks another protocol, or something on the way cuts TLS"
    )


def _unverified(coordinator: Coordinator) -> x509.Certificate | None:
    """The certificate that was refused, fetched again to say whose it is; nothing is sent over this connection."""
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    with suppress(OSError), blind.wrap_socket(coordinator.dial().sock, server_hostname=coordinator.host) as tls:
        return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
    return None


def _names(certificate: x509.Certificate | None) -> str:
    if certificate is None:
        return "others"
    return shown(", ".join(certificate_names(certificate)) or "none")
