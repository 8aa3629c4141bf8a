"""Phantom hospitals: true geometry, honest speckle, scanners that differ, folders that read like a hospital's."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from roiae.data.manifest import read_manifest
from roiae.data.phantom import SCANNERS, Phantom, Scanner, draw_phantom, nt_box, write_hospital
from roiae.data.phantom.anatomy import LINE_MM, NT_RANGE_MM, draw_anatomy
from roiae.data.phantom.echo import echo_envelope, lay_beams
from roiae.data.phantom.tissue import Tissue, tissue_at

every_scanner = pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name)


@every_scanner
def test_a_scanner_and_a_seed_always_give_the_same_frame(scanner: Scanner) -> None:
    first, again, other = (draw_phantom(scanner, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.frame, again.frame)
    assert (first.roi, first.nt_mm) == (again.roi, again.nt_mm)
    assert first.nt_mm != other.nt_mm
    assert (first.frame != other.frame).mean() > 0.2


def test_every_parameter_of_a_scanner_counts() -> None:
    renamed = replace(SCANNERS[0], name="another")
    assert draw_phantom(SCANNERS[0], 0).nt_mm != draw_phantom(renamed, 0).nt_mm


@every_scanner
@pytest.mark.parametrize("side", [64, 192, 256])
def test_size_changes_pixels_and_not_the_fetus(scanner: Scanner, side: int) -> None:
    phantom, large = draw_phantom(scanner, 5, side=side), draw_phantom(scanner, 5, side=512)
    assert phantom.frame.shape == (side, side)
    assert phantom.frame.dtype == np.uint8
    assert phantom.nt_mm == large.nt_mm
    assert phantom.mm_per_px * side == pytest.approx(scanner.field_mm)
    np.testing.assert_allclose(np.divide(phantom.roi, side), np.divide(large.roi, 512), atol=3 / side)


@every_scanner
def test_the_roi_is_long_and_thin_and_inside_the_frame(scanner: Scanner) -> None:
    boxes = []
    for seed in range(500):
        anatomy = draw_anatomy(np.random.default_rng(seed), scanner.field_mm)
        assert NT_RANGE_MM[0] <= anatomy.nt_mm <= NT_RANGE_MM[1]
        x0, y0, x1, y1 = nt_box(anatomy, scanner, 256)
        assert 0 <= x0 < x1 <= 256
        assert 0 <= y0 < y1 <= 256
        boxes.append((x1 - x0, y1 - y0))
    widths, heights = np.median(boxes, axis=0)
    assert widths > 3 * heights
    assert 15 < heights < 35


@every_scanner
@pytest.mark.parametrize("seed", range(5))
def test_the_gap_between_the_lines_measures_nt_mm(scanner: Scanner, seed: int) -> None:
    """Across the band, on a picture of the tissue alone: from the lowest pixel of the upper line to the lower line."""
    side = 512
    pixel = scanner.field_mm / side
    anatomy = draw_anatomy(np.random.default_rng(seed), scanner.field_mm)
    x0, y0, x1, y1 = nt_box(anatomy, scanner, side)
    centres = (np.arange(side, dtype=np.float32) + 0.5) * pixel
    x, y = np.meshgrid(centres, centres)
    bright = tissue_at(anatomy, x, y).specular > 0.4
    for column in np.linspace(x0 + 0.2 * (x1 - x0), x1 - 0.2 * (x1 - x0), 5).astype(int):
        top, bottom = _longest_gap(bright[y0:y1, column]) + y0
        lower_line = bright.copy()
        lower_line[: (top + bottom) // 2] = False
        across = distance_transform_edt(~lower_line[:, column - 30 : column + 30])[top - 1, 30]
        assert (across - 1) * pixel == pytest.approx(anatomy.nt_mm, abs=scanner.field_mm / 256)


def _longest_gap(bright: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Start and end of the longest run of dark that has bright before and after it."""
    lit = np.flatnonzero(bright)
    widest = int(np.argmax(np.diff(lit)))
    return np.array([lit[widest] + 1, lit[widest + 1]])


def test_the_frame_shows_two_lines_as_far_apart_as_the_nt_is_thick() -> None:
    errors_mm = []
    for seed in range(12):
        phantom = draw_phantom(SCANNERS[1], seed)
        errors_mm.append(_lines_apart_px(phantom) * phantom.mm_per_px - phantom.nt_mm - LINE_MM)
    assert np.abs(np.median(errors_mm)) < SCANNERS[1].field_mm / 256
    assert np.abs(errors_mm).max() < 0.6


def _lines_apart_px(phantom: Phantom) -> float:
    """Median over the ROI's columns of the distance between the brightest pixels above and below the darkest one."""
    x0, y0, x1, y1 = phantom.roi
    columns = phantom.frame[y0:y1, x0:x1].T.astype(float)
    apart = []
    for column in columns[len(columns) // 4 : -len(columns) // 4]:
        middle = 4 + int(np.argmin(np.convolve(column, np.ones(3), "same")[4:-4]))
        apart.append(middle + int(np.argmax(column[middle:])) - int(np.argmax(column[:middle])))
    return float(np.median(apart))


def test_speckle_of_homogeneous_tissue_is_rayleigh() -> None:
    scanner = SCANNERS[0]
    beams = lay_beams(scanner, 512)
    tissue = Tissue(np.full_like(beams.x, 0.6), np.zeros_like(beams.x))
    envelope = echo_envelope(tissue, beams, 1, np.random.default_rng(0))[20:-20, 20:-20]
    assert envelope.mean() / envelope.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.03)
    assert 20 * np.log10(np.sqrt((envelope**2).mean())) == pytest.approx(60 * (0.6 - 1), abs=0.3)


def test_compounding_smooths_speckle_by_the_root_of_the_looks() -> None:
    beams = lay_beams(SCANNERS[0], 512)
    tissue = Tissue(np.full_like(beams.x, 0.6), np.zeros_like(beams.x))
    envelope = echo_envelope(tissue, beams, 4, np.random.default_rng(0))[20:-20, 20:-20]
    assert envelope.mean() / envelope.std() == pytest.approx(2 * np.sqrt(np.pi / (4 - np.pi)), rel=0.03)


def test_a_linear_classifier_tells_the_scanners_apart() -> None:
    side, frames = 128, 16
    features, labels = [], []
    for label, scanner in enumerate(SCANNERS):
        for seed in range(frames):
            centre = draw_phantom(scanner, seed, side=side).frame[32:96, 32:96] / 255.0  # clear of every overlay
            steps = [np.abs(np.diff(centre, axis=axis)).mean() for axis in (0, 1)]
            features.append([*np.quantile(centre, [0.1, 0.3, 0.5, 0.7, 0.9, 0.99]), *steps])
            labels.append(label)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    assert cross_val_score(classifier, np.array(features), np.array(labels), cv=4).mean() > 0.8


def test_scanners_have_distinct_names() -> None:
    assert len(SCANNERS) >= 5
    assert len({scanner.name for scanner in SCANNERS}) == len(SCANNERS)


def test_a_written_hospital_reads_like_a_real_one(tmp_path: Path) -> None:
    folder = tmp_path / "hospitals" / "cedar"
    write_hospital(folder, SCANNERS[2], subjects=3, seed=1, side=96)
    rows = read_manifest(folder)
    assert [row.subject for row in rows] == ["S0001", "S0002", "S0003"]
    for row in rows:
        with Image.open(row.image) as image:
            assert (image.mode, image.size) == ("L", (96, 96))
        assert row.mm_per_px == pytest.approx((SCANNERS[2].field_mm / 96,) * 2, abs=1e-6)
        assert row.box[2] <= 96


def test_a_manifest_also_tells_the_true_nt(tmp_path: Path) -> None:
    write_hospital(tmp_path, SCANNERS[0], subjects=2, seed=1, side=64)
    with (tmp_path / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "subject", "roi_x0", "roi_y0", "roi_x1", "roi_y1", "mm_per_px", "nt_mm"]
    assert all(NT_RANGE_MM[0] <= float(row["nt_mm"]) <= NT_RANGE_MM[1] for row in rows)


def test_a_subject_stays_the_same_in_a_larger_hospital_and_changes_with_the_seed(tmp_path: Path) -> None:
    for name, subjects, seed in (("small", 1, 0), ("large", 2, 0), ("other", 1, 1)):
        write_hospital(tmp_path / name, SCANNERS[0], subjects=subjects, seed=seed, side=64)
    small, large, other = (tmp_path / name / "images" / "0001.png" for name in ("small", "large", "other"))
    assert small.read_bytes() == large.read_bytes()
    assert small.read_bytes() != other.read_bytes()
