"""What is wrong with a message is the message's fault, and nothing else is."""

import struct

import pytest
from safetensors import SafetensorError

from roiae.errors import Reason, RefusalError
from roiae.wire.border import peers_fault

ERRORS = [
    RecursionError(), MemoryError(), AssertionError(), KeyError("\x1b[2J"), ImportError("x"), struct.error("x"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "x"), OverflowError(),
    SafetensorError("x"), StopIteration(), TypeError(), IndexError(), ZeroDivisionError(), RuntimeWarning("x" * 10**6),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_ends_as_the_refusal_of_the_message(error: Exception) -> None:
    with pytest.raises(RefusalError) as refused, peers_fault("a reply"):
        raise error

    assert refused.value.reason is Reason.BAD_REQUEST
    assert type(error).__name__ in str(refused.value)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 400


def test_a_refusal_keeps_its_own_reason() -> None:
    with pytest.raises(RefusalError) as refused, peers_fault("a reply"):
        raise RefusalError(Reason.BAD_SIGNATURE, "x")

    assert refused.value.reason is Reason.BAD_SIGNATURE


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_passes(error: type[BaseException]) -> None:
    with pytest.raises(error), peers_fault("a reply"):
        raise error
