"""Distance to the k-th nearest training latent (Sun et al. 2022, arXiv 2204.06507), from prototypes.

Latents are normalised, u = z/‖z‖. No u leaves a site: it sends prototypes, each the mean μ of at least ten subjects,
and their numbers of frames. Their scatter s = mean ‖u − μ‖² is 1 − ‖μ‖², so for a frame q the mean squared distance to
a prototype's frames is known exactly, ‖q − μ‖² + s. Its spread follows from a normal law around μ with covariance
(s/tr Σ)·Σ, in which Σ is the covariance that the Mahalanobis score has estimated already:

    Var ‖q − u‖² = 4·(s/tr Σ)·(q − μ)ᵀΣ(q − μ) + 2·s²·tr(Σ²)/tr(Σ)²

A gamma law with these two moments (Satterthwaite 1946) gives the number of training frames expected within a radius;
the score is the radius within which k are expected. Nothing is tuned. The fewer prototypes' frames the ball holds, the
less prototypes resolve of it: docs/SHIFT.md has the error of the AUROC by k.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc

from roiae.errors import Reason, RefusalError
from roiae.shift.outcome import Labels, Matrix, NotComputed, WhyNot, unit_latents

LEAST_PROTOTYPE_SUBJECTS = 10
DEFAULT_K = 25  # docs/SHIFT.md has the error by k
_HALVINGS = 40  # of the squared radius, from an interval of 8 to 1e-11
_AT_ONCE = 1 << 16  # pairs of frame and prototype, to bound memory


@dataclass(frozen=True)
class Prototypes:
    """Means of at least ten subjects each; add two of them to pool two hospitals."""

    means: Matrix  # [C, D], of normalised latents
    frames: Matrix  # [C], training frames behind each

    @property
    def scatter(self) -> Matrix:
        """[C], mean squared distance of those frames to the mean: 1 − ‖μ‖², for every u has length 1."""
        scatter: Matrix = np.maximum(1 - np.square(self.means).sum(axis=1), 0.0)
        return scatter

    def __add__(self, other: "Prototypes") -> "Prototypes":
        return Prototypes(
            np.concatenate([self.means, other.means]),
            np.concatenate([self.frames, other.frames]),
        )


def prototypes(latents: NDArray[np.floating], subjects: Sequence[str]) -> Prototypes:
    """Site side: prototypes of its training split. A subject's frames stay together, and each subject weighs the same.

    Args:
        latents: [N, D] of at least `LEAST_PROTOTYPE_SUBJECTS` subjects.
        subjects: [N], the subject of each frame.

    Raises:
        RefusalError: `not-finite`, or `no-frames` where there are fewer subjects.
    """
    if len(set(subjects)) < LEAST_PROTOTYPE_SUBJECTS:
        message = f"{len(set(subjects))} subjects are fewer than the {LEAST_PROTOTYPE_SUBJECTS} of a prototype"
        raise RefusalError(Reason.NO_FRAMES, message)
    unit = unit_latents(latents)
    _, subject_of = np.unique(np.asarray(subjects), return_inverse=True)
    count = np.bincount(subject_of).astype(np.float64)
    centres = np.zeros((len(count), unit.shape[1]))
    np.add.at(centres, subject_of, unit)
    centres /= count[:, None]
    groups = _groups(centres, np.arange(len(centres)))
    means = np.stack([centres[group].mean(axis=0) for group in groups])
    return Prototypes(means, np.array([count[group].sum() for group in groups]))


def pooled_prototypes(by_source: Mapping[str, Prototypes], k: int) -> Prototypes | NotComputed:
    """Coordinator side: the prototypes of whichever sources answered, in the order of their names."""
    if len(by_source) < 2:
        return NotComputed(WhyNot.ONE_SOURCE, f"{len(by_source)} source hospitals sent prototypes; 2 are needed")
    first, *others = (by_source[source] for source in sorted(by_source))
    pooled = sum(others, first)
    if pooled.frames.sum() < k:
        return NotComputed(WhyNot.FEW_FRAMES, f"{pooled.frames.sum():.0f} training frames have no {k}-th neighbour")
    return pooled


def knn_scores(latents: NDArray[np.floating], pooled: Prototypes, shape: Matrix, k: int = DEFAULT_K) -> Matrix:
    """Site side: [N], estimated distance of each normalised frame to its k-th nearest training frame, in [0, √8].

    Args:
        latents: [N, D].
        pooled: of all sources.
        shape: Σ [D, D], the covariance pooled within hospitals (`SourceGaussians.covariance`); its scale is immaterial.
        k: at most the number of training frames.

    Raises:
        RefusalError: `not-finite`.
    """
    unit = unit_latents(latents)
    step = max(1, _AT_ONCE // len(pooled.means))
    parts = [_expected_radius(unit[i : i + step], pooled, shape, k) for i in range(0, len(unit), step)]
    return np.concatenate(parts) if parts else np.empty(0)


def exact_knn_scores(latents: NDArray[np.floating], training: NDArray[np.floating], k: int = DEFAULT_K) -> Matrix:
    """Simulation's reference, for which latents are pooled: [N], exact distance to the k-th of `training` [M, D].

    Raises:
        RefusalError: `not-finite`.
    """
    unit, reference = unit_latents(latents), unit_latents(training)
    squared = np.square(unit).sum(axis=1)[:, None] + np.square(reference).sum(axis=1) - 2 * unit @ reference.T
    kth: Matrix = np.partition(squared, k - 1, axis=1)[:, k - 1]
    distance: Matrix = np.sqrt(np.maximum(kth, 0.0))
    return distance


def _groups(centres: Matrix, members: Labels) -> list[Labels]:
    """Neighbouring subjects by the ten, or a few more: halved across their widest direction for as long as it lasts."""
    leaves = len(members) // LEAST_PROTOTYPE_SUBJECTS
    if leaves < 2:
        return [members]
    offsets = centres[members] - centres[members].mean(axis=0)
    # The widest direction from the smaller of the two Gram matrices.
    gram = offsets @ offsets.T
    along = np.linalg.eigh(gram)[1][:, -1]
    along = along * np.sign(along[np.argmax(np.abs(along))])
    ordered = members[np.argsort(along, kind="stable")]
    cut = round(len(ordered) * (leaves // 2) / leaves)
    return _groups(centres, ordered[:cut]) + _groups(centres, ordered[cut:])


def _expected_radius(unit: Matrix, pooled: Prototypes, shape: Matrix, k: int) -> Matrix:
    offsets = unit[:, None] - pooled.means
    trace = float(np.trace(shape))
    along = np.einsum("ncd,ncd->nc", offsets @ shape, offsets) / trace
    scatter = pooled.scatter
    mean = np.square(offsets).sum(axis=2) + scatter
    variance = 4 * along * scatter + 2 * scatter**2 * float(np.square(shape).sum()) / trace**2
    # A prototype of equal latents has no spread: its gamma law becomes a step, without a division by zero.
    mean = np.maximum(mean, 1e-12)
    variance = np.maximum(variance, 1e-9 * mean**2)
    low, high = np.zeros(len(unit)), np.full(len(unit), 8.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        within = gammainc(mean**2 / variance, middle[:, None] * mean / variance) @ pooled.frames
        low, high = np.where(within < k, middle, low), np.where(within < k, high, middle)
    radius: Matrix = np.sqrt((low + high) / 2)
    return radius
