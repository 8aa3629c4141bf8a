"""The nuchal translucency's (NT) thickness as a sonographer's calipers would read it, from the ROI of one frame.

The NT is the dark band between two bright lines. Both of its borders are traced together along the ROI by dynamic
programming over edges, after Lee, Kim and Kim 2007 (doi:10.1007/s11517-007-0225-7). The calipers stand as the Fetal
Medicine Foundation and ISUOG have them (2013, doi:10.1002/uog.12342), on-to-on: on the inner border of each line, where
a caliper's bar merges with the white of the line and does not lie in the fluid, and at right angles to the NT.
"""

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, maximum_filter

Greys = NDArray[np.floating]

CALIPER = 0.8  # of the way from the band's grey to the line's, where the phantoms' borders lie; half-way is in fluid
MIN_RISE = 0.15  # of both lines above the band, as a share of the ROI's range of greys
MIN_SHARE = 0.5  # of the ROI's width in which both lines are seen
MAX_WAVER = 0.2  # of a border about a smooth curve, as a share of the thickness: lines are smooth, speckle is not
STRIP = 3  # columns that are averaged

_BEND = 3  # degree of that curve
_THICKNESS = (2, 48)  # rows; the upper bound is one of time, where the ROI is something else
_REACH = (5, 3)  # from one strip to the next the band moves by two rows at most, and its thickness by one
_SMOOTHING = 0.8  # rows, standard deviation
_DARKNESS = 0.5  # weight of the band's grey against the slopes of its edges


@dataclass(frozen=True)
class Borders:
    """The NT's inner borders in the K strips that show both; pixels of the ROI from the middle of its first one."""

    columns: Greys  # [K]
    upper: Greys  # [K]
    lower: Greys  # [K]
    slope: Greys  # [K], rows a column, of the smooth curve midway between them

    def thickness(self, pixel: tuple[float, float] = (1.0, 1.0)) -> float:
        """Median over the strips of the borders' distance at right angles to the NT.

        The median, not the largest as on a scanner: about the phantoms' true thickness the largest scatters by half as
        much again.

        Args:
            pixel: width and height of a pixel; the thickness comes in their unit.
        """
        width, height = pixel
        return float(np.median((self.lower - self.upper) * height / np.hypot(1, self.slope * height / width)))


def find_borders(roi: Greys) -> Borders | None:
    """The NT's borders; None where no dark band between two smooth bright lines runs through most of the ROI.

    Args:
        roi: [H, W], grey levels on any scale.
    """
    grey, columns = _strips(roi.astype(np.float64))
    dark, bright = np.percentile(grey, (2, 98))
    if len(grey) <= _THICKNESS[0] or bright <= dark:
        return None
    calipers = np.array([_calipers(*strip) for strip in zip(grey.T, *_trace(grey), strict=True)])
    seen = calipers[:, 2] >= MIN_RISE * (bright - dark)
    if seen.sum() < max(MIN_SHARE * len(seen), _BEND + 2):
        return None
    columns, borders = columns[seen], calipers[seen, :2]
    apart, slope = _beside_a_curve(columns, borders)
    upper, lower = borders.T
    smooth = apart <= MAX_WAVER * np.median(lower - upper)
    return Borders(columns, upper, lower, slope) if smooth else None


def _beside_a_curve(columns: Greys, borders: Greys) -> tuple[float, Greys]:
    """How far the rougher of two borders [K, 2] wavers about a smooth curve, rows, and [K] the slope of both curves."""
    middle, reach = columns.mean(), np.ptp(columns)
    along = (columns - middle) / reach
    bend = polynomial.polyfit(along, borders, _BEND)
    apart = (borders - polynomial.polyval(along, bend).T).std(axis=0).max()
    return float(apart), polynomial.polyval(along, polynomial.polyder(bend).mean(axis=1)) / reach


def _strips(roi: Greys) -> tuple[Greys, Greys]:
    """[H, K] neighbouring columns averaged, and smoothed along the rows; [K] the columns in their middles."""
    edges = np.linspace(0, roi.shape[1], max(roi.shape[1] // STRIP, 1) + 1).astype(int)
    grey = np.add.reduceat(roi, edges[:-1], axis=1) / np.diff(edges)
    return gaussian_filter1d(grey, _SMOOTHING, axis=0, mode="nearest"), (edges[:-1] + edges[1:] - 1) / 2


def _trace(grey: Greys) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[K] the rows of both edges of the band that, over all strips, is darkest and has the steepest edges."""
    gain = _gain(grey)
    best = [gain[0]]  # by strip, row and thickness: of all bands that end there
    for of_strip in gain[1:]:
        best.append(maximum_filter(best[-1], size=_REACH, mode="constant", cval=-np.inf) + of_strip)
    row, thick = np.unravel_index(best[-1].argmax(), best[-1].shape)
    path = [(row, thick)]
    for before in reversed(best[:-1]):
        top, thinnest = max(row - _REACH[0] // 2, 0), max(thick - _REACH[1] // 2, 0)
        near = before[top : row + _REACH[0] // 2 + 1, thinnest : thick + _REACH[1] // 2 + 1]
        row, thick = np.unravel_index(near.argmax(), near.shape) + np.array((top, thinnest))
        path.append((row, thick))
    upper, thicks = np.array(path[::-1]).T
    return upper, upper + thicks + _THICKNESS[0]


def _gain(grey: Greys) -> Greys:
    """[K, H, T] how much a band is worth in each strip that begins at a row and has one of T thicknesses."""
    height, strips = grey.shape
    least, most = _THICKNESS[0], min(_THICKNESS[1], height - 1)
    slope = np.gradient(grey, axis=0)
    above = np.concatenate([np.zeros((1, strips)), np.cumsum(grey, axis=0)])  # the sum of the rows above each
    gain = np.full((strips, height, most - least + 1), -np.inf)
    for thick in range(least, most + 1):
        inside = (above[thick:-1] - above[1 : height - thick + 1]) / (thick - 1)
        gain[:, : height - thick, thick - least] = (slope[thick:] - slope[:-thick] - _DARKNESS * inside).T
    return gain


def _calipers(grey: Greys, upper: int, lower: int) -> tuple[float, float, float]:
    """Rows of both calipers in a strip, and how far the dimmer line rises above the band."""
    darkest = upper + int(grey[upper : lower + 1].argmin())
    up, rise_up = _caliper(grey[darkest::-1], darkest - upper)
    down, rise_down = _caliper(grey[darkest:], lower - darkest)
    return darkest - up, darkest + down, min(rise_up, rise_down)


def _caliper(outward: Greys, edge: int) -> tuple[float, float]:
    """Rows from the band's darkest one to the caliper, and how far the line rises above it; zeros without a line.

    Args:
        outward: grey levels from the darkest row to the ROI's end.
        edge: the steepest of its places, within which the line begins.
    """
    peak = edge
    while peak + 1 < len(outward) and outward[peak + 1] > outward[peak]:
        peak += 1
    rise = float(outward[peak] - outward[0])
    if rise <= 0:
        return 0.0, 0.0
    level = outward[0] + CALIPER * rise
    beyond = int((outward >= level).argmax())
    return beyond - float((outward[beyond] - level) / (outward[beyond] - outward[beyond - 1])), rise
