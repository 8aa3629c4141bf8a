"""`python -m roiae.data.phantom docs/phantoms.png` draws the README's picture: a row for each of the first scanners."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from roiae.data.phantom import SCANNERS, draw_phantom


def draw_sheet(path: Path, scanners: int = 3, frames: int = 3) -> None:
    """A grid of frames, a row for each scanner; the last column repeats the one before it with its ROI outlined."""
    rows = []
    for scanner in SCANNERS[:scanners]:
        phantoms = [draw_phantom(scanner, seed) for seed in range(frames)]
        marked = Image.fromarray(phantoms[-1].frame)
        x0, y0, x1, y1 = phantoms[-1].roi
        ImageDraw.Draw(marked).rectangle((x0, y0, x1 - 1, y1 - 1), outline=255)
        rows.append(np.hstack([phantom.frame for phantom in phantoms] + [np.asarray(marked)]))
    Image.fromarray(np.vstack(rows)).save(path, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].endswith(".png"):
        sys.exit(__doc__)
    draw_sheet(Path(sys.argv[1]))
