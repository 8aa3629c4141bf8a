"""What the hospital's executor makes of a message, whoever wrote it."""

import json
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from roiae.envelope import IDENTIFY, NO_LINES, ROIAE, Ask, Envelope, check
from roiae.errors import Reason
from roiae.kit import PROTOCOL
from roiae.packing import pack
from roiae_client.desk import HospitalDesk
from roiae_client.flower.executor import answer
from roiae_client.ledger import Ledger
from roiae_client.site_config import SiteConfig
from roiae_server.flower.grid import act_as_coordinator, read_reply

KEY = ec.generate_private_key(ec.SECP384R1())
ASK = Ask(run="r", request="f" * 32, roiae=ROIAE, protocol=PROTOCOL, acknowledged_lines=0, acknowledged_head=NO_LINES)


@pytest.fixture
def desk(ledger: Ledger) -> HospitalDesk:
    def no_site(*_: object) -> None:
        raise AssertionError("a site is not needed")

    return HospitalDesk(SiteConfig(name="alpha", data=Path("/data")), KEY, ledger, no_site)  # type: ignore[arg-type]


def message(kind: str, **records: object) -> Message:
    act_as_coordinator()
    content = {
        "ask": ConfigRecord({**ASK.to_record()}),
        "config": ConfigRecord({"task": "{}"}),
        "arrays": ArrayRecord({"packed": Array(*pack({"w": np.zeros(3, np.float32)}))}),
    }
    kept = {name: record for name, record in {**content, **records}.items() if record is not None}
    return Message(RecordDict(kept), dst_node_id=1, message_type=kind)  # type: ignore[arg-type]


def test_a_reply_carries_an_envelope_that_the_coordinator_believes(desk: HospitalDesk) -> None:
    reply = answer(desk, message(IDENTIFY))

    envelope, signature = Envelope.from_record(reply.content.config_records["envelope"])
    check(KEY.public_key(), ASK, IDENTIFY, "alpha", envelope, signature, read_reply(reply))
    assert envelope.ledger_lines == 1


def test_a_refusal_is_signed_and_carries_nothing_else(desk: HospitalDesk) -> None:
    reply = answer(desk, message("query.statistics"))

    envelope, signature = Envelope.from_record(reply.content.config_records["envelope"])
    check(KEY.public_key(), ASK, "query.statistics", "alpha", envelope, signature, None)
    assert envelope.reason == Reason.BAD_REQUEST  # the empty task does not fit
    assert list(reply.content) == ["envelope"]


@pytest.mark.parametrize(
    "odd",
    [
        {"ask": None},
        {"ask": ConfigRecord({"run": "../../etc"})},
        {"config": None},
        {"config": ConfigRecord({})},
        {"arrays": None},
        {"arrays": ArrayRecord({"packed": Array("uint8", (3,), "numpy.ndarray", b"no array")})},
        {"arrays": ArrayRecord({"packed": Array(np.zeros(99, np.uint8))})},
        {"arrays": ArrayRecord({"w": Array(np.zeros(3, np.float32))})},
    ],
)
def test_a_message_that_is_none_of_ours_gets_a_bare_reason(desk: HospitalDesk, odd: dict[str, object]) -> None:
    reply = answer(desk, message("train", **odd))

    assert reply.error.reason == Reason.BAD_REQUEST
    assert not reply.has_content()


def test_what_a_request_says_reaches_the_log_escaped_and_cut(
    desk: HospitalDesk, caplog: pytest.LogCaptureFixture
) -> None:
    hostile = "\x1b[2J\nroiae-client: all well" + "k" * 100_000
    for odd in (
        {"ask": ConfigRecord({hostile: 1})},
        {"config": ConfigRecord({"task": json.dumps({hostile: 1})})},
        {"config": ConfigRecord({"task": hostile})},
    ):
        answer(desk, message("evaluate", **odd))

    assert len(caplog.records) == 3
    assert all(record.getMessage().isprintable() and len(record.getMessage()) < 700 for record in caplog.records)


def test_a_pickle_in_an_array_is_never_loaded(desk: HospitalDesk, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    array = np.array([Trap(trap)], dtype=object)
    buffer = tmp_path / "array.npy"
    np.save(buffer, array, allow_pickle=True)
    record = ArrayRecord({"packed": Array("object", (1,), "numpy.ndarray", buffer.read_bytes())})

    reply = answer(desk, message("train", arrays=record))

    assert reply.error.reason == Reason.BAD_REQUEST
    assert not trap.exists()


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.path,))
