"""What every format of boxes is read into."""

from dataclasses import dataclass
from pathlib import Path

from roiae.errors import DataError

MAX_BYTES = 2**28  # of a file of boxes; a million boxes in JSON are a quarter of it


@dataclass(frozen=True)
class BoxRecord:
    """One box of one frame, as its file states it."""

    where: str  # for messages: the file, and the line or place in it
    image: str  # as the file names it, which may be a path on another machine
    label: str  # of the ROI; empty where the format has none
    box: tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the stored picture, end exclusive
    frame: int | None = None  # from 1
    subject: str = ""
    split: str | None = None
    mm_per_px: float | None = None


def read_bytes(path: Path) -> bytes:
    """The content of a file of boxes.

    Raises:
        DataError: it cannot be read, or is too large to be one.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: {path.stat().st_size} bytes are no file of boxes; expected at most {MAX_BYTES}.")
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Give --boxes the file or folder of boxes."
        ) from error
