"""How the SuperNode is started, and how it ends: for `service.py`, which has no need of Flower itself."""

import sys
from pathlib import Path

DEAF = 75  # the exit code of a SuperNode whose worker loop has ended
NOT_LET_IN = 76  # of one that the coordinator never answered as a registered node, so that it holds no request


def supernode_command(superlink: str, key: Path, ca: Path, secret: Path, socket: Path, heard: Path) -> tuple[str, ...]:
    """The SuperNode of a hospital: outbound TLS, its own key, its Runtime API at a socket for our executor alone."""
    return (
        *(sys.executable, "-m", "roiae_client.flower.supernode", str(heard), str(socket)),
        *("--superlink", superlink, "--root-certificates", str(ca)),
        *("--auth-supernode-private-key", str(key)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
    )
