"""The NT's thickness, read from bands that are drawn here, from phantoms that know theirs, and from real frames."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from roiae.data.frames import read_frame, square_frame
from roiae.data.phantom import SCANNERS, draw_phantom
from roiae.method.nt import CALIPER, find_borders
from tests.conftest import REAL_FRAMES

Roi = NDArray[np.float64]
SKIRT = 5.0  # px over which a line fades into the fluid, as log compression makes it


def band(thickness: float, middle: float = 20.0, tilt: float = 0.0, shape: tuple[int, int] = (40, 90)) -> Roi:
    """A dark band between two bright lines 4 px thick; its borders lie where a line has risen by CALIPER.

    Args:
        thickness: px, at right angles to the band.
        middle: row of the band's middle in the middle column.
        tilt: degrees.
    """
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    angle = np.radians(tilt)
    outside = np.abs((rows - middle) * np.cos(angle) - (columns - shape[1] / 2) * np.sin(angle)) - thickness / 2
    line = np.clip(CALIPER + outside / SKIRT, 0, 1) * np.clip(1 - (outside - 4) / 3, 0.4, 1)
    return np.asarray(0.1 + 0.7 * line)


def read(roi: Roi, pixel: tuple[float, float] = (1.0, 1.0)) -> float:
    borders = find_borders(roi)
    assert borders is not None
    return borders.thickness(pixel)


@settings(max_examples=40, deadline=None)
@given(
    thickness=st.floats(9, 16),
    middle=st.floats(19, 21),
    tilt=st.floats(-8, 8),
    gain=st.floats(0.1, 300),
    offset=st.floats(-0.5, 50),
)
def test_a_band_has_its_thickness_wherever_it_lies_and_on_any_scale(
    thickness: float, middle: float, tilt: float, gain: float, offset: float
) -> None:
    assert read(gain * band(thickness, middle, tilt) + offset) == pytest.approx(thickness, abs=0.35)


def test_a_tenth_of_a_pixel_is_seen() -> None:
    read_out = [read(band(thickness)) for thickness in np.arange(9, 12, 0.1)]

    np.testing.assert_allclose(np.diff(read_out), 0.1, atol=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_a_tenth_of_the_lines_moves_a_border_by_a_fraction_of_a_pixel(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.07, (40, 90))

    assert read(band(10.0, tilt=4.0) + noise) == pytest.approx(10.0, abs=0.6)


@pytest.mark.parametrize("tilt", [0.0, 10.0, -20.0])
def test_pixels_that_are_not_square_are_reckoned_with(tilt: float) -> None:
    """A band of 12 px in a frame whose columns were then squeezed to two thirds, and its rows to a half."""
    whole = gaussian_filter(band(16.0, 60, tilt, (120, 180)), 1.0)
    squeezed = whole.reshape(60, 2, 60, 3).mean(axis=(1, 3))

    assert read(squeezed, (3.0, 2.0)) == pytest.approx(16.0, abs=0.8)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_read_where_no_two_lines_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, 40)[:, None] + np.zeros((40, 90))
    speckle = gaussian_filter(rng.rayleigh(1.0, (40, 90)), (0.8, 2.0))
    one_line = band(12.0)[20:]
    for roi in (np.zeros((40, 90)), np.full((40, 90), np.nan), ramp, one_line, speckle, np.ones((1, 1)), band(10)[:2]):
        assert find_borders(roi) is None


@pytest.mark.parametrize("shape", [(3, 3), (4, 1), (1, 50), (50, 1), (200, 220), (3, 200)])
def test_any_roi_is_borne(shape: tuple[int, int]) -> None:
    find_borders(np.random.default_rng(0).random(shape))


@pytest.mark.parametrize(("scanner", "most"), [(0, 0.6), (1, 0.3), (2, 1.0), (3, 0.4)])
def test_a_phantoms_thickness_is_its_true_one(scanner: int, most: float) -> None:
    """Within `most` px of 0.17 to 0.2 mm; the scatter is a fifth of a pixel, the rest the scanner's own blooming."""
    errors = []
    for seed in range(8):
        phantom = draw_phantom(SCANNERS[scanner], seed)
        x0, y0, x1, y1 = phantom.roi
        millimetres = read(phantom.frame[y0:y1, x0:x1].astype(float), (phantom.mm_per_px, phantom.mm_per_px))
        errors.append((millimetres - phantom.nt_mm) / phantom.mm_per_px)

    assert np.abs(errors).max() < most
    assert np.std(errors) < 0.3


@pytest.mark.real_frames
@pytest.mark.skipif(not REAL_FRAMES.is_dir(), reason="the real frames are not beside the checkout")
@pytest.mark.parametrize("site", ["ge_a", "ge_b", "philips"])
def test_most_real_frames_show_both_lines(site: str) -> None:
    with (REAL_FRAMES / site / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))[::6]
    found = [_real_thickness(REAL_FRAMES / site, row) for row in rows]
    thickness = [of for of in found if of is not None]

    assert len(thickness) >= 0.85 * len(rows)
    assert 9 < np.median(thickness) < 17  # px of frames some 480 px wide, about 2 mm


def _real_thickness(folder: Path, row: dict[str, str]) -> float | None:
    frame = read_frame(folder / row["image"]).pixels
    x0, y0, x1, y1 = (int(row[name]) for name in ("roi_x0", "roi_y0", "roi_x1", "roi_y1"))
    height, width = np.array(frame.shape) / 256
    box = np.array((y0 / height, y1 / height, x0 / width, x1 / width)).astype(int)
    borders = find_borders(square_frame(frame, 256)[box[0] : box[1], box[2] : box[3]].astype(float))
    return borders.thickness((float(width), float(height))) if borders else None
