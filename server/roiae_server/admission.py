"""What the coordinator checks of a reply before it counts: a bad one is refused by name and never aggregated.

Each check returns the reply's numbers as `rounds.jsonl` records them, and raises `RefusalError` with the reason.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from roiae.contract import NUM_EXAMPLES, VALIDATION, Arrays, Reply, ShiftArm, check_arrays
from roiae.errors import Reason, RefusalError
from roiae.metrics import Quality
from roiae.shift.checks import check_prototypes
from roiae.shift.knn import Prototypes
from roiae.shift.mahalanobis import LatentSums
from roiae.shift.probe import BINS, ProbeQuestion, ProbeReading, ProbeSums
from roiae.shift.wire import from_arrays, has, to_arrays

Metrics = dict[str, float]
Admit = Callable[[Reply], Metrics]

_ROUNDING = 1e-9  # of float64 sums over float32 latents


def admit_update(reply: Reply, terms: Collection[str], sent: Arrays, max_norm: float) -> Metrics:
    """An answer to `train`: the sent model's arrays, a loss a term, and the quality of what was received.

    Args:
        max_norm: L2, of the difference to what was sent, over all arrays together.
    """
    check_arrays(reply.arrays, sent)
    update = (reply.arrays[name].astype(np.float64) - array for name, array in sent.items())
    if (norm := math.sqrt(sum(float(np.square(difference).sum()) for difference in update))) > max_norm:
        raise RefusalError(Reason.TOO_LARGE, f"the update's norm {norm:.4g} is beyond {max_norm:g}")
    metrics, sums = dict(reply.metrics), {}
    for name in [name for name in metrics if name.startswith(VALIDATION)]:
        sums[name.removeprefix(VALIDATION)] = metrics.pop(name)
    _check_numbers(metrics, {NUM_EXAMPLES, "frames_a_second", "loss", *terms})
    return metrics | {f"{VALIDATION}{name}": mean for name, mean in _means(sums).items()}


def admit_magnitudes(reply: Reply, terms: Collection[str]) -> Metrics:
    """An answer to `calibrate`: a finite magnitude for each term, and no arrays."""
    _check_empty(reply.arrays)
    _check_numbers(reply.metrics, {NUM_EXAMPLES, *terms})
    return dict(reply.metrics)


def admit_evaluation(reply: Reply) -> Metrics:
    """An answer to `evaluate`: quality sums over at least one frame, and no arrays."""
    _check_empty(reply.arrays)
    return _means(reply.metrics)


def admit_statistics(reply: Reply, arms: Sequence[str], dim: int) -> Metrics:
    """An answer to `query.statistics`: for each arm the sums of latents of that dimension, and prototypes."""
    _check_numbers(reply.metrics, {NUM_EXAMPLES})
    known: Arrays = {}
    moments: list[LatentSums] = []
    for arm in arms:
        sums = from_arrays(LatentSums, f"{arm}/sums", reply.arrays)
        means = from_arrays(Prototypes, f"{arm}/prototypes", reply.arrays)
        if sums.total.shape != (dim,) or sums.outer.shape != (dim, dim):
            raise RefusalError(Reason.ARRAYS_MISMATCH, "sums are not those of latents of the model's dimension")
        check_prototypes(means, dim, 1)
        if sums.frames != reply.metrics[NUM_EXAMPLES] or means.frames.sum() != sums.frames:
            raise RefusalError(Reason.BAD_METRICS, "the reply, its sums and its prototypes count different frames")
        known |= to_arrays(f"{arm}/sums", sums) | to_arrays(f"{arm}/prototypes", means)
        moments.append(sums)
    check_arrays(reply.arrays, known)
    for sums in moments:
        values = np.linalg.eigvalsh(sums.scatter)
        if values[0] < -_ROUNDING * np.trace(sums.outer) or not np.allclose(sums.outer, sums.outer.T):
            raise RefusalError(Reason.BAD_METRICS, "a second moment is not one of any frames with that mean")
    return dict(reply.metrics)


def admit_probe(reply: Reply, questions: Mapping[ShiftArm, ProbeQuestion]) -> Metrics:
    """An answer to `query.probe`: finite sums for each fit that was asked about."""
    _check_numbers(reply.metrics, {NUM_EXAMPLES})
    expected: Arrays = {}
    for arm, question in questions.items():
        fits, sources = len(question.folds), len(question.sources)
        one = np.zeros(fits)
        spread = np.zeros((fits, sources * (sources - 1) // 2))
        expected |= to_arrays(f"{arm}/probe", ProbeSums(one, np.zeros_like(question.weights), spread, one, one))
    check_arrays(reply.arrays, expected)
    return dict(reply.metrics)


def admit_scores(reply: Reply, arms: Sequence[str], sent: Arrays) -> Metrics:
    """An answer to `query.scores`: a number a frame for each score whose model was sent, and the probe's reading."""
    scores = np.zeros(reply.arrays.get(f"{arms[0]}/scores.mahalanobis", np.empty(0)).size)
    if reply.metrics != {"frames": len(scores)} or not len(scores):
        raise RefusalError(Reason.BAD_METRICS, "expected the number of frames that were scored")
    expected: Arrays = {}
    for arm in arms:
        expected[f"{arm}/scores.mahalanobis"] = scores
        if has(f"{arm}/prototypes", sent):
            expected[f"{arm}/scores.knn"] = scores
        if has(f"{arm}/standard", sent):
            expected |= _admit_reading(arm, reply.arrays, len(scores))
    check_arrays(reply.arrays, expected)
    return dict(reply.metrics)


def _admit_reading(arm: str, arrays: Arrays, frames: int) -> Arrays:
    reading = from_arrays(ProbeReading, f"{arm}/reading", arrays)
    histograms = (reading.softmax_histogram, reading.entropy_histogram)
    if any(h.shape != (BINS,) or h.min() < 0 or h.sum() != frames for h in histograms) or reading.frames != frames:
        raise RefusalError(Reason.BAD_METRICS, "the probe's reading does not count the frames that were scored")
    return to_arrays(f"{arm}/reading", reading)


def _check_empty(arrays: Arrays) -> None:
    if arrays:
        raise RefusalError(Reason.ARRAYS_MISMATCH, "arrays came with an answer that has none")


def _check_numbers(metrics: Mapping[str, float], names: set[str]) -> None:
    if set(metrics) != names or not all(math.isfinite(value) for value in metrics.values()):
        raise RefusalError(Reason.BAD_METRICS, f"expected finite numbers {sorted(names)}")
    if metrics[NUM_EXAMPLES] < 1:
        raise RefusalError(Reason.NO_FRAMES, "the reply counts no training frames")


def _means(sums: Mapping[str, float]) -> Metrics:
    quality = Quality.from_sums(sums)
    if quality.frames < 1:
        raise RefusalError(Reason.NO_FRAMES, "the reply counts no evaluated frames")
    return quality.means()
