"""One frame from an image file, as the scanner stored it or as the model takes it."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roiae.errors import FrameError

FORMATS = ("PNG", "JPEG", "TIFF")
MAX_PIXELS = 50_000_000  # a scanner's frame has 1 to 3 million; a file that claims far more is a decompression bomb
_EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr"})
_SIXTEEN_BIT_MODES = frozenset({"I;16", "I;16B", "I;16L"})
_WHITE_IS_ZERO = 0  # TIFF's PhotometricInterpretation (tag 262), which Pillow inverts for 8 bits and not for 16
_MIN_WHITE = 2**12  # a 16-bit frame whose brightest pixel is below this was not stretched to 16 bits


def read_frame(path: Path) -> NDArray[np.uint8]:
    """Greyscale pixels of a PNG, JPEG or TIFF file.

    Colour becomes luma (ITU-R 601), transparency and EXIF orientation are ignored: boxes are in pixels as stored.
    16-bit greyscale is scaled from [0, 65535].

    Returns:
        [H, W]

    Raises:
        FrameError: no such file, not an image, truncated, too large, several pictures, or pixels of unknown scale.
    """
    if not path.is_file():
        raise FrameError(f"{path}: no such file. The column 'image' names files below the site's folder.")
    try:
        # Pillow warns of odd metadata, which does not concern the pixels, and of size, which is checked below.
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            return _pixels(image)
    except FrameError as error:
        raise FrameError(f"{path}: {error}") from error
    except Image.DecompressionBombError as error:
        raise FrameError(f"{path}: {_too_large(str(error))}") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow answers broken bytes with OSError, SyntaxError, ValueError, struct.error, …
        raise FrameError(
            f"{path}: cannot be read as an image ({error}). "
            f"Expected a whole {', '.join(FORMATS)} file; open it in a viewer, and export it again."
        ) from error


def square_frame(frame: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """[H, W] resized to [side, side], each axis by its own factor, with an antialiasing filter (Lanczos)."""
    return np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.LANCZOS))


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise FrameError(_too_large(f"{width}×{height} px"))
    pictures = getattr(image, "n_frames", 1)
    if pictures > 1:
        raise FrameError(f"holds {pictures} pictures. Expected one frame a file; export the frame alone.")
    if image.mode in _EIGHT_BIT_MODES:
        return np.array(image.convert("L"))
    if image.mode in _SIXTEEN_BIT_MODES and getattr(image, "tag_v2", {}).get(262) != _WHITE_IS_ZERO:
        return _eight_bits(np.asarray(image).astype(np.uint16))
    raise FrameError(
        f"pixel type {image.mode!r} has no known scale. Expected 8-bit greyscale or colour, "
        "or 16-bit greyscale with 0 as black; export it as 8-bit PNG."
    )


def _eight_bits(frame: NDArray[np.uint16]) -> NDArray[np.uint8]:
    brightest = int(frame.max())
    if brightest < _MIN_WHITE:
        raise FrameError(
            f"16-bit greyscale whose brightest pixel is {brightest} of 65535: it would turn almost black. "
            "Probably 8 to 12 bits in a 16-bit file; stretch it to 16 bits, or export it as 8-bit PNG."
        )
    return ((frame.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _too_large(size: str) -> str:
    return f"refused as a decompression bomb ({size}). Expected at most {MAX_PIXELS // 10**6} million pixels."
