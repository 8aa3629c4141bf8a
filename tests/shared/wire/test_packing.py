import json
import struct

import numpy as np
import pytest

from roiae.wire.packing import pack, unpack


def test_arrays_come_out_as_they_went_in() -> None:
    arrays = {
        "z": np.arange(6.0).reshape(2, 3).T,
        "b": np.zeros((0, 3), np.float32),
        "c": np.array(3),
        "d": np.array([np.nan]),
    }

    *_, content = pack(arrays)
    out = unpack(content)

    assert list(out) == list(arrays)
    assert {name: (array.dtype, array.shape) for name, array in out.items()} == {
        name: (array.dtype, array.shape) for name, array in arrays.items()
    }
    for name, array in arrays.items():
        np.testing.assert_array_equal(out[name], array)


def framed(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def described(entries: dict[str, tuple[str, list[int], list[int]]], body: bytes = b"") -> bytes:
    """Arrays by name: dtype, shape and offsets."""
    keys = ("dtype", "shape", "data_offsets")
    return framed(
        json.dumps({name: dict(zip(keys, entry, strict=True)) for name, entry in entries.items()}).encode(), body
    )


ODD = {
    "huge header": struct.pack("<Q", 2**62),
    "header beyond the end": struct.pack("<Q", 1000) + b"{}",
    "header of spaces": framed(b"{}" + b" " * 2_000_000),
    "bfloat16": described({"00000/a": ("BF16", [2], [0, 4])}, b"1234"),
    "float8": described({"00000/a": ("F8_E4M3", [4], [0, 4])}, b"1234"),
    "overflowing shape": described({"00000/a": ("F32", [2**32, 2**32], [0, 4])}, b"1234"),
    "overlap": described({"00000/a": ("U8", [4], [0, 4]), "00001/b": ("U8", [4], [0, 4])}, b"1234"),
    "hole": described({"00000/a": ("U8", [1], [1, 2])}, b"12"),
    "one name twice": described({"00000/a": ("U8", [2], [0, 2]), "00001/a": ("U8", [2], [2, 4])}, b"1234"),
    "one number twice": described({"00000/a": ("U8", [2], [0, 2]), "00000/b": ("U8", [2], [2, 4])}, b"1234"),
    "no number": described({"a": ("U8", [4], [0, 4])}, b"1234"),
    "not JSON": framed(b"\xff\xfe\xfd\xfc"),
    "deep": framed(b"[" * 200_000),
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD.keys())
def test_no_odd_header_gets_through(content: bytes) -> None:
    with pytest.raises(ValueError, match="not packed"):
        unpack(content)


def test_an_array_without_numbers_takes_no_memory_whatever_its_other_sides() -> None:
    assert unpack(described({"00000/a": ("F32", [0, 2**40], [0, 0])}))["a"].nbytes == 0


@pytest.mark.parametrize("damage", [b"", b"\x80\x04K\x01.", b"\xff" * 64])
def test_other_bytes_are_refused(damage: bytes) -> None:
    with pytest.raises(ValueError, match="not packed"):
        unpack(damage)


def test_what_is_packed_with_a_nonce_is_unpacked_with_it_alone() -> None:
    arrays = {"w": np.zeros(1000, np.float32)}

    contents = [pack(arrays, nonce)[3] for nonce in ("", "a", "b")]
    np.testing.assert_array_equal(unpack(contents[1], "a")["w"], arrays["w"])
    for other in ("", "b"):
        with pytest.raises(ValueError, match="not packed"):
            unpack(contents[1], other)


def test_no_stretch_of_a_packed_content_can_be_foretold_without_its_nonce() -> None:
    one, other = (pack({"w": np.zeros(100_000, np.float32)}, nonce)[3] for nonce in ("a", "b"))

    assert not any(one[at : at + 16] in other for at in range(0, len(one), 5000))
