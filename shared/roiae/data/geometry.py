"""Boxes that follow their frame: x0, y0, x1, y1 in pixels, x to the right, y down, end exclusive."""

import numpy as np
from numpy.typing import NDArray


def resize_boxes(boxes: NDArray[np.int64], from_sizes: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Boxes after each frame was resized to `side` × `side`, each axis by its own factor.

    A start is rounded down and an end up, so that the box still covers what it covered. It stays inside the frame and
    holds at least one pixel. Integers throughout: no rounding depends on the machine.

    Args:
        boxes: [N, 4] in pixels of the stored frames.
        from_sizes: [N, 2], width and height of the stored frames.
        side: width and height of the resized frames, in pixels.

    Returns:
        [N, 4] in pixels of the resized frames.
    """
    start = np.clip(boxes[:, :2] * side // from_sizes, 0, side - 1)
    end = np.clip(-(-boxes[:, 2:] * side // from_sizes), start + 1, side)
    return np.concatenate([start, end], axis=1)
