"""A request is the coordinator's only where its key signed it, bit for bit, for this very site."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roiae.errors import Reason, RefusalError
from roiae.wire.contract import Arrays
from roiae.wire.envelope import Ask
from roiae.wire.signed_request import SignedAsk, content_bytes, request_bytes
from tests.shared.wire.test_envelope import arrays, bits
from tests.signing import SIGNER, new_ask, new_signer

names = st.text(max_size=4)
contents = st.tuples(names, names, st.dictionaries(names, arrays, max_size=3))
digests = st.sampled_from(["a" * 64, "b" * 64])
counts = st.integers(0, 3)
asks = st.builds(
    new_ask,
    site=st.sampled_from(["alpha", "beta"]),
    run=st.sampled_from(["1", "11"]),
    request=st.sampled_from(["1", "11"]),
    roiae=st.sampled_from(["1", "11"]),
    protocol=counts,
    issued=counts,
    expires=counts,
    nonce=digests,
    acknowledged_lines=counts,
    acknowledged_head=digests,
)
OTHER_FIELDS: dict[str, Any] = {
    "site": "beta",
    "run": "run-2",
    "request": "e" * 32,
    "roiae": "0.0.9",
    "protocol": 9,
    "issued": 1,
    "expires": 2,
    "nonce": "a" * 64,
    "acknowledged_lines": 2,
    "acknowledged_head": "b" * 64,
}
Content = tuple[str, str, Arrays]
EMPTY = content_bytes("train", "{}", {})
SIGNED = SIGNER.sign(new_ask(), EMPTY)


def plain(ask: Ask, content: Content) -> tuple[object, ...]:
    """What a request says, told without the code under test."""
    kind, task, sent = content
    return ask.model_dump(), kind, task, {name: bits(array) for name, array in sent.items()}


@given(asks, contents, asks, contents)
def test_two_requests_are_signed_alike_only_where_they_are_alike(
    one: Ask, content: Content, other: Ask, others: Content
) -> None:
    same = plain(one, content) == plain(other, others)

    assert (request_bytes(one, content_bytes(*content)) == request_bytes(other, content_bytes(*others))) == same


@given(contents)
def test_what_was_signed_holds_after_the_wire(content: Content) -> None:
    kind, task, sent = content
    record = SIGNER.sign(new_ask(), content_bytes(*content)).to_record(task)
    signed, came = SignedAsk.from_record(record)
    turned = {name: array.copy(order="F") for name, array in reversed(sent.items())}

    assert signed.holds(content_bytes(kind, came, turned))


@given(contents, st.sampled_from(sorted(OTHER_FIELDS)))
def test_a_change_of_any_field_does_not_hold(content: Content, field: str) -> None:
    signed = SIGNER.sign(new_ask(), content_bytes(*content))
    altered = signed._replace(ask=signed.ask.model_copy(update={field: OTHER_FIELDS[field]}))

    assert set(OTHER_FIELDS) == set(Ask.model_fields)
    assert not altered.holds(content_bytes(*content))


@given(contents.filter(lambda content: any(array.size for array in content[2].values())), st.data())
def test_a_change_of_any_bit_of_an_array_does_not_hold(content: Content, data: st.DataObject) -> None:
    kind, task, sent = content
    signed = SIGNER.sign(new_ask(), content_bytes(*content))
    name = data.draw(st.sampled_from([name for name, array in sent.items() if array.size]))
    raw = bytearray(sent[name].tobytes())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    altered = np.frombuffer(bytes(raw), sent[name].dtype).reshape(sent[name].shape)

    assert not signed.holds(content_bytes(kind, task, sent | {name: altered}))


@given(st.data())
def test_a_change_of_any_bit_of_the_signature_does_not_hold(data: st.DataObject) -> None:
    content, signed = EMPTY, SIGNED
    raw = bytearray(signed.signature)
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8

    assert signed.holds(content)
    assert not signed._replace(signature=bytes(raw)).holds(content)


@pytest.mark.parametrize(
    "other",
    [
        ("evaluate", "{}", {"w": np.ones((2, 3), np.float32)}),
        ("train", "{ }", {"w": np.ones((2, 3), np.float32)}),
        ("train", "{}", {"v": np.ones((2, 3), np.float32)}),
        ("train", "{}", {"w": np.ones((3, 2), np.float32)}),
        ("train", "{}", {"w": np.ones((2, 3), np.float32).view(np.int32)}),
        ("train", "{}", {}),
    ],
)
def test_another_kind_task_name_shape_or_type_does_not_hold(other: Content) -> None:
    signed = SIGNER.sign(new_ask(), content_bytes("train", "{}", {"w": np.ones((2, 3), np.float32)}))

    assert not signed.holds(content_bytes(*other))


def test_another_keys_signature_does_not_hold_under_this_certificate() -> None:
    content = content_bytes("train", "{}", {})
    forged = new_signer().sign(new_ask(), content)._replace(certificate=SIGNER.certificate)

    assert not forged.holds(content)


def test_an_array_that_holds_no_numbers_is_not_signed() -> None:
    with pytest.raises(RefusalError) as refusal:
        content_bytes("train", "{}", {"w": np.array(["a name"])})

    assert refusal.value.reason == Reason.ARRAYS_MISMATCH


@pytest.mark.parametrize(
    "change",
    [
        {"task": None},
        {"task": b"{}"},
        {"certificate": "{}"},
        {"certificate": "[" * 100_000},
        {"certificate": 3},
        {"signature": "text"},
        {"expires": 1.5},
        {"nonce": "short"},
        {"news": 1},
    ],
)
def test_an_odd_record_is_a_bad_request(change: dict[str, Any]) -> None:
    record = SIGNER.sign(new_ask(), content_bytes("train", "{}", {})).to_record("{}")

    with pytest.raises(RefusalError) as refusal:
        SignedAsk.from_record(record | change)
    assert refusal.value.reason == Reason.BAD_REQUEST
