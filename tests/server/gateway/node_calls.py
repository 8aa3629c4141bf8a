"""Calls as hospitals' nodes make them, signed by Flower's own code, and as those make them who are none."""

import hashlib
from collections.abc import Generator, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message, Metadata, ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from roiae.config import Role
from roiae.identity.keys import SiteKeys
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder

SUPERLINK = 1  # its node
ALPHA, BETA = 7, 8  # theirs
ASKED = "a" * 64  # a message of the coordinator's


class NodeAuth(httpx.Auth):
    """Signs each call with a node's key, as a SuperNode does."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._interceptor = NodeAuthHttpInterceptor(key, key.public_key())

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        context: Any = SimpleNamespace(request=request)
        self._interceptor.intercept(context, lambda context: httpx.Response(200))
        yield request


class Replayed(httpx.Auth):
    """Says what was overheard of another call."""

    def __init__(self, overheard: httpx.Headers) -> None:
        self._said = {name: value for name, value in overheard.items() if name.startswith("flwr-")}

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers.update(self._said)
        yield request


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def site_keys(node: ec.EllipticCurvePrivateKey) -> SiteKeys:
    """Of a site whose node has this key."""
    return SiteKeys(new_key().public_key(), node.public_key())


def federation(
    path: Path, *names: str, host: str = "localhost", port: int = 8443
) -> tuple[CoordinatorFolder, dict[str, NodeAuth]]:
    """A coordinator's folder in which these sites are enrolled, and how their nodes sign."""
    folder = CoordinatorFolder.create(path, host, port, "test")
    keys = {name: new_key() for name in names}
    for name, key in keys.items():
        folder.add_site(name, Role.SOURCE, site_keys(key))
    return folder, {name: NodeAuth(key) for name, key in keys.items()}


def object_id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def tree(root: str, children: Iterable[ObjectTree] = ()) -> ObjectTree:
    return ObjectTree(object_id=object_id(root), children=children)


def push(objects: ObjectTree, node: int = ALPHA, **metadata: Any) -> PushMessagesRequest:
    """A reply of a node to the coordinator, but for what is given otherwise."""
    said = {
        "run_id": 3,
        "message_id": objects.object_id,
        "src_node_id": node,
        "dst_node_id": SUPERLINK,
        "reply_to_message_id": ASKED,
        "ttl": 60.0,
        "message_type": "train",
        "created_at": 1.7e9,
    }
    message = Message(metadata=Metadata(**{**said, **metadata}))
    return PushMessagesRequest(
        node=Node(node_id=node), messages_list=[message], message_object_trees=[objects], clientapp_runtime_list=[1.0]
    )


def part(session: str, name: str, content: bytes = b"", node: int = ALPHA) -> PushObjectRequest:
    return PushObjectRequest(
        node=Node(node_id=node), run_id=3, object_id=object_id(name), object_content=content, session_id=session
    )
