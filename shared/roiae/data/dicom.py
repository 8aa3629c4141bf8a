"""DICOM: the grey frame of an ultrasound object, and what its header says of place and identity.

pydicom reads it. Decoders: uncompressed and RLE by pydicom, JPEG baseline and 8-bit JPEG 2000 by Pillow; the extra
`roiae[dicom]` adds all of JPEG 2000 (pylibjpeg-openjpeg, MIT) and JPEG-LS (pyjpegls, MIT). JPEG lossless and 12-bit
JPEG are refused: the decoder that reads them is under the GPL.
"""

import io
import logging
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, uid
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array

from roiae.data.bounded import BoundedFile
from roiae.data.pixels import Frame, check_size, check_stretched, frame_index, luma, stretch
from roiae.errors import Fault, FrameError

_PREAMBLE_BYTES = 128
_COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"})
_GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})
_IN_THE_EXTRA = frozenset({*uid.JPEG2000TransferSyntaxes, *uid.JPEGLSTransferSyntaxes})
_TISSUE_FORMAT = 1  # RegionSpatialFormat (0018,6012): 2D
_CENTIMETRES = 3  # PhysicalUnitsXDirection (0018,6024)

# pydicom's log quotes header values, and they name patients: it goes nowhere.
logging.getLogger("pydicom").addHandler(logging.NullHandler())
logging.getLogger("pydicom").propagate = False


def is_dicom(path: Path) -> bool:
    """Whether the file's content is DICOM, whatever its name."""
    with path.open("rb") as file:
        return file.read(_PREAMBLE_BYTES + 4)[_PREAMBLE_BYTES:] == b"DICM"


def read_dicom(path: Path, number: int | None = None) -> Frame:
    """One frame of a DICOM file, cut to its ultrasound region.

    Greyscale passes the rescale and the first window (or VOI table) where the header has them, else the whole range of
    its stored bits is black to white; MONOCHROME1 is inverted; colour becomes luma. The frame is cut to the largest 2D
    region of the Sequence of Ultrasound Regions, whose pixel size it takes.

    Args:
        number: which frame, from 1; may be left out where the file holds one.

    Raises:
        FrameError: the file has no such frame, no decoder for it is installed, or it cannot be understood.
    """
    try:
        with quiet_pydicom(), BoundedFile(path) as file:
            header = pydicom.dcmread(file, stop_before_pixels=True)
            index = frame_index(number, _checked_frames(header))
            syntax = _checked_syntax(header)
            if syntax.is_encapsulated:
                _check_codestream(file, header, index)
            region = _largest_region(header)
            grey = _grey(pixel_array(file, index=index), header)
    except (FrameError, MemoryError):
        raise
    except Exception as error:  # a broken header answers with AttributeError, KeyError, struct.error, RecursionError, …
        raise FrameError(
            f"cannot be read as DICOM ({textwrap.shorten(str(error), 200) or type(error).__name__}). "
            "Expected a whole image object; open it in a viewer, and export it again."
        ) from error
    return _cut(grey, region)


def read_header(path: Path) -> Dataset:
    """A DICOM file's header, without its pixels.

    Raises:
        FrameError: it cannot be read.
    """
    try:
        with quiet_pydicom(), BoundedFile(path) as file:
            return pydicom.dcmread(file, stop_before_pixels=True)
    except Exception as error:
        raise FrameError(f"cannot be read as DICOM ({type(error).__name__}).") from error


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Without pydicom's warnings, which quote header values; it gives them when a value is asked for."""
    with warnings.catch_warnings(action="ignore"):
        yield


def _checked_frames(header: Dataset) -> int:
    """How many frames there are; refuses an object without pixels, and one too large to decode."""
    if "Rows" not in header or "Columns" not in header:
        kind = uid.UID(str(header.get("SOPClassUID", ""))).name or "unknown"
        raise FrameError(f"is DICOM without an image ({kind}). Expected an ultrasound image or cine.")
    check_size(int(header.Columns), int(header.Rows))
    return int(header.get("NumberOfFrames") or 1)


def _checked_syntax(header: Dataset) -> uid.UID:
    """The transfer syntax, for which a decoder is installed."""
    syntax = header.file_meta.TransferSyntaxUID
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        raise FrameError("is deflated as a whole, which can hide a bomb. Export it uncompressed.")
    try:
        available = get_decoder(syntax).is_available
        if syntax == uid.JPEGExtended12Bit and int(header.BitsStored) > 8:
            available = False  # Pillow offers itself for it, and reads 8 bits alone
    except NotImplementedError:
        available = False
    if not available:
        raise FrameError(
            f"is compressed as {syntax.name}, for which no decoder is installed. "
            + (
                "Install it: pip install 'roiae[dicom]'."
                if syntax in _IN_THE_EXTRA
                else "Convert it to uncompressed, RLE or JPEG 2000, for example with dcmdjpeg of DCMTK."
            ),
            Fault.NO_DECODER,
        )
    return syntax


def _check_codestream(file: BinaryIO, header: Dataset, index: int) -> None:
    """Refuse a compressed frame of another size than the header's, before a decoder makes room for it."""
    file.seek(12, io.SEEK_CUR)  # the tag, representation and length of PixelData, behind which its items begin
    offsets = None
    if "ExtendedOffsetTable" in header:
        offsets = (header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths)
    frames = int(header.get("NumberOfFrames") or 1)
    codestream = get_frame(file, index, extended_offsets=offsets, number_of_frames=frames)
    size = _codestream_size(header.file_meta.TransferSyntaxUID, codestream)
    if size not in (None, (int(header.Columns), int(header.Rows))):
        raise FrameError(f"holds a compressed frame of {size} px where its header says {header.Columns}×{header.Rows}.")


def _codestream_size(syntax: uid.UID, codestream: bytes) -> tuple[int, int] | None:
    """Width and height that a compressed frame claims; None for RLE, which has none of its own."""
    if syntax == uid.RLELossless:
        return None
    if syntax not in uid.JPEGLSTransferSyntaxes:
        with Image.open(io.BytesIO(codestream), formats=("JPEG", "JPEG2000")) as image:
            return image.size
    place = 2
    while codestream[place : place + 2] != b"\xff\xf7":  # JPEG-LS's start of frame
        length = int.from_bytes(codestream[place + 2 : place + 4], "big")
        if codestream[place : place + 1] != b"\xff" or length < 2:
            raise FrameError("holds a compressed frame without a start.")
        place += 2 + length
    height, width = (int.from_bytes(codestream[at : at + 2], "big") for at in (place + 5, place + 7))
    return width, height


def _grey(stored: NDArray[Any], header: Dataset) -> NDArray[np.uint8]:
    interpretation = str(header.PhotometricInterpretation)
    white = 2 ** int(header.BitsStored) - 1
    if interpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, header)[..., :3]
        white = int(np.iinfo(stored.dtype).max)
    elif interpretation in _GREY:
        return _windowed(stored, header)
    elif interpretation not in _COLOUR:
        expected = ", ".join(sorted({*_GREY, *_COLOUR, "PALETTE COLOR"}))
        raise FrameError(f"photometric interpretation {interpretation!r} is not known. Expected one of {expected}.")
    if white > 255:
        check_stretched(stored, white)
        stored = stretch(stored, 0, white)
    return luma(np.ascontiguousarray(stored, dtype=np.uint8))


def _windowed(stored: NDArray[Any], header: Dataset) -> NDArray[np.uint8]:
    """Greyscale through the rescale and the window, from the range that they give to 0 … 255."""
    black, white = _range(header)
    values = apply_modality_lut(stored, header)
    if "VOILUTSequence" in header or "WindowWidth" in header:
        if header.get("VOILUTSequence"):
            black, white = 0, 2 ** int(header.VOILUTSequence[0].LUTDescriptor[2]) - 1
        values = apply_voi_lut(values, header)
    elif int(header.BitsStored) > 8 and black == 0:
        check_stretched(values, int(white))
    grey = stretch(values, black, white)
    return np.invert(grey) if header.PhotometricInterpretation == "MONOCHROME1" else grey


def _range(header: Dataset) -> tuple[float, float]:
    """What the modality transformation makes of the smallest and the largest value that can be stored."""
    if header.get("ModalityLUTSequence"):
        return 0, 2 ** int(header.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    bits = int(header.BitsStored)
    lowest = -(2 ** (bits - 1)) if header.get("PixelRepresentation") else 0
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    if not slope > 0:
        raise FrameError(f"rescale slope is {slope:g}; expected one above 0.")
    return lowest * slope + intercept, (lowest + 2**bits - 1) * slope + intercept


def _largest_region(header: Dataset) -> Dataset | None:
    regions = [item for item in header.get("SequenceOfUltrasoundRegions") or [] if _is_picture(item)]
    return max(regions, key=_area, default=None)


def _is_picture(region: Dataset) -> bool:
    return int(region.get("RegionSpatialFormat", 0)) == _TISSUE_FORMAT


def _area(region: Dataset) -> int:
    x0, y0, x1, y1 = _corners(region)
    return (x1 - x0) * (y1 - y0)


def _corners(region: Dataset) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 px, end exclusive; the header's last column and row belong to the region."""
    return (
        int(region.RegionLocationMinX0),
        int(region.RegionLocationMinY0),
        int(region.RegionLocationMaxX1) + 1,
        int(region.RegionLocationMaxY1) + 1,
    )


def _cut(grey: NDArray[np.uint8], region: Dataset | None) -> Frame:
    if region is None:
        return Frame(grey)
    height, width = grey.shape
    x0, y0, x1, y1 = _corners(region)
    x1, y1 = min(x1, width), min(y1, height)
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise FrameError(
            f"its ultrasound region ({x0}, {y0}, {x1}, {y1}) lies outside the picture ({width}×{height} px)."
        )
    return Frame(grey[y0:y1, x0:x1], (x0, y0), _pixel_size(region))


def _pixel_size(region: Dataset) -> tuple[float, float] | None:
    """Millimetres a pixel along x and y, where the region measures in centimetres."""
    units = {region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")}
    x, y = (abs(float(region.get(f"PhysicalDelta{axis}") or 0)) * 10 for axis in "XY")
    return (x, y) if units == {_CENTIMETRES} and 0 < x < np.inf and 0 < y < np.inf else None
