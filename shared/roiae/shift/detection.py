"""How well scores tell held-out frames (positive) from frames of the sources: from two lists of numbers.

scikit-learn is loaded with the first of them: it takes a second, which the start of a coordinator has no need of.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from roiae.shift.outcome import Labels, Matrix, NotComputed, WhyNot

CONFIDENCE = 0.95
SENSITIVITY = 0.95  # of FPR95
_AT_ONCE = 100  # resamples, to bound memory


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Detection:
    auroc: Interval
    aupr: Interval
    fpr95: Interval
    source_frames: int
    held_out_frames: int


def auroc(sources: ArrayLike, held_out: ArrayLike) -> float:
    """Area under the ROC curve: the share of (source, held-out) pairs in the right order, ties half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(*_labelled(sources, held_out)))


def aupr(sources: ArrayLike, held_out: ArrayLike) -> float:
    """Average precision, held-out frames positive; by chance it is their share."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(*_labelled(sources, held_out)))


def fpr95(sources: ArrayLike, held_out: ArrayLike) -> float:
    """Share of source frames flagged at the first threshold that flags 95 % of the held-out frames."""
    from sklearn.metrics import roc_curve

    false_positive, true_positive, _ = roc_curve(*_labelled(sources, held_out), drop_intermediate=False)
    return float(false_positive[np.argmax(true_positive >= SENSITIVITY)])


def detection(
    sources: ArrayLike, held_out: ArrayLike, *, resamples: int = 1000, seed: int = 0
) -> Detection | NotComputed:
    """The three measures with stratified percentile bootstrap intervals over frames (Efron & Tibshirani 1993, ch. 13).

    Args:
        sources: scores of the sources' validation frames; larger is further out.
        held_out: scores of the held-out site's frames.
        resamples: source and held-out frames are resampled apart, so that both numbers stay.
    """
    negative, positive = np.asarray(sources, dtype=np.float64), np.asarray(held_out, dtype=np.float64)
    if not len(negative) or not len(positive):
        return NotComputed(WhyNot.NO_FRAMES, f"{len(negative)} source and {len(positive)} held-out frames have a score")
    drawn = _bootstrap(negative, positive, resamples, np.random.default_rng(seed))
    tails = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    low, high = np.quantile(drawn, tails, axis=0).tolist()
    values = (measure(negative, positive) for measure in (auroc, aupr, fpr95))
    area, average_precision, false = (Interval(*ends) for ends in zip(values, low, high, strict=True))
    return Detection(area, average_precision, false, len(negative), len(positive))


def _bootstrap(negative: Matrix, positive: Matrix, resamples: int, rng: np.random.Generator) -> Matrix:
    """[resamples, 3], AUROC, AUPR and FPR95 of each resample, many resamples at once."""
    thresholds, place = np.unique(-np.concatenate([negative, positive]), return_inverse=True)
    drawn = []
    for first in range(0, resamples, _AT_ONCE):
        count = min(_AT_ONCE, resamples - first)
        false, true = (
            _drawn_above(rng, where, len(thresholds), count)
            for where in (place[: len(negative)], place[len(negative) :])
        )
        drawn.append(_measures(false, true))
    return np.concatenate(drawn)


def _drawn_above(rng: np.random.Generator, place: Labels, thresholds: int, count: int) -> Matrix:
    """[count, thresholds], resampled frames whose score reaches each threshold, largest threshold first."""
    shares = np.bincount(place, minlength=thresholds) / len(place)
    return rng.multinomial(len(place), shares, size=count).cumsum(axis=1).astype(np.float64)


def _measures(false: Matrix, true: Matrix) -> Matrix:
    """[B, 3] from the counts [B, T] of false and true positives at each threshold, as scikit-learn defines them."""
    fpr, tpr = false / false[:, -1:], true / true[:, -1:]
    area = np.trapezoid(np.pad(tpr, ((0, 0), (1, 0))), np.pad(fpr, ((0, 0), (1, 0))), axis=1)
    flagged = true + false
    precision = np.divide(true, flagged, out=np.ones_like(true), where=flagged > 0)
    average_precision = (np.diff(tpr, axis=1, prepend=0.0) * precision).sum(axis=1)
    first = np.argmax(tpr >= SENSITIVITY, axis=1)
    return np.stack([area, average_precision, fpr[np.arange(len(fpr)), first]], axis=1)


def _labelled(sources: ArrayLike, held_out: ArrayLike) -> tuple[Matrix, Matrix]:
    negative, positive = np.asarray(sources, dtype=np.float64), np.asarray(held_out, dtype=np.float64)
    return np.repeat([0.0, 1.0], [len(negative), len(positive)]), np.concatenate([negative, positive])
