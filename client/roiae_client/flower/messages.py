"""From Flower's message to the responder and back: the same for a real hospital and for a simulated one."""

import secrets

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from roiae.errors import Reason, RefusalError
from roiae.identity.kit import PROTOCOL
from roiae.wire.border import peers_fault
from roiae.wire.contract import Reply
from roiae.wire.envelope import Envelope, Greeting
from roiae.wire.packing import UNLIKE, pack, unpack
from roiae.wire.signed_request import SignedAsk
from roiae_client.answering.responder import Responder

CLIENT_APP_RAISED = 2  # Flower's code for an application's error


def answer(responder: Responder, message: Message) -> Message:
    """The signed reply to a request, or a bare reason to one that does not even say which it is."""
    kind = message.metadata.message_type
    try:
        with peers_fault("a request"):
            record = dict(message.content.config_records["ask"])
            greeting = Greeting.from_record(record)
            if greeting.protocol != PROTOCOL:
                return _message(message, *responder.decline(kind, greeting))
            signed, task = SignedAsk.from_record(record)
            arrays = unpack(message.content.array_records["arrays"]["packed"].data, signed.ask.nonce)
    except RefusalError as refusal:
        responder.note_unread(kind, refusal)
        return Message(Error(CLIENT_APP_RAISED, Reason.BAD_REQUEST), reply_to=message)
    return _message(message, *responder.answer(kind, signed, task, arrays))


def _message(asked: Message, envelope: Envelope, signature: bytes, reply: Reply | None) -> Message:
    """Flower names a message's parts by their content; nobody can tell the name of one of these beforehand."""
    record = RecordDict()
    if reply:
        numbers = {**reply.metrics, "seconds": reply.seconds, UNLIKE: secrets.randbits(62)}
        record["arrays"] = ArrayRecord({"packed": Array(*pack(reply.arrays, envelope.request))})
        record["metrics"] = MetricRecord({**numbers})
    record["envelope"] = ConfigRecord({**envelope.to_record(signature)})
    return Message(record, reply_to=asked)
