"""Exchanges over a Flower grid, and a grid that runs hospitals in this process."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, no_object_id_recompute
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.task_identity import TaskIdentity

from roiae.contract import Reply, Request
from roiae.errors import Reason, RefusalError
from roiae.packing import pack, unpack
from roiae_server.transport import Outcome

POLL_SECONDS = 0.05  # between looks for replies; a grid in this process is never empty-handed


def act_as_coordinator() -> None:
    """Flower's messages are written in the name of a task; outside its own processes there is none."""
    if TaskIdentity._run_id is None:
        TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1


class MessageGrid(Protocol):
    """What the transport needs of a Flower grid."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]: ...
    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]: ...


class GridTransport:
    """The federation's transport over any Flower grid.

    Args:
        grid: connected to the sites' nodes.
        nodes: the node of each site by name.
    """

    def __init__(self, grid: MessageGrid, nodes: Mapping[str, int]) -> None:
        self._grid, self._nodes = grid, nodes

    def exchange(self, requests: Mapping[str, Request]) -> Iterator[Outcome]:
        act_as_coordinator()
        messages = {
            site: Message(request_record(requests[site]), self._nodes[site], requests[site].kind)
            for site in sorted(requests)
        }
        sent = {site: wire_bytes(message) for site, message in messages.items()}
        waiting = dict(zip(self._grid.push_messages(messages.values()), messages, strict=True))
        while waiting:
            arrived = list(self._grid.pull_messages(list(waiting)))
            for message in arrived:
                site = waiting.pop(message.metadata.reply_to_message_id)
                yield _outcome(site, message, sent[site])
            if waiting and not arrived:
                time.sleep(POLL_SECONDS)


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
        copies = [wire_copy(message) for message in messages]
        self._queue |= {copy.metadata.message_id: copy for copy in copies}
        return [copy.metadata.message_id for copy in copies]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Answer the first of the messages that waits: whoever pulls sees each reply as it is made."""
        for message_id in message_ids:
            if message := self._queue.pop(message_id, None):
                context = self._contexts[message.metadata.dst_node_id]
                return [wire_copy(self._app(message, context))]
        return []


def wire_copy(message: Message) -> Message:
    """The message as the other side gets it: taken apart into Flower's hashed objects, and put together again."""
    with no_object_id_recompute():
        object_id = message.object_id
        contents = {key: value.deflate() for key, value in get_all_nested_objects(message).items()}
    copy = inflate_object_from_contents(object_id, contents)
    assert isinstance(copy, Message)
    copy.metadata.__dict__["_message_id"] = object_id
    return copy


def wire_bytes(message: Message) -> int:
    """Bytes of the message on the wire, without the transport's own framing."""
    with no_object_id_recompute():
        return sum(len(value.deflate()) for value in get_all_nested_objects(message).values())


def _context(node: int, config: dict[str, str | int]) -> Context:
    return Context(run_id=1, node_id=node, node_config={**config}, state=RecordDict(), run_config={})


def request_record(request: Request) -> RecordDict:
    """What a request's message carries."""
    return RecordDict(
        {
            "arrays": ArrayRecord({"packed": Array(pack(request.arrays))}),
            "config": ConfigRecord({"task": request.task.model_dump_json()}),
        }
    )


def read_reply(message: Message) -> Reply:
    """
    Raises:
        RefusalError: a part is missing or ill-typed.
    """
    try:
        metrics = {name: float(value) for name, value in message.content.metric_records["metrics"].items()}  # type: ignore[arg-type]
        arrays = unpack(message.content.array_records["arrays"]["packed"].numpy())
        return Reply(metrics, arrays, metrics.pop("seconds"))
    except (KeyError, TypeError, ValueError):
        raise RefusalError(Reason.BAD_METRICS, "a part of the reply is missing or ill-typed") from None


def _outcome(site: str, message: Message, bytes_out: int) -> Outcome:
    bytes_in = wire_bytes(message)
    if message.has_error():
        known = {str(reason): reason for reason in Reason}
        return Outcome(site, None, known.get(message.error.reason or "", Reason.SITE_FAILED), bytes_out, bytes_in)
    try:
        return Outcome(site, read_reply(message), None, bytes_out, bytes_in)
    except RefusalError as refusal:
        return Outcome(site, None, refusal.reason, bytes_out, bytes_in)
