"""DICOM: the grey frame of an ultrasound object, and what its header says of place and identity.

pydicom reads it. Decoders: uncompressed and RLE by pydicom, JPEG baseline and 8-bit JPEG 2000 by Pillow; the extra
`roiae[dicom]` adds all of JPEG 2000 (pylibjpeg-openjpeg, MIT) and JPEG-LS (pyjpegls, MIT). JPEG lossless and 12-bit
JPEG are refused: the decoder that reads them is under the GPL.
"""

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, uid
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array

from roiae.data.bounded import BoundedFile
from roiae.data.dicom_grey import check_samples, grey_of, heeded_warnings, quiet_pydicom
from roiae.data.dicom_header import has_syntax, is_dicom, number, pixel_bytes, read_bare, with_syntax
from roiae.data.dicom_regions import regions_of
from roiae.data.pixels import Frame, Region, check_size, frame_index
from roiae.errors import Fault, FrameError

__all__ = ["is_dicom", "quiet_pydicom", "read_dicom", "read_header"]

_MIN_OF_PADDING = 32  # times that a frame is as long as what may follow it
_DEFAULTS = {"PixelRepresentation": 0, "SamplesPerPixel": 1}
_IN_THE_EXTRA = frozenset({*uid.JPEG2000TransferSyntaxes, *uid.JPEGLSTransferSyntaxes})


def read_dicom(path: Path, number_of_frame: int | None = None) -> Frame:
    """One frame of a DICOM file, cut to its ultrasound region.

    Greyscale passes the rescale and the first window (or VOI table) where the header has them, else the whole range of
    its stored bits is black to white; MONOCHROME1 is inverted; colour becomes luma. The frame is cut to the largest 2D
    region of the Sequence of Ultrasound Regions, whose pixel size it takes; `Frame.holding` goes by a box.

    Args:
        number_of_frame: which, from 1; may be left out where the file holds one.

    Raises:
        FrameError: the file has no such frame, no decoder for it is installed, its pixels are not what its header says,
            or it cannot be understood.
    """
    try:
        with quiet_pydicom(), BoundedFile(path) as file:
            header = read_bare(file)
            frames = _checked_frames(header)
            index = frame_index(number_of_frame, frames)
            syntax = _checked_syntax(header)
            check_samples(header)
            if syntax.is_encapsulated:
                _check_codestream(file, header, index)
            else:
                _check_length(file, header, syntax, frames)
            regions = regions_of(header, number(header, "Columns"), number(header, "Rows"))
            grey = _decoded(file, header, syntax, index)
    except (FrameError, MemoryError):
        raise
    except Exception as error:  # a broken header answers with AttributeError, KeyError, struct.error, RecursionError, …
        raise FrameError(
            "cannot be read as DICOM: its header or its pixels are damaged. "
            "Expected a whole image object; open it in a viewer, and export it again."
        ) from error
    return _cut(grey, regions)


def read_header(path: Path) -> Dataset:
    """A DICOM file's header, without its pixels.

    Raises:
        FrameError: it cannot be read.
    """
    try:
        with quiet_pydicom(), BoundedFile(path) as file:
            return pydicom.dcmread(file, stop_before_pixels=True, force=True)
    except Exception as error:
        raise FrameError("cannot be read as DICOM: its header is damaged.") from error


def _checked_frames(header: Dataset) -> int:
    """How many frames there are; refuses an object without pixels, and one too large to decode."""
    if "Rows" not in header or "Columns" not in header:
        kind = uid.UID(str(header.get("SOPClassUID", ""))).name or "unknown"
        raise FrameError(f"is DICOM without an image ({kind}). Expected an ultrasound image or cine.")
    check_size(number(header, "Columns"), number(header, "Rows"))
    return max(number(header, "NumberOfFrames", 1), 1)


def _checked_syntax(header: Dataset) -> uid.UID:
    """The transfer syntax, for which a decoder is installed."""
    syntax = with_syntax(header)
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        raise FrameError("is deflated as a whole, which can hide a bomb. Export it uncompressed.")
    try:
        available = get_decoder(syntax).is_available
        if syntax == uid.JPEGExtended12Bit and number(header, "BitsStored") > 8:
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
    frames = max(number(header, "NumberOfFrames", 1), 1)
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


def _check_length(file: BinaryIO, header: Dataset, syntax: uid.UID, frames: int) -> None:
    """Refuse plain samples of another length than the header's numbers give."""
    samples = number(header, "SamplesPerPixel", 1)
    bits = number(header, "Rows") * number(header, "Columns") * samples * number(header, "BitsAllocated")
    if header.PhotometricInterpretation == "YBR_FULL_422":
        if number(header, "PlanarConfiguration", 0) != 0:
            raise FrameError(
                "is YBR_FULL_422 and says that its colours are by plane, which cannot be. Export it again."
            )
        bits = bits // 3 * 2
    expected = -(-bits * frames // 8)
    length = pixel_bytes(file, syntax)
    if length is None:
        raise FrameError("has compressed pixels, and no transfer syntax says how. Export it as a whole DICOM file.")
    start = file.tell()
    left = file.seek(0, io.SEEK_END) - start
    file.seek(start)
    if left < length:
        raise FrameError("cannot be read as DICOM: it is cut off. Export it again.")
    fits = length in (expected, expected + expected % 2)
    if not fits and not _is_padded(file, syntax, expected, length - expected, expected // frames):
        raise FrameError(
            f"has {length} bytes of pixels where its header's numbers give {expected} "
            f"({header.PhotometricInterpretation}, {samples} samples, {header.BitsAllocated} bits). "
            "What it says of its pixels is wrong: export it again."
        )


def _is_padded(file: BinaryIO, syntax: uid.UID, expected: int, more: int, frame: int) -> bool:
    """Whether what is too long is a few zeros after the samples: some writers fill up blocks.

    Args:
        file: stands where the pixel data begin, and stands there again.
        expected, more, frame: bytes of all frames, beyond them, and of one.
    """
    if not 0 < more <= frame // _MIN_OF_PADDING:
        return False
    start = file.tell()
    file.seek(start + (8 if syntax.is_implicit_VR else 12) + expected)
    rest = file.read(more)
    file.seek(start)
    return not any(rest)


def _decoded(file: BinaryIO, header: Dataset, syntax: uid.UID, index: int) -> NDArray[np.uint8]:
    """The grey levels of one frame."""
    source: Any = file
    defaults = _DEFAULTS | ({"PlanarConfiguration": 0} if number(header, "SamplesPerPixel", 1) > 1 else {})
    unsaid = {keyword: value for keyword, value in defaults.items() if header.get(keyword) in (None, "")}
    if unsaid or not has_syntax(header):  # pydicom takes them from the file alone, and wants them all
        file.seek(0)
        source = pydicom.dcmread(file, force=True)
        source.file_meta.TransferSyntaxUID = syntax
        for keyword, value in unsaid.items():
            setattr(source, keyword, value)
    decoded = Dataset()
    options: dict[str, Any] = (
        {} if syntax.is_encapsulated and syntax != uid.RLELossless else {"correct_unused_bits": False}
    )
    with heeded_warnings():
        samples = pixel_array(source, ds_out=decoded, index=index, raw=True, **options)
    return grey_of(samples, header, decoded)


def _cut(grey: NDArray[np.uint8], regions: tuple[Region, ...]) -> Frame:
    pictures = [region for region in regions if region.is_picture]
    if not pictures:
        return Frame(grey, whole=grey, regions=regions)
    largest = max(pictures, key=lambda region: region.area)
    x0, y0, x1, y1 = largest.box
    return Frame(grey[y0:y1, x0:x1], (x0, y0), largest.mm_per_px, grey, regions)
