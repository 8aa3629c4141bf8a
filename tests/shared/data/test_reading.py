"""A cine of DICOM on its way into a run: frames by number, the ultrasound region, boxes and pixel sizes with it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset

from roiae.data.pixels import Box, Frame
from roiae.data.reading import check_box
from roiae.data.site_data import SiteData
from roiae.errors import Fault, FrameError

SIDE = 32


def edit(site: Path, old: str, new: str) -> None:
    text = (site / "manifest.csv").read_text()
    assert old in text
    (site / "manifest.csv").write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ((10, 10, 10, 20), Fault.ROI_DEGENERATE),
        ((3, 2, 20, 20), Fault.ROI_OUTSIDE),
        ((4, 3, 44, 33), None),
        ((10, 10, 20, 34), Fault.ROI_SWAPPED),
    ],
)
def test_a_box_is_held_against_the_part_of_the_picture_that_is_kept(box: Box, fault: Fault | None) -> None:
    frame = Frame(np.zeros((30, 40), np.uint8), origin=(4, 3))
    if fault is None:
        check_box(box, frame)
    else:
        with pytest.raises(FrameError) as refusal:
            check_box(box, frame)
        assert refusal.value.fault is fault


@pytest.fixture
def cine_site(write_dicom: Callable[..., Path], tmp_path: Path) -> Path:
    """One cine of twelve frames of 40×30 px, each a row; its region begins at (4, 2), with 0.2 × 0.1 mm a pixel."""
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType = 1, 1
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 4, 2
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 35, 25
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.02, 0.01
    pixels = np.random.default_rng(0).integers(0, 256, (12, 30, 40), dtype=np.uint8)
    (tmp_path / "cine").mkdir()
    write_dicom(pixels, regions=[region]).rename(tmp_path / "cine" / "IM1")
    rows = [f"IM1,{at + 1},S{at:02},5,6,20,12," for at in range(12)]
    header = "image,frame,subject,roi_x0,roi_y0,roi_x1,roi_y1,mm_per_px"
    (tmp_path / "cine" / "manifest.csv").write_text("\n".join([header, *rows]) + "\n")
    return tmp_path / "cine"


def test_frames_of_a_cine_are_cut_to_their_region_and_boxes_follow(cine_site: Path, cache_dir: Path) -> None:
    edit(cine_site, "S00,5,6,20,12,", "S00,5,6,20,12,0.5")
    stored = pydicom.dcmread(cine_site / "IM1").pixel_array
    for _ in range(2):  # decoded, then from the cache
        train = SiteData.open(cine_site, image_size=SIDE, cache_dir=cache_dir).train
        second = int(train.subjects[1][1:])
        cut = Image.fromarray(stored[second, 2:26, 4:36])
        np.testing.assert_array_equal(train.frames[1], cut.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        assert train.rois[1].tolist() == [1, 5, 16, 14]  # (1, 4, 16, 10) of 32×24 px, on 32×32
        np.testing.assert_allclose(train.mm_per_px[0], [0.5 * 32 / SIDE, 0.5 * 24 / SIDE])
        np.testing.assert_allclose(train.mm_per_px[1], [0.2 * 32 / SIDE, 0.1 * 24 / SIDE])


def test_a_box_outside_the_ultrasound_region_is_refused(cine_site: Path, cache_dir: Path) -> None:
    edit(cine_site, "S03,5,6,20,12", "S03,3,6,20,12")
    with pytest.raises(
        FrameError, match=r"manifest\.csv:5: IM1: .*outside the ultrasound region \(32×24 px from \(4, 2\)"
    ):
        SiteData.open(cine_site, image_size=SIDE, cache_dir=cache_dir)


def test_the_fingerprint_knows_which_frame_of_a_cine(cine_site: Path, cache_dir: Path) -> None:
    before = SiteData.open(cine_site, image_size=SIDE, cache_dir=cache_dir)
    text = (cine_site / "manifest.csv").read_text().replace("IM1,1,", "IM1,99,").replace("IM1,2,", "IM1,1,")
    (cine_site / "manifest.csv").write_text(text.replace("IM1,99,", "IM1,2,"))
    assert SiteData.open(cine_site, image_size=SIDE, cache_dir=cache_dir).fingerprint != before.fingerprint
