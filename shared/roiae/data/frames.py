"""One frame from an image file, as the scanner stored it or as the model takes it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roiae.data.bounded import BoundedFile
from roiae.data.dicom import is_dicom, read_dicom
from roiae.data.pixels import Frame, check_size, check_stretched, frame_index, stretch, too_large
from roiae.errors import Fault, FrameError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr"})
_SIXTEEN_BIT_MODES = frozenset({"I;16", "I;16B", "I;16L"})
_ORIENTATION, _BITS_PER_SAMPLE = 274, 258  # tags of EXIF and TIFF
_PLANAR_CONFIGURATION, _BY_PLANE = 284, 2
_UPRIGHT = (None, 0, 1)  # 0 is written for unknown
_WHITE_IS_ZERO = 0  # TIFF's PhotometricInterpretation (tag 262), which Pillow inverts for 8 bits and not for 16


def read_frame(path: Path, number: int | None = None) -> Frame:
    """The grey frame in a DICOM, PNG, JPEG, TIFF or BMP file.

    Colour becomes luma (ITU-R 601). More than 8 bits are scaled from the whole range of the stored bits. A tag that
    turns the picture and pixels that are transparent are refused. What DICOM adds is said in `read_dicom`.

    Args:
        path: the file; its content says what it is, not its name.
        number: which of the file's frames, from 1; may be left out where it holds one.

    Raises:
        FrameError: no such file, not an image, truncated, too large, no such frame in it, or pixels of unknown scale.
    """
    try:
        if not path.is_file():
            raise FrameError("no such file. The column 'image' names files below the site's folder.")
        if is_dicom(path):
            return read_dicom(path, number)
        with opened_picture(path, number) as (image, bits):
            return Frame(_grey(image, bits))
    except FrameError as error:
        raise FrameError(f"{path}: {error}", error.fault) from error
    except Image.DecompressionBombError as error:
        raise FrameError(f"{path}: {too_large(str(error))}") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow answers broken bytes with OSError, SyntaxError, ValueError, struct.error, …
        raise FrameError(
            f"{path}: cannot be read as an image: it is of another kind, damaged or cut off. "
            f"Expected a whole {', '.join(FORMATS)} or DICOM file; open it in a viewer, and export it again."
        ) from error


def square_frame(frame: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """[H, W] resized to [side, side], each axis by its own factor, with an antialiasing filter (Lanczos)."""
    return np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.LANCZOS))


@contextmanager
def opened_picture(path: Path, number: int | None) -> Iterator[tuple[Image.Image, int]]:
    """One picture of a file that is no DICOM, of a size that may be decoded and not turned, and its bits a sample.

    Raises:
        FrameError: it is turned by a tag, too large, or there is no such picture.
        Exception: any of Pillow's, where the file is broken.
    """
    # Pillow warns of odd metadata, which does not concern the pixels, and of size, which is checked below.
    with (
        warnings.catch_warnings(action="ignore"),
        BoundedFile(path) as file,
        Image.open(file, formats=FORMATS) as image,
    ):
        pictures = getattr(image, "n_frames", 1)
        image.seek(frame_index(number, pictures))
        check_size(*image.size)
        bits = _stored_bits(image)
        _refuse_turned(image)  # which decodes some formats
        yield image, bits


def refuse_transparency(image: Image.Image) -> None:
    """Refuse a picture that what lies behind it would change.

    Raises:
        FrameError: a pixel of it is transparent.
    """
    if not image.has_transparency_data:
        return
    if image.mode in _SIXTEEN_BIT_MODES or image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise FrameError("is transparent in places: its grey there depends on what it lies on. Export it opaque.")


def _refuse_turned(image: Image.Image) -> None:
    """Tools show a picture as its tag turns it, libraries turn some formats and not others: so a turned one is refused.

    Pillow itself turns TIFF when it decodes, and forgets the tag; at this place no TIFF is decoded yet.
    """
    tag = getattr(image, "tag_v2", None)
    orientation = tag.get(_ORIENTATION) if tag is not None else None
    if orientation is None:
        orientation = image.getexif().get(_ORIENTATION)
    if orientation not in _UPRIGHT:
        raise FrameError(
            f"has an orientation tag ({orientation}) that turns or mirrors it: whether boxes mean the picture before "
            "or after cannot be told. Turn the pixels and remove the tag, for example with 'mogrify -auto-orient', and "
            "draw or turn the boxes likewise.",
            Fault.ORIENTATION,
        )


def _grey(image: Image.Image, bits: int) -> NDArray[np.uint8]:
    planar = getattr(image, "tag_v2", {}).get(_PLANAR_CONFIGURATION)
    refuse_transparency(image)
    if bits > 8 and planar == _BY_PLANE:  # which Pillow decodes into other colours
        raise FrameError(f"is TIFF of {bits} bits with its colours by plane. Export it as 8 bits.", Fault.BIT_DEPTH)
    if image.mode in _EIGHT_BIT_MODES:
        grey = np.array(image.convert("L"))
        if bits > 8:  # Pillow keeps the upper eight bits of each colour
            check_stretched(grey.astype(np.uint16) * 257, 2**16 - 1)
        return grey
    if image.mode in _SIXTEEN_BIT_MODES and getattr(image, "tag_v2", {}).get(262) != _WHITE_IS_ZERO:
        stored = np.asarray(image).astype(np.uint16)
        white = 2 ** min(max(bits, 9), 16) - 1
        check_stretched(stored, white)
        return stretch(stored, 0, white)
    raise FrameError(
        f"pixel type {image.mode!r} has no known scale. Expected 8-bit greyscale or colour, "
        "or 16-bit greyscale with 0 as black; export it as 8-bit PNG.",
        Fault.BIT_DEPTH,
    )


def _stored_bits(image: Image.Image) -> int:
    """Bits of a sample in the file, of a picture that is not decoded yet: Pillow gives 8 of a 16-bit colour."""
    stated = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE)
    if stated:
        return max(stated) if isinstance(stated, tuple) else int(stated)
    return (
        16
        if image.mode in _SIXTEEN_BIT_MODES or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
        else 8
    )
