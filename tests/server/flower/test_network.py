"""The transport between real machines, over a grid that does what Flower's was measured to do, in no time at all."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from roiae.errors import Reason
from roiae.identity.keys import PublicKey
from roiae.identity.kit import PROTOCOL
from roiae.wire.contract import Arrays, Reply, Request, TrainTask
from roiae.wire.envelope import IDENTIFY, ROIAE, Ask, Envelope, seal
from roiae.wire.packing import pack, unpack
from roiae.wire.signed_request import SignedAsk, content_bytes
from roiae_server.flower import network
from roiae_server.flower.grid import _wire_contents
from roiae_server.flower.network import GREETING_SECONDS, LOST, MAX_SENDS, NetworkTransport, Patience
from roiae_server.flower.superlink import Node
from roiae_server.run.transport import Outcome
from tests.signing import SIGNER, new_ask, signed

KEYS = {site: ec.generate_private_key(ec.SECP384R1()) for site in ("a", "b", "c")}
REPLY = Reply({"loss": 0.5}, {"w": np.arange(3, dtype=np.float32)}, 1.5)

Answer = Callable[[Message], "Message | None"]


def sealed(site: str, message: Message, reply: Reply | None = REPLY, key: str = "", **changes: object) -> Message:
    """What the site would send, signed by its own key or by another's."""
    ask = SignedAsk.from_record(message.content.config_records["ask"])[0].ask
    fields = {
        "site": site, "run": ask.run, "request": ask.request, "kind": message.metadata.message_type, "reason": "",
        "roiae": ROIAE, "protocol": PROTOCOL, "ledger_lines": 1, "ledger_head": "f" * 64,
    }  # fmt: skip
    envelope = Envelope.model_validate(fields | changes)
    content = RecordDict()
    if reply:
        content["arrays"] = ArrayRecord({"packed": Array(*pack(reply.arrays, envelope.request))})
        content["metrics"] = MetricRecord({**reply.metrics, "seconds": reply.seconds})
    content["envelope"] = ConfigRecord({**envelope.to_record(seal(KEYS[key or site], envelope, reply))})
    return Message(content, reply_to=message)


def honest(site: str) -> Answer:
    return lambda message: sealed(site, message)


def silent(message: Message) -> None:
    return None


@dataclass
class World:
    """A grid, the registry of its nodes, and a clock: time passes only when the transport sleeps."""

    answers: dict[str, Answer]
    nodes_: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, PublicKey] = field(default_factory=lambda: {site: key.public_key() for site, key in KEYS.items()})
    now: float = 0.0
    events: dict[float, Callable[[], None]] = field(default_factory=dict)  # what happens at which second
    sent: list[tuple[str, str]] = field(default_factory=list)  # site, request id
    heard_: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, Message] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index, site in enumerate(sorted(self.answers), start=1):
            self.nodes_.setdefault(site, Node(index, b"", True, "first"))

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            site = next(site for site, node in self.nodes_.items() if node.node_id == message.metadata.dst_node_id)
            request = str(message.content.config_records["ask"]["request"])
            message.metadata.__dict__["_message_id"] = request
            self.sent.append((site, request))
            answer = self.answers[site](message)
            if answer:
                self.waiting[request] = answer
            ids.append(request)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [self.waiting.pop(one) for one in message_ids if one in self.waiting]

    def key(self, site: str) -> PublicKey | None:
        return self.keys.get(site)

    def nodes(self) -> Mapping[str, Node]:
        return self.nodes_

    def ask(self, site: str, request: str, seconds: float) -> Ask:
        return new_ask(site=site, request=request, issued=1000, expires=1000 + math.ceil(seconds))

    def heard(self, site: str, envelope: Envelope) -> None:
        self.heard_[site] = envelope.ledger_lines

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for moment in sorted(moment for moment in self.events if moment <= self.now):
            self.events.pop(moment)()

    def restarts(self, site: str, answer: Answer) -> None:
        """The site's node lost what it had, is connected anew, and answers so from now on."""
        self.nodes_[site] = Node(self.nodes_[site].node_id, b"", True, "again")
        self.answers[site] = answer

    def goes(self, site: str) -> None:
        self.nodes_[site] = Node(self.nodes_[site].node_id, b"", False, "first")


@pytest.fixture
def exchange(train_task: TrainTask) -> Callable[..., dict[str, Outcome]]:
    def run(world: World, deadline: float = 100, grace: float = 100, quorum: int = 2) -> dict[str, Outcome]:
        patience = Patience(deadline, grace, quorum)
        transport = NetworkTransport(world, world, SIGNER, patience, ("a", "b"), lambda: world.now, world.sleep)
        request = Request(train_task, {"w": np.zeros(3, np.float32)})
        return {outcome.site: outcome for outcome in transport.exchange(dict.fromkeys(sorted(world.answers), request))}

    return run


Exchange = Callable[..., dict[str, Outcome]]


def test_signed_replies_come_back_and_their_ledger_heads_are_kept(exchange: Exchange) -> None:
    world = World({"a": honest("a"), "b": honest("b")})

    outcomes = exchange(world)

    assert {site: outcome.reason for site, outcome in outcomes.items()} == {"a": None, "b": None}
    reply = outcomes["a"].reply
    assert reply is not None
    assert (reply.metrics, reply.seconds) == (REPLY.metrics, REPLY.seconds)
    np.testing.assert_array_equal(reply.arrays["w"], REPLY.arrays["w"])
    assert world.heard_ == {"a": 1, "b": 1}


def test_every_request_is_signed_for_its_site_until_the_deadline_and_unlike_any_other(exchange: Exchange) -> None:
    seen: dict[str, tuple[SignedAsk, str, Message]] = {}

    def keep(site: str) -> Answer:
        def answer(message: Message) -> Message:
            seen[site] = (*SignedAsk.from_record(message.content.config_records["ask"]), message)
            return sealed(site, message)

        return answer

    exchange(World({"a": keep("a"), "b": keep("b")}), deadline=77)

    for site, (request, task, message) in seen.items():
        arrays = unpack(message.content.array_records["arrays"]["packed"].data, request.ask.nonce)
        assert request.holds(content_bytes("train", task, arrays))
        assert (request.ask.site, request.ask.expires - request.ask.issued) == (site, 77)
    one, other = (_wire_contents(message).keys() for _, _, message in seen.values())
    assert not one & other  # Flower names parts by their content: who knows a name beforehand can take it


def test_the_arrays_are_hashed_once_for_all_sites(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []

    def hash_once(kind: str, task: str, arrays: Arrays) -> bytes:
        hashed.append(kind)
        return content_bytes(kind, task, arrays)

    monkeypatch.setattr(network, "content_bytes", hash_once)

    exchange(World({"a": honest("a"), "b": honest("b"), "c": honest("c")}))

    assert hashed == ["train"]


def test_a_reply_of_another_protocol_is_told_though_its_other_fields_are_unknown(exchange: Exchange) -> None:
    def later(message: Message) -> Message:
        record = ConfigRecord({"run": "r", "request": "1", "roiae": "9.9", "protocol": 9, "letterhead": b"unknown"})
        return Message(RecordDict({"envelope": record}), reply_to=message)

    assert exchange(World({"a": honest("a"), "b": later}))["b"].reason is Reason.WRONG_VERSION


def test_a_site_that_answers_in_anothers_name_is_refused(exchange: Exchange) -> None:
    forged = World({"a": honest("a"), "b": lambda message: sealed("a", message, key="b")})
    stolen = World({"a": honest("a"), "b": lambda message: sealed("b", message, key="c")})

    assert exchange(forged)["b"].reason is Reason.BAD_SIGNATURE
    assert exchange(stolen)["b"].reason is Reason.BAD_SIGNATURE
    assert "b" not in forged.heard_ | stolen.heard_


def test_a_reply_that_nobody_signed_is_refused(exchange: Exchange) -> None:
    def bare(message: Message) -> Message:
        content = sealed("b", message).content
        del content["envelope"]
        return Message(content, reply_to=message)

    assert exchange(World({"a": honest("a"), "b": bare}))["b"].reason is Reason.BAD_SIGNATURE


def test_a_reply_to_an_earlier_request_is_refused(exchange: Exchange) -> None:
    world = World({"a": honest("a"), "b": lambda message: sealed("b", message, request="0" * 32)})

    assert exchange(world)["b"].reason is Reason.BAD_SIGNATURE


def test_another_protocol_is_refused_politely(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    world = World({"a": honest("a"), "b": lambda message: sealed("b", message, roiae="9.9", protocol=PROTOCOL + 1)})

    assert exchange(world)["b"].reason is Reason.WRONG_VERSION
    assert "9.9" in caplog.text and ROIAE in caplog.text


def test_a_sites_own_refusal_arrives_as_its_reason(exchange: Exchange) -> None:
    world = World({"a": honest("a"), "b": lambda message: sealed("b", message, None, reason="not-allowed")})

    assert exchange(world)["b"].reason is Reason.NOT_ALLOWED


def test_the_text_of_an_error_goes_no_further(exchange: Exchange) -> None:
    world = World({"a": honest("a"), "b": lambda message: Message(Error(2, "/data/jane.png"), reply_to=message)})

    outcome = exchange(world)["b"]

    assert outcome.reason is Reason.SITE_FAILED
    assert "jane" not in repr(outcome)


def test_a_site_that_restarted_is_sent_its_request_again_under_a_new_id(exchange: Exchange) -> None:
    world = World({"a": honest("a"), "b": silent})
    world.events[20.0] = lambda: world.restarts("b", honest("b"))

    assert exchange(world)["b"].reply is not None
    ids = [request for site, request in world.sent if site == "b"]
    assert len(ids) == len(set(ids)) == 2


@pytest.mark.parametrize("code", sorted(LOST))
def test_a_request_that_was_lost_on_the_way_is_sent_again(exchange: Exchange, code: int) -> None:
    def lost_once(message: Message) -> Message:
        world.answers["b"] = honest("b")
        return Message(Error(code, "lost"), reply_to=message)

    world = World({"a": honest("a"), "b": lost_once})

    assert exchange(world)["b"].reply is not None


def test_a_site_that_connects_late_still_gets_its_request(exchange: Exchange) -> None:
    world = World({"a": honest("a"), "b": honest("b")})
    world.goes("b")
    world.events[30.0] = lambda: world.restarts("b", honest("b"))

    assert exchange(world)["b"].reply is not None
    assert world.now < 40


def test_silence_and_absence_are_told_apart_at_the_deadline(exchange: Exchange) -> None:
    world = World({"a": silent, "b": silent, "c": silent})
    world.events[10.0] = lambda: world.goes("b")

    outcomes = exchange(world, deadline=60)

    assert {site: str(outcome.reason) for site, outcome in outcomes.items()} == {
        "a": "no-reply", "b": "offline", "c": "no-reply",
    }  # fmt: skip
    assert 60 <= world.now < 62


def test_once_the_quorum_has_answered_the_others_have_the_grace_and_no_more(exchange: Exchange) -> None:
    world = World({"a": honest("a"), "b": honest("b"), "c": silent})

    outcomes = exchange(world, deadline=1000, grace=50)

    assert outcomes["c"].reason is Reason.NO_REPLY
    assert 50 <= world.now < 52


def test_refusals_do_not_make_a_quorum(exchange: Exchange) -> None:
    refusing = lambda message: sealed("b", message, None, reason="not-allowed")  # noqa: E731
    world = World({"a": honest("a"), "b": refusing, "c": silent})

    exchange(world, deadline=200, grace=1)

    assert world.now >= 200


def test_a_site_that_is_removed_is_waited_for_no_longer(exchange: Exchange) -> None:
    world = World({"a": honest("a"), "b": silent})
    world.events[10.0] = world.keys.clear

    assert exchange(world, deadline=1000)["b"].reason is Reason.OFFLINE
    assert world.now < 12


def test_what_answers_no_request_is_ignored(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({"a": honest("a"), "b": honest("b")})
    pull = world.pull_messages
    asked = signed("train", "{}", {}, site="b", request="x").to_record("{}")
    stray = sealed("b", Message(RecordDict({"ask": ConfigRecord({**asked})}), 2, "train"))
    monkeypatch.setattr(world, "pull_messages", lambda ids: [RecordDict(), stray, *pull(ids), stray])

    outcomes = exchange(world)

    assert {site: outcome.reason for site, outcome in outcomes.items()} == {"a": None, "b": None}


def test_of_two_replies_to_one_request_the_first_counts(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({"a": honest("a"), "b": honest("b")})
    pull = world.pull_messages
    monkeypatch.setattr(world, "pull_messages", lambda ids: [message for one in pull(ids) for message in (one, one)])

    assert {site: outcome.reason for site, outcome in exchange(world).items()} == {"a": None, "b": None}


def test_a_reply_that_another_node_sends_is_ignored(exchange: Exchange) -> None:
    def from_a(message: Message) -> Message:
        reply = sealed("b", message)
        reply.metadata.__dict__["_src_node_id"] = world.nodes_["a"].node_id
        return reply

    world = World({"a": honest("a"), "b": from_a})

    outcomes = exchange(world, deadline=10)

    assert (outcomes["a"].reason, outcomes["b"].reason) == (None, Reason.NO_REPLY)


def test_a_reply_that_cannot_be_read_is_that_sites_bad_request(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    def odd(message: Message) -> Message:
        content = sealed("b", message).content
        content["metrics"] = MetricRecord({"\x1b[2J" * 10_000: [1.0]})
        return Message(content, reply_to=message)

    outcomes = exchange(World({"a": honest("a"), "b": odd}))

    assert (outcomes["a"].reason, outcomes["b"].reason) == (None, Reason.BAD_REQUEST)
    assert "\x1b" not in caplog.text and len(caplog.text) < 1000


def test_a_site_that_loses_every_request_is_sent_no_more(exchange: Exchange) -> None:
    world = World({"a": honest("a"), "b": lambda message: Message(Error(min(LOST), "again"), reply_to=message)})

    outcome = exchange(world, deadline=100_000)["b"]

    assert outcome.reason is Reason.SITE_FAILED
    assert len([site for site, _ in world.sent if site == "b"]) == MAX_SENDS


@pytest.mark.parametrize("error", [httpx.ConnectError("gone"), OSError("disk full"), KeyboardInterrupt()])
def test_what_is_no_peers_fault_is_blamed_on_none(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fails(*_: object) -> None:
        raise error

    world = World({"a": honest("a"), "b": honest("b")})
    monkeypatch.setattr(world, "heard", fails)
    with pytest.raises(type(error)):
        exchange(world)
    monkeypatch.setattr(world, "pull_messages", fails)
    with pytest.raises(type(error)):
        exchange(world)


def test_a_greeting_tells_the_limits_of_who_answers(train_task: TrainTask) -> None:
    told = {"limits.max_learning_rate": 0.003}

    def greeted(message: Message) -> Message:
        assert message.metadata.message_type == IDENTIFY
        return sealed("a", message, Reply(told, {}, 0.0))

    world = World({"a": greeted, "b": silent})
    transport = NetworkTransport(
        world, world, SIGNER, Patience(900, 900, 2), ("a", "b"), lambda: world.now, world.sleep
    )

    assert transport.greet(["a", "b"]) == {"a": told}
    assert world.now <= 2 * GREETING_SECONDS
