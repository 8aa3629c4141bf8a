"""What is used of Flower's private interfaces: fails first, and by name, when a new version changes them."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flwr.proto.control_pb2 import RegisterNodeRequest, StartRunRequest
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.constant import TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from roiae_client.flower import supernode
from roiae_server.flower.fleet_calls import FLEET_OPERATIONS


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (HttpGrid.__init__, ["self", "runtime_api_address", "insecure", "root_certificates", "token"]),
        (pull_task_input, ["client"]),
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
        (RuntimeHttpClient, ["AcquireTask", "PullTaskInput", "PushTaskOutput"]),
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


def test_the_patience_for_a_request_to_come_whole_is_a_default_that_can_be_set() -> None:
    assert "max_time" in (pull_and_inflate_object_from_tree.__kwdefaults__ or {})
    assert "pull_and_inflate_object_from_tree(" in inspect.getsource(pull_task_input)


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
            "flower-superlink",
            ["--host", "--port", "--ssl-ca-certfile", "--enable-supernode-auth", "--database", "--isolation",
             "--superexec-auth-secret-file", "--disable-runtime-dependency-installation"],
        ),
        (
            "flower-supernode",
            ["--superlink", "--root-certificates", "--auth-supernode-private-key", "--isolation", "--host", "--port",
             "--superexec-auth-secret-file"],
        ),
    ],
)  # fmt: skip
def test_the_programs_take_our_flags(program: str, flags: list[str]) -> None:
    path = Path(sys.executable).with_name(program)
    said = subprocess.run([path, "--help"], capture_output=True, text=True, check=True).stdout

    assert [flag for flag in flags if f"{flag} " not in said and f"{flag}]" not in said] == []
