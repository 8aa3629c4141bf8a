"""`roiae-client import`: frames and boxes become a site folder, the manifest last."""

import csv
import io
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from roiae.data.dicom import is_dicom, read_header
from roiae.data.frames import read_frame
from roiae.data.intake.boxes import read_boxes
from roiae.data.intake.records import BoxRecord
from roiae.data.intake.source import SUFFIXES, Source, open_source
from roiae.data.intake.tables import read_subjects
from roiae.data.manifest import MANIFEST, OPTIONAL_COLUMNS, REQUIRED_COLUMNS
from roiae.data.pixels import Frame
from roiae.data.reading import Box, check_box
from roiae.errors import DataError, FrameError
from roiae.files import write_atomically

REPORT = "import.csv"
_OVERHANG_PX = 1  # of a box drawn up to the border: tools round outwards
_NAMED = 20


@dataclass(frozen=True)
class Outcome:
    """What became of the frames."""

    label: str
    imported: int
    set_aside: list[tuple[str, str]]  # as the boxes name it, and the reason
    notes: list[str]


def import_site(
    source: Path,
    boxes: Path,
    to: Path,
    *,
    label: str | None = None,
    subjects: Path | None = None,
    max_bad_share: float = 0.0,
    on_frame: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Copy the frames that have a box into `to/images`, and write `to/import.csv` and `to/manifest.csv`.

    A frame's subject is the table's, else that of `subjects`, else the DICOM PatientID's number, else its own.

    Args:
        source: a folder or a .zip archive.
        boxes: see `read_boxes`.
        to: must not exist, or be empty; nothing is written elsewhere, and nothing is left there after an error.
        label: which ROI, where the boxes have several.
        max_bad_share: share of the boxes whose frame may be unusable.

    Raises:
        DataError: something of the above cannot be used, or more frames than `max_bad_share`.
    """
    records = read_boxes(boxes)
    chosen, records = _of_label(boxes, records, label)
    stated = {} if subjects is None else read_subjects(subjects)
    frames = open_source(source, without=boxes)
    with _new_folder(to, source):
        intake = _Intake(frames, to, stated)
        for number, record in enumerate(records, start=1):
            intake.take_or_set_aside(record)
            if on_frame is not None:
                on_frame(number, len(records))
        intake.report_the_rest()
        outcome = Outcome(chosen, len(intake.rows), intake.set_aside, intake.notes())
        _check_share(source, outcome, max_bad_share)
        write_atomically(to / REPORT, _csv(("source", "frame", "outcome", "detail"), intake.report))
        write_atomically(to / MANIFEST, _csv((*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS), intake.rows))
    return outcome


class _Intake:
    """One import while it runs."""

    def __init__(self, source: Source, to: Path, subjects: dict[str, str]) -> None:
        self.rows: list[tuple[object, ...]] = []
        self.report: list[tuple[object, ...]] = []
        self.set_aside: list[tuple[str, str]] = []
        self._source, self._to, self._stated = source, to, subjects
        self._images: dict[str, str] = {}  # name in the source → path below `to`
        self._patients: dict[str, str] = {}
        self._own_subjects = 0
        self._taken: set[tuple[str, int | None]] = set()

    def take_or_set_aside(self, record: BoxRecord) -> None:
        """Copy a record's frame and add its row, or remember why that cannot be."""
        try:
            self._take(record)
        except FrameError as error:
            name = record.image if record.frame is None else f"{record.image}, frame {record.frame}"
            self.set_aside.append((name, str(error)))
            self.report.append((record.image, record.frame or "", "set aside", str(error)))

    def _take(self, record: BoxRecord) -> None:
        name = self._source.find(record.image)
        if (name, record.frame) in self._taken:
            raise FrameError("has a second box with this label; a frame has one ROI.")
        image = self._images.get(name) or self._copy(name)
        path = self._to / image
        try:
            frame = read_frame(path, record.frame)
            box = _whole_pixels(record.box, frame)
            check_box(box, frame)
        except FrameError as error:
            if name not in self._images:
                path.unlink()
            raise FrameError(str(error).removeprefix(f"{path}: ")) from error
        self._images[name] = image
        self._taken.add((name, record.frame))
        subject = self._subject(record, name, path)
        self.rows.append((image, subject, *box, record.split or "", record.mm_per_px or "", record.frame or ""))
        self.report.append((name, record.frame or "", "imported", image))

    def report_the_rest(self) -> None:
        """Report the source's frames that no box names."""
        named = {str(row[0]) for row in self.report}
        for name in self._source.frames():
            if name not in named and name not in self._images:
                self.report.append((name, "", "no box", ""))

    def notes(self) -> list[str]:
        """What a person should know of the whole."""
        without = sum(row[2] == "no box" for row in self.report)
        notes = [f"{without} frames of the source have no box and were left out."] if without else []
        if self._own_subjects:
            notes.append(
                f"{self._own_subjects} frames have no known subject, and each counts as a woman of her own. Where one "
                "has several frames, training and validation would share her: give --subjects a table image,subject."
            )
        return notes

    def _copy(self, name: str) -> str:
        suffix = PurePosixPath(name).suffix.lower()
        image = f"images/{len(self._images) + 1:06}{suffix if suffix in SUFFIXES else ''}"
        path = self._to / image
        path.unlink(missing_ok=True)
        self._source.copy(name, path)
        return image

    def _subject(self, record: BoxRecord, name: str, path: Path) -> str:
        for stated in (record.subject, *(self._stated.get(key, "") for key in (record.image, name, Path(name).name))):
            if stated:
                return stated
        patient = str(read_header(path).get("PatientID") or "") if is_dicom(path) else ""
        if patient:
            return self._patients.setdefault(patient, f"patient-{len(self._patients) + 1:06}")
        self._own_subjects += 1
        return f"frame-{Path(self._images[name]).stem}"


def _of_label(boxes: Path, records: Sequence[BoxRecord], label: str | None) -> tuple[str, list[BoxRecord]]:
    labels = Counter(record.label for record in records)
    listed = ", ".join(f"{name or '(none)'} ({number})" for name, number in labels.most_common(_NAMED))
    if label is None and len(labels) > 1:
        raise DataError(f"{boxes}: has boxes of several labels; say which with --label. Found {listed}.")
    chosen = next(iter(labels)) if label is None or set(labels) == {""} else label
    kept = [record for record in records if record.label == chosen]
    if not kept:
        raise DataError(f"{boxes}: no box has the label {chosen!r}. Found {listed}.")
    return label or chosen, kept


@contextmanager
def _new_folder(to: Path, source: Path) -> Iterator[None]:
    """An empty folder with `images/`; after an error, whatever was put into it is gone."""
    there, inside = to.resolve(), source.resolve()
    if there.is_relative_to(inside) or inside.is_relative_to(there):
        raise DataError(f"{to}: lies in the source, or the source in it. Give --to a folder of its own.")
    existed = to.exists()
    if existed and (not to.is_dir() or any(to.iterdir())):
        raise DataError(f"{to}: exists already. Give --to a folder that does not.")
    try:
        (to / "images").mkdir(parents=True)
    except OSError as error:
        raise DataError(f"{to}: cannot be made ({error.strerror}).") from error
    try:
        yield
    except BaseException:
        shutil.rmtree(to)
        if existed:
            to.mkdir()
        raise


def _whole_pixels(box: tuple[float, float, float, float], frame: Frame) -> Box:
    """The whole pixels that a box touches, brought back by the one pixel that it may stand over the border."""
    left, top = frame.origin
    height, width = frame.pixels.shape
    x0, y0 = math.floor(box[0] + 1e-3), math.floor(box[1] + 1e-3)
    x1, y1 = math.ceil(box[2] - 1e-3), math.ceil(box[3] - 1e-3)
    return (
        left if left - _OVERHANG_PX <= x0 < left else x0,
        top if top - _OVERHANG_PX <= y0 < top else y0,
        left + width if 0 < x1 - left - width <= _OVERHANG_PX else x1,
        top + height if 0 < y1 - top - height <= _OVERHANG_PX else y1,
    )


def _check_share(source: Path, outcome: Outcome, max_bad_share: float) -> None:
    bad = outcome.set_aside
    total = outcome.imported + len(bad)
    if outcome.imported and len(bad) / total <= max_bad_share:
        return
    named = [f"  {name}: {reason}" for name, reason in bad[:_NAMED]]
    if len(bad) > len(named):
        named.append(f"  … and {len(bad) - len(named)} more")
    raise DataError(
        f"{source}: {len(bad)} of {total} frames with a box cannot be used; the share allowed is {max_bad_share:g}. "
        "Nothing was written.\n"
        + "\n".join(named)
        + "\nCorrect these frames or boxes, or allow a share to be set aside with --max-bad-share."
    )


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    return stream.getvalue().encode("utf-8")
