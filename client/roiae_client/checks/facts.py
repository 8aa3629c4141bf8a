"""What the pixels of a frame say, measured once at the model's size: range, perceptual hash, strokes of overlay."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

_BATCH = 64
_HASH_GRID = 64  # px that a frame is averaged to
_HASH_WAVES = 16  # lowest frequencies along each axis
_STROKE_PX = 7  # wider than a letter's stroke or a ruler's line at 256 px
_STROKE = 70  # grey levels above its surroundings that make a stroke: speckle stays below on real frames
_DARK_GROUND = 25  # grey levels
_DOT = 40  # grey levels of sharpness
_DOT_OVER_ECHOES = 5
_BRIGHTEST = 99.9  # percentile
_LEVELS = (1, 25, 50, 75, 99)  # percentiles


@dataclass(frozen=True)
class Facts:
    """Of N frames, in their order."""

    spread: NDArray[np.float32]  # [N], standard deviation of the grey levels
    brightest: NDArray[np.float32]  # [N], 99.9th percentile of the grey levels
    levels: NDArray[np.float32]  # [N, 5], 1st, 25th, 50th, 75th and 99th percentile of the grey levels
    hashes: NDArray[np.bool_]  # [N, 255]
    text_bands: NDArray[np.int64]  # [N], bands that look like text on dark ground
    marked: NDArray[np.bool_]  # [N], whether a dot sharper than the frame's echoes lies at the ROI
    always_stroke: NDArray[np.float64]  # [S, S], share of the frames that have a stroke there
    histogram: NDArray[np.int64]  # [256], grey levels of all frames


def measure(
    frames: NDArray[np.uint8], rois: NDArray[np.int64], on_frame: Callable[[int, int], None] | None = None
) -> Facts:
    """Facts of frames [N, S, S] with ROIs [N, 4], N at least 1, in batches: their memory does not grow with N."""
    spread, brightest, levels, hashes, bands, marked = [], [], [], [], [], []
    always_stroke = np.zeros(frames.shape[1:])
    histogram = np.zeros(256, dtype=np.int64)
    for start in range(0, len(frames), _BATCH):
        batch = np.array(frames[start : start + _BATCH])
        flat = batch.reshape(len(batch), -1)
        spread.append(flat.std(axis=1, dtype=np.float32))
        counts = np.stack([np.bincount(frame, minlength=256) for frame in flat])
        below = counts.cumsum(axis=1) / flat.shape[1]
        brightest.append((below < _BRIGHTEST / 100).sum(axis=1))
        levels.append(np.stack([(below < share / 100).sum(axis=1) for share in _LEVELS], axis=1))
        histogram += counts.sum(axis=0)
        hashes.append(perceptual_hashes(batch))
        strokes = stroke_maps(batch)
        always_stroke += strokes.sum(axis=0)
        bands += [count_text_bands(frame, stroke) for frame, stroke in zip(batch, strokes, strict=True)]
        marked += [is_marked(frame, roi) for frame, roi in zip(batch, rois[start : start + _BATCH], strict=True)]
        if on_frame is not None:
            on_frame(start + len(batch), len(frames))
    return Facts(
        spread=np.concatenate(spread),
        brightest=np.concatenate(brightest).astype(np.float32),
        levels=np.concatenate(levels).astype(np.float32),
        hashes=np.concatenate(hashes),
        text_bands=np.array(bands),
        marked=np.array(marked),
        always_stroke=always_stroke / len(frames),
        histogram=histogram,
    )


def perceptual_hashes(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """[N, 255]: whether each low frequency of the frame's cosine transform lies above the frame's median.

    On 523 real frames, two women differ in 54 bits and more; a frame differs from itself in 6 after JPEG at quality 50,
    in 26 after a shift by 2 px.
    """
    number, side, _ = frames.shape
    block = side // _HASH_GRID
    coarse = frames[:, : block * _HASH_GRID, : block * _HASH_GRID].reshape(number, _HASH_GRID, block, _HASH_GRID, block)
    waves = fft.dctn(coarse.mean((2, 4), dtype=np.float32), axes=(1, 2), norm="ortho")
    lowest = waves[:, :_HASH_WAVES, :_HASH_WAVES].reshape(number, -1)[:, 1:]  # without the mean
    above: NDArray[np.bool_] = lowest > np.median(lowest, axis=1, keepdims=True)
    return above


def stroke_maps(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """[N, S, S]: pixels of thin bright lines, by a white top-hat: the frame less its opening."""
    eroded = _window(_window(frames, 1, np.minimum), 2, np.minimum)
    opened = _window(_window(eroded, 1, np.maximum), 2, np.maximum)
    thin: NDArray[np.bool_] = (frames - np.minimum(opened, frames)) >= _STROKE
    return thin


def count_text_bands(frame: NDArray[np.uint8], strokes: NDArray[np.bool_]) -> int:
    """Groups of strokes side by side, as high as letters and wider than high, with dark rows above and below."""
    joined = _window(_window(strokes[None].view(np.uint8), 2, np.maximum), 2, np.minimum)[0]
    labels, _ = ndimage.label(joined)
    side = len(frame)
    found = 0
    for rows, columns in ndimage.find_objects(labels):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if not (0.01 * side <= height <= 0.04 * side and width >= 0.04 * side and width >= 1.5 * height):
            continue
        changes = np.abs(np.diff(frame[rows, columns].astype(np.int16), axis=1)).mean()
        around = slice(max(columns.start - 3, 0), columns.stop + 3)
        rims = [frame[max(rows.start - 3, 0), around], frame[min(rows.stop + 2, side - 1), around]]
        dark = np.median(np.concatenate(rims)) < _DARK_GROUND
        found += bool(dark and changes > 25 and strokes[rows, columns].mean() > 0.25)
    return found


def is_marked(frame: NDArray[np.uint8], roi: NDArray[np.int64]) -> bool:
    """Whether the ROI, or the pixels beside it, hold a dot sharper than the frame's echoes, as a caliper's.

    Sharpness is the smaller of the two second differences, along x and y: a line has one, a dot both. An echo is as
    wide as the beam; what is drawn onto the frame is as wide as a pixel. At three real sites 100, 80 and 39 % of the
    ROIs have a dot (calipers, or what painting over left of them), and 13, 11 and 5 % of equal boxes elsewhere.
    """
    grey = frame.astype(np.int16)
    margin = len(frame) // 85 + 1
    x0, y0, x1, y1 = roi
    at_roi = _sharpness(grey[max(y0 - margin, 0) : y1 + margin, max(x0 - margin, 0) : x1 + margin], every=1)
    echoes = _sharpness(grey, every=4)[frame[1:-1:4, 1:-1] > _DARK_GROUND]
    at_or_below = np.bincount(echoes, minlength=1).cumsum()
    usual = int(np.searchsorted(at_or_below, 0.95 * at_or_below[-1]))
    return bool(at_roi.max(initial=0) > max(_DOT, _DOT_OVER_ECHOES * usual))


def _sharpness(grey: NDArray[np.int16], every: int) -> NDArray[np.int16]:
    """The smaller of the two second differences at the inner pixels of every row, or of every fourth."""
    above, here, below = grey[:-2:every], grey[1:-1:every], grey[2::every]
    twice = 2 * here[:, 1:-1]
    along_x = np.abs(twice - here[:, :-2] - here[:, 2:])
    smaller: NDArray[np.int16] = np.minimum(along_x, np.abs(twice - above[:, 1:-1] - below[:, 1:-1]))
    return smaller


def _window(values: NDArray[np.uint8], axis: int, extreme: Any) -> NDArray[np.uint8]:
    """The least or greatest of the `_STROKE_PX` pixels round each, along an axis; in three steps, not six."""
    reach = _STROKE_PX // 2
    padding = [(reach, reach) if at == axis else (0, 0) for at in range(values.ndim)]
    wide = np.moveaxis(np.pad(values, padding, mode="edge"), axis, 0)
    pair = extreme(wide[:-1], wide[1:])
    four = extreme(pair[:-2], pair[2:])
    seven: NDArray[np.uint8] = np.moveaxis(extreme(four[:-3], four[3:]), 0, axis)
    return seven
