"""Exchanges over a Flower grid, and a grid that runs hospitals in this process."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Protocol, cast

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.inflatable.inflatable_object import InflatableObject
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.task_identity import TaskIdentity

from roiae.wire.border import peers_fault
from roiae.wire.contract import Reply
from roiae.wire.packing import UNLIKE, unpack

UNREADABLE = 1000  # code of an error, beside Flower's own: a reply has come that is none, or too large
POLL_SECONDS = 0.05  # between looks for replies; a grid in this process is never empty-handed


def act_as_coordinator() -> None:
    """Flower's messages are written in the name of a task; outside its own processes there is none."""
    if TaskIdentity._run_id is None:
        TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1


class MessageGrid(Protocol):
    """What the transport needs of a Flower grid."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]: ...
    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies to these, those that are there; a mapping also says what the arrays of each can weigh, in bytes."""


class LocalGrid:
    """Hospitals in this process, one after the other; every message makes the wire's round trip.

    Args:
        app: answers for every hospital; the context's node_config tells it which one it is.
        node_configs: by node.
    """

    def __init__(self, app: ClientApp, node_configs: Mapping[int, Mapping[str, str | int]]) -> None:
        self._app = app
        self._contexts = {node: _context(node, dict(config)) for node, config in node_configs.items()}
        self._queue: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        pushed = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = uuid.uuid4().hex
            pushed.append(message.metadata.message_id)
            self._queue[pushed[-1]] = message
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Answer the first of the messages that waits: whoever pulls sees each reply as it is made."""
        for message_id in message_ids:
            if message := self._queue.pop(message_id, None):
                context = self._contexts[message.metadata.dst_node_id]
                reply = self._app(self._carry(message), context)
                reply.metadata.__dict__["_message_id"] = uuid.uuid4().hex
                return [self._carry(reply)]
        return []

    def _carry(self, message: Message) -> Message:
        contents = _wire_contents(message)
        copy = inflate_object_from_contents(next(reversed(contents)), contents)
        assert isinstance(copy, Message)
        copy.metadata.__dict__["_message_id"] = message.metadata.message_id
        return copy


def wire_bytes(message: Message) -> int:
    """Bytes of the message on the wire, without the transport's own framing."""
    return sum(map(len, _wire_contents(message).values()))


def _wire_contents(message: Message) -> dict[str, bytes]:
    """The message taken apart into Flower's hashed objects, as they travel, itself last."""
    contents: dict[str, bytes] = {}

    def take_apart(object_id: str, part: InflatableObject) -> None:
        for child_id, child in (part.children or {}).items():  # by their ids: to ask a child for its own hashes it anew
            take_apart(child_id, child)
        contents[object_id] = part.deflate()

    take_apart(message.object_id, message)
    return contents


def _context(node: int, config: dict[str, str | int]) -> Context:
    return Context(run_id=1, node_id=node, node_config={**config}, state=RecordDict(), run_config={})


def read_reply(message: Message, nonce: str) -> Reply:
    """
    Args:
        nonce: that the arrays were packed with.

    Raises:
        RefusalError: `bad-request`: a part is missing or ill-typed.
    """
    with peers_fault("a reply"):
        metrics = {name: _double(value) for name, value in message.content.metric_records["metrics"].items()}
        metrics.pop(UNLIKE, None)
        arrays = unpack(message.content.array_records["arrays"]["packed"].data, nonce)
        return Reply(metrics, arrays, metrics.pop("seconds"))


def _double(value: object) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"a metric is a {type(value).__name__}, where a number is expected")
    return float(cast(float, value))
