"""The fetus on paper: one pose, and the sizes that vary from one fetus to the next.

The view is the mid-sagittal one of the nuchal translucency (NT): the fetus lies on its back, face up, head to one side.
Positions in the frame are (x, y): mm from the upper left corner, x to the right, y down.
Positions in the fetus are (u, v): mm from the nape, u towards the body, v towards the back.
Positions in the head are (p, q): mm from the skull's centre, p towards the face, q towards the base.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.floating]

NT_RANGE_MM = (1.0, 3.5)
LINE_MM = 0.5  # thickness of each of the two bright lines that border the NT
TAPER_MM = 8.0  # the NT closes over this length beyond each end of the stretch
_REST_MM = 1.6  # the skull rests this far above the NT's upper line
_LOWEST_U = 6.0  # where along the back the NT lies deepest


@dataclass(frozen=True)
class Anatomy:
    """One fetus. Lengths in mm, angles in radians."""

    nt_mm: float
    stretch: tuple[float, float]  # u of both ends of the stretch in which the NT is nt_mm thick
    nape: tuple[float, float]  # (x, y) of the origin of (u, v): on the NT's middle line, beneath the head
    body_to: int  # 1: the body lies to the right of the head, -1: to the left
    tilt: float
    back_radius: float  # of the back's curve
    head: tuple[float, float]  # semi-axes of the skull, brow to occiput and crown to base
    nod: float  # turn of the head about its centre, chin to chest
    fluid: float  # amniotic fluid between the back and the uterine wall, at its thinnest
    cavity: tuple[float, float]  # semi-axes of the amniotic cavity
    jitter: tuple[float, ...]  # standard normal: small differences in the place and size of the inner structures
    waves: tuple[tuple[float, float, float], ...]  # (rad/mm along u, rad/mm along v, phase): the tissue's mottling

    def to_fetus(self, x: Map, y: Map) -> tuple[Map, Map]:
        """(u, v) of the points (x, y)."""
        dx, dy = self.body_to * (x - self.nape[0]), y - self.nape[1]
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        return dx * cos + dy * sin, dy * cos - dx * sin

    def to_frame(self, u: Map, v: Map) -> tuple[Map, Map]:
        """(x, y) of the points (u, v)."""
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        return self.nape[0] + self.body_to * (u * cos - v * sin), self.nape[1] + u * sin + v * cos

    def to_head(self, u: Map, v: Map) -> tuple[Map, Map]:
        """(p, q) in mm from the skull's centre of the points (u, v): p towards the face, q towards the base."""
        cos, sin = math.cos(self.nod), math.sin(self.nod)
        up = v + self.nt_mm / 2 + LINE_MM + _REST_MM + self.head[1]
        return u * cos + up * sin, up * cos - u * sin

    def back(self, u: Map) -> Map:
        """v of the NT's middle line: a shallow bow that rises towards both ends."""
        return (_LOWEST_U**2 - (u - _LOWEST_U) ** 2) / (2.0 * self.back_radius)

    def below_back(self, u: Map, v: Map) -> Map:
        """Distance of (u, v) from the NT's middle line in mm, positive on the skin's side."""
        slope = (_LOWEST_U - u) / self.back_radius
        distance: Map = (v - self.back(u)) / np.sqrt(1.0 + slope**2)
        return distance

    def nt(self, u: Map) -> Map:
        """Thickness of the NT at u: nt_mm in the stretch, closing smoothly beyond it."""
        outside = np.maximum(self.stretch[0] - u, u - self.stretch[1])
        share = np.clip(outside / TAPER_MM, 0.0, 1.0)
        thickness: Map = self.nt_mm * (1.0 - share * share * (3.0 - 2.0 * share))
        return thickness


def draw_anatomy(rng: np.random.Generator, field_mm: float) -> Anatomy:
    """A fetus that fits a frame of field_mm × field_mm."""
    body_to = int(rng.choice((-1, 1)))
    across, down = rng.uniform(0.34, 0.46), rng.uniform(0.78, 0.85)
    start, size = rng.uniform(-4.0, 3.0), rng.uniform(0.87, 1.1)
    waves = rng.uniform((0.3, 0.0, 0.0), (1.8, 2 * np.pi, 2 * np.pi), (6, 3))
    return Anatomy(
        nt_mm=float(rng.uniform(*NT_RANGE_MM)),
        stretch=(start, start + rng.uniform(0.22, 0.6) * field_mm),
        nape=(field_mm * (across if body_to > 0 else 1.0 - across), field_mm * down),
        body_to=body_to,
        tilt=math.radians(rng.uniform(-3.5, 3.5)),
        back_radius=float(rng.uniform(90.0, 400.0)),
        head=(13.3 * size, 11.6 * size * rng.uniform(0.95, 1.08)),
        nod=rng.uniform(-0.15, 0.3),
        fluid=float(rng.uniform(0.2, 4.5)),
        cavity=(rng.uniform(24.0, 40.0), rng.uniform(20.0, 27.0)),
        jitter=tuple(rng.standard_normal(32).tolist()),
        waves=tuple((k * math.cos(a), k * math.sin(a), phase) for k, a, phase in waves.tolist()),
    )
