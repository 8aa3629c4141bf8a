"""One Flower run, driven by this process: the app's task is claimed from the SuperLink, and no app is loaded for it."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from flwr.common.serde import run_from_proto
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PullTaskInputRequest, PushTaskOutputRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity

from roiae.errors import ServiceError
from roiae_server.flower.run_grid import RunGrid
from roiae_server.flower.superlink import SUPERLINK, Control, at_socket

CLAIM_SECONDS = 30.0
log = logging.getLogger(__name__)
ACQUIRE = "/flwr.proto.Runtime/AcquireTask"


@contextmanager
def flower_run(control: Control, socket: Path, secret: bytes) -> Iterator[RunGrid]:
    """A grid of a new run; the run is completed, or failed with the block's error.

    Raises:
        ServiceError: the SuperLink does not hand out the run's task.
    """
    control.stop_runs()
    run_id = control.start_run()
    grid = RunGrid(socket, _claim(socket, secret))
    client = grid._runtime_client
    heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
    heartbeat.start()
    status, details = "failed", "the coordinator stopped"
    try:
        task = client.PullTaskInput(PullTaskInputRequest())
        if task.run.run_id != run_id:
            raise ServiceError(f"the SuperLink handed out run {task.run.run_id} instead of {run_id}. Start again.")
        TaskIdentity.task_id, TaskIdentity.run_id = task.task_id, task.run.run_id
        TaskIdentity.node_id = task.context.node_id
        grid.set_run(run_from_proto(task.run))
        yield grid
        status, details = "completed", ""
    finally:
        heartbeat.stop()
        grid._retry_invoker.max_tries = 1  # else a SuperLink that is gone would be waited for, forever
        try:
            client.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=details))
        except httpx.HTTPError as error:
            log.warning("the SuperLink was not told that its run has ended (%s)", type(error).__name__)
        grid.close()


def _claim(socket: Path, secret: bytes) -> str:
    """The token of the run's task."""
    interceptors: list[ProtobufClientInterceptor] = [
        RuntimeVersionHttpInterceptor("SuperExec"),
        SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=frozenset({ACQUIRE})),
    ]
    retry = make_simple_http_retry_invoker()
    client = at_socket(RuntimeHttpClient(SUPERLINK, interceptors=interceptors, retry_invoker=retry), socket)
    deadline = time.monotonic() + CLAIM_SECONDS
    try:
        while time.monotonic() < deadline:
            response = client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]))
            if response.HasField("task") and response.token:
                return str(response.token)
            time.sleep(0.2)
    finally:
        client.close()
    raise ServiceError(f"the SuperLink hands out no task after {CLAIM_SECONDS:.0f} s; log/superlink.log says why.")
