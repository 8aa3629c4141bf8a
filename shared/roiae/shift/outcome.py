"""A score that could not be had, and why: a result of its own, never an exception that ends a run."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from roiae.errors import Reason, RefusalError

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]


class WhyNot(StrEnum):
    """Why a score was not computed: a word for the report."""

    ONE_SOURCE = "fewer-than-two-sources"
    NO_FRAMES = "no-frames"
    CONSTANT = "constant-latents"
    FEW_FRAMES = "fewer-frames-than-k"
    NOT_CONVERGED = "not-converged"
    DROPPED_OUT = "source-dropped-out"


@dataclass(frozen=True)
class NotComputed:
    """In place of a score."""

    why: WhyNot
    detail: str  # for a person; says no more than numbers of sites and frames


def finite_latents(latents: NDArray[np.floating]) -> Matrix:
    """Latents [N, D] in float64.

    Raises:
        RefusalError: `not-finite` where one holds NaN or infinity.
    """
    wide = np.asarray(latents, dtype=np.float64)
    if not np.isfinite(wide).all():
        raise RefusalError(Reason.NOT_FINITE, "a latent holds NaN or infinity; the encoder's weights have diverged")
    return wide


def unit_latents(latents: NDArray[np.floating]) -> Matrix:
    """z / ‖z‖₂ [N, D]; a latent of zeros stays zeros."""
    wide = finite_latents(latents)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: Matrix = np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)
    return unit
