from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.covariance import OAS
from sklearn.preprocessing import StandardScaler

from roiae.errors import Reason, RefusalError
from roiae.shift.detection import auroc
from roiae.shift.mahalanobis import (
    SourceGaussians,
    SourceMoments,
    latent_sums,
    mahalanobis_scores,
    source_gaussians,
)
from roiae.shift.outcome import NotComputed, WhyNot

Latents = dict[str, NDArray[np.float32]]


def moments_of(latents: Latents) -> SourceMoments:
    return SourceMoments.of({site: latent_sums(z) for site, z in latents.items()})


def gaussians_of(latents: Latents) -> SourceGaussians:
    gaussians = source_gaussians(moments_of(latents))
    assert isinstance(gaussians, SourceGaussians)
    return gaussians


def pooled_reference(latents: Latents, probe: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = {site: z.astype(np.float64) for site, z in latents.items()}
    centred = np.concatenate([z - z.mean(axis=0) for z in wide.values()])
    precision = OAS(assume_centered=True).fit(centred).precision_
    offsets = [probe - z.mean(axis=0) for z in wide.values()]
    nearest: NDArray[np.float64] = np.min([np.sum(d @ precision * d, axis=1) for d in offsets], axis=0)
    return nearest


def test_scores_and_auroc_equal_scikit_learn_on_the_pooled_latents(latents: Latents) -> None:
    rng = np.random.default_rng(0)
    inside = np.concatenate(list(latents.values()))[::3]
    outside = inside + rng.normal(size=inside.shape).astype(np.float32) * 2
    gaussians = gaussians_of(latents)

    federated = [mahalanobis_scores(probe, gaussians) for probe in (inside, outside)]

    pooled = [pooled_reference(latents, probe) for probe in (inside, outside)]
    np.testing.assert_allclose(federated, pooled, rtol=1e-6)
    assert auroc(*federated) == pytest.approx(auroc(*pooled), rel=1e-6)


def test_fewer_frames_than_dimensions_equal_scikit_learn_too(make_latents: Callable[..., Latents]) -> None:
    latents = {site: z[:40] for site, z in make_latents(2, dim=128).items()}

    federated = mahalanobis_scores(latents["site0"], gaussians_of(latents))

    np.testing.assert_allclose(federated, pooled_reference(latents, latents["site0"]), rtol=1e-6)


def test_pooled_standardisation_equals_scikit_learn(latents: Latents) -> None:
    for z in latents.values():
        z[:, 3] = 7.25
    scaler = StandardScaler().fit(np.concatenate(list(latents.values())).astype(np.float64))

    pooled = moments_of(latents).pooled

    np.testing.assert_allclose(pooled.mean, scaler.mean_, rtol=1e-9)
    np.testing.assert_allclose(pooled.std, scaler.scale_, rtol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_latents_that_are_not_finite_are_refused(bad: float) -> None:
    z = np.ones((60, 4))
    z[7, 2] = bad

    with pytest.raises(RefusalError) as refusal:
        latent_sums(z)

    assert refusal.value.reason is Reason.NOT_FINITE


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_constant_latents_give_a_reason_and_no_score(value: float) -> None:
    outcome = source_gaussians(SourceMoments.of({site: latent_sums(np.full((80, 6), value)) for site in "ab"}))

    assert isinstance(outcome, NotComputed)
    assert outcome.why is WhyNot.CONSTANT


def test_a_dimension_that_never_changes_is_no_obstacle(latents: Latents) -> None:
    for z in latents.values():
        z[:, 0] = 0

    assert np.isfinite(mahalanobis_scores(latents["site0"], gaussians_of(latents))).all()


def test_no_frame_has_no_score(latents: Latents) -> None:
    assert mahalanobis_scores(np.empty((0, 24)), gaussians_of(latents)).shape == (0,)
