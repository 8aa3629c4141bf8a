"""Which source hospital does a latent come from? The sites' side of a federated logistic regression, and its readings.

Objective as scikit-learn's `LogisticRegression`: Σ −log p(source | x) + λ/2·‖w‖², λ = 1/C, the intercept unpenalised;
one row of weights for two sources, one row a source (softmax) for more. x is the latent, standardised with the pooled
mean and standard deviation, and a 1 for the intercept.

A site tells, masked, the loss, its gradient and, a pair of sources, the scalar Σ p_k·p_m. It does not tell the Hessian
Σ p_k·p_m·xxᵀ: two of them with no more frames than dimensions, pooled or not, give away every latent, to float32's
precision.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from roiae.shift.mahalanobis import LatentSums
from roiae.shift.outcome import Labels, Matrix, finite_latents

FOLDS = 5
NO_FOLD = -1  # the fit on all training frames
BINS = 20  # of the histograms


@dataclass(frozen=True)
class Standard:
    """What makes latents comparable: x = (z − mean)/std."""

    mean: Matrix  # [D]
    std: Matrix  # [D]

    @classmethod
    def of(cls, pooled: LatentSums) -> "Standard":
        return cls(pooled.mean, pooled.std)

    def design(self, latents: NDArray[np.floating]) -> Matrix:
        """[N, D + 1], standardised latents and a column of ones.

        Raises:
            RefusalError: `not-finite`.
        """
        return np.pad((finite_latents(latents) - self.mean) / self.std, ((0, 0), (0, 1)), constant_values=1.0)


@dataclass(frozen=True)
class ProbeQuestion:
    """What the coordinator asks at one step, for one encoder: many fits at once."""

    sources: tuple[str, ...]  # K classes, in order
    standard: Standard
    weights: Matrix  # [P, R, D + 1], R = 1 for two sources, else K; the intercept last
    folds: Labels  # [P], the fold each fit leaves out; NO_FOLD where none


@dataclass(frozen=True)
class ProbeSums:
    """Sums over a site's training frames, a fit each; add two of them to pool two hospitals."""

    loss: Matrix  # [P], Σ −log p over the frames that are fitted
    gradient: Matrix  # [P, R, D + 1]
    spread: Matrix  # [P, K(K−1)/2], Σ p_k·p_m of each pair k < m
    left_out_loss: Matrix  # [P], Σ −log p over the frames of the fold that is left out
    left_out_frames: Matrix  # [P]

    def __add__(self, other: "ProbeSums") -> "ProbeSums":
        return ProbeSums(
            self.loss + other.loss,
            self.gradient + other.gradient,
            self.spread + other.spread,
            self.left_out_loss + other.left_out_loss,
            self.left_out_frames + other.left_out_frames,
        )


@dataclass(frozen=True)
class ProbeReading:
    """How sure the probe is of frames, as sums; add two of them to pool two hospitals."""

    max_softmax: float  # Σ of the largest probability
    entropy: float  # Σ −Σ p·ln p, nats
    softmax_histogram: Labels  # [BINS], frames by largest probability, from 1/K to 1
    entropy_histogram: Labels  # [BINS], frames by entropy, from 0 to ln K
    correct: int  # frames given to the source they come from; 0 at a held-out site
    frames: int

    def __add__(self, other: "ProbeReading") -> "ProbeReading":
        return ProbeReading(
            self.max_softmax + other.max_softmax,
            self.entropy + other.entropy,
            self.softmax_histogram + other.softmax_histogram,
            self.entropy_histogram + other.entropy_histogram,
            self.correct + other.correct,
            self.frames + other.frames,
        )

    def means(self) -> dict[str, float]:
        """Mean over frames of each; a ZeroDivisionError where there are none."""
        sums = {"max_softmax": self.max_softmax, "entropy": self.entropy, "accuracy": self.correct}
        return {name: total / self.frames for name, total in sums.items()}


def subject_folds(subjects: Sequence[str]) -> Labels:
    """[N], the fold in 0 … FOLDS − 1 of each frame: subjects ordered by hash and dealt round, so that folds are even.

    A fold of fifty subjects has ten, whatever the hash: the difference of two fits must not be one subject.
    """
    ordered = sorted(set(subjects), key=lambda subject: hashlib.sha256(f"fold/{subject}".encode()).digest())
    fold = {subject: place % FOLDS for place, subject in enumerate(ordered)}
    return np.array([fold[subject] for subject in subjects], dtype=np.int64)


def probe_sums(
    latents: NDArray[np.floating], subjects: Sequence[str], source: str, question: ProbeQuestion
) -> ProbeSums:
    """Site side: the sums of its training split for every fit of the question.

    Args:
        latents: [N, D].
        subjects: [N], the subject of each frame; they decide the folds.
        source: this site's name, among the question's sources.

    Raises:
        RefusalError: `not-finite`.
    """
    design = question.standard.design(latents)
    own, folds = question.sources.index(source), subject_folds(subjects)
    sums = []
    for weights, left_out in zip(question.weights, question.folds, strict=True):
        log_p = log_probabilities(design, weights)
        fitted = folds != left_out
        x, p = design[fitted], np.exp(log_p[fitted])
        residual = p - np.eye(len(question.sources))[own]
        rows = residual[:, 1:] if len(question.sources) == 2 else residual
        pairs = [float(p[:, k] @ p[:, m]) for k, m in combinations(range(p.shape[1]), 2)]
        losses = -log_p[:, own]
        sums.append((losses[fitted].sum(), rows.T @ x, pairs, losses[~fitted].sum(), float((~fitted).sum())))
    return ProbeSums(*(np.array(column, dtype=np.float64) for column in zip(*sums, strict=True)))


def log_probabilities(design: Matrix, weights: Matrix) -> Matrix:
    """[N, K], log p of each source; one row of weights is the log-odds of the second of two sources."""
    logits = design @ weights.T
    if len(weights) == 1:
        logits = np.pad(logits, ((0, 0), (1, 0)))
    log_p: Matrix = log_softmax(logits, axis=1)
    return log_p


def effective_subjects(
    latents: NDArray[np.floating], subjects: Sequence[str], source: str, question: ProbeQuestion
) -> Matrix:
    """Site side: [P], (Σr)²/Σr² with r a subject's Σ 1 − p(own source): of how many subjects a fit's gradient speaks.

    Weights chosen to single a subject out bring it to one.
    """
    design = question.standard.design(latents)
    own, folds = question.sources.index(source), subject_folds(subjects)
    _, subject_of = np.unique(np.asarray(subjects), return_inverse=True)
    counts = []
    for weights, left_out in zip(question.weights, question.folds, strict=True):
        by_frame = -np.expm1(log_probabilities(design, weights)[:, own]) * (folds != left_out)
        residual = np.bincount(subject_of, weights=by_frame)
        square = float(residual @ residual)
        counts.append(residual.sum() ** 2 / square if square > 0 else float(len(residual)))
    return np.array(counts)


def probe_reading(latents: NDArray[np.floating], standard: Standard, weights: Matrix, own: int | None) -> ProbeReading:
    """Site side: how sure the fitted probe is of these frames.

    Args:
        latents: [N, D], validation frames of a source, or all frames of the held-out site.
        weights: [R, D + 1].
        own: the place of this site among the sources; None at the held-out site.

    Raises:
        RefusalError: `not-finite`.
    """
    log_p = log_probabilities(standard.design(latents), weights)
    p = np.exp(log_p)
    largest, entropy = p.max(axis=1), -(p * log_p).sum(axis=1)
    classes = p.shape[1]
    return ProbeReading(
        max_softmax=float(largest.sum()),
        entropy=float(entropy.sum()),
        softmax_histogram=_histogram(largest, 1 / classes, 1.0),
        entropy_histogram=_histogram(entropy, 0.0, float(np.log(classes))),
        correct=0 if own is None else int((p.argmax(axis=1) == own).sum()),
        frames=len(p),
    )


def _histogram(values: Matrix, low: float, high: float) -> Labels:
    return np.histogram(np.clip(values, low, high), bins=BINS, range=(low, high))[0].astype(np.int64)
