import numpy as np
import pytest

from roiae.errors import Reason, RefusalError
from roiae.shift.mahalanobis import LatentSums
from roiae.shift.wire import from_arrays, has, to_arrays

SUMS = LatentSums(3, np.arange(2.0), np.eye(2))


def test_a_record_comes_back_as_it_was() -> None:
    arrays = to_arrays("phase1/sums", SUMS)

    back = from_arrays(LatentSums, "phase1/sums", arrays)

    assert set(arrays) == {"phase1/sums.frames", "phase1/sums.total", "phase1/sums.outer"}
    assert (back.frames, type(back.frames)) == (3, int)
    np.testing.assert_array_equal(back.outer, SUMS.outer)
    assert has("phase1/sums", arrays)
    assert not has("phase2/sums", arrays)


@pytest.mark.parametrize(
    "change",
    [{"s.total": np.zeros(2, np.float32)}, {"s.frames": np.array(3.0)}, {"s.frames": np.array([3])}, {"s.total": None}],
)
def test_a_field_that_is_missing_or_of_another_type_is_refused(change: dict[str, np.ndarray]) -> None:
    arrays = {name: array for name, array in {**to_arrays("s", SUMS), **change}.items() if array is not None}

    with pytest.raises(RefusalError) as refused:
        from_arrays(LatentSums, "s", arrays)

    assert refused.value.reason is Reason.ARRAYS_MISMATCH
