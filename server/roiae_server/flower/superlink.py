"""The Control API of a real federation's SuperLink, which only this service's user can reach.

Flower's private interfaces are touched here and in `session.py`; `tests/test_flower_contract.py` fails first when they
change.
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import tomli_w
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.protobuf.client import ProtobufClient
from flwr.supercore.retry import make_simple_http_retry_invoker

from roiae.errors import ServiceError
from roiae.process.service import socket_client

COMPONENT = "roiae-server"
START_SECONDS = 60.0
RESTART_SECONDS = 30.0  # for which a call is tried again: a SuperLink that ended is back within a few
FINISHED = "finished"  # Flower's status of a run that is over
SUPERLINK = "http://superlink"  # a name that is never looked up

AnyClient = TypeVar("AnyClient", bound=ProtobufClient)


def at_socket(client: AnyClient, socket: Path) -> AnyClient:
    """A client of Flower's that was made for an address, with its calls going to a unix socket instead."""
    client._client.close()
    client._client = socket_client(socket)
    return client


@dataclass(frozen=True)
class Node:
    """A hospital's SuperNode, as the SuperLink knows it."""

    node_id: int
    key: bytes  # public, PEM
    online: bool
    activation: str  # changes whenever the node connects anew, and has then lost what it had been sent


class Control:
    """The SuperLink's Control API."""

    def __init__(self, socket: Path) -> None:
        retry = make_simple_http_retry_invoker()
        retry.max_time = RESTART_SECONDS
        interceptors = [RuntimeVersionHttpInterceptor(component_name=COMPONENT)]
        client = ControlHttpClient(SUPERLINK, interceptors=interceptors, retry_invoker=retry)
        self._client = at_socket(client, socket)

    def wait_until_up(self) -> None:
        """
        Raises:
            ServiceError: it does not answer in a minute.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.nodes()
                return
            except httpx.HTTPError as error:
                if time.monotonic() > deadline:
                    raise ServiceError(
                        f"the SuperLink does not answer after {START_SECONDS:.0f} s; log/superlink.log says why."
                    ) from error
                time.sleep(0.2)

    def nodes(self) -> list[Node]:
        """Every registered node; those that were unregistered are gone."""
        found = self._client.ListNodes(ListNodesRequest()).nodes_info
        return [
            Node(
                node.node_id,
                node.public_key,
                node.status == "online",
                node.last_activated_at if node.HasField("last_activated_at") else "",
            )
            for node in found
            if not node.HasField("unregistered_at")
        ]

    def reconcile(self, sites: Mapping[str, bytes]) -> None:
        """Make the registered nodes those of the enrolled sites: a key that is not enrolled is let go at once.

        Args:
            sites: public keys by name, PEM.
        """
        enrolled = {key: name for name, key in sites.items()}
        registered = {node.key: node.node_id for node in self.nodes()}
        for key in registered.keys() - enrolled.keys():
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=registered[key]))
        for key in enrolled.keys() - registered.keys():
            self._client.RegisterNode(RegisterNodeRequest(public_key=key, name=enrolled[key]))

    def start_run(self) -> int:
        """A new Flower run of an app that is configuration alone: neither side executes anything of it."""
        app = {
            "project": {
                "name": "roiae",
                "version": "1.0.0",
                "description": "configuration only",
                "license": "Apache-2.0",
            },
            "tool": {
                "flwr": {
                    "app": {"publisher": "roiae", "components": {"serverapp": "roiae:none", "clientapp": "roiae:none"}}
                }
            },
        }
        fab, _ = build_fab_from_files({"pyproject.toml": tomli_w.dumps(app).encode()})
        request = StartRunRequest(fab=fab_to_proto(Fab(hashlib.sha256(fab).hexdigest(), fab, {})))
        return int(self._client.StartRun(request).run_id)

    def stop_runs(self) -> None:
        """End what an earlier process left running: its messages are dropped, and late replies to them ignored."""
        for run_id, run in self._client.ListRuns(ListRunsRequest()).run_dict.items():
            if run.status.status != FINISHED:
                self._client.StopRun(StopRunRequest(run_id=run_id))

    def close(self) -> None:
        self._client.close()
