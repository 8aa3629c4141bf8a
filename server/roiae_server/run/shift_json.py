"""The scores as `shift.json` has them; docs/SHIFT.md is the schema."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roiae.shift.detection import detection
from roiae.shift.messages import Choice
from roiae.shift.outcome import Matrix, NotComputed, WhyNot
from roiae.shift.probe import ProbeReading


def detection_json(scores: Mapping[str, Matrix], holdout: str, seed: int) -> dict[str, Any]:
    """The three measures and their intervals, from scores by site; sources' frames are those of the other sites."""
    sources = [values for site, values in sorted(scores.items()) if site != holdout]
    found = detection(np.concatenate([np.empty(0), *sources]), scores.get(holdout, np.empty(0)), seed=seed)
    if isinstance(found, NotComputed):
        return not_computed_json(found)
    intervals = {"auroc": found.auroc, "aupr": found.aupr, "fpr95": found.fpr95}
    return {
        **{name: interval.value for name, interval in intervals.items()},
        "ci": {name: [interval.low, interval.high] for name, interval in intervals.items()},
        "source_frames": found.source_frames,
        "held_out_frames": found.held_out_frames,
    }


def provenance_json(probe: Choice, classes: int, readings: Mapping[str, ProbeReading], holdout: str) -> dict[str, Any]:
    """Accuracy on the probe's sources, `classes` of them, and how sure it is of the held-out site."""
    of_sources = [reading for site, reading in sorted(readings.items()) if site != holdout]
    if holdout not in readings or not of_sources:
        missing = "the held-out site" if of_sources else "the sources"
        return not_computed_json(NotComputed(WhyNot.NO_FRAMES, f"no frame of {missing} was read by the probe"))
    sources, held_out = sum(of_sources[1:], of_sources[0]), readings[holdout]
    means = held_out.means()
    return {
        "accuracy": sources.means()["accuracy"],
        "max_softmax": means["max_softmax"],
        "entropy": means["entropy"],
        "strength": probe.strength,
        "log_loss": {f"{strength:g}": loss for strength, loss in probe.log_loss.tolist()},
        "steps": probe.steps,
        "histograms": {
            "max_softmax": _histogram(1 / classes, 1.0, sources.softmax_histogram, held_out.softmax_histogram),
            "entropy": _histogram(0.0, float(np.log(classes)), sources.entropy_histogram, held_out.entropy_histogram),
        },
    }


def not_computed_json(outcome: NotComputed) -> dict[str, Any]:
    return {"not_computed": str(outcome.why), "detail": outcome.detail}


def scores_json(scores: Mapping[str, Matrix]) -> dict[str, list[float]]:
    """By site, sorted and rounded as they came."""
    return {site: [float(f"{value:.3g}") for value in values.tolist()] for site, values in sorted(scores.items())}


def _histogram(low: float, high: float, sources: NDArray[np.int64], held_out: NDArray[np.int64]) -> dict[str, Any]:
    return {"low": low, "high": high, "sources": sources.tolist(), "held_out": held_out.tolist()}
