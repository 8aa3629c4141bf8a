"""What a hospital hears from the others, of whom one may send anything."""

from collections.abc import Mapping

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from roiae.contract import Arrays
from roiae.errors import Reason, RefusalError
from roiae.shift.group import Group
from roiae.shift.messages import hear_statistics, tell_statistics

DIM, FRAMES = 6, 40
SOURCES = ("a", "b")
SUBJECTS = tuple(f"S{index}" for index in range(FRAMES))


@pytest.fixture
def groups() -> dict[str, Group]:
    private = {name: X25519PrivateKey.generate() for name in (*SOURCES, "held")}
    keys = {name: key.public_key().public_bytes_raw() for name, key in private.items()}
    return {name: Group(name, key, SOURCES, keys, "e") for name, key in private.items()}


def sealed(groups: Mapping[str, Group], changed: Arrays | None = None) -> Arrays:
    """What the sources seal; the second of them with other arrays."""
    rng = np.random.default_rng(0)
    told = {s: tell_statistics(groups[s], "phase1", rng.normal(size=(FRAMES, DIM)), SUBJECTS) for s in SOURCES}
    told["b"] |= changed or {}
    return {f"statistics/{s}": groups[s].seal("statistics", told[s]) for s in SOURCES}


def test_the_scatter_within_prototypes_is_heard_as_the_sum_of_all_sources(groups: dict[str, Group]) -> None:
    """Its size is that of the prototypes' own scatters, and no source's part is heard."""
    known = hear_statistics(groups["held"], "phase1", sealed(groups), DIM)

    assert np.trace(known.prototypes.within) == pytest.approx(known.prototypes.frames @ known.prototypes.scatter)
    assert known.prototypes.means.shape == (2 * FRAMES // 10, DIM)


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
def test_statistics_that_are_none_are_refused(
    groups: dict[str, Group], part: str, value: np.typing.NDArray[np.generic]
) -> None:
    with pytest.raises(RefusalError) as refusal:
        hear_statistics(groups["held"], "phase1", sealed(groups, {f"phase1/told.{part}": value}), DIM)

    assert refusal.value.reason is Reason.BAD_REQUEST


@pytest.mark.parametrize("name", ["scatter", "within"])
def test_a_masked_part_of_another_shape_is_refused(groups: dict[str, Group], name: str) -> None:
    part = groups["b"].mask(f"phase1/{name}", np.zeros((DIM, DIM + 1)))

    with pytest.raises(RefusalError) as refusal:
        hear_statistics(groups["held"], "phase1", sealed(groups, {f"phase1/{name}": part}), DIM)

    assert refusal.value.reason is Reason.BAD_REQUEST
