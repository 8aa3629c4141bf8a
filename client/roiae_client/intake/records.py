"""What every format of boxes is read into."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from roiae.errors import DataError

MAX_BYTES = 2**28  # of a file of boxes; a million boxes in JSON are a quarter of it
Corners = tuple[float, float, float, float]
NO_BOX: Corners = (0.0, 0.0, 0.0, 0.0)


class Unit(StrEnum):
    """What the numbers of a box count."""

    PIXELS = "px"
    SHARES = "share"  # of the picture's width and height, 0 to 1
    PERCENT = "percent"


@dataclass(frozen=True)
class BoxRecord:
    """One box of one frame, as its file states it."""

    where: str  # for messages: the file, and the line or place in it
    image: str  # as the file names it, which may be a path on another machine
    label: str  # of the ROI; empty where the format has none
    box: Corners  # x0, y0, x1, y1 of the stored picture, end exclusive
    frame: int | None = None  # from 1
    subject: str = ""
    split: str | None = None
    mm_per_px: tuple[float, float] | None = None
    picture: tuple[int, int] | None = None  # width and height that the file states for the whole picture
    unit: Unit | None = None  # None where the format does not say, or is often written otherwise
    from_one: bool = False  # counted from 1 with the last pixel inside, unless the set shows otherwise
    refusal: str = ""  # why this is no box that can be taken
    unknown: tuple[str, ...] = ()  # attributes that say something and are not understood
    file_bytes: int | None = None  # size that the file states for the frame's own file
    drawing: str = ""  # SHA-256 of the mask's file: its frame is another


@dataclass
class Boxes:
    """All that a file or folder of boxes says."""

    records: list[BoxRecord] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)  # names of all pictures it knows, with a box or without
    notes: list[str] = field(default_factory=list)  # what was decided for the whole set
    shares: list[float] = field(default_factory=list)  # of its picture that each mask covers

    def add(self, other: "Boxes") -> None:
        self.records += other.records
        self.pictures += other.pictures
        self.notes += other.notes
        self.shares += other.shares


def unknown_of(attributes: Mapping[str, object], understood: Iterable[str]) -> tuple[str, ...]:
    """Names of the attributes that are not understood and say something: a default, nothing or 0 says nothing."""
    known = set(understood)
    return tuple(name for name, value in attributes.items() if name not in known and not _is_neutral(value))


def _is_neutral(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().casefold() in ("", "0", "0.0", "false", "none", "null", "unspecified")
    return value is None or value is False or value == 0 or value in ([], {}, ())


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
