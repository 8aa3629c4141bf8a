"""The parts of a message, counted as they come."""

import json

import pytest

from roiae.errors import RefusalError
from roiae.wire.parcel import RECORDS_BYTES, Parcel

CHUNK = "c" * 64


def chunk(size: int) -> bytes:
    return b"ArrayChunk  %d\0" % size + bytes(size)


def array(places: object) -> bytes:
    body = json.dumps({"arraychunk_ids": places}).encode()
    return b"Array %s %d\0" % (CHUNK.encode(), len(body)) + body


def test_a_message_of_the_expected_size_comes_whole() -> None:
    parcel = Parcel([CHUNK, "a"], 1100)
    parcel.add(chunk(1000))
    parcel.add(array([0]))

    parcel.check_arrays()
    assert list(parcel.parts) == [CHUNK, "a"] and not parcel.missing


def test_no_more_is_fetched_once_the_arrays_are_too_large() -> None:
    parcel = Parcel(["1", "2", "3"], 1500)
    parcel.add(chunk(1000))

    with pytest.raises(RefusalError, match="1500 bytes of arrays"):
        parcel.add(chunk(1000))
    assert list(parcel.parts) == ["1"]


def test_all_but_arrays_has_a_bound_of_its_own() -> None:
    with pytest.raises(RefusalError, match="fetched no further"):
        Parcel(["1"], 10**9).add(b"ConfigRecord  9\0" + bytes(RECORDS_BYTES))


def test_an_announcement_of_endless_objects_is_not_read_to_its_end() -> None:
    def endless() -> object:
        place = 0
        while True:
            yield f"{place}"
            place += 1

    with pytest.raises(RefusalError, match="objects"):
        Parcel(endless())  # type: ignore[arg-type]


def test_an_array_that_names_a_chunk_a_million_times_is_refused_before_it_is_built() -> None:
    parcel = Parcel([CHUNK, "a"], 2000)
    parcel.add(chunk(1000))
    parcel.add(array([0] * 50_000))

    with pytest.raises(RefusalError, match="arrays of"):
        parcel.check_arrays()


def test_equal_chunks_may_travel_once() -> None:
    parcel = Parcel([CHUNK, "a"], 5000)
    parcel.add(chunk(1000))
    parcel.add(array([0, 0, 0]))

    parcel.check_arrays()
