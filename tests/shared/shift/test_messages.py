"""What a hospital hears from the others, of whom one may send anything."""

import numpy as np
import pytest

from roiae.errors import Reason, RefusalError
from roiae.shift.knn import prototypes
from roiae.shift.messages import open_statistics, seal_statistics
from roiae.wire.contract import Arrays
from tests.shared.shift.conftest import SOURCES, groups

DIM, FRAMES = 6, 40
SUBJECTS = tuple(f"S{index}" for index in range(FRAMES))
GROUPS = groups()
LATENTS = dict(zip(SOURCES, np.random.default_rng(0).normal(size=(len(SOURCES), FRAMES, DIM)), strict=True))


def sealed(changed: Arrays | None = None) -> Arrays:
    """What the sources seal; the second of them with other arrays."""
    told = {s: seal_statistics(GROUPS[s], "phase1", LATENTS[s], SUBJECTS) for s in SOURCES}
    told["b"] |= changed or {}
    return {f"statistics/{s}": GROUPS[s].seal("statistics", told[s]) for s in SOURCES}


def test_what_is_heard_of_all_prototypes_is_the_sum_of_the_sources_own() -> None:
    first, *others = (prototypes(LATENTS[s], SUBJECTS) for s in SOURCES)
    pooled = sum(others, first)

    heard = open_statistics(GROUPS["held"], "phase1", sealed(), DIM).prototypes

    np.testing.assert_array_equal(heard.means, pooled.means)
    np.testing.assert_array_equal(heard.frames, pooled.frames)
    np.testing.assert_allclose(heard.within, pooled.within, rtol=1e-12, atol=1e-15)
    assert np.trace(heard.within) == pytest.approx(heard.frames @ heard.scatter)


@pytest.mark.parametrize(
    "part, value",
    [
        ("mean", np.zeros(DIM + 1)),
        ("mean", np.full(DIM, np.nan)),
        ("frames", np.array(0)),
        ("prototypes", np.zeros((4, DIM + 1))),
        ("prototypes", np.zeros(DIM)),
        ("prototypes", np.zeros((0, DIM))),
        ("prototype_frames", np.ones(3)),
        ("prototype_frames", np.full(4, np.inf)),
    ],
)
def test_statistics_that_are_none_are_refused(part: str, value: np.typing.NDArray[np.generic]) -> None:
    with pytest.raises(RefusalError) as refusal:
        open_statistics(GROUPS["held"], "phase1", sealed({f"phase1/told.{part}": value}), DIM)

    assert refusal.value.reason is Reason.BAD_REQUEST


@pytest.mark.parametrize("name", ["scatter", "within"])
def test_a_masked_part_of_another_shape_is_refused(name: str) -> None:
    part = GROUPS["b"].mask(f"phase1/{name}", np.zeros((DIM, DIM + 1)))

    with pytest.raises(RefusalError) as refusal:
        open_statistics(GROUPS["held"], "phase1", sealed({f"phase1/{name}": part}), DIM)

    assert refusal.value.reason is Reason.BAD_REQUEST
