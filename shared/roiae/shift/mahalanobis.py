"""Mahalanobis distance to the nearest source hospital (Lee et al. 2018, arXiv 1807.03888, eq. 1–2), from sums.

One mean a source hospital, one covariance pooled within hospitals, shrunk by the Oracle Approximating Shrinkage of
Chen et al. 2010 (IEEE TSP 58:5016, eq. 23) as scikit-learn's `OAS(assume_centered=True)` computes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roiae.shift.outcome import Matrix, NotComputed, WhyNot, finite_latents

# A variance below this share of the mean square is a rounding error of float64 sums over float32 latents.
_ROUNDING = 1e-10


@dataclass(frozen=True)
class LatentSums:
    """Sums over frames of a site's training split, float64."""

    frames: int
    total: Matrix  # [D], Σz
    outer: Matrix  # [D, D], Σzzᵀ

    @property
    def mean(self) -> Matrix:
        mean: Matrix = self.total / self.frames
        return mean

    @property
    def scatter(self) -> Matrix:
        """[D, D], Σ(z − z̄)(z − z̄)ᵀ about the mean of these frames."""
        scatter: Matrix = self.outer - np.outer(self.total, self.mean)
        return scatter

    @property
    def std(self) -> Matrix:
        """[D], the population's; 1 where a dimension is constant, as scikit-learn's StandardScaler has it."""
        variance = np.diag(self.scatter) / self.frames
        changes = variance > _ROUNDING * np.diag(self.outer) / self.frames
        std: Matrix = np.sqrt(variance, out=np.ones_like(variance), where=changes)
        return std


@dataclass(frozen=True)
class SourceMoments:
    """What the hospitals know of the sources together: of each its mean, and the scatter only of all."""

    frames: Mapping[str, int]  # training frames by source
    means: Mapping[str, Matrix]  # [D]
    within: Matrix  # [D, D], Σ over sources of the scatter about the source's own mean

    @classmethod
    def of(cls, sums: Mapping[str, LatentSums]) -> "SourceMoments":
        """From the sums of every source."""
        within = sum((sums[source].scatter for source in sorted(sums)), np.zeros(()))
        return cls({s: of.frames for s, of in sums.items()}, {s: of.mean for s, of in sums.items()}, within)

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(sorted(self.frames))

    @property
    def pooled(self) -> LatentSums:
        """All sources as one."""
        frames = np.array([self.frames[source] for source in self.sources])
        means = np.stack([self.means[source] for source in self.sources])
        return LatentSums(int(frames.sum()), frames @ means, self.within + (means.T * frames) @ means)


@dataclass(frozen=True)
class SourceGaussians:
    """Sources that share one covariance."""

    sources: tuple[str, ...]
    means: Matrix  # [K, D]
    precision: Matrix  # [D, D], inverse of the shrunk covariance
    shrinkage: float  # in [0, 1]
    frames: int


def latent_sums(latents: NDArray[np.floating]) -> LatentSums:
    """Site side: the sums of its training split's latents [N, D].

    Raises:
        RefusalError: `not-finite`.
    """
    wide = finite_latents(latents)
    return LatentSums(len(wide), wide.sum(axis=0), wide.T @ wide)


def source_gaussians(moments: SourceMoments) -> SourceGaussians | NotComputed:
    """Means and precision of the sources."""
    pooled = moments.pooled
    if np.trace(moments.within) <= _ROUNDING * np.trace(pooled.outer):
        return NotComputed(WhyNot.CONSTANT, "the latents of each source hospital are all the same")
    covariance, shrinkage = oas(moments.within, pooled.frames)
    precision = np.linalg.inv(covariance)
    means = np.stack([moments.means[source] for source in moments.sources])
    return SourceGaussians(moments.sources, means, (precision + precision.T) / 2, shrinkage, pooled.frames)


def oas(scatter: Matrix, frames: int) -> tuple[Matrix, float]:
    """Covariance (1 − ρ)·S + ρ·tr(S)/D·I [D, D] and ρ in [0, 1], from a scatter Σxxᵀ about known means.

    ρ = min(1, (α + μ²) / ((n + 1)(α − μ²/D))) with S = Σxxᵀ/n, α = mean of S's squared entries, μ = tr(S)/D.
    """
    dim = len(scatter)
    empirical = scatter / frames
    alpha, mu = float(np.mean(empirical**2)), float(np.trace(empirical)) / dim
    denominator = (frames + 1) * (alpha - mu**2 / dim)
    shrinkage = 1.0 if denominator <= 0 else min((alpha + mu**2) / denominator, 1.0)
    return (1 - shrinkage) * empirical + shrinkage * mu * np.eye(dim), shrinkage


def mahalanobis_scores(latents: NDArray[np.floating], gaussians: SourceGaussians) -> Matrix:
    """Site side: [N], smallest squared distance of each frame to a source's mean; larger is further out.

    Raises:
        RefusalError: `not-finite`.
    """
    wide = finite_latents(latents)
    offsets = wide[:, None] - gaussians.means
    squared = np.einsum("nkd,nkd->nk", offsets @ gaussians.precision, offsets)
    smallest: Matrix = squared.min(axis=1)
    return smallest
