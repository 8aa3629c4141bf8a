"""A request on its way from this hospital's SuperNode: fetched up to what it can weigh, and never believed.

Flower's own takes whatever the message consists of, however large, and raises what its readers raise.
"""

import logging
import time

from flwr.app import Context, Message, RecordDict
from flwr.app.message import make_message
from flwr.app.message.configrecord import ConfigRecord
from flwr.common.serde import context_from_proto
from flwr.common.serde_utils import metadata_from_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullTaskInputRequest
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity

from roiae.console.doctor import available_memory, own_memory, size
from roiae.errors import Reason, RefusalError
from roiae.site.bounds import request_bytes
from roiae.text import shown
from roiae.wire.border import peers_fault
from roiae.wire.contract import TASKS, parse_task
from roiae.wire.parcel import Parcel

PULL_SECONDS = 120.0  # for a request to come whole from the node; Flower itself would wait for two hours
PART_SECONDS = 0.5  # before a part that the node has not yet is asked for again
STRANGE_BYTES = 2**26  # of arrays with a task that we cannot read: the responder can still say that versions differ
NO_KIND = "query"  # of a request that is not taken: Flower has no message without a kind of its own
_COPIES = 4  # of a request's arrays, until they are unpacked
_CHUNKS = 4  # levels below a message at which its arrays' contents lie: content, record, array, chunk

log = logging.getLogger(__name__)


def pull_request(client: RuntimeHttpClient) -> tuple[Message, Context]:
    """The request that the node holds for us; without its content where that cannot be read or is too large.

    Raises:
        ObjectPullError: the node lost a part of the request when the coordinator went away in the midst of it.
    """
    given = client.PullTaskInput(PullTaskInputRequest())
    TaskIdentity.task_id, TaskIdentity.run_id = given.task_id, given.run.run_id
    TaskIdentity.node_id = given.context.node_id
    context = context_from_proto(given.context)
    announced = client.PullMessages(PullAppMessagesRequest())
    (proto, tree) = announced.messages_list[0], announced.message_object_trees[0]
    try:
        content = _fetched(client, context, proto.metadata.message_type, tree)
        with peers_fault("a request"):
            metadata = metadata_from_proto(proto.metadata)
    except RefusalError as refusal:
        log.warning("a request is not taken: %s", shown(refusal))
        proto.metadata.message_type, content = NO_KIND, RecordDict()
        metadata = metadata_from_proto(proto.metadata)
    metadata.__dict__["_message_id"] = tree.object_id
    client.ConfirmMessageReceived(
        ConfirmMessageReceivedRequest(
            node=Node(node_id=context.node_id), run_id=context.run_id, message_object_id=tree.object_id
        )
    )
    return make_message(metadata=metadata, content=content), context


def _fetched(client: RuntimeHttpClient, context: Context, kind: str, tree: ObjectTree) -> RecordDict:
    """The content, its records before its arrays: they say how large these can be."""
    levels = _levels(tree)
    parcel = Parcel(one for level in levels[:_CHUNKS] for one in level)
    pull = make_pull_object_fn_protobuf(client.PullObject, Node(node_id=context.node_id), context.run_id)
    deadline = time.monotonic() + PULL_SECONDS
    while parcel.missing:
        try:
            parcel.add(pull(parcel.missing[0]))
        except ObjectUnavailableError as error:
            if time.monotonic() > deadline:
                raise ObjectPullError(parcel.missing[0], "it does not come") from error
            time.sleep(PART_SECONDS)
        if not parcel.missing and levels[_CHUNKS:]:
            contents = [one for level in levels[_CHUNKS:] for one in level]
            parcel.allow(_arrays_bytes(kind, parcel), contents)
            levels = []
    with peers_fault("a request"):
        parcel.check_arrays()
        message = inflate_object_from_contents(tree.object_id, parcel.parts)
        if not isinstance(message, Message):
            raise TypeError(f"its root is a {type(message).__name__}")
        return message.content


def _levels(tree: ObjectTree) -> list[list[str]]:
    """Ids of the objects, each once, by how far below the message they first lie."""
    levels: list[list[str]] = []
    seen: set[str] = set()
    below = [tree]
    while below:
        fresh = {node.object_id: node for node in below if node.object_id not in seen}
        seen |= fresh.keys()
        levels.append(list(fresh))
        below = [child for node in fresh.values() for child in node.children]
    return levels


def _arrays_bytes(kind: str, parcel: Parcel) -> int:
    """What the arrays can weigh of the task that came."""
    with peers_fault("a request's task"):
        for part in parcel.parts.values():
            if part.startswith(b"ConfigRecord "):
                record = ConfigRecord.inflate(part)
                if "task" in record:
                    return _most(kind, str(record["task"]))
        raise KeyError("task")


def _most(kind: str, task: str) -> int:
    """Nobody has vouched for the task yet, and what it says of its model may be more than this machine can hold.

    Raises:
        RefusalError: `too-large`.
    """
    try:
        most = request_bytes(parse_task(kind, task) if kind in TASKS else None)
    except RefusalError:
        return STRANGE_BYTES
    free = available_memory()
    if free is not None and _COPIES * most > free + own_memory():
        message = f"arrays of up to {size(most)}; {size(free)} of memory are free"
        raise RefusalError(Reason.TASK_TOO_LARGE, message)
    return most
