"""One import while it runs: each box finds its frame, is compared with it, and becomes a row."""

import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from roiae.data.dicom import is_dicom, read_header
from roiae.data.frames import read_frame
from roiae.data.manifest import write_millimetres
from roiae.data.pixels import Box, Frame
from roiae.data.reading import check_box
from roiae.errors import DataError, FrameError
from roiae_client.intake.names import SUFFIXES, Names
from roiae_client.intake.numbers import check_not_percent, in_pixels
from roiae_client.intake.records import Boxes, BoxRecord, Corners, Unit
from roiae_client.intake.source import Source, target_error

_OVERHANG_PX = 1  # of a box drawn up to the border: tools round outwards
_MIN_PX = 2  # of an ROI each way
_FAST = 1  # of zlib's levels: speckle packs hardly better with more


@dataclass(frozen=True)
class Rules:
    """What a user allows beyond what files state."""

    unit: Unit | None = None  # of numbers whose file does not say
    rescale: bool = False  # boxes drawn on a picture of another size and the same shape
    ignore: Collection[str] = ()  # attributes that say something else than where a box lies
    keep_files: bool = False  # copy each file as it is, in place of a PNG of its pixels


class Intake:
    """What was taken and set aside so far."""

    def __init__(self, source: Source, to: Path, boxes: Boxes, subjects: dict[str, str], rules: Rules) -> None:
        self.rows: list[tuple[object, ...]] = []
        self.report: list[tuple[object, ...]] = []
        self.set_aside: list[tuple[str, str]] = []
        self._source, self._to, self._rules = source, to, rules
        self._names = Names(source.names, boxes.pictures)
        self._subjects, self._subject_notes = _subjects_by_file(source, subjects)
        self._images: dict[str, str] = {}  # name in the source → path below `to`, of the last of its frames
        self._patients: dict[str, str] = {}
        self._own_subjects = 0
        self._taken: set[tuple[str, int | None]] = set()
        self._pixels: list[tuple[BoxRecord, tuple[int, int]]] = []
        self._fetched = ""  # name in the source of what lies in `_unpacked`
        self._unpacked = to / "unpacked"

    def take_or_set_aside(self, record: BoxRecord) -> None:
        """Copy a record's frame and add its row, or remember why that cannot be.

        Raises:
            DataError: the folder cannot be written to.
        """
        try:
            self._take(record)
        except FrameError as error:
            name = record.image if record.frame is None else f"{record.image}, frame {record.frame}"
            self.set_aside.append((name, str(error)))
            self.report.append((record.image, record.frame or "", "set aside", str(error)))

    def finish(self) -> None:
        """Report the source's frames that no box names, and see whether the numbers can be pixels.

        Raises:
            DataError: they look like percent.
        """
        self._unpacked.unlink(missing_ok=True)
        check_not_percent(self._pixels, self._rules.unit)
        named = {str(row[0]) for row in self.report}
        for name in self._source.frames():
            if name not in named and name not in self._images:
                self.report.append((name, "", "no box", ""))

    def notes(self) -> list[str]:
        """What a person should know of the whole."""
        without = sum(row[2] == "no box" for row in self.report)
        notes = [f"{without} frames of the source have no box and were left out."] if without else []
        notes += self._subject_notes
        if self._own_subjects:
            notes.append(
                f"{self._own_subjects} frames have no known subject, and each counts as a woman of her own. Where one "
                "has several frames, training and validation would share her: give --subjects a table image,subject."
            )
        return notes

    def _take(self, record: BoxRecord) -> None:
        name = self._names.find(record.image)
        self._check_record(record)
        if (name, record.frame) in self._taken:
            raise FrameError("has a second box with this label; a frame has one ROI.")
        path = self._fetch(name)
        try:
            frame = read_frame(path, record.frame)
        except FrameError as error:
            raise FrameError(str(error).removeprefix(f"{path}: ")) from error
        _check_same_file(record, path, frame)
        box = _whole_pixels(in_pixels(record, frame.picture, rescale=self._rules.rescale), frame)
        frame = frame.holding(box)
        box = _brought_back(box, frame)
        check_box(box, frame)
        if min(box[2] - box[0], box[3] - box[1]) < _MIN_PX:
            raise FrameError(f"ROI {box} is of {box[2] - box[0]}×{box[3] - box[1]} px, which no ROI is.")
        self._pixels.append((record, frame.picture))
        self._taken.add((name, record.frame))
        image = self._keep(name, path) if self._rules.keep_files else self._write(frame)
        self._images[name] = image
        subject = self._subject(record, name, path if path.exists() else self._to / image)
        self._add_row(record, image, subject, frame, box)
        self.report.append((name, record.frame or "", "imported", image))

    def _add_row(self, record: BoxRecord, image: str, subject: str, frame: Frame, box: Box) -> None:
        mm_per_px, number = record.mm_per_px, record.frame
        if not self._rules.keep_files:  # the picture is the part that shows echoes, and holds nothing else
            x, y = frame.origin
            box = (box[0] - x, box[1] - y, box[2] - x, box[3] - y)
            mm_per_px, number = mm_per_px or frame.mm_per_px, None
        self.rows.append((image, subject, *box, record.split or "", write_millimetres(mm_per_px), number or ""))

    def _check_record(self, record: BoxRecord) -> None:
        if record.refusal:
            raise FrameError(record.refusal)
        odd = [name for name in record.unknown if name not in self._rules.ignore]
        if odd:
            raise FrameError(
                f"its file says {odd[0]!r}, which is not understood and may move the box. "
                f"Export it without, or, where it does not, say so with --ignore {odd[0]}."
            )

    def _fetch(self, name: str) -> Path:
        """A file of the source, copied or unpacked into the new folder; the last one is kept for its other frames."""
        if self._rules.keep_files and name in self._images:
            return self._to / self._images[name]
        if self._fetched != name:
            self._fetched = ""
            self._unpacked.unlink(missing_ok=True)
            self._source.copy(name, self._unpacked)
            self._fetched = name
        return self._unpacked

    def _keep(self, name: str, path: Path) -> str:
        if name in self._images:
            return self._images[name]
        suffix = PurePosixPath(name).suffix.lower()
        image = f"images/{len(self._images) + 1:06}{suffix if suffix in SUFFIXES else ''}"
        path.rename(self._to / image)
        self._fetched = ""
        return image

    def _write(self, frame: Frame) -> str:
        image = f"images/{len(self.rows) + 1:06}.png"
        try:
            Image.fromarray(np.ascontiguousarray(frame.pixels)).save(self._to / image, "PNG", compress_level=_FAST)
        except OSError as error:
            raise target_error(self._to / image, error) from error
        return image

    def _subject(self, record: BoxRecord, name: str, path: Path) -> str:
        stated = record.subject or self._subjects.get(name)
        if stated:
            return stated
        patient = str(read_header(path).get("PatientID") or "") if is_dicom(path) else ""
        if patient:
            return self._patients.setdefault(patient, f"patient-{len(self._patients) + 1:06}")
        self._own_subjects += 1
        return f"frame-{Path(self._images[name]).stem}"


def _subjects_by_file(source: Source, stated: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Subjects by the source's names; a name that could be two files is refused, one that is none is said."""
    names = Names(source.names, list(stated))
    found: dict[str, str] = {}
    lost: list[tuple[str, str]] = []
    for image, subject in stated.items():
        try:
            found[names.find(image)] = subject
        except FrameError as error:
            if not str(error).startswith("no such file"):
                raise DataError(f"--subjects: {image}: {error}") from error
            lost.append((image, str(error)))
    note = f"{len(lost)} images of --subjects are not in the source (the first: {lost[0][0]!r})." if lost else ""
    return found, [note] if note else []


def _check_same_file(record: BoxRecord, path: Path, frame: Frame) -> None:
    """Refuse a drawing in the place of its frame, and a file that is not the one that boxes were drawn on.

    Raises:
        FrameError: it is one of these.
    """
    if record.file_bytes is not None and path.stat().st_size != record.file_bytes:
        raise FrameError(
            f"its boxes were drawn on a file of {record.file_bytes} bytes, and this one has {path.stat().st_size}. "
            "Bring the file that was drawn on."
        )
    same = bool(record.drawing) and hashlib.sha256(path.read_bytes()).hexdigest() == record.drawing
    if same or np.count_nonzero(np.bincount(frame.pixels.ravel(), minlength=256)) == 2:
        raise FrameError("is a mask or drawing, of two grey levels, and no frame. Bring the frame that it belongs to.")


def _whole_pixels(box: Corners, frame: Frame) -> Box:
    """The whole pixels that a box touches, brought back by what it may stand over the border of the picture."""
    width, height = frame.picture
    x0, y0 = math.floor(box[0] + 1e-3), math.floor(box[1] + 1e-3)
    x1, y1 = math.ceil(box[2] - 1e-3), math.ceil(box[3] - 1e-3)
    return _within((x0, y0, x1, y1), (0, 0, width, height))


def _brought_back(box: Box, frame: Frame) -> Box:
    """The same for the border of the part that shows echoes."""
    (left, top), (height, width) = frame.origin, frame.pixels.shape
    return _within(box, (left, top, left + width, top + height))


def _within(box: Box, part: Box) -> Box:
    low = [
        start if start - _OVERHANG_PX <= side < start else side for side, start in zip(box[:2], part[:2], strict=True)
    ]
    high = [end if end < side <= end + _OVERHANG_PX else side for side, end in zip(box[2:], part[2:], strict=True)]
    return low[0], low[1], high[0], high[1]
