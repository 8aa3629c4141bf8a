"""What a DICOM header says, in numbers: an attribute that is there and empty says nothing."""

from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom import Dataset, uid
from pydicom.tag import BaseTag

from roiae.errors import FrameError

_PREAMBLE_BYTES = 128
_PIXEL_DATA = BaseTag(0x7FE00010)
_FIRST_GROUPS = (0x0002, 0x0008)  # that a file without a preamble begins with
_LONGEST_FIRST = 1024  # bytes of the first element's value
# Those that are looked at here or by pydicom: where one is empty, its default holds.
_OPTIONAL = (
    "NumberOfFrames",
    "PlanarConfiguration",
    "PixelRepresentation",
    "HighBit",
    "RescaleSlope",
    "RescaleIntercept",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "ModalityLUTSequence",
    "PresentationLUTShape",
    "PresentationLUTSequence",
    "SequenceOfUltrasoundRegions",
)


def is_dicom(path: Path) -> bool:
    """Whether the file's content is DICOM, whatever its name, with or without a preamble."""
    with path.open("rb") as file:
        start = file.read(_PREAMBLE_BYTES + 4)
    return start[_PREAMBLE_BYTES:] == b"DICM" or _is_bare(start)


def _is_bare(start: bytes) -> bool:
    """Whether bytes begin with a data element of the first groups, little endian, with or without its type."""
    group, element = (int.from_bytes(start[at : at + 2], "little") for at in (0, 2))
    if len(start) < 12 or group not in _FIRST_GROUPS or element > 0x0100:
        return False
    typed = start[4:6].isalpha() and start[4:6].isupper()
    return typed or int.from_bytes(start[4:8], "little") <= _LONGEST_FIRST


def read_bare(file: BinaryIO) -> Dataset:
    """The header without pixels, and without what is empty; the file is left where its pixel data begin."""
    header = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    for keyword in _OPTIONAL:
        if keyword in header and header.get(keyword) in (None, "", [], b""):
            delattr(header, keyword)
    return header


def number(header: Dataset, keyword: str, default: int | None = None) -> int:
    """A whole number of the header.

    Raises:
        FrameError: it is missing, empty or no whole number, and there is no default.
    """
    value = header.get(keyword)
    if value in (None, ""):
        if default is None:
            raise FrameError(f"its header says nothing of {keyword}. Expected a whole image object; export it again.")
        return default
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise FrameError(f"its header's {keyword} is no whole number. Export it again.") from None


def real(header: Dataset, keyword: str, default: float) -> float:
    """A number of the header; the first, where there are several.

    Raises:
        FrameError: it is no number.
    """
    value = header.get(keyword)
    if value in (None, ""):
        return default
    if isinstance(value, list | pydicom.multival.MultiValue):
        value = value[0] if len(value) else default
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise FrameError(f"its header's {keyword} is no number. Export it again.") from None


def with_syntax(header: Dataset) -> uid.UID:
    """The transfer syntax, which is how the header itself was written where nothing says it.

    Raises:
        FrameError: nothing says it, and the pixels are not plain.
    """
    stated = header.file_meta.get("TransferSyntaxUID") if hasattr(header, "file_meta") else None
    if stated:
        return uid.UID(stated)
    implicit, little = header.original_encoding
    if not little:
        return uid.ExplicitVRBigEndian
    return uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian


def has_syntax(header: Dataset) -> bool:
    """Whether the file says how its pixels are encoded."""
    return bool(hasattr(header, "file_meta") and header.file_meta.get("TransferSyntaxUID"))


def pixel_bytes(file: BinaryIO, syntax: uid.UID) -> int | None:
    """The length that the pixel data state; None where it is left open, as for compressed ones.

    Args:
        file: stands where they begin, and stands there again.

    Raises:
        FrameError: there are none.
    """
    start = file.tell()
    order: str = "little" if syntax.is_little_endian else "big"
    head = file.read(12)
    file.seek(start)
    tag = (int.from_bytes(head[0:2], order), int.from_bytes(head[2:4], order))  # type: ignore[arg-type]
    if len(head) < 8 or tag != (_PIXEL_DATA.group, _PIXEL_DATA.element):
        raise FrameError("is DICOM without an image in plain samples. Expected an ultrasound image or cine.")
    length = int.from_bytes(head[4:8] if syntax.is_implicit_VR else head[8:12], order)  # type: ignore[arg-type]
    return None if length == 0xFFFFFFFF else length
