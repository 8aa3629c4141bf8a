"""Phantom hospitals: first-trimester frames drawn by formula, with the true thickness of the nuchal translucency (NT).

They are a sketch of the view, good for tests, demonstrations and `roiae-server simulate`; no result about patients can
be drawn from them. Nothing is stored or downloaded: a scanner and a seed give the same frame every time.
"""

import csv
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roiae.data.phantom.anatomy import LINE_MM, Anatomy, draw_anatomy
from roiae.data.phantom.echo import echo_envelope, grey_levels, lay_beams, scan_convert
from roiae.data.phantom.overlay import INSET, draw_overlay
from roiae.data.phantom.scanners import SCANNERS, Scanner
from roiae.data.phantom.tissue import tissue_at

__all__ = ["SCANNERS", "Phantom", "Scanner", "draw_phantom", "write_hospital"]

_MARGIN_PX = 2  # round the NT and its two lines


@dataclass(frozen=True)
class Phantom:
    """One frame and what is known about it."""

    frame: NDArray[np.uint8]  # [side, side]
    roi: tuple[int, int, int, int]  # x0, y0, x1, y1 px, end exclusive: the NT and its two lines
    nt_mm: float  # true thickness of the NT, inner border to inner border
    mm_per_px: float


def draw_phantom(scanner: Scanner, seed: int, *, side: int = 256) -> Phantom:
    """The frame, side × side px, that this scanner takes of fetus number `seed`; each scanner has its own fetuses.

    The anatomy does not depend on `side`, which may be as small as 64. Equal arguments give equal bytes on one machine.
    """
    rng = np.random.default_rng(_entropy(scanner, seed))
    anatomy = draw_anatomy(rng, scanner.field_mm)
    beams = lay_beams(scanner, side)
    tissue = tissue_at(anatomy, beams.x, beams.y)
    grey = grey_levels(echo_envelope(tissue, beams, scanner.looks, rng), tissue, scanner, beams)
    frame = np.rint(scan_convert(grey, scanner, beams, side)).astype(np.uint8)
    draw_overlay(frame, scanner.overlay)
    return Phantom(frame, nt_box(anatomy, scanner, side), anatomy.nt_mm, scanner.field_mm / side)


def nt_box(anatomy: Anatomy, scanner: Scanner, side: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 px, end exclusive, round the stretch of NT that the frame shows, with its two lines."""
    u = np.linspace(*anatomy.stretch, 200)
    reach = anatomy.nt_mm / 2 + LINE_MM
    x, y = np.array([anatomy.to_frame(u, anatomy.back(u) + offset) for offset in (-reach, reach)]).swapaxes(0, 1)
    shown = np.abs(np.arctan2(x - scanner.field_mm / 2, y + scanner.apex_mm)) < scanner.half_angle
    right_end = INSET[0] if "inset" in scanner.overlay else 1.0
    shown &= (x > 0) & (x < right_end * scanner.field_mm)
    x, y = (axis[:, shown.all(axis=0)] * (side / scanner.field_mm) for axis in (x, y))
    x0, y0 = max(math.floor(x.min()) - _MARGIN_PX, 0), max(math.floor(y.min()) - _MARGIN_PX, 0)
    return x0, y0, min(math.ceil(x.max()) + _MARGIN_PX, side), min(math.ceil(y.max()) + _MARGIN_PX, side)


def write_hospital(folder: Path, scanner: Scanner, *, subjects: int, seed: int, side: int = 256) -> None:
    """Writes `images/*.png` and `manifest.csv`, one frame a subject, laid out as a hospital keeps its own data.

    Two hospitals with the same scanner need different seeds, or they share their subjects.
    The manifest comes last: a folder that has one is complete.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(1, subjects + 1):
        phantom = draw_phantom(scanner, _entropy(seed, number), side=side)
        image = f"images/{number:04d}.png"
        Image.fromarray(phantom.frame).save(folder / image)
        rows.append((image, f"S{number:04d}", *phantom.roi, f"{phantom.mm_per_px:.6f}", f"{phantom.nt_mm:.3f}"))
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "subject", "roi_x0", "roi_y0", "roi_x1", "roi_y1", "mm_per_px", "nt_mm"))
        writer.writerows(rows)


def _entropy(*of: object) -> int:
    """128 bits that depend on every part of the arguments and on nothing else."""
    return int.from_bytes(hashlib.sha256(repr(of).encode()).digest()[:16], "big")
