"""How much a picture that an attack ends with shows of a training frame, beside what the frame's neighbour shows of it.

Frames of one scanner look alike, so any of them correlates with any other. An attack has read a frame where its
picture is nearer to the frame than the nearest other frame of the same hospital is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

Pictures = NDArray[np.float64]  # [N, h, w]


@dataclass(frozen=True)
class Likeness:
    """Of the best picture to the frame that it shows most of; correlations are absolute, so a negative counts too."""

    correlation: float
    ssim: float
    neighbour_correlation: float
    neighbour_ssim: float


NOTHING = Likeness(0.0, 0.0, 0.0, 0.0)  # of no picture


def best_likeness(pictures: Pictures, frames: Pictures) -> Likeness:
    """
    Args:
        pictures: what an attack ends with; their brightness and contrast are set to the frame's before they are
            compared. A flat one shows nothing.
        frames: as they were trained on.
    """
    pictures = pictures[np.ptp(pictures, axis=(1, 2)) > 0]
    if not len(pictures):
        return NOTHING
    alike = np.abs(correlations(pictures, frames))
    picture, frame = np.unravel_index(alike.argmax(), alike.shape)
    others = correlations(frames, frames[frame][None])[:, 0]
    others[frame] = -1
    neighbour = int(others.argmax())
    return Likeness(
        float(alike[picture, frame]),
        _ssim(pictures[picture], frames[frame]),
        float(others[neighbour]),
        _ssim(frames[neighbour], frames[frame]),
    )


def correlations(some: Pictures, others: Pictures) -> NDArray[np.float64]:
    """[some, others]; 0 where a picture is flat."""
    return np.asarray(_unit(some) @ _unit(others).T)


def reduced(frames: NDArray[np.generic], side: int) -> Pictures:
    """Frames [N, S, S] as means over squares: [N, side, side]."""
    step = frames.shape[-1] // side
    squares = np.asarray(frames, np.float64).reshape(len(frames), side, step, side, step)
    return np.asarray(squares.mean(axis=(2, 4)))


def summary(tries: Sequence[Likeness]) -> dict[str, float]:
    """Of several tries: the median, and the best of each measure, beside the neighbours' medians."""
    return {
        "tries": len(tries),
        "correlation": median(one.correlation for one in tries),
        "best_correlation": max(one.correlation for one in tries),
        "ssim": median(one.ssim for one in tries),
        "neighbour_correlation": median(one.neighbour_correlation for one in tries),
        "neighbour_ssim": median(one.neighbour_ssim for one in tries),
    }


def _unit(pictures: Pictures) -> NDArray[np.float64]:
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-30))


def _ssim(picture: NDArray[np.float64], frame: NDArray[np.float64]) -> float:
    gain, offset = np.polyfit(picture.ravel(), frame.ravel(), 1)
    fitted = np.clip(gain * picture + offset, 0, 1)
    return float(structural_similarity(fitted, frame, data_range=1))  # type: ignore[no-untyped-call]
