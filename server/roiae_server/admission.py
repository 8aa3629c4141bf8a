"""What the coordinator checks of a reply before it counts: a bad one is refused by name and never aggregated.

Each check returns the reply's numbers as `rounds.jsonl` records them, and raises `RefusalError` with the reason.
"""

import math
from collections.abc import Collection, Mapping

from roiae.contract import NUM_EXAMPLES, VALIDATION, Arrays, Reply, check_arrays
from roiae.errors import Reason, RefusalError
from roiae.metrics import Quality

Metrics = dict[str, float]


def admit_update(reply: Reply, terms: Collection[str], sent: Arrays) -> Metrics:
    """An answer to `train`: the sent model's arrays, a loss a term, and the quality of what was received."""
    check_arrays(reply.arrays, sent)
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
