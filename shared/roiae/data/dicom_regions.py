"""The Sequence of Ultrasound Regions: which part of a picture shows echoes, and how large its pixels are."""

import math

from pydicom import Dataset

from roiae.data.dicom_header import number, real
from roiae.data.pixels import Box, Region
from roiae.errors import FrameError

_TISSUE_FORMAT = 1  # RegionSpatialFormat (0018,6012): 2D
_CENTIMETRES = 3  # PhysicalUnitsXDirection (0018,6024)
_SIDES = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
_OVER_PX = 1  # that a region may stand over the picture: some scanners write its end, not its last pixel
_LARGEST_MM = 600.0  # a side of a region that measures tissue


def regions_of(header: Dataset, width: int, height: int) -> tuple[Region, ...]:
    """The regions, within the picture; none where one reaches beyond it, for they are then of another picture.

    A picture that was made smaller or cut keeps its header: its regions name other pixels, and their sizes.

    Args:
        width, height: of the picture, px.

    Raises:
        FrameError: a region ends before it starts.
    """
    found = []
    for item in header.get("SequenceOfUltrasoundRegions") or []:
        if any(item.get(side) in (None, "") for side in _SIDES):
            continue
        x0, y0, x1, y1 = _corners(item)
        if x0 >= x1 or y0 >= y1 or x0 < 0 or y0 < 0:
            raise FrameError(
                f"its ultrasound region ({x0}, {y0}, {x1}, {y1}) lies outside the picture ({width}×{height} px)."
            )
        if x1 > width + _OVER_PX or y1 > height + _OVER_PX or x0 >= width or y0 >= height:
            return ()
        box = (x0, y0, min(x1, width), min(y1, height))
        is_picture = number(item, "RegionSpatialFormat", 0) == _TISSUE_FORMAT
        found.append(Region(box, _pixel_size(item, box) if is_picture else None, is_picture))
    return tuple(found)


def _corners(region: Dataset) -> Box:
    """x0, y0, x1, y1 px, end exclusive; the header's last column and row belong to the region."""
    x0, y0, x1, y1 = (number(region, side) for side in _SIDES)
    return x0, y0, x1 + 1, y1 + 1


def _pixel_size(region: Dataset, box: Box) -> tuple[float, float] | None:
    """Millimetres a pixel along x and y, where the region measures in centimetres and is as large as tissue can be.

    The sign of a delta is the direction that a coordinate grows in, and no size.
    """
    if any(number(region, f"PhysicalUnits{axis}Direction", 0) != _CENTIMETRES for axis in "XY"):
        return None
    x, y = (abs(real(region, f"PhysicalDelta{axis}", 0)) * 10 for axis in "XY")
    sides = (x * (box[2] - box[0]), y * (box[3] - box[1]))
    return (x, y) if all(math.isfinite(side) and 0 < side <= _LARGEST_MM for side in sides) else None
