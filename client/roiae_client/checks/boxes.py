"""Boxes that cannot be meant: too small for the model, or far from the site's others."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from roiae.data.manifest import ManifestRow
from roiae_client.checks.findings import CheckFinding, at_lines

_MIN_ROWS = 5  # of the resized frame: a line of tissue, a gap, a line of tissue
_ENOUGH = 20  # boxes that say what is usual at a site
# Robust standard deviations, the largest of five measures. Of 523 real NT boxes the furthest has 3.8, and 8.2 the least
# far of those that still fit their frame with axes exchanged.
_FAR = 6.0
_NEAR = 4.0
_MIN_FACTOR = np.log(1.3)
_MIN_SPREAD = 0.05  # of a measure, where a site's boxes are nearly equal


def small(rows: Sequence[ManifestRow], rois: NDArray[np.int64]) -> CheckFinding:
    """Boxes of fewer than 5 rows in the resized frame."""
    height = rois[:, 3] - rois[:, 1]
    return at_lines(
        "roi-small", (row.line for row, rows_left in zip(rows, height, strict=True) if rows_left < _MIN_ROWS)
    )


def unlike_the_others(
    rows: Sequence[ManifestRow], origins: NDArray[np.int64], sizes: NDArray[np.int64]
) -> Iterator[CheckFinding]:
    """Boxes far from the rest of the site; those that exchanged axes bring back among the others are swapped, and
    those that one factor brings back were drawn on a picture of another size.

    Args:
        rows: K rows with a frame.
        origins, sizes: [K, 2], where each frame lies in its stored picture, and its width and height, px.
    """
    if len(rows) < _ENOUGH:
        return
    boxes = np.array([row.box for row in rows], dtype=np.float64)
    usual = measures(boxes, origins, sizes)
    far = _distance(usual, usual) > _FAR
    exchanged = boxes[:, [1, 0, 3, 2]]
    starts, ends = exchanged[:, :2] - origins, exchanged[:, 2:] - origins
    fits = (starts >= 0).all(axis=1) & (ends <= sizes).all(axis=1)
    back = np.zeros(len(rows), dtype=bool)
    back[fits] = _distance(measures(exchanged[fits], origins[fits], sizes[fits]), usual) < _NEAR
    scaled = _is_scaled(boxes, usual, origins, sizes) & ~back
    kinds = {"roi-swapped": far & back, "roi-scaled": far & scaled, "roi-unlikely": far & ~back & ~scaled}
    for code, which in kinds.items():
        yield at_lines(code, (row.line for row, found in zip(rows, which, strict=True) if found))


def _is_scaled(
    boxes: NDArray[np.float64], usual: NDArray[np.float64], origins: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """[K] boxes that all four corners times one factor, out of their own size, bring back among the others."""
    factors = np.exp((np.median(usual[:, 2:4], axis=0) - usual[:, 2:4]).mean(axis=1))
    scaled = boxes * factors[:, None]
    near = _distance(measures(scaled, origins, sizes), usual) < _NEAR
    found: NDArray[np.bool_] = near & (np.abs(np.log(factors)) > _MIN_FACTOR)
    return found


def measures(boxes: NDArray[np.float64], origins: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """[K, 5]: centre as a share of the frame's width and height; log of width, height and width over height."""
    centres = ((boxes[:, :2] + boxes[:, 2:]) / 2 - origins) / sizes
    extents = np.log((boxes[:, 2:] - boxes[:, :2]) / sizes)
    aspect = np.log((boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1]))
    return np.column_stack([centres, extents, aspect])


def _distance(values: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest of the five robust z-scores: distance to the median over 1.4826 median absolute deviations."""
    median = np.median(usual, axis=0)
    spread = 1.4826 * np.median(np.abs(usual - median), axis=0)
    furthest: NDArray[np.float64] = (np.abs(values - median) / np.maximum(spread, _MIN_SPREAD)).max(axis=1, initial=0)
    return furthest
