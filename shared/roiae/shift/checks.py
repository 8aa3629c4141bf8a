"""What a site checks before it answers a shift query, so that nobody can make it an oracle.

The coordinator chooses none of what is checked here, but one who joined as a hospital might. Every bound is far from
what honest statistics need (on real NT latents: means within 1 spread of the site's own, condition 70, 30 to 80
directions, weights of norm 6, 17 effective subjects) and far from what singles a frame out.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from roiae.errors import Reason, RefusalError
from roiae.shift.knn import MIN_PROTOTYPE_SUBJECTS, Prototypes
from roiae.shift.mahalanobis import LatentSums, SourceGaussians
from roiae.shift.outcome import Matrix
from roiae.shift.probe import FOLDS, NO_FOLD, ProbeQuestion, Standard, effective_subjects

MIN_SUBJECTS = 50  # of training, behind a site's sums
MIN_SCORED_FRAMES = 20
MAX_SPREADS = 10.0  # between a mean and the site's own, in units of the site's root mean square radius
MAX_CONDITION = 1e6
MIN_DIRECTIONS = 8.0  # over which a squared distance spreads
MAX_WEIGHT_NORM = 30.0  # of a row of probe weights, latents standardised
MIN_EFFECTIVE_SUBJECTS = 10.0  # of whom a gradient speaks
MAX_FITS = 48
SIGNIFICANT_DIGITS = 3
_CLOSE = 1e-6  # relative: the site's own statistics come back as it sent them


def check_subjects(subjects: Sequence[str], least: int = MIN_SUBJECTS) -> None:
    """Enough different subjects stand behind a statistic.

    Raises:
        RefusalError: `few-subjects`.
    """
    count = len(set(subjects))
    if count < least:
        message = f"{count} training subjects are fewer than the {least} that a statistic needs"
        raise RefusalError(Reason.FEW_SUBJECTS, message)


def check_gaussians(gaussians: SourceGaussians, own: LatentSums, source: str | None = None) -> None:
    """Means and precision are such as honest sums give; `source` is this site's name where it is a source.

    Args:
        own: sums of the frames that will be scored or that were sent; they set the scale.

    Raises:
        RefusalError: `bad-request`: a mean far from the site's latents, or a precision that is not symmetric and
            positive definite, is ill-conditioned, or looks along a few directions only.
    """
    dim, precision = len(own.total), gaussians.precision
    if gaussians.means.shape != (len(gaussians.sources), dim) or precision.shape != (dim, dim):
        raise _refusal("means or precision have not the latents' dimension")
    if not np.isfinite(gaussians.means).all() or not np.isfinite(precision).all():
        raise _refusal("means or precision hold NaN or infinity")
    radius = np.sqrt(np.trace(own.scatter) / own.frames)
    if np.linalg.norm(gaussians.means - own.mean, axis=1).max() > MAX_SPREADS * radius:
        raise _refusal(f"a mean lies more than {MAX_SPREADS:g} spreads from this site's latents")
    if source is not None:
        _check_own(gaussians.means, gaussians.sources, source, own.mean, float(radius))
    if not np.allclose(precision, precision.T, rtol=_CLOSE, atol=0):
        raise _refusal("the precision is not symmetric")
    values = np.linalg.eigvalsh(precision)
    if values[0] <= 0 or values[-1] > MAX_CONDITION * values[0]:
        raise _refusal("the precision is not positive definite or is ill-conditioned")
    seen = precision @ own.scatter
    directions = np.trace(seen) ** 2 / np.sum(seen * seen.T)
    if directions < min(MIN_DIRECTIONS, min(dim, own.frames - 1) / 2):
        raise _refusal(f"the precision looks along {directions:.1f} directions; it would single frames out")


def check_prototypes(pooled: Prototypes, dim: int, k: int) -> None:
    """Prototypes of normalised latents with enough frames each, and a scatter that can be theirs.

    Raises:
        RefusalError: `bad-request`.
    """
    count, within = len(pooled.means), pooled.within
    if pooled.means.shape != (count, dim) or pooled.frames.shape != (count,) or within.shape != (dim, dim):
        raise _refusal("prototypes have not the latents' dimension")
    if not all(np.isfinite(part).all() for part in (pooled.means, pooled.frames, within)):
        raise _refusal("prototypes hold NaN or infinity")
    if (pooled.frames < MIN_PROTOTYPE_SUBJECTS).any():
        raise _refusal(f"a prototype stands for fewer than {MIN_PROTOTYPE_SUBJECTS} frames")
    if np.linalg.norm(pooled.means, axis=1).max() > 1 + _CLOSE:
        raise _refusal("prototypes are no means of normalised latents")
    small = _CLOSE * pooled.frames.sum()
    if abs(np.trace(within) - pooled.frames @ pooled.scatter) > small or np.linalg.eigvalsh(within)[0] < -small:
        raise _refusal("the scatter within prototypes is not theirs")
    if not 1 <= k <= pooled.frames.sum():
        raise _refusal(f"k = {k} is not between 1 and the number of training frames")


def check_question(
    question: ProbeQuestion, latents: NDArray[np.floating], subjects: Sequence[str], source: str
) -> None:
    """A step of the probe speaks of many subjects.

    Raises:
        RefusalError: `bad-request`.
    """
    if source not in question.sources or list(question.sources) != sorted(set(question.sources)):
        raise _refusal("the probe's sources are not a sorted list with this site")
    fits = len(question.folds)
    if not 1 <= fits <= MAX_FITS or not ((question.folds >= NO_FOLD) & (question.folds < FOLDS)).all():
        raise _refusal(f"{fits} fits asked at once, of at most {MAX_FITS}, or a fold that does not exist")
    if len(question.weights) != fits:
        raise _refusal("as many weights as folds are expected")
    for weights in question.weights:
        check_weights(weights, len(question.sources), question.standard, latents.shape[1])
    if effective_subjects(latents, subjects, source, question).min() < MIN_EFFECTIVE_SUBJECTS:
        raise _refusal("the probe's weights would single subjects out")


def check_weights(weights: Matrix, sources: int, standard: Standard, dim: int) -> None:
    """Weights [R, D + 1] of a fitted or fitting probe have the right shape and a bounded norm.

    Raises:
        RefusalError: `bad-request`.
    """
    if sources < 2 or weights.shape != (1 if sources == 2 else sources, dim + 1):
        raise _refusal("the probe's weights have not the shape of the latents and sources")
    if standard.mean.shape != (dim,) or standard.std.shape != (dim,):
        raise _refusal("mean or standard deviation have not the latents' dimension")
    parts = (weights, standard.mean, standard.std)
    if not all(np.isfinite(part).all() for part in parts) or (standard.std <= 0).any():
        raise _refusal("weights, mean or standard deviation hold NaN, infinity or a deviation that is not positive")
    if np.linalg.norm(weights, axis=1).max() > MAX_WEIGHT_NORM:
        raise _refusal(f"a row of the probe's weights is longer than {MAX_WEIGHT_NORM:g}")


def check_standard(standard: Standard, own: LatentSums) -> None:
    """The pooled mean and deviation are near this site's: a tiny deviation would undo the bound on the weights.

    Raises:
        RefusalError: `bad-request`.
    """
    if np.abs((standard.mean - own.mean) / standard.std).max() > MAX_SPREADS:
        raise _refusal(f"the pooled mean lies more than {MAX_SPREADS:g} deviations from this site's")
    if (own.std / standard.std)[own.std != 1.0].max(initial=0.0) > MAX_SPREADS:
        raise _refusal(f"a pooled deviation is {MAX_SPREADS:g} times smaller than this site's")


def check_frames(frames: int, least: int = MIN_SCORED_FRAMES) -> None:
    """Enough frames stand behind a list of scores.

    Raises:
        RefusalError: `no-frames`.
    """
    if frames < least:
        raise RefusalError(Reason.NO_FRAMES, f"{frames} frames to score; at least {least} are needed")


def outgoing_scores(scores: Matrix) -> Matrix:
    """Scores as they may leave a site: sorted, so that none has a place, and rounded to three significant digits."""
    ordered = np.sort(scores)
    magnitude = np.floor(np.log10(np.abs(np.where(ordered == 0, 1.0, ordered))))
    unit = 10.0 ** (magnitude - SIGNIFICANT_DIGITS + 1)
    rounded: Matrix = np.round(ordered / unit) * unit
    return rounded


def _check_own(means: Matrix, sources: Sequence[str], source: str, mean: Matrix, radius: float) -> None:
    if source not in sources or np.linalg.norm(means[list(sources).index(source)] - mean) > _CLOSE * radius:
        raise _refusal("this site's own mean is not among those it was sent")


def _refusal(message: str) -> RefusalError:
    return RefusalError(Reason.BAD_REQUEST, message)
