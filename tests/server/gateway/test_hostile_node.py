"""An enrolled hospital that turns on its federation: a real SuperLink behind a real gateway."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import Message as Asked
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from roiae.config import Role
from roiae.process.service import new_secret, socket_folder
from roiae_server.flower.command import superlink_command
from roiae_server.flower.grid import act_as_coordinator
from roiae_server.flower.session import flower_run
from roiae_server.flower.superlink import Control
from tests.server.gateway.node_calls import new_key, object_id, site_keys, tree
from tests.server.gateway.real_gateway import Door

MIB = 2**20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),  # Flower's, as it builds a bundle
]


class Mallory:
    """A node that is enrolled and has a request in hand."""

    def __init__(self, door: Door, control: Control) -> None:
        key = new_key()
        door.folder.add_site("mallory", Role.SOURCE, site_keys(key))
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        control.reconcile({"mallory": pem})
        ca, interceptors = door.folder.ca_certificate.read_bytes(), [NodeAuthHttpInterceptor(key, key.public_key())]
        self.calls = FleetHttpClient.from_server_address(f"127.0.0.1:{door.port}", False, ca, interceptors)
        connect = ActivateNodeRequest(public_key=pem, heartbeat_interval=60)
        self.node = Node(node_id=self.calls.ActivateNode(connect).node_id)
        self.asked: Asked

    def takes(self) -> None:
        """Its request."""
        (self.asked,) = self.calls.PullMessages(PullMessagesRequest(node=self.node)).messages_list

    def push(self, objects: ObjectTree, **said: object) -> PushMessagesRequest:
        request = PushMessagesRequest(node=self.node, messages_list=[self.asked], message_object_trees=[objects])
        metadata = request.messages_list[0].metadata
        metadata.reply_to_message_id, metadata.message_id = metadata.message_id, objects.object_id
        metadata.src_node_id, metadata.dst_node_id = self.node.node_id, 1
        metadata.ttl = 60
        for name, value in said.items():
            setattr(metadata, name, value)
        return request

    def status(self, request: PushMessagesRequest) -> int:
        try:
            self.calls.PushMessages(request)
        except httpx.HTTPStatusError as error:
            return error.response.status_code
        return 200


@pytest.fixture
def mallory(tmp_path: Path) -> Iterator[Mallory]:
    door = Door(tmp_path / "coordinator")
    state = door.folder.superlink
    new_secret(state / "secret")
    environment = {**os.environ, "FLWR_HOME": str(state / "flwr")}
    with socket_folder() as sockets:
        command = superlink_command(state, sockets / "s")
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            control = Control(sockets / "s")
            try:
                control.wait_until_up()
                with (
                    door.running(sockets / "s"),
                    flower_run(control, sockets / "s", (state / "secret").read_bytes()) as grid,
                ):
                    act_as_coordinator()
                    made = Mallory(door, control)
                    content = RecordDict({"config": ConfigRecord({"task": os.urandom(8)})})
                    grid.push_messages([Message(content, made.node.node_id, "train", ttl=600)])
                    made.takes()
                    yield made
                    made.calls.close()
            finally:
                control.close()
                process.kill()


def test_an_enrolled_hospital_says_a_bounded_reply_and_nothing_else(mallory: Mallory, tmp_path: Path) -> None:
    own = mallory.node.node_id
    wide = tree("root", [tree(str(place)) for place in range(2000)])

    assert mallory.status(mallory.push(tree("i"), reply_to_message_id="", src_node_id=1, dst_node_id=1)) == 403
    assert mallory.status(mallory.push(tree("i"), reply_to_message_id="", src_node_id=1, dst_node_id=own)) == 403
    assert mallory.status(mallory.push(tree("i"), src_node_id=own + 1)) == 403
    assert mallory.status(mallory.push(wide)) == 413

    parts = [os.urandom(MIB // 2) for _ in range(4)]
    announced = mallory.calls.PushMessages(mallory.push(tree("root", [tree(str(place)) for place in range(4)])))
    assert len(announced.objects_to_push) == 5
    statuses = []
    for place, content in enumerate(parts):
        request = PushObjectRequest(
            node=mallory.node,
            run_id=mallory.asked.metadata.run_id,
            session_id=announced.session_id,
            object_id=object_id(str(place)),
            object_content=content,
        )
        try:
            mallory.calls.PushObject(request)
        except httpx.HTTPStatusError as error:
            statuses.append(error.response.status_code)
        else:
            statuses.append(200)
    assert statuses == [200, 200, 413, 413]  # one MiB, as no run has said that a reply may weigh more
    database = tmp_path / "coordinator" / "superlink" / "superlink.db"
    assert sum(file.stat().st_size for file in database.parent.glob("superlink.db*")) < 8 * MIB
