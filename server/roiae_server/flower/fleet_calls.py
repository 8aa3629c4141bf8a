"""What a node may say: a reply to what it was asked, from itself, to the coordinator, of bounded size, and its parts.

Flower's SuperLink takes more: an instruction from a hospital to any node or to the coordinator, trees of any size, text
of any kind in its log. It does compare the node that a call names with the key that signed it; we build on that.
"""

import math
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.run_pb2 import GetRunRequest
from google.protobuf.message import DecodeError, Message

REQUESTS: Mapping[str, type[Message]] = {
    "activate-node": ActivateNodeRequest,
    "confirm-message-received": ConfirmMessageReceivedRequest,
    "deactivate-node": DeactivateNodeRequest,
    "get-fab": GetFabRequest,
    "get-run": GetRunRequest,
    "pull-messages": PullMessagesRequest,
    "pull-object": PullObjectRequest,
    "push-messages": PushMessagesRequest,
    "push-object": PushObjectRequest,
    "send-node-heartbeat": SendNodeHeartbeatRequest,
}
FLEET_OPERATIONS = frozenset(REQUESTS)
ANNOUNCES, DELIVERS, CONNECTS = "push-messages", "push-object", "activate-node"

CHUNK_BYTES = 5 * 2**20  # Flower cuts arrays in chunks of this size
HEAD_BYTES = 4096  # of an object or a call, besides its content; an object's lists its children
SESSION_SECONDS = 180.0  # Flower's own patience with a reply whose parts do not come
_DEPTH = 8  # of a tree of objects; message, records, record, array and chunk are 5
_FEW = 32  # objects of a reply besides its chunks
_UPLOADS = 4  # replies of one node whose parts may still come; a node sends one after the other
_ERROR_BYTES = 1024  # of Flower's own error in a reply's place
_OBJECT = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[\w.-]{0,64}", re.ASCII)  # every other text in a call: Flower's ids and kinds of messages


class RefusedError(Exception):
    """A call that is not let through.

    Args:
        status: of the answer; nothing that a node would repeat.
        why: a sentence of our own, fit for a log.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


def reply_objects(reply_bytes: int) -> int:
    """How many objects a reply of this size may have."""
    return _FEW + 2 * math.ceil(reply_bytes / CHUNK_BYTES)


def call_bytes(operation: str, reply_bytes: int) -> int:
    """The most that a call may weigh."""
    if operation == DELIVERS:
        return min(CHUNK_BYTES, reply_bytes) + 2 * HEAD_BYTES
    if operation == ANNOUNCES:
        return HEAD_BYTES + 100 * reply_objects(reply_bytes)  # an id has 64 bytes, and each level some for its length
    return HEAD_BYTES


@dataclass
class _Upload:
    """An announced reply whose parts are expected."""

    wanted: frozenset[str] | None  # ids of objects; None where the announcement was made to an earlier gateway
    came: dict[str, int] = field(default_factory=dict)  # bytes by id: a part that is sent again counts once


class Conversation:
    """What one node says, call by call.

    Args:
        began: monotonic seconds of the gateway's start. A reply that was announced to the gateway before this one is
            let through, one a node, within Flower's own patience: the SuperLink still knows its parts by id.
    """

    def __init__(self, began: float) -> None:
        self._began, self._adopted = began, False
        self._uploads: OrderedDict[str, _Upload] = OrderedDict()  # by Flower's session, oldest first

    def check(self, operation: str, body: bytes, reply_bytes: int) -> None:
        """
        Raises:
            RefusedError: this is nothing that a node may say.
        """
        request = REQUESTS[operation]()
        try:
            request.ParseFromString(body)
        except DecodeError:
            raise RefusedError(400, f"{operation} is malformed") from None
        if isinstance(request, PushMessagesRequest):
            _check_reply(request, reply_bytes)
            return
        _check_text(operation, request)
        if isinstance(request, PushObjectRequest):
            self._deliver(request, reply_bytes)

    def announced(self, answer: bytes) -> None:
        """Take note of which parts of a reply the SuperLink asks for."""
        response = PushMessagesResponse.FromString(answer)
        if response.objects_to_push:
            self._uploads[response.session_id] = _Upload(frozenset(response.objects_to_push))
            if len(self._uploads) > _UPLOADS:
                self._uploads.popitem(last=False)

    def _deliver(self, request: PushObjectRequest, reply_bytes: int) -> None:
        upload = self._uploads.get(request.session_id) or self._adopt(request.session_id)
        if upload is None or (upload.wanted is not None and request.object_id not in upload.wanted):
            raise RefusedError(403, "sends an object that it has not announced")
        size = len(request.object_content)
        others = sum(bytes_ for one, bytes_ in upload.came.items() if one != request.object_id)
        if others + size > reply_bytes or len(upload.came) > reply_objects(reply_bytes):
            raise RefusedError(413, "sends more than a reply weighs")
        upload.came[request.object_id] = size

    def _adopt(self, session: str) -> _Upload | None:
        if self._adopted or not session or time.monotonic() - self._began > SESSION_SECONDS:
            return None
        self._adopted = True
        upload = self._uploads[session] = _Upload(None)
        return upload


def _check_reply(request: PushMessagesRequest, reply_bytes: int) -> None:
    """One reply, of the node that the call is from, to the coordinator.

    Raises:
        RefusedError: anything else.
    """
    if any(not message.metadata.reply_to_message_id for message in request.messages_list):
        raise RefusedError(403, "sends an instruction, which is the coordinator's alone")
    if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
        raise RefusedError(400, "push-messages is not one reply and its tree of objects")
    message, tree = request.messages_list[0], request.message_object_trees[0]
    said = message.metadata
    if said.src_node_id != request.node.node_id:
        raise RefusedError(403, "speaks in another node's name")
    if said.dst_node_id != SUPERLINK_NODE_ID:
        raise RefusedError(403, "sends a reply to another node than the coordinator's")
    _check_text(ANNOUNCES, said)
    if not _OBJECT.fullmatch(said.reply_to_message_id) or said.message_id != tree.object_id:
        raise RefusedError(400, "push-messages has an impossible id")
    if message.content.ByteSize() or message.error.ByteSize() > _ERROR_BYTES:
        raise RefusedError(400, "push-messages has content beside its objects")
    if said.ttl < 0:  # Flower's node takes what has passed since from what was given
        raise RefusedError(410, "sends a reply after the time that its request was good for")
    numbers = (said.created_at, said.ttl, *request.clientapp_runtime_list)
    if len(numbers) > 3 or not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise RefusedError(400, "push-messages has an impossible time")
    _check_tree(tree, reply_objects(reply_bytes))


def _check_tree(root: ObjectTree, most: int) -> None:
    """
    Raises:
        RefusedError: too many objects, too deep, one twice, or an id that is none.
    """
    seen: set[str] = set()
    level = [root]
    for _ in range(_DEPTH):
        for node in level:
            if not _OBJECT.fullmatch(node.object_id) or node.object_id in seen:
                raise RefusedError(400, "push-messages has an object without an id of its own")
            seen.add(node.object_id)
        level = [child for node in level for child in node.children]
        if len(seen) + len(level) > most:
            raise RefusedError(413, "announces more objects than a reply has")
        if not level:
            return
    raise RefusedError(400, "push-messages has objects within objects without end")


def _check_text(operation: str, message: Message) -> None:
    """Flower's SuperLink writes some of it into its log as it comes.

    Raises:
        RefusedError: text with anything but letters, digits, underscores, dots and hyphens, or long.
    """
    for known, value in message.ListFields():
        if isinstance(value, str) and not _WORD.fullmatch(value):
            raise RefusedError(400, f"{operation} has impossible text in {known.name}")
