"""One frame from an image file, as the scanner stored it or as the model takes it."""

import warnings
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
_SIXTEEN_BIT_WHITE = 2**16 - 1
_WHITE_IS_ZERO = 0  # TIFF's PhotometricInterpretation (tag 262), which Pillow inverts for 8 bits and not for 16


def read_frame(path: Path, number: int | None = None) -> Frame:
    """The grey frame in a DICOM, PNG, JPEG, TIFF or BMP file.

    Colour becomes luma (ITU-R 601), transparency and EXIF orientation are ignored: boxes are in pixels as stored.
    16-bit greyscale is scaled from [0, 65535]. What DICOM adds is said in `read_dicom`.

    Args:
        path: the file; its content says what it is, not its name.
        number: which of the file's frames, from 1; may be left out where it holds one.

    Raises:
        FrameError: no such file, not an image, truncated, too large, no such frame in it, or pixels of unknown scale.
    """
    try:
        if not path.is_file():
            raise FrameError("no such file. The column 'image' names files below the site's folder.")
        return read_dicom(path, number) if is_dicom(path) else Frame(_read_picture(path, number))
    except FrameError as error:
        raise FrameError(f"{path}: {error}", error.fault) from error
    except Image.DecompressionBombError as error:
        raise FrameError(f"{path}: {too_large(str(error))}") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow answers broken bytes with OSError, SyntaxError, ValueError, struct.error, …
        raise FrameError(
            f"{path}: cannot be read as an image ({error}). "
            f"Expected a whole {', '.join(FORMATS)} or DICOM file; open it in a viewer, and export it again."
        ) from error


def square_frame(frame: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """[H, W] resized to [side, side], each axis by its own factor, with an antialiasing filter (Lanczos)."""
    return np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.LANCZOS))


def _read_picture(path: Path, number: int | None) -> NDArray[np.uint8]:
    # Pillow warns of odd metadata, which does not concern the pixels, and of size, which is checked below.
    with (
        warnings.catch_warnings(action="ignore"),
        BoundedFile(path) as file,
        Image.open(file, formats=FORMATS) as image,
    ):
        pictures = getattr(image, "n_frames", 1)
        image.seek(frame_index(number, pictures))
        check_size(*image.size)
        return _grey(image)


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _EIGHT_BIT_MODES:
        return np.array(image.convert("L"))
    if image.mode in _SIXTEEN_BIT_MODES and getattr(image, "tag_v2", {}).get(262) != _WHITE_IS_ZERO:
        stored = np.asarray(image).astype(np.uint16)
        check_stretched(stored, _SIXTEEN_BIT_WHITE)
        return stretch(stored, 0, _SIXTEEN_BIT_WHITE)
    raise FrameError(
        f"pixel type {image.mode!r} has no known scale. Expected 8-bit greyscale or colour, "
        "or 16-bit greyscale with 0 as black; export it as 8-bit PNG.",
        Fault.BIT_DEPTH,
    )
