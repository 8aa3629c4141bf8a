import numpy as np
import pytest

from roiae.packing import pack, unpack


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
