"""One frame, read: its grey levels, and where they lie in the picture that was stored."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roiae.errors import Fault, FrameError

MAX_PIXELS = 50_000_000  # a scanner's frame has 1 to 3 million; a file that claims far more is a decompression bomb


Box = tuple[int, int, int, int]  # x0, y0, x1, y1 px, end exclusive


@dataclass(frozen=True)
class Region:
    """A part of a stored picture that its header describes."""

    box: Box
    mm_per_px: tuple[float, float] | None  # along x and y, where it is a picture measured in centimetres
    is_picture: bool  # of tissue in two dimensions, unlike a spectrum or a colour bar

    def holds(self, box: Box) -> bool:
        x0, y0, x1, y1 = self.box
        return x0 <= box[0] and y0 <= box[1] and box[2] <= x1 and box[3] <= y1

    @property
    def area(self) -> int:
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)


@dataclass(frozen=True)
class Frame:
    """The part of a stored picture that shows echoes."""

    pixels: NDArray[np.uint8]  # [H, W], grey
    origin: tuple[int, int] = (0, 0)  # x, y px of its first pixel in the stored picture
    mm_per_px: tuple[float, float] | None = None  # along x and y, where the file says so
    whole: NDArray[np.uint8] | None = None  # the stored picture, where the frame is cut from it
    regions: tuple[Region, ...] = ()  # of the stored picture

    @property
    def picture(self) -> tuple[int, int]:
        """Width and height of the stored picture, px."""
        height, width = (self.pixels if self.whole is None else self.whole).shape
        return width, height

    def holding(self, box: Box) -> "Frame":
        """The same picture, cut to a region that holds the box and measured by the smallest that does.

        Args:
            box: in pixels of the stored picture. Where no region holds it, the frame stays as it is.
        """
        around = sorted((region for region in self.regions if region.holds(box)), key=lambda region: region.area)
        pictures = [region for region in around if region.is_picture]
        if self.whole is None or not pictures:
            return self
        x0, y0, x1, y1 = pictures[-1].box
        return replace(self, pixels=self.whole[y0:y1, x0:x1], origin=(x0, y0), mm_per_px=around[0].mm_per_px)


def check_size(width: int, height: int) -> None:
    """Refuse a picture that is empty or would fill the memory.

    Raises:
        FrameError: it has no pixel, or more than `MAX_PIXELS`.
    """
    if width < 1 or height < 1:
        raise FrameError(f"holds no pixel ({width}×{height} px).")
    if width * height > MAX_PIXELS:
        raise FrameError(too_large(f"{width}×{height} px"))


def frame_index(number: int | None, frames: int) -> int:
    """The place, from 0, of frame `number`, from 1, in a file of `frames`.

    Raises:
        FrameError: the file holds several and no number says which, or it has no such frame.
    """
    if number is None and frames > 1:
        raise FrameError(
            f"holds {frames} frames. Say which in the manifest's column 'frame', from 1, or export it alone."
        )
    if not 1 <= (number or 1) <= frames:
        raise FrameError(f"holds {frames} {'frame' if frames == 1 else 'frames'}; frame {number} was asked for.")
    return (number or 1) - 1


def too_large(size: str) -> str:
    return f"refused as a decompression bomb ({size}). Expected at most {MAX_PIXELS // 10**6} million pixels."


def stretch(values: NDArray[np.generic], black: float, white: float) -> NDArray[np.uint8]:
    """Grey levels from black … white to 0 … 255, rounded."""
    scaled = (values.astype(np.float64) - black) * (255 / (white - black))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def check_stretched(values: NDArray[np.generic], white: int) -> None:
    """Refuse pixels of more than 8 bits of which none uses the highest bit: they have fewer bits than their type.

    Raises:
        FrameError: the brightest is below half of white, so that all would turn darker than they are.
    """
    brightest = int(values.max())
    if brightest < (white + 1) // 2:
        raise FrameError(
            f"{white.bit_length()}-bit pixels of which the brightest is {brightest} of {white}: "
            "probably fewer bits in a larger type, and all would turn too dark. Stretch them, or export 8-bit PNG.",
            Fault.BIT_DEPTH,
        )


def luma(colour: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[H, W, 3] red, green, blue as grey (ITU-R 601)."""
    return np.array(Image.fromarray(colour).convert("L"))
