"""How the SuperLink is started: for `service.py`, which has no need of Flower itself."""

import sys
from pathlib import Path


def superlink_command(port: int, pki: Path, state: Path) -> tuple[str, ...]:
    """The SuperLink on loopback: TLS, node authentication, a database, apps run by us and never installed.

    Args:
        pki: holds ca.crt, server.crt and server.key.
        state: holds the database and the secret that our executor shows.
    """
    return (
        str(Path(sys.executable).with_name("flower-superlink")),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--ssl-ca-certfile", str(pki / "ca.crt")),
        *("--ssl-certfile", str(pki / "server.crt"), "--ssl-keyfile", str(pki / "server.key")),
        *("--enable-supernode-auth", "--database", str(state / "superlink.db")),
        *("--isolation", "process", "--superexec-auth-secret-file", str(state / "secret")),
        "--disable-runtime-dependency-installation",
    )
