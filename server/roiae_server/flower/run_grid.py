"""Flower's grid, but for replies that are still on their way, and for replies that are none.

Flower's own waits for a reply whose parts are not all there, for up to two hours, and looks at no other meanwhile: one
hospital that loses power in the middle of its answer would hold up all. Here such a reply is looked at again next time.
Flower's own also takes whatever comes, however large, and ends at what it cannot read. Here a reply is fetched up to
what it can weigh, and one that is no message is handed on as an error of the one request that it answers.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Error, Message, Metadata
from flwr.app.message import make_message
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde_utils import metadata_from_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.message_pb2 import Metadata as MetadataProto
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

from roiae.errors import RefusalError
from roiae.site.bounds import PACKING
from roiae.text import shown
from roiae.wire.border import peers_fault
from roiae.wire.parcel import Parcel
from roiae_server.flower.grid import UNREADABLE
from roiae_server.flower.superlink import SUPERLINK, at_socket

log = logging.getLogger(__name__)


@dataclass
class _Arriving:
    """A reply that has been announced, and what of it is here."""

    metadata: MetadataProto  # as the SuperLink has it: what the reply says of itself is not looked at
    parcel: Parcel


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
        """The replies to these messages that are whole by now; of all others, what has arrived is forgotten.

        One that cannot be read comes as an error with the code `UNREADABLE`.

        Args:
            message_ids: with what the arrays of each reply can weigh, in bytes; where it is no mapping, a reply has
                none. No more than their sum is ever held.
        """
        most = message_ids if isinstance(message_ids, Mapping) else dict.fromkeys(message_ids, PACKING)
        self._arriving = {asked: reply for asked, reply in self._arriving.items() if asked in most}
        whole = self._look_for({asked: most[asked] for asked in most.keys() - self._arriving.keys()})
        for asked, reply in list(self._arriving.items()):
            try:
                self._fetch(reply.parcel)
                message = _opened(reply)
            except ObjectUnavailableError:
                continue
            except ObjectPullError:
                message = self._none(asked, ErrorCode.MESSAGE_UNAVAILABLE)
            except RefusalError as refusal:
                message = self._refused(reply.metadata, refusal)
            self._let_go(reply.metadata.message_id)
            whole.append(message)
            del self._arriving[asked]
        return whole

    def _look_for(self, unannounced: Mapping[str, int]) -> list[Message]:
        """Note what is announced, of which the SuperLink then knows nothing any more but its parts.

        Returns:
            What is refused from its announcement alone.
        """
        refused: list[Message] = []
        if not unannounced:
            return refused
        announced = self._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=sorted(unannounced)))
        for proto, tree in zip(announced.messages_list, announced.message_object_trees, strict=True):
            metadata = proto.metadata
            asked = metadata.reply_to_message_id
            if asked not in unannounced or asked in self._arriving:
                log.warning("a message of node %d answers no request and is let go", metadata.src_node_id)
                self._let_go(metadata.message_id)
                continue
            try:
                parcel = Parcel((part.object_id for part in iterate_object_tree(tree)), unannounced[asked])
            except RefusalError as refusal:
                refused.append(self._refused(metadata, refusal))
                self._let_go(metadata.message_id)
            else:
                self._arriving[asked] = _Arriving(metadata, parcel)
        return refused

    def _fetch(self, parcel: Parcel) -> None:
        """
        Raises:
            ObjectUnavailableError: a part is still on its way.
            ObjectPullError: a part will never come.
            RefusalError: the reply is larger than it can be.
        """
        pull = make_pull_object_fn_protobuf(self._runtime_client.PullObject, self.node, self.run.run_id)
        while parcel.missing:
            parcel.add(pull(parcel.missing[0]))

    def _let_go(self, message_id: str) -> None:
        """Have the SuperLink forget a message's parts."""
        self._runtime_client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=self.node, run_id=self.run.run_id, message_object_id=message_id)
        )

    def _refused(self, metadata: MetadataProto, refusal: RefusalError) -> Message:
        log.warning("node %d: %s", metadata.src_node_id, shown(refusal))
        return self._none(metadata.reply_to_message_id, UNREADABLE)

    def _none(self, asked: str, code: int) -> Message:
        metadata = Metadata(
            run_id=self.run.run_id,
            message_id="",
            src_node_id=SUPERLINK_NODE_ID,
            dst_node_id=self.node.node_id,
            message_type=SYSTEM_MESSAGE_TYPE,
            group_id="",
            ttl=0,
            reply_to_message_id=asked,
            created_at=now().timestamp(),
        )
        return make_message(metadata=metadata, error=Error(code, ""))


def _opened(reply: _Arriving) -> Message:
    """The message, under the metadata that the SuperLink has for it.

    Raises:
        RefusalError: `bad-request`: it is none.
    """
    with peers_fault("a reply"):
        reply.parcel.check_arrays()
        message = inflate_object_from_contents(reply.metadata.message_id, reply.parcel.parts)
        if not isinstance(message, Message):
            raise TypeError(f"its root is a {type(message).__name__}")
        metadata = metadata_from_proto(reply.metadata)
        if message.has_error():
            return make_message(metadata=metadata, error=message.error)
        return make_message(metadata=metadata, content=message.content)
