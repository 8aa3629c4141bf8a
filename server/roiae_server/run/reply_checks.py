"""What the coordinator checks of a reply before it counts: a bad one is refused by name and never aggregated.

Each check returns the reply's numbers as `rounds.jsonl` records them, and raises `RefusalError` with the reason.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from roiae.errors import Reason, RefusalError
from roiae.method.metrics import Evaluation, Quality
from roiae.shift.group import KEY_BYTES
from roiae.shift.messages import Choice
from roiae.shift.newton import STRENGTHS
from roiae.shift.probe import BINS, ProbeReading
from roiae.shift.wire import from_arrays, has, to_arrays
from roiae.site.bounds import MAX_SCORED
from roiae.wire.border import peers_fault
from roiae.wire.contract import GRADIENT, NUM_EXAMPLES, SHIFT_ARMS, VALIDATION, Arrays, Reply, TrainTask, check_arrays

Metrics = dict[str, float]
Admit = Callable[[Reply], Metrics]

MAX_NUMBER = 1e15  # of a metric: sums over a million frames are far below
MAX_SCORE = 1e30  # of an array's numbers: their squares add up to a finite number
MAX_SECONDS = 1e7  # of one site's work on one request
MAGNITUDES = (1e-9, 1e9)  # of a term's gradient


def admitted(reply: Reply, admit: Admit) -> Metrics:
    """What `admit` makes of a signed reply, whose numbers are such as can be added, written and drawn.

    Raises:
        RefusalError: `bad-metrics` for a number beyond all that is measured; `bad-request` where `admit` cannot read
            the reply, whatever it raises; as `admit`.
    """
    with peers_fault("a reply's numbers"):
        if not 0 <= reply.seconds <= MAX_SECONDS:
            raise RefusalError(Reason.BAD_METRICS, f"a reply took {reply.seconds:g} seconds")
        if any(MAX_NUMBER < abs(number) < math.inf for number in reply.metrics.values()):
            raise RefusalError(Reason.BAD_METRICS, f"a number is beyond {MAX_NUMBER:g}")
        metrics = admit(reply)
        if any(float(np.abs(array).max(initial=0)) > MAX_SCORE for array in reply.arrays.values()):
            raise RefusalError(Reason.BAD_METRICS, f"an array has a number beyond {MAX_SCORE:g}")
        return metrics


def admit_update(reply: Reply, task: TrainTask, expected: Arrays, max_frames: int) -> Metrics:
    """An answer to `train`: arrays of the expected layout, what was asked of each term, the quality of the received.

    A site with too few validation frames tells nothing of that quality.

    Args:
        max_frames: training frames that the update may be weighed with.
    """
    check_arrays(reply.arrays, expected)
    metrics, sums = dict(reply.metrics), {}
    for name in [name for name in metrics if name.startswith(VALIDATION)]:
        sums[name.removeprefix(VALIDATION)] = metrics.pop(name)
    measured = {f"{GRADIENT}{term}" for term in task.weights} if task.measure else set()
    _check_numbers(metrics, {NUM_EXAMPLES, "frames_a_second", "loss", *task.weights, *measured})
    if not all(MAGNITUDES[0] <= metrics[name] <= MAGNITUDES[1] for name in measured):
        raise RefusalError(Reason.BAD_METRICS, "a gradient magnitude is zero, negative or beyond all that is measured")
    if metrics["frames_a_second"] < 0:
        raise RefusalError(Reason.BAD_METRICS, "a negative number of frames a second")
    if metrics[NUM_EXAMPLES] > max_frames:
        message = f"the reply counts {metrics[NUM_EXAMPLES]:g} training frames, more than {max_frames}"
        raise RefusalError(Reason.MANY_FRAMES, message)
    means = _means(Quality.from_sums(sums)) if sums else {}
    return metrics | {f"{VALIDATION}{name}": mean for name, mean in means.items()}


def admit_norm(trained: Arrays, sent: Arrays, max_norm: float) -> None:
    """Refuse an update whose L2 norm, over all arrays together, is beyond a bound."""
    with np.errstate(over="ignore"):  # infinite, and so beyond
        norm = math.hypot(*(float(np.linalg.norm(trained[name] - array)) for name, array in sent.items()))
    if norm > max_norm:
        raise RefusalError(Reason.TOO_LARGE, f"the update's norm {norm:.4g} is beyond {max_norm:g}")


def admit_evaluation(reply: Reply) -> Metrics:
    """An answer to `evaluate`: sums of quality and of the NT's readings over at least one frame, and no arrays."""
    if reply.arrays:
        raise RefusalError(Reason.ARRAYS_MISMATCH, "arrays came with an answer that has none")
    total = Evaluation.from_sums(reply.metrics)
    return _means(total.quality) | total.nt.means()


def admit_key(reply: Reply) -> Metrics:
    """An answer to `query.keys`: a public key and a number of frames."""
    _check_numbers(reply.metrics, {NUM_EXAMPLES})
    check_arrays(reply.arrays, {"key": np.zeros(KEY_BYTES, dtype=np.uint8)})
    return dict(reply.metrics)


def admit_statistics(reply: Reply) -> Metrics:
    """An answer to `query.statistics`: one sealed message."""
    _check_numbers(reply.metrics, {NUM_EXAMPLES})
    check_arrays(reply.arrays, _sealed("statistics", reply.arrays))
    return dict(reply.metrics)


def admit_probe(reply: Reply) -> Metrics:
    """An answer to `query.probe`: one sealed message, and at the end what the coordinator is told of the probe."""
    _check_numbers(reply.metrics, {NUM_EXAMPLES, "done"})
    expected = _sealed("probe", reply.arrays)
    for arm in SHIFT_ARMS:
        if reply.metrics["done"] and has(f"{arm}/choice", reply.arrays):
            choice = from_arrays(Choice, f"{arm}/choice", reply.arrays)
            strengths = np.zeros((min(len(STRENGTHS), choice.log_loss.size // 2), 2))
            expected |= to_arrays(f"{arm}/choice", replace(choice, log_loss=strengths))
    check_arrays(reply.arrays, expected)
    return dict(reply.metrics)


def admit_scores(reply: Reply, arms: Sequence[str]) -> Metrics:
    """An answer to `query.scores`: a number a frame for each score that could be had, and the probe's reading."""
    frames = reply.metrics.get("frames", 0)
    if set(reply.metrics) != {"frames"} or not 1 <= frames <= MAX_SCORED or frames % 1:
        raise RefusalError(Reason.BAD_METRICS, "expected the number of frames that were scored")
    expected: Arrays = {}
    for arm in arms:
        of_each = np.broadcast_to(0.0, int(frames))  # takes no memory, whatever number of frames is claimed
        scores = dict.fromkeys((f"{arm}/scores.mahalanobis", f"{arm}/scores.knn"), of_each)
        expected |= {name: array for name, array in scores.items() if name in reply.arrays}
        if f"{arm}/scores.mahalanobis" in reply.arrays:
            expected[f"{arm}/shrinkage"] = np.zeros(())
        if has(f"{arm}/reading", reply.arrays):
            expected |= _admit_reading(arm, reply.arrays, int(frames))
    check_arrays(reply.arrays, expected)
    return dict(reply.metrics)


def _sealed(name: str, arrays: Arrays) -> Arrays:
    """A sealed message may have any length."""
    return {name: np.zeros(arrays.get(name, np.empty(0)).size, dtype=np.uint8)}


def _admit_reading(arm: str, arrays: Arrays, frames: int) -> Arrays:
    reading = from_arrays(ProbeReading, f"{arm}/reading", arrays)
    histograms = (reading.softmax_histogram, reading.entropy_histogram)
    if any(h.shape != (BINS,) or h.min() < 0 or h.sum() != frames for h in histograms) or reading.frames != frames:
        raise RefusalError(Reason.BAD_METRICS, "the probe's reading does not count the frames that were scored")
    return to_arrays(f"{arm}/reading", reading)


def _check_numbers(metrics: Mapping[str, float], names: set[str]) -> None:
    if set(metrics) != names or not all(math.isfinite(value) for value in metrics.values()):
        raise RefusalError(Reason.BAD_METRICS, f"expected finite numbers {sorted(names)}")
    if metrics[NUM_EXAMPLES] % 1:
        raise RefusalError(Reason.BAD_METRICS, "expected a whole number of training frames")
    if metrics[NUM_EXAMPLES] < 1:
        raise RefusalError(Reason.NO_FRAMES, "the reply counts no training frames")


def _means(quality: Quality) -> Metrics:
    if quality.frames < 1:
        raise RefusalError(Reason.NO_FRAMES, "the reply counts no evaluated frames")
    if quality.frames > MAX_SCORED:
        raise RefusalError(Reason.MANY_FRAMES, f"the reply counts more than {MAX_SCORED} evaluated frames")
    return quality.means()
