"""A reply is believed only where the site's key signed it, bit for bit, in answer to this very request."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from roiae.errors import Reason, RefusalError
from roiae.identity.kit import PROTOCOL
from roiae.wire.contract import Arrays, Reply
from roiae.wire.envelope import ROIAE, Ask, Envelope, Greeting, check, check_protocol, seal, signed_bytes
from tests.signing import new_ask

KEY = ec.generate_private_key(ec.SECP384R1())
ASK = new_ask(run="run-1", request="f" * 32)
ENVELOPE = Envelope(
    site="alpha",
    run=ASK.run,
    request=ASK.request,
    kind="train",
    reason="",
    roiae=ROIAE,
    protocol=PROTOCOL,
    ledger_lines=1,
    ledger_head="a" * 64,
)
OTHER_FIELDS: dict[str, Any] = {
    "site": "beta",
    "run": "run-2",
    "request": "e" * 32,
    "kind": "evaluate",
    "reason": "site-failed",
    "roiae": "0.0.9",
    "protocol": PROTOCOL + 1,
    "ledger_lines": 2,
    "ledger_head": "b" * 64,
}
dtypes = st.sampled_from(["<f4", "<f8", ">f4", "<i8", "|u1", "<f2", "|b1"]).map(np.dtype)
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
replies = st.builds(
    Reply,
    st.dictionaries(st.text(max_size=4), st.floats(), max_size=3),
    st.dictionaries(st.text(max_size=4), arrays, max_size=3),
    st.floats(0, 1e6),
)


def refused(envelope: Envelope, signature: bytes, reply: Reply | None, asked: Ask = ASK, site: str = "alpha") -> Reason:
    with pytest.raises(RefusalError) as refusal:
        check(KEY.public_key(), asked, "train", site, envelope, signature, reply)
    return refusal.value.reason


def bits(array: np.ndarray[Any, Any]) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.str, array.shape, array.tobytes()


def same(one: Reply, other: Reply) -> bool:
    """Whether two replies are equal bit for bit, NaN and the sign of zero too; told without the code under test."""

    def numbers(reply: Reply) -> dict[str, bytes]:
        return {name: np.float64(value).tobytes() for name, value in (*reply.metrics.items(), ("\0s", reply.seconds))}

    def content(reply: Reply) -> dict[str, Any]:
        return {name: bits(array) for name, array in reply.arrays.items()}

    return numbers(one) == numbers(other) and content(one) == content(other)


@given(replies)
def test_what_a_site_sealed_is_believed_after_the_wire(reply: Reply) -> None:
    record = ENVELOPE.to_record(seal(KEY, ENVELOPE, reply))
    envelope, signature = Envelope.from_record(record)
    came = Reply(
        dict(reversed(reply.metrics.items())),
        {name: array.copy(order="F") for name, array in reversed(reply.arrays.items())},
        reply.seconds,
    )

    check(KEY.public_key(), ASK, "train", "alpha", envelope, signature, came)


@given(replies, replies)
def test_two_replies_are_signed_alike_only_where_they_are_alike(one: Reply, other: Reply) -> None:
    assert (signed_bytes(ENVELOPE, one) == signed_bytes(ENVELOPE, other)) == same(one, other)


@given(replies, st.sampled_from(sorted(OTHER_FIELDS)))
def test_a_change_of_any_field_is_refused(reply: Reply, field: str) -> None:
    signature = seal(KEY, ENVELOPE, reply)
    altered = ENVELOPE.model_copy(update={field: OTHER_FIELDS[field]})

    expected = Reason.WRONG_VERSION if field == "protocol" else Reason.BAD_SIGNATURE
    assert refused(altered, signature, reply) == expected
    assert signed_bytes(altered, reply) != signed_bytes(ENVELOPE, reply)


@given(replies.filter(lambda reply: any(array.size for array in reply.arrays.values())), st.data())
def test_a_change_of_any_bit_of_an_array_is_refused(reply: Reply, data: st.DataObject) -> None:
    signature = seal(KEY, ENVELOPE, reply)
    name = data.draw(st.sampled_from([name for name, array in reply.arrays.items() if array.size]))
    raw = bytearray(reply.arrays[name].tobytes())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    array = reply.arrays[name]
    altered: Arrays = reply.arrays | {name: np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)}

    assert refused(ENVELOPE, signature, replace(reply, arrays=altered)) == Reason.BAD_SIGNATURE


@pytest.mark.parametrize(
    "altered",
    [
        Reply({"loss": 1.0}, {"v": np.ones((2, 3), np.float32)}, 1.0),
        Reply({"loss": 1.0}, {"w": np.ones((3, 2), np.float32)}, 1.0),
        Reply({"loss": 1.0}, {"w": np.ones((2, 3), np.float32).view(np.int32)}, 1.0),
        Reply({"loss": 1.0}, {}, 1.0),
        Reply({"loss": np.nextafter(1.0, 2.0)}, {"w": np.ones((2, 3), np.float32)}, 1.0),
        Reply({"less": 1.0}, {"w": np.ones((2, 3), np.float32)}, 1.0),
        Reply({}, {"w": np.ones((2, 3), np.float32)}, 1.0),
        Reply({"loss": 1.0}, {"w": np.ones((2, 3), np.float32)}, 2.0),
        None,
    ],
)
def test_another_name_shape_type_or_number_is_refused(altered: Reply | None) -> None:
    signature = seal(KEY, ENVELOPE, Reply({"loss": 1.0}, {"w": np.ones((2, 3), np.float32)}, 1.0))

    assert refused(ENVELOPE, signature, altered) == Reason.BAD_SIGNATURE


def test_a_refusal_is_signed_too_and_cannot_become_an_answer() -> None:
    refusal = ENVELOPE.model_copy(update={"reason": "not-allowed"})
    signature = seal(KEY, refusal, None)

    check(KEY.public_key(), ASK, "train", "alpha", refusal, signature, None)
    assert refused(refusal, signature, Reply({}, {}, 0.0)) == Reason.BAD_SIGNATURE
    assert refused(ENVELOPE, signature, Reply({}, {}, 0.0)) == Reason.BAD_SIGNATURE


@pytest.mark.parametrize("field", ["run", "request"])
def test_a_reply_to_another_request_is_refused_though_it_is_well_signed(field: str) -> None:
    reply = Reply({}, {}, 0.0)
    other = ENVELOPE.model_copy(update={field: OTHER_FIELDS[field]})

    assert refused(other, seal(KEY, other, reply), reply) == Reason.BAD_SIGNATURE


def test_an_enrolled_site_cannot_answer_in_anothers_name() -> None:
    reply, forger = Reply({}, {}, 0.0), ec.generate_private_key(ec.SECP384R1())
    own = ENVELOPE.model_copy(update={"site": "beta"})

    assert refused(ENVELOPE, seal(forger, ENVELOPE, reply), reply) == Reason.BAD_SIGNATURE
    assert refused(own, seal(KEY, own, reply), reply) == Reason.BAD_SIGNATURE


def test_another_protocol_is_refused_with_both_versions() -> None:
    old = ENVELOPE.model_copy(update={"protocol": 7, "roiae": "0.0.9"})

    with pytest.raises(RefusalError, match=rf"roiae 0\.0\.9 with protocol 7.*roiae {ROIAE} with protocol {PROTOCOL}"):
        check(KEY.public_key(), ASK, "train", "alpha", old, b"of another protocol's bytes", None)


def test_an_array_that_holds_no_numbers_is_not_signed() -> None:
    with pytest.raises(RefusalError) as refusal:
        signed_bytes(ENVELOPE, Reply({}, {"w": np.array(["a name"])}, 0.0))

    assert refusal.value.reason == Reason.ARRAYS_MISMATCH


@pytest.mark.parametrize("value", [1, [1.0], "1.0"])
def test_a_metric_that_is_no_double_is_not_signed(value: Any) -> None:
    with pytest.raises(RefusalError) as refusal:
        signed_bytes(ENVELOPE, Reply({"loss": value}, {}, 0.0))

    assert refusal.value.reason == Reason.BAD_METRICS


def test_another_protocol_is_told_though_its_other_fields_are_unknown() -> None:
    record = {"run": "r", "request": "1", "roiae": "9.9", "protocol": 9, "letterhead": b"of another time"}

    with pytest.raises(RefusalError, match=r"alpha runs roiae 9\.9 with protocol 9") as refusal:
        check_protocol(Greeting.from_record(record), ASK, "alpha")
    assert refusal.value.reason == Reason.WRONG_VERSION


odd = pytest.mark.parametrize(
    "change",
    [
        {"run": ""},
        {"run": "a\nb"},
        {"request": 3},
        {"protocol": True},
        {"protocol": -1},
        {"roiae": b"0.1.0"},
        {"path": "/data/secret"},
        {"run": None},
    ],
)


@odd
def test_an_odd_ask_is_a_bad_request(change: dict[str, Any]) -> None:
    with pytest.raises(RefusalError) as refusal:
        Ask.from_record(ASK.model_dump() | change)

    assert refusal.value.reason == Reason.BAD_REQUEST
    assert "secret" not in str(refusal.value)


@odd
def test_an_odd_envelope_is_a_bad_signature(change: dict[str, Any]) -> None:
    with pytest.raises(RefusalError) as refusal:
        Envelope.from_record(ENVELOPE.to_record(b"s") | change)

    assert refusal.value.reason == Reason.BAD_SIGNATURE


@pytest.mark.parametrize("change", [{"reason": "because"}, {"signature": "text"}, {"ledger_head": "A" * 64}])
def test_an_envelope_has_a_known_reason_a_signature_and_a_hash(change: dict[str, Any]) -> None:
    with pytest.raises(RefusalError) as refusal:
        Envelope.from_record(ENVELOPE.to_record(b"s") | change)

    assert refusal.value.reason == Reason.BAD_SIGNATURE
