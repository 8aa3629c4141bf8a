"""What the fetus and its surroundings send back: two echogenicity maps, drawn from signed distances.

A signed distance is in mm, negative inside its shape and 0 on the border.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roiae.data.phantom.anatomy import LINE_MM, TAPER_MM, Anatomy, Map

_EDGE_MM = 0.12  # a border fades over this width; its middle is the true border

# Each structure: (p, q) in semi-axes of the skull, its own semi-axes in mm, rotation in rad, echogenicity.
_BRAIN = (
    ((0.10, -0.40), (6.5, 2.4), 0.15, 0.30),  # lateral ventricle
    ((-0.15, -0.42), (3.6, 1.4), 0.15, 0.66),  # choroid plexus
    ((0.15, 0.12), (3.4, 2.6), -0.30, 0.34),  # thalamus and midbrain
    ((-0.40, 0.35), (2.6, 2.0), 0.30, 0.56),  # cerebellum
    ((0.02, 0.58), (3.4, 0.8), -0.10, 0.22),  # intracranial translucency
)
_BONES = (
    ((0.78, -0.42), (2.2, 0.40), 0.95, 0.85),  # forehead
    ((1.06, -0.08), (1.7, 0.38), 0.55, 0.95),  # nasal bone
    ((1.00, 0.22), (2.6, 0.95), 0.20, 0.92),  # upper jaw
    ((0.95, 0.62), (2.3, 0.55), 0.25, 0.88),  # lower jaw
    ((0.45, 0.62), (2.6, 0.40), 0.05, 0.90),  # base of the skull
    ((0.55, 0.80), (2.2, 0.35), 0.00, 0.80),
    ((0.62, 0.97), (2.0, 0.35), -0.05, 0.74),
)


@dataclass(frozen=True)
class Tissue:
    """Echogenicity, from 0 (none) to 1 (the strongest echo), in equal steps of decibels; both maps on one scale."""

    diffuse: Map  # scatterers too small to be seen: they make speckle
    specular: Map  # smooth interfaces and bone: they make the bright lines


def tissue_at(anatomy: Anatomy, x: Map, y: Map) -> Tissue:
    """The tissue at points (x, y) in mm of the frame; x and y have one shape, and y grows along the first axis."""
    u, v = anatomy.to_fetus(x, y)
    tissue = Tissue(np.full_like(u, 0.02), np.zeros_like(u))
    mottling = _mottling(anatomy, u, v)
    _draw_uterus(tissue, anatomy, u, v)
    _draw_body(tissue, anatomy, u, v)
    p, q = anatomy.to_head(u, v)
    _draw_head(tissue, anatomy, p, q)
    _draw_bones(tissue, anatomy, p, q)
    _draw_spine(tissue, anatomy, u, v)
    tissue.diffuse[...] *= 1.0 + 0.30 * mottling
    tissue.specular[...] *= 1.0 + 0.30 * mottling
    _draw_nt(tissue, anatomy, u, v)
    return tissue


def _mottling(anatomy: Anatomy, u: Map, v: Map) -> Map:
    """A slow random texture about 0 with a standard deviation of about 0.25."""
    texture = np.zeros_like(u)
    for along, deep, phase in anatomy.waves:
        texture += np.sin(along * u + deep * v + phase)
    return texture * (0.25 / math.sqrt(len(anatomy.waves) / 2))


def _draw_uterus(tissue: Tissue, anatomy: Anatomy, u: Map, v: Map) -> None:
    """The uterine wall around the amniotic cavity, an ellipse whose lowest point lies under the back."""
    along, deep = anatomy.cavity
    bottom = anatomy.nt_mm / 2 + LINE_MM + anatomy.fluid
    wall = -_ellipse(u, v, (6.0 + 3.0 * anatomy.jitter[0], bottom - deep), (along, deep))
    _paint(tissue.diffuse, wall, 0.52)
    _paint(tissue.specular, np.abs(wall) - 0.3, 0.35)


def _draw_body(tissue: Tissue, anatomy: Anatomy, u: Map, v: Map) -> None:
    """Head, neck and trunk as one outline that the back cuts off; the skin is bright where it faces the beam."""
    shift, (p, q) = anatomy.jitter[1:4], anatomy.to_head(u, v)
    head = _ellipse(p, q, (0.0, 0.0), anatomy.head) - 0.9
    snout = _ellipse(p, q, _in_head(anatomy, (0.86, 0.30)), (4.2, 5.4))
    chest = _ellipse(u, v, (32.0 + 1.5 * shift[0], -8.0), (15.0, 10.5 + shift[1]))
    belly = _ellipse(u, v, (50.0, -9.0), (17.0, 12.0 + shift[2]))
    neck = np.maximum(np.abs(u - 26.0) - 23.0, -5.5 - v)
    outline = _blend(_blend(_blend(head, snout, 1.5), neck, 4.0), _blend(chest, belly, 3.0), 4.0)
    outline = np.maximum(outline, anatomy.below_back(u, v) + anatomy.nt(u) / 2)
    _paint(tissue.diffuse, outline, 0.54)
    _paint(tissue.diffuse, _ellipse(u, v, (27.0 + shift[0], -8.0), (6.0, 3.8)), 0.44, soft=2.5)
    facing = np.gradient(outline, axis=0) / np.maximum(np.gradient(v, axis=0), 1e-3)
    _paint(tissue.specular, np.abs(outline) - 0.22, 0.22 + 0.48 * np.clip(facing, -1.0, 1.0) ** 2)


def _draw_head(tissue: Tissue, anatomy: Anatomy, p: Map, q: Map) -> None:
    """The skull, a ring brightest at its top and bottom, which face the beam; the brain inside."""
    tissue, p, q = _crop(tissue, p, q, (0.0, 0.0), anatomy.head[0] + 1.0)
    skull = _ellipse(p, q, (0.0, 0.0), anatomy.head)
    _paint(tissue.diffuse, skull, 0.46)
    for (place, size, turn, echo), nudge in zip(_BRAIN, anatomy.jitter[4:], strict=False):
        middle, grown = _in_head(anatomy, (place[0] + 0.04 * nudge, place[1])), 1.0 + 0.1 * nudge
        spot, spot_p, spot_q = _crop(tissue, p, q, middle, size[0] * grown + 1.0)
        shape = _ellipse(spot_p, spot_q, middle, (size[0] * grown, size[1] * grown), turn)
        _paint(spot.diffuse, shape, echo, soft=0.8)
    slope_p, slope_q = p / anatomy.head[0] ** 2, q / anatomy.head[1] ** 2
    facing = slope_q**2 / np.maximum(slope_p**2 + slope_q**2, 1e-9)
    _paint(tissue.specular, np.abs(skull) - 0.4, 0.45 + 0.45 * facing**3)


def _draw_bones(tissue: Tissue, anatomy: Anatomy, p: Map, q: Map) -> None:
    """Bones of the face and of the skull's base: bright strokes in a halo of echogenic tissue."""
    for (place, size, turn, echo), nudge in zip(_BONES, anatomy.jitter[12:], strict=False):
        middle = _in_head(anatomy, (place[0] + 0.03 * nudge, place[1]))
        spot, spot_p, spot_q = _crop(tissue, p, q, middle, size[0] + 2.0)
        shape = _ellipse(spot_p, spot_q, middle, size, turn + 0.08 * nudge)
        _paint(spot.specular, shape, echo, soft=0.5)
        _paint(spot.diffuse, shape - 1.0, 0.62, soft=1.2)


def _draw_spine(tissue: Tissue, anatomy: Anatomy, u: Map, v: Map) -> None:
    """Vertebrae as a row of short bright dashes above the NT, and a faint sheet of muscle beneath them."""
    depth = anatomy.below_back(u, v) + anatomy.nt_mm / 2
    body = np.maximum(10.0 - u, depth)  # beyond the neck, on the fetus's side of the back
    dashes = np.maximum(np.abs(depth + 4.2) - 0.55, -np.cos(2 * np.pi * u / (2.3 + 0.1 * anatomy.jitter[20])))
    _paint(tissue.specular, np.maximum(dashes, body), 0.80, soft=0.3)
    _paint(tissue.specular, np.maximum(np.abs(depth + 2.2) - 0.2, 4.0 - u), 0.55, soft=0.4)


def _draw_nt(tissue: Tissue, anatomy: Anatomy, u: Map, v: Map) -> None:
    """The anechoic NT between its two bright lines: nuchal tissue above, skin below."""
    below, half = anatomy.below_back(u, v), anatomy.nt(u) / 2
    beyond = np.maximum(anatomy.stretch[0] - u, u - anatomy.stretch[1])
    fading = np.clip(1.0 - beyond / TAPER_MM, 0.0, 1.0)  # the lines end where the NT has closed
    line = (0.86 + 0.09 * np.sin(0.35 * u + anatomy.jitter[21])) * fading
    _paint(tissue.specular, np.abs(below) - half - LINE_MM, line, weight=fading > 0)
    open_here = np.clip(half / 0.25, 0.0, 1.0)
    for layer in (tissue.diffuse, tissue.specular):
        _paint(layer, np.abs(below) - half, 0.0, weight=open_here)


def _paint(layer: Map, distance: Map, echo: Map | float, soft: float = _EDGE_MM, weight: Map | float = 1.0) -> None:
    """Sets the layer to `echo` inside the shape whose signed distance is given; the border fades over `soft` mm."""
    layer += np.clip(0.5 - distance / soft, 0.0, 1.0) * weight * (echo - layer)


def _ellipse(u: Map, v: Map, centre: tuple[float, float], axes: tuple[float, float], turn: float = 0.0) -> Map:
    """Signed distance to an ellipse, to first order: exact on the border, close near it."""
    du, dv = u - centre[0], v - centre[1]
    cos, sin = math.cos(turn), math.sin(turn)
    a, b = (du * cos + dv * sin) / axes[0], (dv * cos - du * sin) / axes[1]
    level = np.sqrt(a * a + b * b)
    slope = np.sqrt((a / axes[0]) ** 2 + (b / axes[1]) ** 2)
    return level * (level - 1.0) / np.maximum(slope, 1e-6)


def _blend(first: Map, second: Map, soft: float) -> Map:
    """Union of two shapes with the seam rounded over `soft` mm (the polynomial smooth minimum)."""
    share = np.maximum(soft - np.abs(first - second), 0.0) / soft
    return np.minimum(first, second) - share * share * soft / 4.0


def _crop(tissue: Tissue, p: Map, q: Map, centre: tuple[float, float], reach: float) -> tuple[Tissue, Map, Map]:
    """Views of the part of the maps that holds every point within `reach` mm of the centre along p and q."""
    inside = (np.abs(p - centre[0]) < reach) & (np.abs(q - centre[1]) < reach)
    part = _extent(inside.any(axis=1)), _extent(inside.any(axis=0))
    return Tissue(tissue.diffuse[part], tissue.specular[part]), p[part], q[part]


def _extent(hit: NDArray[np.bool_]) -> slice:
    places = np.flatnonzero(hit)
    return slice(places[0], places[-1] + 1) if places.size else slice(0, 0)


def _in_head(anatomy: Anatomy, place: tuple[float, float]) -> tuple[float, float]:
    """(p, q) of a place given in semi-axes of the skull."""
    return place[0] * anatomy.head[0], place[1] * anatomy.head[1]
