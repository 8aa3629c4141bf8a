import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from roiae.shift.detection import SENSITIVITY, Detection, _measures, aupr, auroc, detection, fpr95
from roiae.shift.outcome import NotComputed, WhyNot

RNG = np.random.default_rng(1)
SOURCES, HELD_OUT = RNG.normal(0, 1, 90).round(1), RNG.normal(1, 1, 60).round(1)  # rounded: with ties


def test_held_out_frames_are_the_positive_class() -> None:
    labels, scores = np.repeat([0, 1], [90, 60]), np.concatenate([SOURCES, HELD_OUT])

    assert auroc(SOURCES, HELD_OUT) == roc_auc_score(labels, scores)
    assert aupr(SOURCES, HELD_OUT) == average_precision_score(labels, scores)


def test_fpr95_is_the_least_share_of_source_frames_flagged_with_95_percent_of_the_others() -> None:
    shares = [
        np.mean(threshold <= SOURCES)
        for threshold in np.unique(HELD_OUT)
        if np.mean(threshold <= HELD_OUT) >= SENSITIVITY
    ]

    assert fpr95(SOURCES, HELD_OUT) == pytest.approx(min(shares))


def test_perfect_and_useless_scores() -> None:
    assert (auroc([0, 1], [2, 3]), aupr([0, 1], [2, 3]), fpr95([0, 1], [2, 3])) == (1, 1, 0)
    assert (auroc([1, 1], [1, 1]), aupr([1, 1], [1, 1]), fpr95([1, 1], [1, 1])) == (0.5, 0.5, 1)


def test_the_measures_of_a_resample_are_scikit_learns() -> None:
    thresholds = -np.unique(-np.concatenate([SOURCES, HELD_OUT]))
    above = [np.array([[np.sum(side >= t) for t in thresholds]], dtype=np.float64) for side in (SOURCES, HELD_OUT)]

    expected = [measure(SOURCES, HELD_OUT) for measure in (auroc, aupr, fpr95)]
    np.testing.assert_allclose(_measures(*above)[0], expected, rtol=1e-12)


def test_intervals_equal_a_plain_stratified_bootstrap() -> None:
    result = detection(SOURCES, HELD_OUT, resamples=2000, seed=3)

    assert isinstance(result, Detection)
    rng = np.random.default_rng(5)
    drawn = [auroc(rng.choice(SOURCES, 90), rng.choice(HELD_OUT, 60)) for _ in range(500)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (result.auroc.low, result.auroc.high) == pytest.approx((low, high), abs=0.015)
    for interval in (result.auroc, result.aupr, result.fpr95):
        assert interval.low <= interval.value <= interval.high


def test_intervals_are_the_seeds() -> None:
    assert detection(SOURCES, HELD_OUT, seed=3) == detection(SOURCES, HELD_OUT, seed=3)
    assert detection(SOURCES, HELD_OUT, seed=3) != detection(SOURCES, HELD_OUT, seed=4)


@pytest.mark.parametrize(("sources", "held_out"), [([], [1.0]), ([1.0], []), ([], [])])
def test_without_frames_there_is_a_reason_and_no_measure(sources: list[float], held_out: list[float]) -> None:
    outcome = detection(sources, held_out)

    assert isinstance(outcome, NotComputed)
    assert outcome.why is WhyNot.NO_FRAMES
