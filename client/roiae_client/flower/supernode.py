"""Flower's SuperNode, made to end when it goes deaf, and to say when it last heard from the coordinator.

Its worker loop ends at any answer of the coordinator that it does not expect, and its process lives on without it. Run
through here, the process ends too, and is started again by `service.py`.
"""

import os
import sys
from pathlib import Path
from typing import Any

from flwr.supernode import fleet_http_connection
from flwr.supernode.cli import flower_supernode
from flwr.supernode.fleet_http_client import FleetHttpClient

DEAF = 75  # the exit code of a SuperNode whose worker loop has ended


class _Heard(FleetHttpClient):
    """Touches a file at every answer that shows this node to be registered and connected."""

    file: Path

    def PullMessages(self, request: Any) -> Any:  # noqa: N802
        return self._note(super().PullMessages(request))

    def SendNodeHeartbeat(self, request: Any) -> Any:  # noqa: N802
        return self._note(super().SendNodeHeartbeat(request))

    def _note(self, response: Any) -> Any:
        self.file.touch()
        return response


def supernode_command(superlink: str, key: Path, ca: Path, secret: Path, port: int, heard: Path) -> tuple[str, ...]:
    """The SuperNode of a hospital: outbound TLS, its own key, its Runtime API on loopback for our executor alone."""
    return (
        *(sys.executable, "-m", "roiae_client.flower.supernode", str(heard)),
        *("--superlink", superlink, "--root-certificates", str(ca)),
        *("--auth-supernode-private-key", str(key)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
        *("--host", "127.0.0.1", "--port", str(port)),
    )


def main() -> None:
    """`python -m roiae_client.flower.supernode HEARD …`: the rest is flower-supernode's own."""
    _Heard.file = Path(sys.argv.pop(1))
    fleet_http_connection.FleetHttpClient = _Heard  # type: ignore[attr-defined]
    try:
        flower_supernode()
    finally:
        os._exit(DEAF)  # its Runtime API's thread would keep the process alive


if __name__ == "__main__":
    main()
