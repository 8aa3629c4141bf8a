"""What is in the sealed messages: told by one hospital, heard by all."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from roiae.errors import Reason, RefusalError
from roiae.shift.group import Group, Sealed
from roiae.shift.knn import Prototypes, prototypes
from roiae.shift.mahalanobis import SourceGaussians, SourceMoments, latent_sums, source_gaussians
from roiae.shift.newton import Probe, ProbeFit
from roiae.shift.outcome import Matrix, NotComputed
from roiae.shift.probe import ProbeQuestion, ProbeSums, Standard
from roiae.shift.wire import from_arrays, has, to_arrays
from roiae.wire.contract import Arrays, ShiftArm

_SAME = 1e-5  # relative: two hospitals' next question, which each has worked out for itself


@dataclass(frozen=True)
class _Told:
    """Of one source, what the hospitals know of it alone."""

    frames: int
    mean: Matrix  # [D]
    prototypes: Matrix  # [C, D]
    prototype_frames: Matrix  # [C]

    def fits(self, dim: int) -> bool:
        """Whether the shapes agree and every number is one."""
        count = len(self.prototypes)
        shapes = self.mean.shape, self.prototypes.shape, self.prototype_frames.shape
        finite = all(np.isfinite(part).all() for part in (self.mean, self.prototypes, self.prototype_frames))
        return self.frames >= 1 and count >= 1 and shapes == ((dim,), (count, dim), (count,)) and finite


@dataclass(frozen=True)
class Known:
    """What the hospitals know of all sources at one encoder."""

    moments: SourceMoments
    gaussians: SourceGaussians | NotComputed
    prototypes: Prototypes


@dataclass(frozen=True)
class FittedProbe:
    standard: Standard
    weights: Matrix  # [R, D + 1]


@dataclass(frozen=True)
class Choice:
    """What the coordinator is told of a fitted probe."""

    strength: float
    log_loss: Matrix  # [S, 2], C and its log-loss, nats
    steps: int

    @classmethod
    def of(cls, probe: Probe) -> "Choice":
        return cls(probe.strength, np.array(list(probe.log_loss.items()), dtype=np.float64), probe.steps)


def about(encoders: Mapping[ShiftArm, str]) -> str:
    """What a group's scoring is about, from the digest of each encoder."""
    return json.dumps(dict(sorted(encoders.items())))


def seal_statistics(group: Group, arm: ShiftArm, latents: NDArray[np.floating], subjects: tuple[str, ...]) -> Arrays:
    """Mean, prototypes and, masked, the scatters of a source's training split, about its mean and its prototypes.

    Raises:
        RefusalError: `not-finite`, or `no-frames` with too few subjects for a prototype.
    """
    sums, own = latent_sums(latents), prototypes(latents, subjects)
    told = to_arrays(f"{arm}/told", _Told(sums.frames, sums.mean, own.means, own.frames))
    masked = {f"{arm}/scatter": sums.scatter, f"{arm}/within": own.within}
    return told | {topic: group.mask(topic, part) for topic, part in masked.items()}


def open_statistics(group: Group, arm: ShiftArm, arrays: Arrays, dim: int) -> Known:
    """
    Raises:
        RefusalError: `bad-request` or `arrays-mismatch`: a message does not open, or does not hold such statistics.
    """
    heard = {s: group.open("statistics", s, _sealed(f"statistics/{s}", arrays)) for s in group.sources}
    told = {s: from_arrays(_Told, f"{arm}/told", of) for s, of in heard.items()}
    scatter, within = (
        group.total({s: _sealed(f"{arm}/{name}", of) for s, of in heard.items()}) for name in ("scatter", "within")
    )
    if {scatter.shape, within.shape} != {(dim, dim)} or not all(of.fits(dim) for of in told.values()):
        raise RefusalError(Reason.BAD_REQUEST, "a source's statistics are none")
    frames, means = {s: of.frames for s, of in told.items()}, {s: of.mean for s, of in told.items()}
    moments = SourceMoments(frames, means, (scatter + scatter.T) / 2)
    pooled = Prototypes(
        np.concatenate([told[s].prototypes for s in group.sources]),
        np.concatenate([told[s].prototype_frames for s in group.sources]),
        (within + within.T) / 2,
    )
    return Known(moments, source_gaussians(moments), pooled)


def seal_step(group: Group, arm: ShiftArm, topic: str, question: ProbeQuestion, sums: ProbeSums) -> Arrays:
    """A source's answer to the probe's question, masked, and the question that it answers.

    Args:
        topic: never the same for two answers.
    """
    told = {f"{arm}/question": question.weights}
    parts = to_arrays(f"{arm}/sums", sums)
    return told | {name: group.mask(f"{topic}/{name}", part) for name, part in parts.items()}


def open_step(group: Group, arm: ShiftArm, step: int, arrays: Arrays, fit: ProbeFit) -> ProbeFit:
    """The fit, advanced by the sum of all sources' answers to its question.

    Raises:
        RefusalError: `bad-request` or `arrays-mismatch`: a message does not open, or answers another question.
    """
    question = fit.question()
    if question is None:
        return fit
    heard = {s: group.open(f"probe/{step}", s, _sealed(f"probe/{s}", arrays)) for s in group.sources}
    scale = max(float(np.abs(question.weights).max()), 1.0)
    for of in heard.values():
        other = of.get(f"{arm}/question", np.empty(0))
        if other.shape != question.weights.shape or not np.abs(other - question.weights).max() <= _SAME * scale:
            raise RefusalError(Reason.BAD_REQUEST, "two sources have answered different questions of the probe")
    names = [field.name for field in fields(ProbeSums)]
    totals = {name: group.total({s: _sealed(f"{arm}/sums.{name}", of) for s, of in heard.items()}) for name in names}
    return fit.advance(ProbeSums(**totals))


def open_probe(group: Group, arm: ShiftArm, step: int | None, arrays: Arrays) -> FittedProbe | None:
    """The fitted probe, as the first source tells it; None where it was not fitted."""
    if step is None:
        return None
    heard = group.open(f"probe/{step}", group.sources[0], _sealed("probe", arrays))
    if not has(f"{arm}/standard", heard):
        return None
    standard = from_arrays(Standard, f"{arm}/standard", heard)
    return FittedProbe(standard, heard.get(f"{arm}/weights", np.empty((0, 0))))


def known_arrays(gaussians: SourceGaussians, pooled: Prototypes, probe: FittedProbe | None) -> Arrays:
    """All that a scoring depends on, for its digest."""
    arrays = to_arrays("gaussians", gaussians, without=("sources",)) | to_arrays("prototypes", pooled)
    if probe:
        arrays |= to_arrays("standard", probe.standard) | {"weights": probe.weights}
    return arrays


def _sealed(name: str, arrays: Arrays) -> Sealed:
    found = arrays.get(name)
    if found is None or found.dtype != np.uint8:
        raise RefusalError(Reason.ARRAYS_MISMATCH, "a part of what the hospitals have sealed is missing")
    return found
