"""Sums that hide their parts, and messages that only hospitals open."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from roiae.errors import Reason, RefusalError
from roiae.shift.group import Group
from tests.shared.shift.conftest import SOURCES, groups

GROUPS = groups()


def masked(parts: Mapping[str, NDArray[np.float64]], topic: str = "t") -> dict[str, NDArray[np.uint8]]:
    return {name: GROUPS[name].mask(topic, part) for name, part in parts.items()}


@given(st.lists(st.lists(st.floats(-1e15, 1e15), min_size=2, max_size=2), min_size=3, max_size=3))
def test_masks_cancel_to_the_last_bit_of_a_multiple_of_two_to_the_minus_64(values: list[list[float]]) -> None:
    parts = dict(zip(SOURCES, np.array(values), strict=True))

    total = GROUPS["held"].total(masked(parts))

    exact = [sum(int(value * 2**64) for value in column) / 2**64 for column in zip(*values, strict=True)]
    assert total.tolist() == exact


def test_a_masked_part_tells_nothing_of_its_number() -> None:
    """Uniform bytes, whatever the number; and other ones under another topic."""
    zeros = np.zeros((64, 64))
    part, other = GROUPS["b"].mask("t", zeros), GROUPS["b"].mask("u", zeros)

    counts = np.bincount(part.ravel(), minlength=256)
    expected = part.size / 256
    assert np.square(counts - expected).sum() / expected < 350  # chi-squared of 255 degrees, p about 1e-4
    assert abs(np.corrcoef(part.ravel(), other.ravel())[0, 1]) < 0.02


def test_all_parts_but_one_are_still_masked() -> None:
    parts = masked({name: np.zeros(100) for name in SOURCES})
    two = np.frombuffer(parts["a"].tobytes(), np.uint64) + np.frombuffer(parts["b"].tobytes(), np.uint64)

    assert len(np.unique(two)) == len(two)


@pytest.mark.parametrize("change", ["missing", "shape", "stranger"])
def test_without_every_part_there_is_no_sum(change: str) -> None:
    parts = masked({name: np.ones(4) for name in SOURCES})
    if change == "missing":
        del parts["b"]
    elif change == "shape":
        parts["b"] = parts["b"][1:]
    else:
        parts["held"] = parts["a"]

    with pytest.raises(RefusalError) as refusal:
        GROUPS["a"].total(parts)
    assert refusal.value.reason is Reason.BAD_REQUEST


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e17])
def test_a_number_that_cannot_be_added_is_refused(number: float) -> None:
    with pytest.raises(RefusalError) as refusal:
        GROUPS["a"].mask("t", np.array([number]))
    assert refusal.value.reason is Reason.NOT_FINITE


def test_every_hospital_opens_a_message_and_arrays_come_back_as_they_were() -> None:
    arrays = {"x": np.arange(6.0).reshape(2, 3).T, "n": np.array(3), "none": np.empty((0, 2))}

    sealed = GROUPS["b"].seal("t", arrays)

    for group in GROUPS.values():
        opened = group.open("t", "b", sealed)
        assert {name: array.tolist() for name, array in opened.items()} == {n: a.tolist() for n, a in arrays.items()}
        assert opened["n"].shape == ()


@pytest.mark.parametrize("change", ["flipped", "short", "topic", "sender", "stranger", "group", "keys"])
def test_what_was_not_sealed_so_does_not_open(change: str) -> None:
    sealed, topic, sender, reader = GROUPS["b"].seal("t", {"x": np.ones(3)}), "t", "b", GROUPS["a"]
    if change == "flipped":
        sealed = sealed.copy()
        sealed[-20] ^= 1
    elif change == "short":
        sealed = sealed[:30]
    elif change == "topic":
        topic = "u"
    elif change == "sender":
        sender = "c"
    elif change == "stranger":
        sender = "nobody"
    elif change == "group":
        reader = Group("a", reader.private, SOURCES, reader.keys, "another encoder")
    else:
        reader = groups()["a"]

    with pytest.raises(RefusalError) as refusal:
        reader.open(topic, sender, sealed)
    assert refusal.value.reason is Reason.BAD_REQUEST


def test_the_same_message_is_sealed_differently_every_time() -> None:
    first, second = (GROUPS["a"].seal("t", {"x": np.ones(100)}) for _ in range(2))

    assert np.mean(first == second) < 0.05


def test_a_key_that_is_none_is_refused() -> None:
    keys = {**GROUPS["a"].keys, "b": bytes(32)}  # a point of small order: everyone knows the secret
    group = Group("a", GROUPS["a"].private, SOURCES, keys, "e")

    with pytest.raises(RefusalError):
        group.seal("t", {})
