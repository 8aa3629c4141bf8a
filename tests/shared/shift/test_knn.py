from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from roiae.errors import Reason, RefusalError
from roiae.shift.detection import auroc
from roiae.shift.knn import Prototypes, exact_knn_scores, knn_scores, prototypes

Latents = dict[str, NDArray[np.float32]]


def subjects(frames: int) -> list[str]:
    return [f"S{index}" for index in range(frames)]


def pooled_of(latents: Latents) -> Prototypes:
    first, *others = (prototypes(z, subjects(len(z))) for z in latents.values())
    return sum(others, first)


def test_exact_scores_equal_scikit_learn(latents: Latents) -> None:
    training = np.concatenate(list(latents.values())).astype(np.float64)
    probe = training[::5] + 0.5

    reference = NearestNeighbors(n_neighbors=7).fit(normalize(training)).kneighbors(normalize(probe))[0][:, -1]
    np.testing.assert_allclose(exact_knn_scores(probe, training, 7), reference, rtol=1e-6)


def test_every_frame_counts_once_and_every_prototype_is_ten_subjects(latents: Latents) -> None:
    for z in latents.values():
        own = prototypes(z, subjects(len(z)))

        assert own.frames.sum() == len(z)
        assert own.frames.min() >= 10
        assert len(own.means) == len(z) // 10
        np.testing.assert_allclose(
            own.frames @ own.means / len(z), normalize(z.astype(np.float64)).mean(axis=0), rtol=1e-9
        )


def test_a_subject_with_many_frames_weighs_no_more_than_another() -> None:
    rng = np.random.default_rng(0)
    z = normalize(rng.normal(size=(10, 6)))
    repeated, names = np.concatenate([z, *[z[:1]] * 50]), [*subjects(10), *["S0"] * 50]

    own = prototypes(repeated, names)

    np.testing.assert_allclose(own.means[0], z.mean(axis=0), rtol=1e-9)
    assert own.frames.tolist() == [60]
    np.testing.assert_allclose(own.within, 60 * np.cov(z.T, bias=True), rtol=1e-9, atol=1e-12)


def test_the_mean_squared_distance_to_a_prototypes_frames_is_exact() -> None:
    rng = np.random.default_rng(0)
    z, probe = normalize(rng.normal(size=(15, 6))), normalize(rng.normal(size=(1, 6)))

    own = prototypes(z, subjects(15))

    expected = np.square(z - probe).sum(axis=1).mean()
    assert np.square(own.means[0] - probe).sum() + own.scatter[0] == pytest.approx(expected)


def test_the_scatter_within_prototypes_is_that_of_their_frames() -> None:
    """One prototype's is its frames' covariance, of which the variance of squared distances follows exactly."""
    rng = np.random.default_rng(0)
    z, probe = normalize(rng.normal(size=(15, 6))), normalize(rng.normal(size=(1, 6)))

    own = prototypes(z, subjects(15))

    np.testing.assert_allclose(own.within, 15 * np.cov(z.T, bias=True), rtol=1e-9, atol=1e-12)
    variance = np.square(z - probe).sum(axis=1).var()
    assert 4 * probe[0] @ own.within @ probe[0] / 15 == pytest.approx(variance)


def test_the_scatter_of_all_prototypes_has_the_size_of_their_own(latents: Latents) -> None:
    pooled = pooled_of(latents)

    assert np.trace(pooled.within) == pytest.approx(pooled.frames @ pooled.scatter)


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_the_approximation_stays_within_two_hundredths_of_the_exact_auroc(
    make_latents: Callable[..., Latents], spread: float
) -> None:
    hospitals = make_latents(5, dim=32, offset=spread)
    held_out = hospitals.pop("site2")
    training = {site: z[: len(z) * 4 // 5] for site, z in hospitals.items()}
    validation = np.concatenate([z[len(z) * 4 // 5 :] for z in hospitals.values()])
    pooled = pooled_of(training)

    approximate = [knn_scores(z, pooled) for z in (validation, held_out)]

    reference = np.concatenate(list(training.values()))
    exact = [exact_knn_scores(z, reference) for z in (validation, held_out)]
    assert auroc(*approximate) == pytest.approx(auroc(*exact), abs=0.02)
    np.testing.assert_allclose(np.concatenate(approximate), np.concatenate(exact), rtol=0.15)


def test_prototypes_are_the_same_whatever_the_order_of_frames(latents: Latents) -> None:
    z, names = latents["site0"], np.array(subjects(len(latents["site0"])))
    order = np.random.default_rng(0).permutation(len(z))

    one, other = prototypes(z, list(names)), prototypes(z[order], list(names[order]))

    np.testing.assert_allclose(one.means, other.means, rtol=1e-9)
    np.testing.assert_allclose(one.within, other.within, rtol=1e-9, atol=1e-12)


def test_equal_latents_give_finite_scores() -> None:
    one = prototypes(np.ones((30, 4)), subjects(30))

    scores = knn_scores(np.ones((3, 4)), one + one)

    assert np.isfinite(scores).all()
    assert scores.max() < 1e-5


def test_fewer_subjects_than_a_prototype_needs_are_refused() -> None:
    with pytest.raises(RefusalError) as refusal:
        prototypes(np.ones((40, 4)), ["S1", "S2"] * 20)

    assert refusal.value.reason is Reason.NO_FRAMES


def test_latents_that_are_not_finite_are_refused(latents: Latents) -> None:
    latents["site0"][3, 3] = np.nan

    with pytest.raises(RefusalError):
        prototypes(latents["site0"], subjects(len(latents["site0"])))
