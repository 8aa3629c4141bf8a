"""Grey levels of a DICOM frame: what its header says of them, compared with the samples that are there."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import (
    apply_color_lut,
    apply_modality_lut,
    apply_voi,
    apply_windowing,
    convert_color_space,
)

from roiae.data.dicom_header import number, real
from roiae.data.pixels import check_stretched, luma, stretch
from roiae.errors import Fault, FrameError

_COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"})
_GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})
_SHAPES = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}  # PresentationLUTShape that says the same
_SURE = 4.0  # times nearer to the one reading of colours than to the other
_NEARLY_BLACK = 64  # grey level
_ALIKE = 1.0  # grey levels between three planes that hold the same picture
_NOT_FLAT = 4.0  # grey levels of spread, of a picture that says something
_ULTRASOUND = ("1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1")  # image, and cine

# pydicom's log quotes header values, and they name patients: it goes nowhere.
logging.getLogger("pydicom").addHandler(logging.NullHandler())
logging.getLogger("pydicom").propagate = False


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Without pydicom's warnings, which quote header values; it gives them when a value is asked for."""
    with warnings.catch_warnings(action="ignore"):
        yield


@contextmanager
def heeded_warnings() -> Iterator[None]:
    """What pydicom finds wrong while it decodes is a refusal: it goes on with a guess.

    Raises:
        FrameError: it warned.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    told = [str(warning.message) for warning in caught if "Number of Frames' is invalid" not in str(warning.message)]
    if told:
        raise FrameError(f"its pixels are not what its header says: {told[0].rstrip('.')}. Export it again.")


def check_samples(header: Dataset) -> None:
    """Refuse a header that contradicts itself about its samples, before they are decoded.

    Raises:
        FrameError: it does.
    """
    interpretation = str(header.get("PhotometricInterpretation") or "")
    expected = 3 if interpretation in _COLOUR else 1
    if interpretation not in _COLOUR | _GREY | {"PALETTE COLOR"}:
        known = ", ".join(sorted({*_GREY, *_COLOUR, "PALETTE COLOR"}))
        raise FrameError(f"photometric interpretation {interpretation!r} is not known. Expected one of {known}.")
    if (samples := number(header, "SamplesPerPixel", 1)) != expected:
        raise FrameError(f"has {samples} samples a pixel and says {interpretation}; expected {expected}.")
    if interpretation in _GREY and header.get("RedPaletteColorLookupTableData"):
        raise FrameError(f"has a palette and says {interpretation}: which is shown cannot be told. Export it again.")
    check_depth(header, interpretation)
    if header.get("PresentationLUTSequence"):
        raise FrameError("has a presentation LUT of its own, which is not understood. Export it as it is shown.")
    shape = str(header.get("PresentationLUTShape") or _SHAPES.get(interpretation, ""))
    if interpretation in _GREY and shape != _SHAPES[interpretation]:
        raise FrameError(
            f"is {interpretation} with presentation LUT shape {shape}; expected {_SHAPES[interpretation]}: "
            "one says that 0 is black and the other that it is white. Export it as it is shown."
        )


def check_depth(header: Dataset, interpretation: str) -> None:
    """Refuse bits that are not at the lower end of their words, or signed where they cannot be.

    Raises:
        FrameError: they are.
    """
    allocated, stored = number(header, "BitsAllocated"), number(header, "BitsStored")
    if not 1 <= stored <= allocated:
        raise FrameError(f"says {stored} bits stored in {allocated}; expected 1 to {allocated}.", Fault.BIT_DEPTH)
    high = number(header, "HighBit", stored - 1)
    if high != stored - 1:
        raise FrameError(
            f"its {stored} bits end at bit {high}, not at {stored - 1}: its samples are not at the lower end of their "
            "words. Export it again, as 8 bits.",
            Fault.BIT_DEPTH,
        )
    signed = number(header, "PixelRepresentation", 0) == 1
    if signed and (interpretation not in _GREY or str(header.get("SOPClassUID")) in _ULTRASOUND):
        raise FrameError(
            "says that its samples are signed, which ultrasound never is. Export it again.", Fault.BIT_DEPTH
        )


def grey_of(samples: NDArray[Any], header: Dataset, decoded: Dataset) -> NDArray[np.uint8]:
    """[H, W] grey levels as shown.

    Args:
        samples: [H, W] or [H, W, 3], as the decoder gives them.
        header: of the file.
        decoded: what the decoder says of its samples.

    Raises:
        FrameError: they are not what the header says, or their scale is not known.
    """
    interpretation = str(header.PhotometricInterpretation)
    samples = _without_unused_bits(samples, header)
    if interpretation in _GREY:
        return _windowed(samples, header)
    if interpretation == "PALETTE COLOR":
        return _looked_up(samples, header)
    actual = str(decoded.get("PhotometricInterpretation") or interpretation)
    ybr = actual.startswith("YBR_FULL")
    stored = number(header, "BitsStored")
    _check_colours(samples, stored, interpretation, ybr)
    if number(header, "PlanarConfiguration", 0) in (0, 1):
        _check_planes(samples, number(header, "PlanarConfiguration", 0))
    if stored > 8:
        if ybr:
            raise FrameError(f"is {actual} of {stored} bits, which is not understood. Export it as 8 bits.")
        check_stretched(samples, 2**stored - 1)
        samples = stretch(samples, 0, 2**stored - 1)
    colour = np.ascontiguousarray(samples, dtype=np.uint8)
    return luma(np.ascontiguousarray(convert_color_space(colour, "YBR_FULL", "RGB")) if ybr else colour)


def _without_unused_bits(samples: NDArray[Any], header: Dataset) -> NDArray[Any]:
    """The samples without overlays that their unused bits hold, as the header says of which bit.

    Raises:
        FrameError: the unused bits hold something that the header does not say.
    """
    stored, signed = number(header, "BitsStored"), number(header, "PixelRepresentation", 0) == 1
    if stored >= samples.itemsize * 8:
        return samples
    words = samples.astype(np.int64) & ((1 << samples.itemsize * 8) - 1)
    low = words & ((1 << stored) - 1)
    extended = np.where(low >> (stored - 1), low - (1 << stored), low) if signed else low
    if (samples == extended).all():
        return samples
    overlays = 0
    for group in range(0x6000, 0x6020, 2):
        place = header.get((group, 0x0102))
        if place is not None and place.value and (group, 0x3000) not in header:
            overlays |= 1 << int(place.value)
    if not overlays or ((words ^ low) & ~overlays).any():
        raise FrameError(
            f"says {stored} bits and its samples use more: an overlay in them, or samples at the upper end of their "
            "words. Export it again, as 8 bits.",
            Fault.BIT_DEPTH,
        )
    taken_out: NDArray[Any] = extended.astype(samples.dtype)
    return taken_out


def _windowed(stored: NDArray[Any], header: Dataset) -> NDArray[np.uint8]:
    """Greyscale through the rescale and the window, from the range that they give to 0 … 255."""
    black, white = _range(header)
    voi, width = header.get("VOILUTSequence"), header.get("WindowWidth")
    if header.get("ModalityLUTSequence"):
        values = apply_modality_lut(stored, header)
    else:
        values = stored * real(header, "RescaleSlope", 1) + real(header, "RescaleIntercept", 0)
    if voi:
        black, white = 0, 2 ** int(voi[0].LUTDescriptor[2]) - 1
        values = apply_voi(values.astype(stored.dtype), header)
    elif width is not None and "WindowCenter" in header:
        if not real(header, "WindowWidth", 0) >= 1:
            raise FrameError("its window has no width. Export it as it is shown.")
        values = apply_windowing(values, _windowing(header))
    elif number(header, "PixelRepresentation", 0) == 1:
        raise FrameError(
            "has signed samples and no window: nothing says which is black. Export it as it is shown.", Fault.BIT_DEPTH
        )
    elif number(header, "BitsStored") > 8:
        check_stretched(stored, 2 ** number(header, "BitsStored") - 1)
    grey = stretch(values, black, white)
    if (voi or width is not None) and grey.max() < _NEARLY_BLACK and stored.min() < stored.max():
        raise FrameError(
            f"its window leaves all below grey level {int(grey.max()) + 1} of 255: it is of other samples. "
            "Export it as it is shown.",
            Fault.BIT_DEPTH,
        )
    return np.invert(grey) if header.PhotometricInterpretation == "MONOCHROME1" else grey


def _windowing(header: Dataset) -> Dataset:
    """The attributes that a window goes by, none of them empty."""
    window = Dataset()
    for keyword in (
        "PhotometricInterpretation",
        "BitsStored",
        "PixelRepresentation",
        "WindowCenter",
        "WindowWidth",
        "VOILUTFunction",
        "ModalityLUTSequence",
    ):
        if keyword in header:
            setattr(window, keyword, header.get(keyword))
    window.PixelRepresentation = number(header, "PixelRepresentation", 0)
    window.RescaleSlope, window.RescaleIntercept = real(header, "RescaleSlope", 1), real(header, "RescaleIntercept", 0)
    return window


def _range(header: Dataset) -> tuple[float, float]:
    """What the modality transformation makes of the smallest and the largest value that can be stored."""
    if header.get("ModalityLUTSequence"):
        return 0, 2 ** int(header.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    bits = number(header, "BitsStored")
    lowest = -(2 ** (bits - 1)) if number(header, "PixelRepresentation", 0) else 0
    slope, intercept = real(header, "RescaleSlope", 1), real(header, "RescaleIntercept", 0)
    if not slope > 0:
        raise FrameError(f"rescale slope is {slope:g}; expected one above 0.")
    return lowest * slope + intercept, (lowest + 2**bits - 1) * slope + intercept


def _looked_up(samples: NDArray[Any], header: Dataset) -> NDArray[np.uint8]:
    colours = apply_color_lut(samples, header)[..., :3]
    white = int(np.iinfo(colours.dtype).max)
    if white > 255:
        check_stretched(_entries(header, colours), white)
        colours = stretch(colours, 0, white)
    return luma(np.ascontiguousarray(colours, dtype=np.uint8))


def _entries(header: Dataset, looked_up: NDArray[Any]) -> NDArray[Any]:
    """All colours of the palette where it is plain, else those that the picture has: a picture may well be dark."""
    plain = [header.get(f"{colour}PaletteColorLookupTableData") for colour in ("Red", "Green", "Blue")]
    if not all(isinstance(entries, bytes) and len(entries) % 2 == 0 and entries for entries in plain):
        return looked_up
    return np.frombuffer(b"".join(plain), dtype="<u2")


def _check_colours(samples: NDArray[Any], bits: int, stated: str, ybr: bool) -> None:
    """Ultrasound is grey for the most part: of red, green and blue all three are then alike, of YCbCr two are 128."""
    middle = 1 << (bits - 1)
    one, two, three = (samples[..., at].astype(np.int64) for at in range(3))
    as_rgb = float(np.abs(one - two).mean() + np.abs(one - three).mean())
    as_ybr = float(np.abs(two - middle).mean() + np.abs(three - middle).mean())
    if _SURE * (as_rgb if ybr else as_ybr) < (as_ybr if ybr else as_rgb) - _NOT_FLAT:
        raise FrameError(
            f"says {stated}, and its samples are {'RGB' if ybr else 'YCbCr'}: its grey levels would be wrong. "
            "Correct its photometric interpretation, or export it again."
        )


def _check_planes(samples: NDArray[Any], planar: int) -> None:
    """Refuse colours by plane that are read by pixel, or the other way: grey then shows in the wrong threes."""
    flat = samples.astype(np.int64)
    threes = np.moveaxis(flat, -1, 0).reshape(-1, 3).T if planar else flat.reshape(3, -1)  # as if it were the other
    apart = max(np.abs(threes[0] - threes[1]).mean(), np.abs(threes[0] - threes[2]).mean())
    if apart <= _ALIKE and threes[0].std() > _NOT_FLAT:
        raise FrameError(
            f"says planar configuration {planar}, and its colours are stored the other way. Export it again."
        )
