"""Flower's grid, but for replies that are still on their way.

Flower's own waits for a reply whose parts are not all there, for up to two hours, and looks at no other meanwhile: one
hospital that loses power in the middle of its answer would hold up all. Here such a reply is looked at again next time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Error, Message, Metadata
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
)
from flwr.superlink.grid import HttpGrid

from roiae_server.flower.superlink import SUPERLINK, at_socket


@dataclass
class _Arriving:
    """A reply that has been announced, and what of it is here."""

    message_id: str
    missing: list[str]  # ids of objects
    parts: dict[str, bytes] = field(default_factory=dict)


class RunGrid(HttpGrid):
    """Never waits for a hospital: what is not whole yet comes with a later `pull_messages`."""

    def __init__(self, socket: Path, token: str) -> None:
        super().__init__(SUPERLINK.removeprefix("http://"), insecure=True, token=token)
        self._socket = socket
        self._arriving: dict[str, _Arriving] = {}  # by the id of the message that is answered

    def _connect(self) -> None:
        super()._connect()
        at_socket(self._runtime_client, self._socket)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to these messages that are whole by now; of all others, what has arrived is forgotten."""
        wanted = set(message_ids)
        self._arriving = {asked: reply for asked, reply in self._arriving.items() if asked in wanted}
        self._look_for(wanted - self._arriving.keys())
        whole = []
        for asked, reply in list(self._arriving.items()):
            try:
                self._fetch(reply)
            except ObjectUnavailableError:
                continue
            except ObjectPullError:
                whole.append(self._lost(asked))
            else:
                whole.append(self._received(reply))
            del self._arriving[asked]
        return whole

    def _look_for(self, unannounced: set[str]) -> None:
        """Once a reply is announced, the SuperLink knows nothing of it any more but its parts."""
        if unannounced:
            announced = self._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=sorted(unannounced)))
            for proto, tree in zip(announced.messages_list, announced.message_object_trees, strict=True):
                missing = [part.object_id for part in iterate_object_tree(tree)]
                self._arriving[proto.metadata.reply_to_message_id] = _Arriving(proto.metadata.message_id, missing)

    def _fetch(self, reply: _Arriving) -> None:
        """
        Raises:
            ObjectUnavailableError: a part is still on its way.
            ObjectPullError: a part will never come.
        """
        pull = make_pull_object_fn_protobuf(self._runtime_client.PullObject, self.node, self.run.run_id)
        while reply.missing:
            reply.parts[reply.missing[0]] = pull(reply.missing[0])
            reply.missing.pop(0)

    def _received(self, reply: _Arriving) -> Message:
        self._runtime_client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=self.node, run_id=self.run.run_id, message_object_id=reply.message_id)
        )
        message = inflate_object_from_contents(reply.message_id, reply.parts)
        assert isinstance(message, Message)
        message.metadata.__dict__["_message_id"] = reply.message_id
        return message

    def _lost(self, asked: str) -> Message:
        node = self.node.node_id
        metadata = Metadata(
            run_id=self.run.run_id,
            message_id="",
            src_node_id=node,
            dst_node_id=node,
            message_type=SYSTEM_MESSAGE_TYPE,
            group_id="",
            ttl=0,
            reply_to_message_id=asked,
            created_at=now().timestamp(),
        )
        return make_message(metadata=metadata, error=Error(ErrorCode.MESSAGE_UNAVAILABLE, "its parts never came"))
