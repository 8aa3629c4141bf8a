"""`roiae-server doctor`: what would stop this coordinator, and how to mend it."""

import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from roiae.config import Role, RunConfig, build_config, read_settings
from roiae.console.doctor import (
    Finding,
    check_disk,
    check_expiry,
    check_memory,
    check_own_folder,
    check_private,
    check_versions,
    conclude,
    failed,
    load_certificates,
    passed,
    warned,
)
from roiae.errors import ConfigError, ServiceError, SetupError
from roiae.identity.certificates import certificate_names
from roiae.text import shown
from roiae_server.enrolment.federation_key import REQUEST_KEY, load_signer

RENEW = "roiae-server renew"


def register(app: typer.Typer) -> None:
    """Add `doctor` to the command line."""

    @app.command()
    def doctor(
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="The coordinator's folder, as `init` made it.")],
    ) -> None:
        """Look at port, certificate, keys, sites, disk, memory, versions and clock."""
        from rich.console import Console

        conclude(examine(folder), Console(), f"roiae-server start {folder}")


def examine(folder: Path) -> Iterator[Finding]:
    """Every finding about a coordinator's folder and machine."""
    if not folder.is_dir():
        yield failed(f"{folder}: no such folder", "roiae-server init makes one")
        return
    try:
        settings = read_settings(folder / "coordinator.yaml")
        host, port = str(settings["host"]), int(settings["port"])
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        missing = f"{folder / 'coordinator.yaml'}: needs host and port"
        yield failed(str(error) if isinstance(error, ConfigError) else missing, "restore it from a backup")
        return
    pki = folder / "pki"
    yield check_own_folder(folder)
    yield check_private(pki / "server.key")
    yield check_private(pki / REQUEST_KEY)
    if (pki / "ca.key").exists():  # it may be kept elsewhere
        yield check_private(pki / "ca.key")
    yield from check_certificate(pki, host)
    yield check_request_key(pki, str(settings.get("federation")))
    yield check_host(host)
    yield check_port(port, pki / "server.crt")
    sites = read_sites(folder / "sites.json")
    yield from check_sites(sites)
    yield from check_run(folder, sites)
    yield check_versions()
    yield from check_time_service()


def check_certificate(pki: Path, host: str) -> Iterator[Finding]:
    """The server's certificate: for this host, from this CA, for this key, and how long it holds."""
    authority, chain = load_certificates(pki / "ca.crt"), load_certificates(pki / "server.crt")
    if isinstance(authority, Finding) or isinstance(chain, Finding):
        yield from (found for found in (authority, chain) if isinstance(found, Finding))
        return
    ca, server = authority[0], chain[0]
    try:
        server.verify_directly_issued_by(ca)
    except (ValueError, InvalidSignature):
        yield failed(f"{pki / 'server.crt'}: is not from the CA in {pki / 'ca.crt'}", f"restore both, or {RENEW}")
    names = certificate_names(server)
    if host in names:
        yield passed(f"certificate: for {', '.join(names)}")
    else:
        yield failed(f"certificate: for {', '.join(names) or 'no host'}, not for {host}", RENEW)
    with suppress(OSError):  # a key that cannot be read has a finding of its own
        if not _fits(server, (pki / "server.key").read_bytes()):
            yield failed(f"{pki / 'server.key'}: is not the certificate's key", f"restore both, or {RENEW}")
    yield check_expiry("the server's certificate", server.not_valid_after_utc, RENEW)
    yield check_expiry("the CA's certificate", ca.not_valid_after_utc, "a new federation: `init`, and new kits for all")


def check_request_key(pki: Path, federation: str) -> Finding:
    """The CA's certificate is of the key that signs requests."""
    try:
        number = load_signer(pki, federation).certificate.number
    except SetupError as error:
        return failed(str(error), f"restore them from one backup, or {RENEW} --request-key")
    return passed(f"request key: number {number}, certified by the CA")


def check_host(host: str) -> Finding:
    """Whether the name that hospitals connect to has an address."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return failed(f"name: {host} does not resolve ({error.strerror})", "enter it in the DNS, or correct it")
    address = ip_address(str(found[0][4][0]))
    if address.is_loopback:
        return warned(f"name: {host} is {address}: reachable from this machine alone", "enter its outside address")
    return passed(f"name: {host} is {address}")


def check_port(port: int, certificate: Path) -> Finding:
    """The public port is free, or this coordinator's own gateway answers there."""
    from roiae_server.gateway.tls_server import bind

    try:
        bind("0.0.0.0", port).close()
    except ServiceError as error:
        with suppress(OSError, ssl.SSLError, ValueError):
            seen = ssl.get_server_certificate(("127.0.0.1", port), timeout=1)
            if x509.load_pem_x509_certificate(seen.encode()) == x509.load_pem_x509_certificate(
                certificate.read_bytes()
            ):
                return passed(f"port: {port} is served by this coordinator")
        return failed(f"port: {error}", "see who listens: ss -tlnp")
    return passed(f"port: {port} is free")


def read_sites(path: Path) -> dict[str, Any]:
    """Enrolled sites by name; none where the file is missing or damaged."""
    with suppress(OSError, ValueError):
        sites = json.loads(path.read_text(encoding="utf-8"))
        return sites if isinstance(sites, dict) else {}
    return {}


def check_sites(sites: dict[str, Any]) -> Iterator[Finding]:
    """Enough hospitals to train with, and one to hold out."""
    by_role: dict[str, list[str]] = {"source": [], "held-out": []}
    for name, site in sites.items():
        by_role.setdefault(str(site.get("role")), []).append(name)
    sources, held_out = by_role["source"], by_role["held-out"]
    if len(sources) < 2:
        yield failed(f"sites: {len(sources)} sources; an aggregate needs two", "roiae-server add-site --role source")
    else:
        yield passed(f"sites: sources {', '.join(sorted(sources))}")
    if held_out:
        yield passed(f"sites: held out {', '.join(sorted(held_out))}")
    else:
        yield warned(
            "sites: none is held out, so none scores the domain shift", "roiae-server add-site --role held-out"
        )


def check_run(folder: Path, sites: dict[str, Any]) -> Iterator[Finding]:
    """The configuration of a run: what it takes of this machine, and what hospitals would refuse of it."""
    try:
        path = folder / "federation.yaml"
        config = build_config(read_settings(path)) if path.exists() else RunConfig()
    except ConfigError as error:
        yield failed(str(error), "correct federation.yaml")
        return
    yield from check_forecast(folder, config, len(sites))
    yield from check_limits(folder, config, sites)


def check_forecast(folder: Path, config: RunConfig, sites: int) -> Iterator[Finding]:
    """Disk and memory for the configured model and this number of sites."""
    from roiae.method.forecast import coordinator_disk, coordinator_memory

    what = f"{sites} sites at {config.model.image_size} px"
    yield check_disk(folder, coordinator_disk(config.model, sites), f"Flower's database and checkpoints, {what}")
    yield check_memory(coordinator_memory(config.model, sites), what)


def check_limits(folder: Path, config: RunConfig, sites: dict[str, Any]) -> Iterator[Finding]:
    """Which settings of the run a hospital would refuse, of those that have told their limits in a handshake."""
    from roiae_server.run.site_limits import refused
    from roiae_server.service.site_registry import read_last_contacts

    told = {site: heard.limits for site, heard in read_last_contacts(folder).items() if heard.limits and site in sites}
    found = {site: refused(config, Role(sites[site]["role"]), limits) for site, limits in sorted(told.items())}
    for site, sentences in found.items():
        for sentence in sentences:
            yield failed(
                f"limits: {site} would refuse: {shown(sentence)}", "change federation.yaml, or agree with them"
            )
    if told and not any(found.values()):
        yield passed(f"limits: the run is within those of {', '.join(told)}")


def check_time_service() -> Iterator[Finding]:
    """Whether the system says that its clock is synchronised; silence where it does not say."""
    if not shutil.which("timedatectl"):
        return
    command: Sequence[str] = ("timedatectl", "show", "--property=NTPSynchronized", "--value")
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    if answer.returncode == 0 and answer.stdout.strip() == "yes":
        yield passed("clock: synchronised")
    elif answer.returncode == 0:
        yield warned("clock: not synchronised; hospitals more than 5 s ahead are refused", "timedatectl set-ntp true")


def _fits(certificate: x509.Certificate, key: bytes) -> bool:
    try:
        return load_pem_private_key(key, None).public_key() == certificate.public_key()
    except ValueError:
        return False
