"""The site's checks, tried by a coordinator who wants a latent."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from roiae.errors import Reason, RefusalError
from roiae.shift.checks import (
    MAX_FITS,
    MIN_SCORED_FRAMES,
    check_frames,
    check_gaussians,
    check_prototypes,
    check_question,
    check_standard,
    check_subjects,
    outgoing_scores,
)
from roiae.shift.knn import prototypes
from roiae.shift.mahalanobis import SourceGaussians, SourceMoments, latent_sums, mahalanobis_scores, source_gaussians
from roiae.shift.newton import start_probe
from roiae.shift.outcome import Matrix
from roiae.shift.probe import ProbeQuestion, Standard, effective_subjects, probe_sums

Latents = dict[str, NDArray[np.float32]]
SITE = "site0"


@pytest.fixture
def honest(latents: Latents) -> SourceGaussians:
    gaussians = source_gaussians(moments_of(latents))
    assert isinstance(gaussians, SourceGaussians)
    return gaussians


@pytest.fixture
def question(latents: Latents) -> ProbeQuestion:
    """The second question of an honest fit."""
    fit = start_probe(moments_of(latents), (1e-2, 1.0))
    asked = fit.question()
    assert asked is not None
    first, *others = (probe_sums(z, names(z), s, asked) for s, z in latents.items())
    asked = fit.advance(sum(others, first)).question()
    assert asked is not None
    return asked


def moments_of(latents: Latents) -> SourceMoments:
    return SourceMoments.of({site: latent_sums(z) for site, z in latents.items()})


def refused(check: Callable[[], object]) -> None:
    with pytest.raises(RefusalError) as refusal:
        check()
    assert refusal.value.reason is Reason.BAD_REQUEST


def names(z: NDArray[np.floating]) -> list[str]:
    """One subject a frame."""
    return [f"S{index}" for index in range(len(z))]


def orthogonal(dim: int) -> Matrix:
    basis: Matrix = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, dim)))[0]
    return basis


def test_what_an_honest_coordinator_sends_is_answered(
    latents: Latents, honest: SourceGaussians, question: ProbeQuestion
) -> None:
    own = latent_sums(latents[SITE])
    parts = {site: prototypes(z, names(z)) for site, z in latents.items()}
    pooled = sum(list(parts.values())[1:], parts[SITE])

    check_gaussians(honest, own, SITE)
    check_prototypes(pooled, 24, 20)
    check_question(question, latents[SITE], names(latents[SITE]), SITE)
    check_standard(question.standard, own)
    check_standard(Standard.of(moments_of(latents).pooled), own)


def test_scores_under_chosen_precisions_would_give_a_latent_away_and_are_refused(
    latents: Latents, honest: SourceGaussians
) -> None:
    """Distances to one mean along D directions are D squared coordinates: with one frame, the latent."""
    z, own = latents[SITE][:1], latent_sums(latents[SITE])
    mean, basis = honest.means[0] - 40.0, orthogonal(24)
    chosen = [replace(honest, means=mean[None], precision=np.outer(axis, axis)) for axis in basis.T]

    coordinates = [np.sqrt(mahalanobis_scores(z, gaussians)[0]) for gaussians in chosen]

    stolen = {abs((z[0] - mean) @ axis) for axis in basis.T}
    np.testing.assert_allclose(sorted(coordinates), sorted(stolen), rtol=1e-6)
    for gaussians in chosen:
        refused(partial(check_gaussians, gaussians, own))


@pytest.mark.parametrize("weight", [1e3, 1e5, 1e12])
def test_a_precision_that_looks_along_one_direction_is_refused(
    latents: Latents, honest: SourceGaussians, weight: float
) -> None:
    axis = orthogonal(24)[:, 0]
    sharp = honest.precision + weight * np.trace(honest.precision) * np.outer(axis, axis)

    refused(lambda: check_gaussians(replace(honest, precision=sharp), latent_sums(latents[SITE]), SITE))


@pytest.mark.parametrize("change", ["asymmetric", "negative", "nan", "shape"])
def test_a_precision_that_is_none_is_refused(latents: Latents, honest: SourceGaussians, change: str) -> None:
    precision = honest.precision.copy()
    if change == "asymmetric":
        precision[0, 1] += 1.0
    elif change == "negative":
        precision -= 2 * np.eye(24) * np.linalg.eigvalsh(precision)[-1]
    elif change == "nan":
        precision[2, 2] = np.nan
    else:
        precision = precision[:-1, :-1]

    refused(lambda: check_gaussians(replace(honest, precision=precision), latent_sums(latents[SITE]), SITE))


def test_a_mean_far_away_and_a_foreign_mean_in_our_name_are_refused(latents: Latents, honest: SourceGaussians) -> None:
    own = latent_sums(latents[SITE])

    refused(lambda: check_gaussians(replace(honest, means=honest.means + 1e4), own))
    refused(lambda: check_gaussians(replace(honest, means=honest.means + 0.01), own, SITE))
    refused(lambda: check_gaussians(replace(honest, sources=("x",) * len(honest.sources)), own, SITE))


def test_prototypes_that_are_points_of_interest_are_refused(latents: Latents) -> None:
    own = prototypes(latents[SITE], names(latents[SITE]))

    refused(lambda: check_prototypes(replace(own, frames=np.ones(len(own.means))), 24, 20))
    refused(lambda: check_prototypes(replace(own, means=3 * own.means + 1), 24, 20))
    refused(lambda: check_prototypes(replace(own, means=own.means * np.nan), 24, 20))
    refused(lambda: check_prototypes(own, 25, 20))
    refused(lambda: check_prototypes(own, 24, 0))


def test_a_scatter_that_the_prototypes_cannot_have_is_refused(latents: Latents) -> None:
    own = prototypes(latents[SITE], names(latents[SITE]))
    along = np.outer(orthogonal(24)[0], orthogonal(24)[0])

    for within in (
        own.within * 1.01,
        own.within - own.within.trace() * (along - np.eye(24) / 24),  # of the right size, and negative along one
        own.within * np.nan,
        own.within[:5, :5],
    ):
        refused(partial(check_prototypes, replace(own, within=within), 24, 20))


@pytest.mark.parametrize("length", [0.8, 1e4])
def test_weights_that_single_a_subject_out_would_give_it_away_and_are_refused(
    make_latents: Callable[..., Latents], length: float
) -> None:
    """With all other frames certain of their own source, the gradient is that frame's latent."""
    z = make_latents(2)[SITE].astype(np.float64)
    z -= z.mean(axis=0)
    z[7] *= 12 / np.linalg.norm(z[7]) * np.sqrt(np.trace(np.cov(z.T)))
    standard = Standard(np.zeros(24), np.full(24, z.std()))
    towards = z[7] / np.linalg.norm(z[7])
    others = np.delete(z, 7, axis=0) @ towards / z.std()
    boundary = (others.max() + z[7] @ towards / z.std()) / 2
    weights = length * np.append(towards, -boundary)
    chosen = ProbeQuestion((SITE, "site1"), standard, weights[None, None], np.array([-1], dtype=np.int64))
    subjects = names(z)

    gradient = probe_sums(z, subjects, SITE, chosen).gradient[0, 0, :-1]

    np.testing.assert_allclose(gradient * z.std(), z[7], rtol=1e-3)
    refused(lambda: check_question(chosen, z, subjects, SITE))
    assert effective_subjects(z, subjects, SITE, chosen)[0] == pytest.approx(1, rel=1e-3)


def test_the_bound_on_weights_is_not_undone_by_a_tiny_deviation(latents: Latents, question: ProbeQuestion) -> None:
    own = latent_sums(latents[SITE])

    refused(lambda: check_standard(Standard(own.mean, own.std / 100), own))
    refused(lambda: check_standard(Standard(own.mean + 100 * own.std, own.std), own))


def test_a_bounded_number_of_fits_is_answered_at_once(latents: Latents, question: ProbeQuestion) -> None:
    many = np.repeat(question.weights[:1], MAX_FITS + 1, axis=0)
    asked = replace(question, weights=many, folds=np.full(MAX_FITS + 1, -1))

    refused(lambda: check_question(asked, latents[SITE], names(latents[SITE]), SITE))


@pytest.mark.parametrize("change", ["folds", "sources", "stranger", "shape", "nan", "norm", "fewer"])
def test_a_question_that_does_not_fit_is_refused(latents: Latents, question: ProbeQuestion, change: str) -> None:
    changed = {
        "folds": replace(question, folds=question.folds + 5),
        "sources": replace(question, sources=question.sources[::-1]),
        "stranger": replace(question, sources=tuple(f"x{s}" for s in question.sources)),
        "shape": replace(question, weights=question.weights[..., :-1]),
        "nan": replace(question, weights=question.weights * np.nan),
        "norm": replace(question, weights=question.weights * 1e6),
        "fewer": replace(question, weights=question.weights[:-1]),
    }[change]

    refused(lambda: check_question(changed, latents[SITE], names(latents[SITE]), SITE))


@pytest.mark.parametrize("frames", [50, 100, 120])
def test_two_hessians_would_give_every_latent_away(make_latents: Callable[..., Latents], frames: int) -> None:
    """Why the probe asks for no Hessian, not even pooled over two hospitals of sixty: Jennrich's algorithm on
    Σ p(1 − p)·xxᵀ at two steps, float32."""
    x = make_latents(2, dim=128)[SITE][:frames].astype(np.float64)
    x -= x.mean(axis=0) - 0.5
    p = 1 / (1 + np.exp(-x @ np.random.default_rng(0).normal(size=128) / 20))
    first, second = (((x * w[:, None]).T @ x).astype(np.float32) for w in (np.full(frames, 0.25), p * (1 - p)))

    basis = np.linalg.svd(first)[0][:, :frames].astype(np.float64)
    pencil = (basis.T @ second @ basis) @ np.linalg.inv(basis.T @ first @ basis)
    found = np.real(basis @ np.linalg.eig(pencil)[1])

    cosine = np.abs(x @ found) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(found, axis=0)
    assert np.median(cosine.max(axis=1)) > 0.99


def test_few_subjects_stand_behind_no_statistic() -> None:
    check_subjects([str(i) for i in range(50)])

    with pytest.raises(RefusalError) as refusal:
        check_subjects(["S1", "S2"] * 100)

    assert refusal.value.reason is Reason.FEW_SUBJECTS


def test_scores_leave_sorted_and_rounded() -> None:
    scores = np.array([3.14159, 0.0, 1234567.0, 0.000271828, -2.71828] * 4)

    leaving = outgoing_scores(scores)

    np.testing.assert_allclose(leaving[::4], [-2.72, 0, 0.000272, 3.14, 1230000.0], rtol=1e-12)
    assert np.all(np.diff(leaving) >= 0)


def test_few_scores_do_not_leave() -> None:
    with pytest.raises(RefusalError) as refusal:
        check_frames(MIN_SCORED_FRAMES - 1)

    assert refusal.value.reason is Reason.NO_FRAMES
