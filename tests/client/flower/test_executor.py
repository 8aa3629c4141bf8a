"""What the hospital's executor makes of a message, whoever wrote it."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from roiae.errors import Reason
from roiae.identity.keys import verify
from roiae.identity.kit import PROTOCOL
from roiae.wire.envelope import IDENTIFY, Envelope, Record, check, signed_bytes
from roiae.wire.packing import pack
from roiae.wire.signed_request import content_bytes
from roiae_client.answering.ledger import Ledger
from roiae_client.answering.responder import Responder
from roiae_client.flower.messages import answer
from roiae_client.folder.site_config import SiteConfig
from roiae_server.flower.grid import _wire_contents, act_as_coordinator, read_reply
from tests.client.conftest import read
from tests.signing import SIGNER, TRUSTED, new_ask, signed

KEY = ec.generate_private_key(ec.SECP384R1())
ASK = new_ask()
ARRAYS = {"w": np.zeros(3, np.float32)}


@pytest.fixture
def responder(ledger: Ledger) -> Responder:
    def no_site(*_: object) -> None:
        raise AssertionError("a site is not needed")

    return Responder(SiteConfig(name="alpha", data=Path("/data")), KEY, TRUSTED, ledger, no_site)  # type: ignore[arg-type]


def ask_record(kind: str, **changes: str | int | bytes) -> Record:
    return SIGNER.sign(ASK, content_bytes(kind, "{}", ARRAYS)).to_record("{}") | changes


def message(kind: str, **records: object) -> Message:
    act_as_coordinator()
    content = {
        "ask": ConfigRecord({**ask_record(kind)}),
        "arrays": ArrayRecord({"packed": Array(*pack(ARRAYS, ASK.nonce))}),
    }
    kept = {name: record for name, record in {**content, **records}.items() if record is not None}
    return Message(RecordDict(kept), dst_node_id=1, message_type=kind)  # type: ignore[arg-type]


def test_a_reply_carries_an_envelope_that_the_coordinator_believes(responder: Responder) -> None:
    reply = answer(responder, message(IDENTIFY))

    envelope, signature = Envelope.from_record(reply.content.config_records["envelope"])
    check(KEY.public_key(), ASK, IDENTIFY, "alpha", envelope, signature, read_reply(reply, envelope.request))
    assert envelope.ledger_lines == 1


def test_a_refusal_is_signed_and_carries_nothing_else(responder: Responder) -> None:
    reply = answer(responder, message("query.statistics"))

    envelope, signature = Envelope.from_record(reply.content.config_records["envelope"])
    check(KEY.public_key(), ASK, "query.statistics", "alpha", envelope, signature, None)
    assert envelope.reason == Reason.BAD_REQUEST  # the empty task does not fit
    assert list(reply.content) == ["envelope"]


def test_a_message_of_another_protocol_is_answered_though_its_other_fields_are_unknown(responder: Responder) -> None:
    letter = ConfigRecord({"run": "r", "request": "1", "roiae": "9.9", "protocol": PROTOCOL + 7, "head": b"unknown"})

    reply = answer(responder, message("train", ask=letter, arrays=None))

    envelope, signature = Envelope.from_record(reply.content.config_records["envelope"])
    assert (envelope.reason, envelope.request) == (Reason.WRONG_VERSION, "1")
    assert verify(KEY.public_key(), signature, signed_bytes(envelope, None))


def test_no_part_of_a_request_or_a_reply_is_like_a_part_of_another(responder: Responder) -> None:
    """Flower names parts by their content: who knows a name beforehand can take it."""
    request = message(IDENTIFY)
    replies = [answer(responder, request)]
    again = SIGNER.sign(new_ask(), content_bytes(IDENTIFY, "{}", {}))
    records: dict[str, object] = {"ask": ConfigRecord({**again.to_record("{}")})}
    records["arrays"] = ArrayRecord({"packed": Array(*pack({}, again.ask.nonce))})
    replies.append(answer(responder, message(IDENTIFY, **records)))

    parts = [_wire_contents(one).keys() for one in (request, message(IDENTIFY, **records), *replies)]
    assert not any(one & other for one, other in itertools.combinations(parts, 2))


@pytest.mark.parametrize(
    "odd",
    [
        {"ask": None},
        {"ask": ConfigRecord({"run": "../../etc"})},
        {"ask": ConfigRecord({**ask_record("train"), "task": 3})},
        {"ask": ConfigRecord({**ask_record("train"), "signature": "text"})},
        {"ask": ConfigRecord({**ask_record("train"), "certificate": "{}"})},
        {"ask": ConfigRecord({**ask_record("train"), "path": "/data"})},
        {"ask": ConfigRecord({**ask_record("train"), "protocol": -1})},
        {"ask": ConfigRecord({**ask_record("train"), "nonce": "0" * 64})},
        {"arrays": None},
        {"arrays": ArrayRecord({"packed": Array("uint8", (3,), "numpy.ndarray", b"no array")})},
        {"arrays": ArrayRecord({"packed": Array(np.zeros(99, np.uint8))})},
        {"arrays": ArrayRecord({"w": Array(np.zeros(3, np.float32))})},
    ],
)
def test_a_message_that_is_none_of_ours_gets_a_bare_reason_and_no_line_of_its_own_each_time(
    responder: Responder, ledger_path: Path, odd: dict[str, object]
) -> None:
    for _ in range(3):
        reply = answer(responder, message("train", **odd))
        assert reply.error.reason == Reason.BAD_REQUEST
        assert not reply.has_content()

    answer(responder, message(IDENTIFY))
    lines = [(line.reason, line.request, line.turned_away) for line in read(ledger_path)]
    assert lines == [("bad-request", "", 0), ("", ASK.request, 2)]


def test_what_a_request_says_reaches_the_log_escaped_and_cut(
    responder: Responder, caplog: pytest.LogCaptureFixture
) -> None:
    hostile = "\x1b[2J\nroiae-client: all well" + "k" * 100_000
    answer(responder, message("evaluate", ask=ConfigRecord({hostile: 1})))
    for text in (json.dumps({hostile: 1}), hostile):
        request = signed("evaluate", text, {})
        responder.answer("evaluate", request, text, {})

    assert len(caplog.records) == 3
    assert all(record.getMessage().isprintable() and len(record.getMessage()) < 700 for record in caplog.records)


def test_a_pickle_in_an_array_is_never_loaded(responder: Responder, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    array = np.array([Trap(trap)], dtype=object)
    buffer = tmp_path / "array.npy"
    np.save(buffer, array, allow_pickle=True)
    record = ArrayRecord({"packed": Array("object", (1,), "numpy.ndarray", buffer.read_bytes())})

    reply = answer(responder, message("train", arrays=record))

    assert reply.error.reason == Reason.BAD_REQUEST
    assert not trap.exists()


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.path,))
