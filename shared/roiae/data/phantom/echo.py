"""From tissue to grey levels, as a curved probe sees it: on beams that fan out from a virtual apex above the frame.

The echo is coherent: scatterers are complex Gaussian noise, scaled by the tissue's amplitude and blurred by the
point-spread function; the magnitude is Rayleigh speckle (Wagner et al. 1983, doi:10.1109/T-SU.1983.31404). A blur of
constant angle widens with depth, as beams do. Attenuation, log compression and conversion to the frame's grid follow.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, map_coordinates

from roiae.data.phantom.anatomy import Map
from roiae.data.phantom.scanners import Scanner
from roiae.data.phantom.tissue import Tissue

_ECHO_RANGE_DB = 60.0  # echogenicity 0 lies this far below echogenicity 1
_SHADOW_DB_PER_MM = 6.0  # lost in bone, there and back
_FLOOR_DB = -90.0  # of the receiver


@dataclass(frozen=True)
class Beams:
    """The polar grid on which a scanner samples, about a pixel apart in mid-frame."""

    depth: Map  # [D], mm from the apex
    angle: Map  # [A], rad from straight down
    x: Map  # [D, A], mm in the frame
    y: Map  # [D, A]
    psf: tuple[float, float]  # the point-spread function's standard deviations in samples, along D and along A


def lay_beams(scanner: Scanner, side: int) -> Beams:
    """Beams that cover the sector's part in a frame of side × side pixels."""
    pixel, half_field = scanner.field_mm / side, scanner.field_mm / 2
    middle = scanner.apex_mm + half_field
    farthest = math.hypot(half_field, scanner.apex_mm + scanner.field_mm)
    depth = np.arange(scanner.apex_mm + scanner.top_mm, farthest + pixel, pixel, dtype=np.float32)
    beams = int(2 * scanner.half_angle * middle / pixel) + 2
    angle = np.linspace(-scanner.half_angle, scanner.half_angle, beams, dtype=np.float32)
    x = half_field + depth[:, None] * np.sin(angle)
    y = depth[:, None] * np.cos(angle) - scanner.apex_mm
    spacing = 2 * scanner.half_angle / (beams - 1)
    return Beams(depth, angle, x, y, psf=(scanner.axial_mm / pixel, scanner.lateral_mm / (middle * spacing)))


def echo_envelope(tissue: Tissue, beams: Beams, looks: int, rng: np.random.Generator) -> Map:
    """[D, A] echo amplitude before attenuation: 1 at a wide, strong interface; the RMS of speckle is its tissue's."""
    lines = _blur(_amplitude(tissue.specular), beams.psf)
    # Blurring white noise divides its power by 2√π σ along each axis; half the power is real, half imaginary.
    gain = math.sqrt(0.5 * math.prod(max(1.0, 2.0 * math.sqrt(math.pi) * sigma) for sigma in beams.psf))
    scatter = gain * _amplitude(tissue.diffuse)
    total = np.zeros_like(lines)
    for _ in range(looks):
        real, imaginary = rng.standard_normal((2, *lines.shape), dtype=np.float32)
        total += np.hypot(_blur(scatter * real, beams.psf) + lines, _blur(scatter * imaginary, beams.psf))
    return total / looks


def grey_levels(envelope: Map, tissue: Tissue, scanner: Scanner, beams: Beams) -> Map:
    """[D, A] in [0, 255]: the envelope attenuated, shadowed by bone, amplified and log compressed."""
    bone_mm = np.cumsum(np.maximum(tissue.specular - 0.8, 0.0), axis=0) * (beams.depth[1] - beams.depth[0])
    fade_db = scanner.fade_db_per_cm * 0.1 * (beams.depth - beams.depth[0])[:, None]
    level_db = 20.0 * np.log10(envelope + 10.0 ** (_FLOOR_DB / 20)) - fade_db - _SHADOW_DB_PER_MM * bone_mm
    share = np.clip(1.0 + (level_db + scanner.gain_db) / scanner.dynamic_range_db, 0.0, 1.0)
    grey: Map = 255.0 * share**scanner.gamma
    return grey


def scan_convert(grey: Map, scanner: Scanner, beams: Beams, side: int) -> Map:
    """[side, side] in [0, 255]: the beams interpolated onto the frame's pixels, the backdrop outside the sector."""
    pixels = (np.arange(side, dtype=np.float32) + 0.5) * (scanner.field_mm / side)
    across, down = pixels[None, :] - scanner.field_mm / 2, pixels[:, None] + scanner.apex_mm
    row = (np.hypot(across, down) - beams.depth[0]) / (beams.depth[1] - beams.depth[0])
    column = (np.arctan2(across, down) - beams.angle[0]) / (beams.angle[1] - beams.angle[0])
    frame: Map = map_coordinates(grey, np.stack((row, column)), order=1, cval=float(scanner.backdrop))
    return frame


def _amplitude(echogenicity: Map) -> Map:
    """Amplitude from echogenicity, its lower end moved to 0 so that no echo stays none."""
    lowest = 10.0 ** (-_ECHO_RANGE_DB / 20)
    amplitude: Map = np.exp(echogenicity * -math.log(lowest)) * lowest - lowest
    return amplitude


def _blur(field: Map, psf: tuple[float, float]) -> Map:
    for axis, sigma in enumerate(psf):
        field = gaussian_filter1d(field, sigma, axis=axis, truncate=3.0)
    return field
