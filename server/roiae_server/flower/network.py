"""The transport between real machines: it knows which hospitals are connected, sends a lost request again, and ends.

Flower drops a request once a hospital's node has pulled it, and a node keeps it in memory alone. A node that restarts
has therefore lost its work without a word. `Node.activation` changes when that happens; the request is then sent anew.
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode

from roiae.errors import Reason, RefusalError
from roiae.identity.keys import PublicKey
from roiae.site.bounds import PACKING, reply_bytes
from roiae.text import shown
from roiae.wire.border import peers_fault
from roiae.wire.contract import Reply, Request
from roiae.wire.envelope import IDENTIFY, Ask, Envelope, Greeting, check, check_protocol
from roiae.wire.packing import fields, joined, veil
from roiae.wire.signed_request import RequestSigner, SignedAsk, content_bytes
from roiae_server.flower.grid import UNREADABLE, MessageGrid, act_as_coordinator, read_reply, wire_bytes
from roiae_server.flower.superlink import Node
from roiae_server.run.run_folder import RunFolder
from roiae_server.run.transport import Outcome

POLL_SECONDS = 0.5
GREETING_SECONDS = 30.0
MAX_SENDS = 30  # of one request to one site, which weighs a model each time
LOST = frozenset(
    {
        ErrorCode.NODE_UNAVAILABLE,  # its session ended with the request in hand
        ErrorCode.CLIENT_APP_CRASHED,  # its executor did
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE,  # cut off while the reply was uploaded
    }
)

log = logging.getLogger(__name__)


class Registry(Protocol):
    """Who is enrolled and connected, and what each site's ledger said last."""

    def key(self, site: str) -> PublicKey | None: ...
    def nodes(self) -> Mapping[str, Node]: ...
    def ask(self, site: str, request: str, seconds: float) -> Ask: ...
    def heard(self, site: str, envelope: Envelope) -> None: ...


@dataclass(frozen=True)
class Patience:
    """How long an exchange waits; seconds."""

    deadline: float
    grace: float  # for the others, once the quorum has answered
    quorum: int

    @classmethod
    def of(cls, run: RunFolder) -> "Patience":
        return cls(run.config.federation.deadline, run.config.federation.grace, run.quorum)


@dataclass(frozen=True)
class _Content:
    """What a request asks for, made ready once for all sites that are asked the same."""

    kind: str
    task_json: str
    signed: bytes  # its part of what is signed
    arrays: bytes  # joined
    reply_bytes: int  # that the arrays of a reply can weigh

    @classmethod
    def of(cls, request: Request) -> "_Content":
        task_json = request.task.model_dump_json()
        signed = content_bytes(request.kind, task_json, request.arrays)
        return cls(request.kind, task_json, signed, joined(request.arrays), reply_bytes(request))

    @classmethod
    def handshake(cls) -> "_Content":
        return cls(IDENTIFY, "{}", content_bytes(IDENTIFY, "{}", {}), joined({}), PACKING)

    def record(self, signed: SignedAsk) -> RecordDict:
        """A message's content of which no part is like a part of any other message."""
        return RecordDict(
            {
                "arrays": ArrayRecord({"packed": Array(*fields(veil(self.arrays, signed.ask.nonce)))}),
                "ask": ConfigRecord({**signed.to_record(self.task_json)}),
            }
        )


@dataclass
class _Pending:
    """One site's request, until it is answered."""

    content: _Content
    message: str | None = None  # in flight
    ask: Ask | None = None
    node: int = 0
    activation: str = ""
    sends: int = 0
    bytes_out: int = 0


class NetworkTransport:
    """The federation's transport over a SuperLink.

    Args:
        grid: of a Flower run.
        registry: of the enrolled sites.
        signer: signs every request.
        patience: of every exchange.
        sources: the sites whose answers make the quorum.
        clock: monotonic seconds; with `sleep`, so that a test needs no time.
    """

    def __init__(
        self,
        grid: MessageGrid,
        registry: Registry,
        signer: RequestSigner,
        patience: Patience,
        sources: Iterable[str],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._grid, self._registry, self._signer, self._patience = grid, registry, signer, patience
        self._sources, self._clock, self._sleep = frozenset(sources), clock, sleep

    def exchange(self, requests: Mapping[str, Request]) -> Iterator[Outcome]:
        act_as_coordinator()
        different = {id(request): request for request in requests.values()}  # mostly one for all sites
        contents = {key: _Content.of(request) for key, request in different.items()}
        asked = {site: contents[id(request)] for site, request in requests.items()}
        yield from self._exchange(asked, self._patience)

    def greet(self, sites: Iterable[str]) -> dict[str, dict[str, float]]:
        """Which limits each site has; of those that answer within half a minute."""
        act_as_coordinator()
        patience = Patience(GREETING_SECONDS, GREETING_SECONDS, self._patience.quorum)
        outcomes = self._exchange(dict.fromkeys(sites, _Content.handshake()), patience)
        return {outcome.site: outcome.reply.metrics for outcome in outcomes if outcome.reply}

    def _exchange(self, asked: Mapping[str, _Content], patience: Patience) -> Iterator[Outcome]:
        end = self._clock() + patience.deadline
        waiting = {site: _Pending(asked[site]) for site in sorted(asked)}
        answered = 0
        while waiting and self._clock() < end:
            for site, reason in self._given_up(waiting):
                yield Outcome(site, None, reason, waiting.pop(site).bytes_out, 0)
            self._send(waiting, end)
            for site, message in self._arrived(waiting):
                outcome = self._outcome(site, waiting[site], message)
                if outcome is None:
                    waiting[site].message = None
                    continue
                del waiting[site]
                if outcome.reply is not None and site in self._sources:
                    answered += 1
                    if answered == patience.quorum:
                        end = min(end, self._clock() + patience.grace)
                yield outcome
            if waiting:
                self._sleep(POLL_SECONDS)
        nodes = self._registry.nodes()
        for site, pending in waiting.items():
            online = site in nodes and nodes[site].online
            yield Outcome(site, None, Reason.NO_REPLY if online else Reason.OFFLINE, pending.bytes_out, 0)

    def _given_up(self, waiting: Mapping[str, _Pending]) -> list[tuple[str, Reason]]:
        """Who was removed meanwhile, and who loses every request."""
        removed = {site: Reason.OFFLINE for site in waiting if self._registry.key(site) is None}
        failed = {site: Reason.SITE_FAILED for site, pending in waiting.items() if pending.sends > MAX_SENDS}
        return list((failed | removed).items())

    def _send(self, waiting: Mapping[str, _Pending], end: float) -> None:
        """Send what is not in flight to the sites that are connected."""
        nodes = self._registry.nodes()
        for site, pending in waiting.items():
            node = nodes.get(site)
            if node is None or not node.online or (pending.message and pending.activation == node.activation):
                continue
            pending.sends += 1
            if pending.sends > MAX_SENDS:
                continue
            if pending.message:
                log.warning("%s has connected anew and is sent its request again", site)
            left = max(1.0, end - self._clock())
            pending.ask = self._registry.ask(site, uuid.uuid4().hex, left)
            content = pending.content.record(self._signer.sign(pending.ask, pending.content.signed))
            message = Message(content, node.node_id, pending.content.kind, ttl=left)
            pending.bytes_out += wire_bytes(message)
            (pending.message,) = self._grid.push_messages([message])
            pending.node, pending.activation = node.node_id, node.activation

    def _arrived(self, waiting: Mapping[str, _Pending]) -> Iterator[tuple[str, Message]]:
        """What answers a request in flight, once for each, and comes from the node that was asked."""
        by_message = {pending.message: site for site, pending in waiting.items() if pending.message}
        if not by_message:
            return
        most = {message: waiting[site].content.reply_bytes for message, site in by_message.items()}
        for message in self._grid.pull_messages(most):
            asked = str(message.metadata.reply_to_message_id) if isinstance(message, Message) else None
            site = by_message.get(asked)
            if site is None:
                log.warning("a message that answers no request in flight is ignored")
            elif not _may_answer(message, waiting[site].node):
                log.warning("%s: a reply of a node that was not asked is ignored", site)
            else:
                del by_message[asked]
                yield site, message

    def _outcome(self, site: str, pending: _Pending, message: Message) -> Outcome | None:
        """What came of it; None for a request that was lost on the way and has to be sent again."""
        key, bytes_in = self._registry.key(site), 0
        try:
            with peers_fault("the reply"):
                bytes_in = wire_bytes(message)
                if message.has_error():
                    return self._failed(site, pending, message.error.code, bytes_in)
                envelope, reply = self._checked(site, key, pending, message)
        except RefusalError as refusal:
            log.warning("%s: %s", site, shown(refusal))
            return Outcome(site, None, refusal.reason, pending.bytes_out, bytes_in)
        self._registry.heard(site, envelope)
        reason = Reason(envelope.reason) if envelope.reason else None
        return Outcome(site, reply, reason, pending.bytes_out, bytes_in)

    def _failed(self, site: str, pending: _Pending, code: int, bytes_in: int) -> Outcome | None:
        """Of an error only the code is looked at: nobody has signed it, and its text goes no further."""
        if code in LOST:
            return None
        reason = Reason.BAD_REQUEST if code == UNREADABLE else Reason.SITE_FAILED
        return Outcome(site, None, reason, pending.bytes_out, bytes_in)

    def _checked(
        self, site: str, key: PublicKey | None, pending: _Pending, message: Message
    ) -> tuple[Envelope, Reply | None]:
        """The reply, or the site's own reason why there is none; both vouched for by the enrolled key."""
        record = message.content.config_records.get("envelope")
        if key is None or record is None or pending.ask is None:
            raise RefusalError(Reason.BAD_SIGNATURE, "the reply is not signed by an enrolled key")
        check_protocol(Greeting.from_record(record, Reason.BAD_SIGNATURE), pending.ask, site)
        envelope, signature = Envelope.from_record(record)
        reply = None if envelope.reason else read_reply(message, envelope.request)
        check(key, pending.ask, pending.content.kind, site, envelope, signature, reply)
        return envelope, reply


def _may_answer(message: Message, node: int) -> bool:
    """The node itself may, and Flower with an error where the node is gone."""
    return message.metadata.src_node_id == node or (
        message.has_error() and message.metadata.src_node_id == SUPERLINK_NODE_ID
    )
