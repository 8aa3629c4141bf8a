"""Distance to the k-th nearest training latent (Sun et al. 2022, arXiv 2204.06507), from prototypes.

Latents are normalised, u = z/‖z‖. No u leaves a site: it sends prototypes, each the mean μ of at least ten subjects,
and their numbers of frames. As ‖u‖ = 1, the scatter of a prototype's frames is s = mean ‖u − μ‖² = 1 − ‖μ‖², and the
squared distance of a frame q is linear in u: ‖q − u‖² = 2 − 2·qᵀu. So over the frames of one prototype

    mean ‖q − u‖² = ‖q − μ‖² + s        Var ‖q − u‖² = 4·qᵀSq

with S their covariance. The mean is exact. S would tell ten subjects' latents but for a rotation, so it is not sent:
its shape is taken from W, the scatter within prototypes summed over all prototypes of all sources, and its size from
s, S = (s/tr W)·W. A gamma law with these two moments (Satterthwaite 1946) gives the number of training frames expected
within a radius; the score is the radius within which k are expected. Nothing is tuned. The fewer frames the ball
holds, the less prototypes resolve of it: docs/SHIFT.md has the error of the AUROC by k.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc

from roiae.errors import Reason, RefusalError
from roiae.shift.outcome import Labels, Matrix, unit_latents

MIN_PROTOTYPE_SUBJECTS = 10
DEFAULT_K = 40  # docs/SHIFT.md has the error by k
_HALVINGS = 40  # of the squared radius, from an interval of 8 to 1e-11
_AT_ONCE = 1 << 16  # pairs of frame and prototype, to bound memory


@dataclass(frozen=True)
class Prototypes:
    """Means of at least ten subjects each, and how their frames scatter; add two of them to pool two hospitals."""

    means: Matrix  # [C, D], of normalised latents
    frames: Matrix  # [C], training frames behind each
    within: Matrix  # W [D, D], Σ over prototypes of frames · covariance about the prototype's own mean

    @property
    def scatter(self) -> Matrix:
        """[C], mean squared distance of those frames to the mean: 1 − ‖μ‖², for every u has length 1."""
        scatter: Matrix = np.maximum(1 - np.square(self.means).sum(axis=1), 0.0)
        return scatter

    def __add__(self, other: "Prototypes") -> "Prototypes":
        return Prototypes(
            np.concatenate([self.means, other.means]),
            np.concatenate([self.frames, other.frames]),
            self.within + other.within,
        )


def prototypes(latents: NDArray[np.floating], subjects: Sequence[str]) -> Prototypes:
    """Site side: prototypes of its training split. A subject's frames stay together, and each subject weighs the same.

    Args:
        latents: [N, D] of at least `MIN_PROTOTYPE_SUBJECTS` subjects.
        subjects: [N], the subject of each frame.

    Raises:
        RefusalError: `not-finite`, or `no-frames` where there are fewer subjects.
    """
    if len(set(subjects)) < MIN_PROTOTYPE_SUBJECTS:
        message = f"{len(set(subjects))} subjects are fewer than the {MIN_PROTOTYPE_SUBJECTS} of a prototype"
        raise RefusalError(Reason.NO_FRAMES, message)
    unit = unit_latents(latents)
    _, subject_of = np.unique(np.asarray(subjects), return_inverse=True)
    count = np.bincount(subject_of).astype(np.float64)
    centres = np.zeros((len(count), unit.shape[1]))
    np.add.at(centres, subject_of, unit)
    centres /= count[:, None]
    groups = _groups(centres, np.arange(len(centres)))
    means = np.stack([centres[group].mean(axis=0) for group in groups])
    frames = np.array([count[group].sum() for group in groups])
    group_of = np.empty(len(centres), dtype=np.int64)
    for place, group in enumerate(groups):
        group_of[group] = place
    offsets = unit - means[group_of[subject_of]]
    weights = (frames / np.bincount(group_of))[group_of[subject_of]] / count[subject_of]
    return Prototypes(means, frames, (offsets.T * weights) @ offsets)


def knn_scores(latents: NDArray[np.floating], pooled: Prototypes, k: int = DEFAULT_K) -> Matrix:
    """Site side: [N], estimated distance of each normalised frame to its k-th nearest training frame, in [0, √8].

    Args:
        latents: [N, D].
        pooled: of all sources.
        k: at most the number of training frames.

    Raises:
        RefusalError: `not-finite`.
    """
    unit = unit_latents(latents)
    step = max(1, _AT_ONCE // len(pooled.means))
    parts = [_expected_radius(unit[i : i + step], pooled, k) for i in range(0, len(unit), step)]
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
    leaves = len(members) // MIN_PROTOTYPE_SUBJECTS
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


def _expected_radius(unit: Matrix, pooled: Prototypes, k: int) -> Matrix:
    scatter = pooled.scatter
    mean = np.square(unit[:, None] - pooled.means).sum(axis=2) + scatter
    along = np.einsum("nd,nd->n", unit @ pooled.within, unit) / max(float(np.trace(pooled.within)), 1e-12)
    # A prototype of equal latents has no spread: its gamma law becomes a step, without a division by zero.
    mean = np.maximum(mean, 1e-12)
    variance = np.maximum(4 * along[:, None] * scatter, 1e-9 * mean**2)
    low, high = np.zeros(len(unit)), np.full(len(unit), 8.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        within = gammainc(mean**2 / variance, middle[:, None] * mean / variance) @ pooled.frames
        low, high = np.where(within < k, middle, low), np.where(within < k, high, middle)
    radius: Matrix = np.sqrt((low + high) / 2)
    return radius
