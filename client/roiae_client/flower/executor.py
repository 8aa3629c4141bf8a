"""The hospital's executor: claims what its SuperNode was sent, and has the installed responder answer it.

Nothing that the coordinator sends is unpacked, imported or run. torch is imported once, not once a request.
"""

import logging
import sys
import time
from pathlib import Path

from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.retry import constant, make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import push_message, push_task_output

from roiae.console.cli import log_as_a_service, run_app
from roiae.process.service import socket_client
from roiae.text import shown
from roiae_client.answering.from_folder import open_responder
from roiae_client.answering.responder import Responder
from roiae_client.flower.inbox import pull_request
from roiae_client.flower.messages import answer
from roiae_client.folder.hospital_folder import HospitalFolder
from roiae_client.folder.service_state import ServiceState

POLL_SECONDS = 0.25
RETRY_SECONDS = 1.0  # while the SuperNode, on this machine, is started again
ACQUIRE = "/flwr.proto.Runtime/AcquireTask"

log = logging.getLogger(__name__)


def serve(folder: HospitalFolder, socket: Path) -> None:
    """Answer what comes, one request at a time, until the process is ended; nothing new while the site is paused."""
    responder = open_responder(folder)
    state = ServiceState(folder.state)
    secret = state.secret.read_bytes()
    claims = _client(
        socket,
        RuntimeVersionHttpInterceptor("SuperExec"),
        SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=frozenset({ACQUIRE})),
    )
    log.info("ready")
    while True:
        if not state.paused:
            claim = claims.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP]))
            if claim.HasField("task") and claim.token:
                _answer(responder, state, _client(socket, *_as_app(claim.token)))
                continue
        time.sleep(POLL_SECONDS)


def _answer(responder: Responder, state: ServiceState, client: RuntimeHttpClient) -> None:
    """The responder itself never fails; where Flower does, this process ends, and `service.py` starts both anew.

    The node could not be saved: it waits for this very answer, and would look at no other request.

    Raises:
        ObjectPullError: the node lost a part of the request when the coordinator went away in the midst of it.
    """
    heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
    heartbeat.start()
    try:
        message, context = pull_request(client)
        kind = shown(message.metadata.message_type, 40)
        state.note(kind, done=False)
        push_message(client, answer(responder, message), context)
        state.note(kind, done=True)
        push_task_output(client, context, "completed", "")
    finally:
        heartbeat.stop()
        client.close()


def _as_app(token: str) -> tuple[RuntimeVersionHttpInterceptor, RuntimeTokenHttpInterceptor]:
    return RuntimeVersionHttpInterceptor("flwr-clientapp"), RuntimeTokenHttpInterceptor(token)


def _client(socket: Path, *interceptors: ProtobufClientInterceptor) -> RuntimeHttpClient:
    retry = make_simple_http_retry_invoker()
    retry.wait_gen_factory = lambda: constant(RETRY_SECONDS)
    client = RuntimeHttpClient("http://supernode", interceptors=interceptors, retry_invoker=retry)
    client._client.close()
    client._client = socket_client(socket)
    return client


def main() -> None:
    """`python -m roiae_client.flower.executor DIR SOCKET`: started by `service.py` alone."""
    path, socket = sys.argv[1:]
    log_as_a_service()

    def run(prog_name: str) -> None:
        serve(HospitalFolder.open(Path(path)), Path(socket))

    sys.exit(run_app(run, "roiae-client"))


if __name__ == "__main__":
    main()
