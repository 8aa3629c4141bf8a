"""What is used of Flower's private interfaces: fails first, and by name, when a new version changes them."""

import importlib
import inspect
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from flwr.app import Array, ConfigRecord
from flwr.app.message import make_message
from flwr.common.constant import (
    FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE,
    SYSTEM_TIME_TOLERANCE,
    TIMESTAMP_HEADER,
    TIMESTAMP_TOLERANCE,
)
from flwr.common.serde_utils import metadata_from_proto
from flwr.proto.control_pb2 import RegisterNodeRequest, StartRunRequest
from flwr.proto.node_pb2 import NodeInfo
from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    OBJECT_PUSH_SESSION_TTL_SECONDS,
    TaskType,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.object_store.sql_object_store import SqlObjectStore
from flwr.supercore.protobuf.client import ProtobufClient
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.grid import HttpGrid
from flwr.superlink.main import create_app
from flwr.superlink.routers.fleet import node_auth
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.runtime.run_clientapp import push_message, push_task_output

from roiae_client.flower import supernode
from roiae_server.flower import fleet_calls, superlink_process
from roiae_server.flower.fleet_calls import FLEET_OPERATIONS
from roiae_server.gateway import roll


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (HttpGrid.__init__, ["self", "runtime_api_address", "insecure", "root_certificates", "token"]),
        (inflate_object_from_contents, ["object_id", "object_contents", "keep_object_contents", "objects"]),
        (make_pull_object_fn_protobuf, ["pull_object_protobuf", "node", "run_id"]),
        (make_message, ["metadata", "content", "error"]),
        (metadata_from_proto, ["metadata_proto"]),
        (push_message, ["client", "message", "context"]),
        (push_task_output, ["client", "context", "sub_status", "details"]),
        (RuntimeTokenHttpInterceptor.__init__, ["self", "token"]),
        (RuntimeVersionHttpInterceptor.__init__, ["self", "component_name"]),
        (SuperExecAuthHttpInterceptor.__init__, ["self", "master_secret", "protected_methods"]),
    ],
)
def test_a_function_takes_what_we_give_it(function: Any, expected: list[str]) -> None:
    assert parameters(function) == expected


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (ControlHttpClient, ["ListNodes", "RegisterNode", "UnregisterNode", "StartRun", "StopRun", "ListRuns"]),
        (RuntimeHttpClient, ["AcquireTask", "PullTaskInput", "PullMessages", "PullObject", "ConfirmMessageReceived"]),
        (FleetHttpClient, ["PullMessages", "SendNodeHeartbeat"]),
        (HttpGrid, ["push_messages", "pull_messages", "set_run", "_runtime_client", "close"]),
        (TaskIdentity, ["_run_id"]),
        (TaskType, ["SERVER_APP", "CLIENT_APP"]),
    ],
)
def test_a_class_has_what_we_use_of_it(owner: type, names: list[str]) -> None:
    assert [name for name in names if not hasattr(owner, name)] == []


def test_messages_have_the_fields_that_we_read_and_write() -> None:
    assert {"node_id", "status", "public_key", "last_activated_at", "unregistered_at"} <= set(
        NodeInfo.DESCRIPTOR.fields_by_name
    )
    assert {"public_key", "name"} <= set(RegisterNodeRequest.DESCRIPTOR.fields_by_name)
    assert "fab" in StartRunRequest.DESCRIPTOR.fields_by_name


def test_the_node_makes_its_calls_through_the_class_that_we_replace() -> None:
    """`supernode.py` puts a class of its own in its place, to notice when it is heard."""
    assert vars(fleet_http_connection)["FleetHttpClient"] is FleetHttpClient
    assert "FleetHttpClient.from_server_address(" in inspect.getsource(fleet_http_connection.http_request_response)
    assert issubclass(supernode._Heard, FleetHttpClient)


def test_objects_look_as_they_are_counted() -> None:
    """`parcel.py` knows the kinds of objects by their first bytes, and an array's chunks by their places."""
    array = Array(np.zeros(3))
    assert next(iter((array.children or {}).values())).deflate().startswith(b"ArrayChunk ")
    head, _, body = array.deflate().partition(b"\0")
    assert head.split(b" ")[:2] == [b"Array", b",".join(key.encode() for key in array.children or {})]
    assert json.loads(body)["arraychunk_ids"] == [0]
    assert ConfigRecord({"task": ""}).deflate().startswith(b"ConfigRecord ")


def test_a_client_keeps_its_connections_where_we_put_ours() -> None:
    client = ControlHttpClient("http://superlink", interceptors=())
    assert isinstance(client._client, httpx.Client)
    client.close()
    assert "self._client.send(" in inspect.getsource(ProtobufClient)


def test_both_servers_are_uvicorns_and_take_a_socket() -> None:
    command = importlib.import_module("flwr.supernode.cli.flower_supernode")
    source = inspect.getsource(command._start_supernode_http_api)
    assert "uvicorn.Server(" in source and "uvicorn.Config(" in source
    assert parameters(create_app) == ["config", "superlink_lifespan_class"]
    assert "linkstate_factory" in inspect.getsource(create_app)


def test_the_superlinks_settings_are_those_that_we_give() -> None:
    given = inspect.getsource(superlink_process.superlink_config)

    assert [field.name for field in fields(SuperLinkLifespanConfig) if f"{field.name}=" not in given] == []


def test_a_node_signs_its_calls_as_the_gateway_reads_them() -> None:
    said = (FLEET_HTTP_PUBLIC_KEY_HEADER, TIMESTAMP_HEADER, FLEET_HTTP_SIGNATURE_HEADER)
    assert tuple(name.encode() for name in said) == (roll.PUBLIC_KEY, roll.TIMESTAMP, roll.SIGNATURE)
    assert (SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE) == (roll.AHEAD, roll.BEHIND)


def test_the_superlink_compares_the_node_that_a_call_names_with_the_key_that_signed_it() -> None:
    """The gateway compares a reply's sender with that node, and leaves this to the SuperLink."""
    source = inspect.getsource(node_auth.authenticate_node)
    assert "get_node_id_by_public_key(public_key) != node_id" in source
    assert "protobuf_request.public_key != public_key" in source


def test_what_the_gateway_bounds_is_as_large_as_flower_makes_it() -> None:
    assert FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE == fleet_calls.CHUNK_BYTES
    assert OBJECT_PUSH_SESSION_TTL_SECONDS == fleet_calls.SESSION_SECONDS


def test_the_database_has_what_we_sweep() -> None:
    assert parameters(SqlLinkState._cleanup_push_session) == ["self", "session_id", "cleanup_messages"]
    assert parameters(SqlLinkState.delete_messages) == ["self", "message_ins_ids"]
    assert parameters(SqlObjectStore.delete) == ["self", "object_id"]


def test_the_worker_loop_still_ends_where_we_expect_it_to() -> None:
    """It returns after an error it does not know, and only then does our wrapper end the process."""
    source = inspect.getsource(fleet_http_connection.http_request_response)
    assert "log(ERROR, exc)" in source
    assert "http_request_response" in inspect.getsource(start_client_internal)


def test_the_gateway_lets_through_what_a_node_calls_and_no_registration() -> None:
    called = set(inspect.getsource(FleetHttpClient).split('path="/v1/fleet/')[1:])
    operations = {call.partition('"')[0] for call in called}

    assert operations - FLEET_OPERATIONS == {"register-node", "unregister-node"}
    assert operations >= FLEET_OPERATIONS


@pytest.mark.parametrize(
    ("program", "flags"),
    [
        (
            "flower-supernode",
            ["--superlink", "--root-certificates", "--auth-supernode-private-key", "--isolation",
             "--superexec-auth-secret-file"],
        ),
    ],
)  # fmt: skip
def test_the_programs_take_our_flags(program: str, flags: list[str]) -> None:
    path = Path(sys.executable).with_name(program)
    said = subprocess.run([path, "--help"], capture_output=True, text=True, check=True).stdout

    assert [flag for flag in flags if f"{flag} " not in said and f"{flag}]" not in said] == []
