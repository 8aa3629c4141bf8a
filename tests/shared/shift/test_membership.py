"""The attack of docs/SHIFT.md on a few phantoms: it tells members by what would be sent bare, and not by what is."""

import numpy as np
import pytest

from roiae.data.phantom import SCANNERS, draw_phantom
from roiae.shift.detection import auroc
from roiae.shift.outcome import Matrix
from tests.shared.shift.membership import Population, Quantity, View, as_sent, attack, leverage, nearness, traced

MEMBERS, OTHERS = 40, 100


def upper_products(latents: Matrix) -> Matrix:
    row, column = np.triu_indices(latents.shape[1])
    return latents[:, row] * latents[:, column]


QUANTITIES: dict[str, Quantity] = {"mean": lambda z: z, "scatter": upper_products}


@pytest.fixture(scope="module")
def phantoms() -> Population:
    """Phantoms of one scanner; their latents are a random projection, after a square root of the variances."""
    frames = np.stack([draw_phantom(SCANNERS[0], seed, side=64).frame.ravel() for seed in range(320)]).astype(float)
    rng = np.random.default_rng(0)
    frames = (frames - frames.mean(axis=0)) @ rng.normal(size=(64 * 64, 40))
    values, vectors = np.linalg.eigh(np.cov(frames.T))
    latents = frames @ vectors[:, -24:] / values[-24:] ** 0.25
    inside, outside, reference = np.split(latents, [MEMBERS, MEMBERS + OTHERS])
    return Population(inside, outside, reference)


def area(phantoms: Population, **views: View) -> float:
    found = attack(views, phantoms.reference, phantoms.inside, phantoms.outside)
    return auroc(*next(iter(found.values())))


@pytest.mark.parametrize("name", QUANTITIES)
def test_a_bare_sum_tells_members(phantoms: Population, name: str) -> None:
    assert area(phantoms, bare=traced(QUANTITIES[name])) > 0.7


def test_a_bare_scatter_tells_every_member(phantoms: Population) -> None:
    assert area(phantoms, scatter=leverage()) > 0.95


def test_prototypes_tell_members_to_the_other_hospitals(phantoms: Population) -> None:
    """Why they are sealed too."""
    assert area(phantoms, prototypes=nearness(10)) > 0.65


@pytest.mark.parametrize("name", QUANTITIES)
def test_what_a_site_sends_tells_no_member(phantoms: Population, name: str) -> None:
    """Masked as for the other sources, who know no more of it; to the coordinator it is sealed besides."""
    found = area(phantoms, sent=traced(QUANTITIES[name], received=as_sent()))

    assert 0.4 < found <= 0.6
