"""`roiae-client import`: frames and boxes become a site folder, the manifest last."""

import csv
import io
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from roiae.data.manifest import MANIFEST, OPTIONAL_COLUMNS, REQUIRED_COLUMNS
from roiae.errors import DataError
from roiae.files import write_atomically
from roiae_client.intake.boxes import AS_WRITTEN, Reading, read_boxes
from roiae_client.intake.records import BoxRecord
from roiae_client.intake.source import open_source, target_error
from roiae_client.intake.tables import read_subjects
from roiae_client.intake.taking import Intake, Rules

AS_STATED = Rules()
REPORT = "import.csv"
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
    reading: Reading = AS_WRITTEN,
    rules: Rules = AS_STATED,
    on_frame: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Write the frames that have a box into `to/images`, and `to/import.csv` and `to/manifest.csv`.

    A frame becomes a PNG of its pixels, which holds nothing else, unless `rules.keep_files`.

    A frame's subject is the table's, else that of `subjects`, else the DICOM PatientID's number, else its own.

    Args:
        source: a folder or a .zip archive.
        boxes: see `read_boxes`.
        to: must not exist, or be empty; nothing is written elsewhere, and nothing is left there after an error.
        label: which ROI, where the boxes have several.
        max_bad_share: share of the boxes whose frame may be unusable.
        reading: what the files of boxes do not say.
        rules: what is allowed beyond what they say.

    Raises:
        DataError: something of the above cannot be used, or more frames than `max_bad_share`.
    """
    read = read_boxes(boxes, reading)
    chosen, records = _of_label(boxes, read.records, label)
    stated = {} if subjects is None else read_subjects(subjects)
    frames = open_source(source, without=boxes, to=to)
    with _new_folder(to, source):
        intake = Intake(frames, to, read, stated, rules)
        for number, record in enumerate(records, start=1):
            intake.take_or_set_aside(record)
            if on_frame is not None:
                on_frame(number, len(records))
        intake.finish()
        outcome = Outcome(chosen, len(intake.rows), intake.set_aside, [*read.notes, *intake.notes()])
        _check_share(source, outcome, max_bad_share)
        _write_table(to / REPORT, ("source", "frame", "outcome", "detail"), intake.report)
        _write_table(to / MANIFEST, (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS), intake.rows)
    return outcome


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
        shutil.rmtree(to, ignore_errors=True)  # what went wrong is said, not that this did too
        if existed:
            to.mkdir(exist_ok=True)
        raise


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


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    try:
        write_atomically(path, stream.getvalue().encode("utf-8", errors="backslashreplace"))
    except OSError as error:
        raise target_error(path, error) from error
