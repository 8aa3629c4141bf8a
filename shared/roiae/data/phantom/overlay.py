"""What scanners burn into their frames: grey bars, a depth ruler, lines of text, an inset."""

import numpy as np
from numpy.typing import NDArray

from roiae.data.phantom.scanners import Overlay

Frame = NDArray[np.uint8]

INSET = (
    0.72,
    0.76,
)  # share of the frame's width and height at which the inset begins; it ends in the lower right corner


def draw_overlay(frame: Frame, overlay: tuple[Overlay, ...]) -> None:
    """Draws onto the frame, in place."""
    for part in overlay:
        match part:
            case "bar left":
                _bar(frame, 0.004)
            case "bar right":
                _bar(frame, 0.95)
            case "ruler":
                _ruler(frame)
            case "text left":
                _text(frame, 0.01, lines=7)
            case "text right":
                _text(frame, 0.87, lines=4)
            case "inset":
                _inset(frame)


def _bar(frame: Frame, left: float) -> None:
    """The grey map, white at its top."""
    side = len(frame)
    rows, columns = slice(int(0.06 * side), int(0.32 * side)), slice(int(left * side), int((left + 0.018) * side))
    frame[rows, columns] = np.linspace(255, 0, rows.stop - rows.start)[:, None].astype(np.uint8)


def _ruler(frame: Frame) -> None:
    """A depth scale with a tick every eleventh of the frame's height."""
    side = len(frame)
    column, rows = int(0.9 * side), slice(int(0.12 * side), int(0.72 * side))
    frame[rows, column] = 170
    frame[rows.start : rows.stop : side // 11, column : column + max(2, side // 64)] = 210


def _text(frame: Frame, left: float, *, lines: int) -> None:
    """Lines of letters too small to read, the same in every frame."""
    side, letters = len(frame), np.random.default_rng(7)
    pixel = max(1, side // 256)
    for line in range(lines):
        glyphs = letters.random((4, 4 * int(letters.integers(3, 8)))) < 0.6
        glyphs[:, 3::4] = False
        dots = np.kron(glyphs, np.ones((pixel, pixel), dtype=bool))
        top, start = int((0.03 + 0.032 * line) * side), int(left * side)
        target = frame[top : top + dots.shape[0], start : start + dots.shape[1]]
        target[dots[: target.shape[0], : target.shape[1]]] = 190


def _inset(frame: Frame) -> None:
    """The whole frame again, small and framed, in the lower right corner."""
    side = len(frame)
    corner = frame[int(INSET[1] * side) :, int(INSET[0] * side) :]
    rows = np.linspace(0, side - 1, corner.shape[0]).astype(int)
    columns = np.linspace(0, side - 1, corner.shape[1]).astype(int)
    corner[...] = frame[np.ix_(rows, columns)] // 3 * 2
    corner[0], corner[:, 0] = 110, 110
