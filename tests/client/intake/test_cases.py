"""Inputs that were once read wrong in silence: each gives the right box, or a refusal that says why."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roiae.data.dicom import is_dicom
from roiae.data.frames import read_frame
from roiae.data.manifest import read_manifest
from roiae.errors import DataError, FrameError
from roiae_client.intake.boxes import Reading
from roiae_client.intake.records import Unit
from roiae_client.intake.site_folder import import_site
from roiae_client.intake.taking import Rules
from tests.conftest import CASES

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not beside the checkout")
THING = (100, 40, 160, 60)
OTHER_SIZE = r"drawn on a picture of 320×240 px, and this one has 640×480 px"


def boxes_of(source: str, boxes: str, to: Path, **options: object) -> list[tuple[int, int, int, int]]:
    import_site(CASES / source, CASES / boxes, to, **options)  # type: ignore[arg-type]
    return [row.box for row in read_manifest(to)]


@pytest.mark.parametrize(
    ("source", "boxes", "expected"),
    [
        ("08-normalised-boxes/src", "08-normalised-boxes/norm.csv", [THING]),
        ("08-normalised-boxes/src", "08-normalised-boxes/norm.json", [THING]),
        ("09-thousands-comma/src", "09-thousands-comma/b.csv", [(1024, 40, 1100, 60)]),
        ("18-voc-origin-by-file", "18-voc-origin-by-file/x", [(0, 40, 160, 60), THING]),
        ("31-names/s.zip", "31-names/b.csv", [THING]),
        ("11-hc18-drawing-as-frame/src", "11-hc18-drawing-as-frame/ann", [THING]),
    ],
)
def test_a_case_is_read_right(tmp_path: Path, source: str, boxes: str, expected: object) -> None:
    assert boxes_of(source, boxes, tmp_path / "site") == expected


@pytest.mark.parametrize(
    ("source", "boxes", "message"),
    [
        *[(f"01-declared-size-ignored/{s}", f"01-declared-size-ignored/{b}", OTHER_SIZE)
          for s, b in (("src", "c.json"), ("src", "f.xml"), ("src", "a.xml"), ("src", "m"))],
        ("02-exif-orientation/src", "02-exif-orientation/p1.json", r"has an orientation tag \(6\)"),
        ("03-tiff-orientation/o3/src", "03-tiff-orientation/o3/b.csv", r"has an orientation tag \(3\)"),
        ("03-tiff-orientation/o6/src", "03-tiff-orientation/o6/b.csv", r"has an orientation tag \(6\)"),
        ("05-folder-dropped/src", "05-folder-dropped/b.csv", r"The nearest is 'patB/img_001\.png', and its folder"),
        ("07-one-name-two-images/src", "07-one-name-two-images/c.json", "2 pictures of the boxes have this name"),
        ("08-normalised-boxes/src", "08-normalised-boxes/percent.csv", "--unit percent or --unit px"),
        ("12-mask-not-believable/src", "12-mask-not-believable/inv", "covers 98% of the picture and all its corners"),
        ("12-mask-not-believable/src", "12-mask-not-believable/stray", "2 parts, of 1200 and 1 px"),
        ("12-mask-not-believable/src", "12-mask-not-believable/two", "2 parts, of 1200 and 800 px"),
        ("28-points-become-boxes/src", "28-points-become-boxes/f.json", "is a point, which is no box"),
    ],
)  # fmt: skip
def test_a_case_is_refused(tmp_path: Path, source: str, boxes: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        boxes_of(source, boxes, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_a_turned_rectangular_frame_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    shutil.copy(CASES / "02-exif-orientation/rect/p1.jpg", tmp_path / "src")
    with pytest.raises(DataError, match="has an orientation tag"):
        import_site(tmp_path / "src", CASES / "02-exif-orientation/rect/p1.json", tmp_path / "site")


@pytest.mark.parametrize("boxes", ["c.json", "f.xml", "a.xml", "m"])
def test_boxes_of_a_smaller_picture_are_scaled_where_that_is_asked_for(tmp_path: Path, boxes: str) -> None:
    found = boxes_of(
        "01-declared-size-ignored/src", f"01-declared-size-ignored/{boxes}", tmp_path / "s", rules=Rules(rescale=True)
    )
    assert found == [(200, 80, 320, 120)]


def test_percent_are_read_where_that_is_said(tmp_path: Path) -> None:
    said = {"reading": Reading(unit=Unit.PERCENT), "rules": Rules(unit=Unit.PERCENT)}
    assert boxes_of("08-normalised-boxes/src", "08-normalised-boxes/percent.csv", tmp_path / "s", **said) == [THING]


def test_an_imported_drawing_is_the_frame_and_not_itself(tmp_path: Path) -> None:
    boxes_of("11-hc18-drawing-as-frame/src", "11-hc18-drawing-as-frame/ann", tmp_path / "site")
    (row,) = read_manifest(tmp_path / "site")
    frame = np.asarray(Image.open(CASES / "11-hc18-drawing-as-frame/src/001_HC.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(row.image)), frame)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("13-ybr422-label-rgb-data/f.dcm", r"has 57600 bytes of pixels where its header's numbers give 38400"),
        ("15-jpeg-rgb-label/f.dcm", "says RGB, and its samples are YCbCr"),
        ("19-16bit-scale/13.png", "16-bit pixels of which the brightest is 7360"),
        ("19-16bit-scale/14.png", "16-bit pixels of which the brightest is 14720"),
        ("19-16bit-scale/sbit14.png", "16-bit pixels of which the brightest is 14720"),
        ("19-16bit-scale/rgb16of12.tif", "16-bit pixels of which the brightest is 2827 of 65535"),
    ],
)
def test_grey_levels_that_cannot_be_trusted_are_refused(name: str, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        read_frame(CASES / name)


def test_a_region_larger_than_its_picture_measures_nothing() -> None:
    frame = read_frame(CASES / "16-region-larger-than-picture/f.dcm")
    assert (frame.pixels.shape, frame.origin, frame.mm_per_px) == ((60, 80), (0, 0), None)


@pytest.mark.parametrize("name", ["22-empty-attributes/region.dcm", "22-empty-attributes/rescale.dcm"])
def test_empty_attributes_are_as_if_they_were_not_there(name: str) -> None:
    frame = read_frame(CASES / name)
    assert (frame.pixels.shape, int(frame.pixels.min()), frame.mm_per_px) == ((120, 160), 0, None)
    assert frame.pixels.max() > 200


@pytest.mark.parametrize("name", ["no-preamble.dcm", "no-ts.dcm"])
def test_a_file_without_a_preamble_or_a_transfer_syntax_is_read(name: str) -> None:
    path = CASES / "23-no-preamble" / name
    assert is_dicom(path)
    plain = np.asarray(Image.open(CASES / "08-normalised-boxes/src/f.png"))
    np.testing.assert_array_equal(read_frame(path).pixels, plain)
