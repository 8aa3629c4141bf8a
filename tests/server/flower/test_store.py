"""What a real SuperLink's database keeps: one request and one reply a hospital, and nothing of what is over."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.superlink.grid import HttpGrid
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from roiae.process.service import new_secret, socket_folder
from roiae_server.flower.command import superlink_command
from roiae_server.flower.grid import act_as_coordinator
from roiae_server.flower.session import flower_run
from roiae_server.flower.store import MIN_QUOTA, SWEEP_SECONDS, compact, quota
from roiae_server.flower.superlink import SUPERLINK, Control, at_socket
from tests.server.gateway.node_calls import new_key

MIB = 2**20


class Hospital:
    """A SuperLink with a run, and a hospital's node that is online."""

    def __init__(self, database: Path, control: Control, socket: Path) -> None:
        self._database, key = database, new_key()
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        control.reconcile({"alpha": pem})
        calls = FleetHttpClient(SUPERLINK, interceptors=[NodeAuthHttpInterceptor(key, key.public_key())])
        self._calls = at_socket(calls, socket)
        connect = ActivateNodeRequest(public_key=pem, heartbeat_interval=60)
        self._node = Node(node_id=self._calls.ActivateNode(connect).node_id)
        self.grid: HttpGrid
        self.close = self._calls.close

    def asked(self, ttl: float = 600.0) -> None:
        """The coordinator sends a request of one MiB."""
        act_as_coordinator()
        content = RecordDict({"arrays": ArrayRecord({"packed": Array("u1", (MIB,), "raw", os.urandom(MIB))})})
        self.grid.push_messages([Message(content, self._node.node_id, "train", ttl=ttl)])

    def answers(self, whole: bool) -> None:
        """The node answers its request with one MiB, or begins to."""
        (proto,) = self._calls.PullMessages(PullMessagesRequest(node=self._node)).messages_list
        content = RecordDict({"arrays": ArrayRecord({"packed": Array("u1", (MIB,), "raw", os.urandom(MIB))})})
        reply = Message(content, reply_to=message_from_proto(proto))
        reply.metadata.__dict__["_message_id"] = reply.object_id
        sent = message_to_proto(Message(RecordDict(), reply_to=message_from_proto(proto)))
        sent.metadata.message_id = reply.object_id
        push = PushMessagesRequest(node=self._node, messages_list=[sent], message_object_trees=[get_object_tree(reply)])
        answered = self._calls.PushMessages(push)
        assert answered.objects_to_push
        parts = get_all_nested_objects(reply)
        for part in list(answered.objects_to_push)[: None if whole else 1]:
            request = PushObjectRequest(
                node=self._node,
                run_id=sent.metadata.run_id,
                session_id=answered.session_id,
                object_id=part,
                object_content=parts[part].deflate(),
            )
            assert self._calls.PushObject(request).stored

    def kept(self) -> tuple[int, int, float]:
        """Requests, replies, and MiB of objects in the database."""
        connection = sqlite3.connect(self._database)
        try:
            counts = [
                connection.execute(f"SELECT COUNT(*) FROM message_{kind}").fetchone()[0] for kind in ("ins", "res")
            ]
            (size,) = connection.execute("SELECT COALESCE(SUM(LENGTH(content)), 0) FROM objects").fetchone()
        finally:
            connection.close()
        return counts[0], counts[1], round(size / MIB, 1)

    def becomes(self, kept: tuple[int, int, float]) -> bool:
        began = time.monotonic()
        while self.kept() != kept:
            if time.monotonic() - began > 4 * SWEEP_SECONDS:
                return False
            time.sleep(0.2)
        return True


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    new_secret(tmp_path / "secret")
    environment = {**os.environ, "FLWR_HOME": str(tmp_path / "flwr")}
    with socket_folder() as sockets:
        command = superlink_command(tmp_path, sockets / "s")
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            control = Control(sockets / "s")
            try:
                control.wait_until_up()
                made = Hospital(tmp_path / "superlink.db", control, sockets / "s")
                with flower_run(control, sockets / "s", (tmp_path / "secret").read_bytes()) as made.grid:
                    yield made
                made.close()
            finally:
                control.close()
                process.kill()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # Flower's, as it builds a bundle
def test_a_hospital_has_one_request_and_one_reply_in_the_database(hospital: Hospital) -> None:
    for _ in range(6):  # as to one that connects anew again and again, and never fetches
        hospital.asked()
    assert hospital.becomes((1, 0, 1.0))

    hospital.answers(whole=True)  # and nobody fetches the reply
    assert hospital.kept()[1:] == (1, 2.0)
    hospital.asked()
    assert hospital.becomes((1, 0, 1.0))

    hospital.answers(whole=False)  # the rest never comes
    hospital.asked(ttl=1.0)
    assert hospital.becomes((0, 0, 0.0))  # its time is over, too


def test_a_database_gives_back_the_disk_of_what_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "superlink.db"
    compact(path)  # there is none yet
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE objects (content BLOB)")
    connection.execute("INSERT INTO objects VALUES (?)", (bytes(4 * MIB),))
    connection.commit()
    connection.execute("DELETE FROM objects")
    connection.commit()
    connection.close()
    assert path.stat().st_size > 4 * MIB

    compact(path)

    assert path.stat().st_size < MIB


def test_a_database_that_is_full_refuses_more_and_leaves_the_disk_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from sqlalchemy import create_engine, text; from roiae_server.flower.store import bound\n"
        "bound(2**20); engine = create_engine(sys.argv[1])\n"
        "with engine.begin() as c: c.execute(text('create table t (x blob)'))\n"
        "for _ in range(40):\n"
        "    with engine.begin() as c: c.execute(text('insert into t values (randomblob(100000))'))\n"
    )
    database = tmp_path / "superlink.db"

    ended = subprocess.run(
        [sys.executable, "-c", code, f"sqlite:///{database}"], capture_output=True, text=True, check=False
    )

    assert "database or disk is full" in ended.stderr
    assert 2**19 < database.stat().st_size <= 2**20


def test_the_databases_quota_is_a_part_of_what_is_free(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free

    assert quota(tmp_path / "superlink.db") == pytest.approx(max(MIN_QUOTA, free / 4), rel=0.05)
