import numpy as np
import pytest

from roiae.wire.contract import Arrays
from roiae.wire.upload import packed, unpacked

rng = np.random.default_rng(0)
SENT: Arrays = {"w": rng.normal(size=1000).astype(np.float32)}
TRAINED: Arrays = {"w": (SENT["w"] + 1e-3 * rng.normal(size=1000)).astype(np.float32)}


def test_float32_travels_to_the_last_bit() -> None:
    travelled = unpacked(packed(TRAINED, SENT, "float32"), SENT, "float32")

    assert travelled["w"].tobytes() == TRAINED["w"].tobytes()


def test_float16_travels_in_half_the_bytes_and_keeps_eleven_bits_of_the_difference() -> None:
    wire = packed(TRAINED, SENT, "float16")

    assert wire["w"].nbytes == TRAINED["w"].nbytes / 2
    arrived = unpacked(wire, SENT, "float16")["w"]
    assert arrived.dtype == np.float32
    moved = TRAINED["w"].astype(np.float64) - SENT["w"]
    np.testing.assert_allclose(arrived.astype(np.float64) - SENT["w"], moved, rtol=2**-11, atol=2e-7)


@pytest.mark.parametrize("far", [1e5, -1e5, np.inf])
def test_a_difference_beyond_float16_is_infinite_and_so_refused(far: float) -> None:
    wire = packed({"w": np.full(3, far, dtype=np.float32)}, {"w": np.zeros(3, dtype=np.float32)}, "float16")

    assert np.isinf(wire["w"]).all()
