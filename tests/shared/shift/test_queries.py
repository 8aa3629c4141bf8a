"""A site's desk, asked by a coordinator who is not honest."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.conftest import MODEL

from roiae.config import PrivacyConfig, Role
from roiae.contract import Arrays, ProbeTask, Reply, Request, ScoreTask, ShiftTask, StatisticsTask
from roiae.data.site_data import FrameSet, SiteData
from roiae.errors import Reason, RefusalError
from roiae.shift.checks import LEAST_SCORED_FRAMES, LEAST_SUBJECTS
from roiae.shift.knn import DEFAULT_K, Prototypes, pooled_prototypes
from roiae.shift.latents import encoder_arrays
from roiae.shift.mahalanobis import LatentSums, SourceGaussians, pooled_sums, source_gaussians
from roiae.shift.probe import ProbeSums, Standard
from roiae.shift.wire import from_arrays, to_arrays
from roiae.site import Site

COMMON: dict[str, Any] = {"model": MODEL, "batch_size": 16, "threads": 1, "arms": ("phase1",)}
SOURCES = ("alpha", "beta")


@pytest.fixture
def sites(make_site: Callable[..., Site]) -> dict[str, Site]:
    made = [make_site("alpha", 52, 20), make_site("beta", 60, 24), make_site("held", 11, 10, Role.HELD_OUT)]
    return {site.name: site for site in made}


@pytest.fixture
def ask(initial: Arrays) -> Callable[..., Reply]:
    """Asks a site about the untrained encoder: (site, task, what comes with it)."""

    def ask(site: Site, task: ShiftTask, besides: Arrays | None = None) -> Reply:
        arrays = encoder_arrays(initial) | (besides or {})
        return site.answer(Request(task, {f"phase1/{name}": array for name, array in arrays.items()}))

    return ask


def refused(question: Callable[[], object]) -> Reason:
    with pytest.raises(RefusalError) as refusal:
        question()
    return refusal.value.reason


def models(sites: dict[str, Site], ask: Callable[..., Reply]) -> tuple[SourceGaussians, Prototypes, Standard]:
    """What an honest coordinator makes of the statistics."""
    replies = {name: ask(sites[name], StatisticsTask(**COMMON)).arrays for name in SOURCES}
    sums = {name: from_arrays(LatentSums, "phase1/sums", arrays) for name, arrays in replies.items()}
    gaussians = source_gaussians(sums)
    pooled = pooled_prototypes({n: from_arrays(Prototypes, "phase1/prototypes", a) for n, a in replies.items()}, 20)
    assert isinstance(gaussians, SourceGaussians)
    assert isinstance(pooled, Prototypes)
    return gaussians, pooled, Standard.of(pooled_sums(sums))


def scoring(gaussians: SourceGaussians, pooled: Prototypes) -> Arrays:
    return to_arrays("gaussians", gaussians, without=("sources",)) | to_arrays("prototypes", pooled)


SCORE = ScoreTask(**COMMON, sources=SOURCES, probe_sources=(), k=20)


def step(standard: Standard, scale: float, fits: int = 1) -> tuple[ProbeTask, Arrays]:
    weights = np.full((fits, 1, MODEL.latent_dim + 1), scale)
    task = ProbeTask(**COMMON, sources=SOURCES, folds={"phase1": (-1,) * fits})
    return task, to_arrays("standard", standard) | {"probe.weights": weights}


def test_the_configured_defaults_are_those_that_were_reasoned_about() -> None:
    assert PrivacyConfig() == PrivacyConfig(min_subjects=LEAST_SUBJECTS, min_scored_frames=LEAST_SCORED_FRAMES)
    assert DEFAULT_K == 20


def test_scores_leave_sorted_and_rounded_and_name_no_frame(sites: dict[str, Site], ask: Callable[..., Reply]) -> None:
    gaussians, pooled, _ = models(sites, ask)

    reply = ask(sites["held"], SCORE, scoring(gaussians, pooled))

    assert set(reply.arrays) == {"phase1/scores.mahalanobis", "phase1/scores.knn"}
    for scores in reply.arrays.values():
        assert scores.shape == (21,)
        assert (np.diff(scores) >= 0).all()
        assert all(float(f"{score:.3g}") == pytest.approx(score, rel=1e-12) for score in scores)


def test_a_chosen_precision_is_refused_and_counts_as_the_checkpoints_one_scoring(
    sites: dict[str, Site], ask: Callable[..., Reply]
) -> None:
    """A second question of any kind would tell more: a refusal is an answer too."""
    gaussians, pooled, _ = models(sites, ask)
    axis = np.eye(MODEL.latent_dim)[0]
    chosen = replace(gaussians, precision=np.outer(axis, axis) + 1e-4 * np.eye(MODEL.latent_dim))

    for site in ("alpha", "held"):
        assert refused(partial(ask, sites[site], SCORE, scoring(chosen, pooled))) is Reason.BAD_REQUEST
        assert refused(partial(ask, sites[site], SCORE, scoring(gaussians, pooled))) is Reason.ALREADY_ANSWERED


def test_a_mean_that_is_not_the_sites_own_is_refused(sites: dict[str, Site], ask: Callable[..., Reply]) -> None:
    gaussians, pooled, _ = models(sites, ask)
    moved = replace(gaussians, means=gaussians.means + 0.01)

    assert refused(lambda: ask(sites["alpha"], SCORE, scoring(moved, pooled))) is Reason.BAD_REQUEST


def test_a_step_answers_sums_and_extreme_weights_are_refused(sites: dict[str, Site], ask: Callable[..., Reply]) -> None:
    _, _, standard = models(sites, ask)

    sums = from_arrays(ProbeSums, "phase1/probe", ask(sites["alpha"], *step(standard, 0.0)).arrays)

    assert sums.gradient.shape == (1, 1, MODEL.latent_dim + 1)
    assert sums.loss[0] == pytest.approx(52 * np.log(2))
    assert refused(lambda: ask(sites["alpha"], *step(standard, 1e3))) is Reason.BAD_REQUEST
    assert refused(lambda: ask(sites["alpha"], *step(standard, np.nan))) is Reason.BAD_REQUEST
    narrow = Standard(standard.mean, standard.std / 1e4)
    assert refused(lambda: ask(sites["alpha"], *step(narrow, 0.0))) is Reason.BAD_REQUEST


def test_a_step_before_the_statistics_is_refused(sites: dict[str, Site], ask: Callable[..., Reply]) -> None:
    dim = MODEL.latent_dim

    assert refused(lambda: ask(sites["alpha"], *step(Standard(np.zeros(dim), np.ones(dim)), 0.0))) is Reason.BAD_REQUEST


def test_statistics_that_differ_by_one_subject_are_refused(
    sites: dict[str, Site], ask: Callable[..., Reply], frame_set: Callable[[int, int], FrameSet]
) -> None:
    """The difference of Σz would be that subject's latent."""
    site = sites["beta"]
    ask(site, StatisticsTask(**COMMON))
    fewer = SiteData(site.data.train[1:], site.data.validation, (), fingerprint="one fewer")

    assert refused(lambda: ask(replace(site, data=fewer), StatisticsTask(**COMMON))) is Reason.ALREADY_ANSWERED
    others = SiteData(frame_set(60, 999), site.data.validation, (), fingerprint="others")
    assert ask(replace(site, data=others), StatisticsTask(**COMMON)).metrics == {"num-examples": 60.0}


def test_the_same_question_gets_the_same_answer_also_from_another_process(
    sites: dict[str, Site], ask: Callable[..., Reply]
) -> None:
    first = ask(sites["alpha"], StatisticsTask(**COMMON)).arrays
    again = ask(replace(sites["alpha"]), StatisticsTask(**COMMON)).arrays

    assert {name: array.tobytes() for name, array in first.items()} == {n: a.tobytes() for n, a in again.items()}


def test_too_few_subjects_or_frames_are_refused_by_name(sites: dict[str, Site], ask: Callable[..., Reply]) -> None:
    gaussians, pooled, _ = models(sites, ask)
    small = replace(sites["alpha"], privacy=PrivacyConfig(min_subjects=53))
    few = replace(sites["held"], privacy=PrivacyConfig(min_scored_frames=22))

    assert refused(lambda: ask(small, StatisticsTask(**COMMON))) is Reason.FEW_SUBJECTS
    assert refused(lambda: ask(few, SCORE, scoring(gaussians, pooled))) is Reason.NO_FRAMES


def test_arrays_that_are_not_the_contracts_are_refused(
    sites: dict[str, Site], ask: Callable[..., Reply], initial: Arrays
) -> None:
    gaussians, pooled, _ = models(sites, ask)
    half = {name: array for name, array in scoring(gaussians, pooled).items() if name != "gaussians.precision"}
    whole_model = Request(StatisticsTask(**COMMON), initial)

    assert refused(lambda: ask(sites["beta"], SCORE, half)) is Reason.ARRAYS_MISMATCH
    assert refused(lambda: sites["alpha"].answer(whole_model)) is Reason.ARRAYS_MISMATCH
