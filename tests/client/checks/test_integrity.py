import numpy as np
import pytest
from numpy.typing import NDArray

from roiae.data.phantom import SCANNERS, draw_phantom
from roiae_client.checks.facts import Facts, measure
from roiae_client.checks.integrity import negatives


def facts(frames: NDArray[np.uint8]) -> Facts:
    return measure(frames, np.tile([40, 100, 180, 120], (len(frames), 1)))


@pytest.fixture(scope="module")
def phantoms() -> NDArray[np.uint8]:
    return np.stack([draw_phantom(SCANNERS[seed % 3], seed, side=192).frame for seed in range(24)])


def test_negatives_are_told_from_the_rest_of_the_site(phantoms: NDArray[np.uint8]) -> None:
    assert not negatives(facts(phantoms).levels).any()
    mixed = phantoms.copy()
    mixed[[2, 5, 11]] = 255 - mixed[[2, 5, 11]]
    assert np.flatnonzero(negatives(facts(mixed).levels)).tolist() == [2, 5, 11]


def test_few_frames_say_nothing_of_what_is_usual(phantoms: NDArray[np.uint8]) -> None:
    few = phantoms[:10].copy()
    few[0] = 255 - few[0]
    assert not negatives(facts(few).levels).any()
