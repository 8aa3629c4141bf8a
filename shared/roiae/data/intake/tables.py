"""Boxes in a table: one row a box, columns recognised by name."""

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path

from roiae.data.intake.records import BoxRecord
from roiae.data.manifest import BOX_COLUMNS, parse_frame, parse_millimetres, parse_split
from roiae.data.table import table_records
from roiae.errors import ManifestError

IMAGE_NAMES = ("image", "fname", "filename", "file_name", "file")
LABEL_NAMES = ("label", "structure", "class", "category")
SUBJECT_NAMES = ("subject", "subject_id", "patient", "patient_id")
# Names of x0, y0, x1, y1, in this order whatever the order of the columns: `h` counts rows, `w` columns.
CORNER_NAMES = (
    BOX_COLUMNS,
    ("w_min", "h_min", "w_max", "h_max"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x0", "y0", "x1", "y1"),
)


def read_table(path: Path) -> list[BoxRecord]:
    """Rows of a CSV table with an image, four corners and, where it has them, label, subject, split, mm_per_px, frame.

    Raises:
        DataError: it cannot be read.
        ManifestError: it is no table, a column is missing or there twice, or a field is impossible.
    """
    records = table_records(path)
    line, header = next(records, (1, []))
    names = [name.casefold() for name in header]
    columns = {
        "image": _one_of(path, line, names, IMAGE_NAMES, needed=True),
        "label": _one_of(path, line, names, LABEL_NAMES),
        "subject": _one_of(path, line, names, SUBJECT_NAMES),
        **{name: _one_of(path, line, names, (name,)) for name in ("split", "mm_per_px", "frame")},
        **dict(zip(BOX_COLUMNS, _corners(path, line, names), strict=True)),
    }
    found = []
    for line, record in records:
        if len(record) < len(header) or any(record[len(header) :]):
            raise ManifestError(f"{path}:{line}: {len(record)} fields where the header has {len(header)}.")
        fields = {name: "" if at is None else record[at] for name, at in columns.items()}
        found.append(_record(f"{path}:{line}", fields))
    return found


def read_subjects(path: Path) -> dict[str, str]:
    """Image → subject, of a table with these two columns.

    Raises:
        DataError: as for `read_table`; two rows give one image different subjects.
    """
    records = table_records(path)
    line, header = next(records, (1, []))
    names = [name.casefold() for name in header]
    image = _one_of(path, line, names, IMAGE_NAMES, needed=True)
    subject = _one_of(path, line, names, SUBJECT_NAMES, needed=True)
    assert image is not None
    assert subject is not None
    subjects: dict[str, str] = {}
    for line, record in records:
        if len(record) < len(header) or not record[image] or not record[subject]:
            raise ManifestError(f"{path}:{line}: expected an image and its subject.")
        if subjects.setdefault(record[image], record[subject]) != record[subject]:
            raise ManifestError(f"{path}:{line}: this image has another subject in a line before.")
    return subjects


def _one_of(path: Path, line: int, names: list[str], known: tuple[str, ...], *, needed: bool = False) -> int | None:
    places = [at for at, name in enumerate(names) if name in known]
    if len(places) > 1:
        raise ManifestError(f"{path}:{line}: {len(places)} columns {' or '.join(known)}; expected one.")
    if needed and not places:
        raise ManifestError(f"{path}:{line}: no column {' or '.join(known)}. Found {_listed(names)}.")
    return places[0] if places else None


def _corners(path: Path, line: int, names: list[str]) -> tuple[int, ...]:
    found = [corners for corners in CORNER_NAMES if set(corners) <= set(names)]
    if len(found) != 1 or any(names.count(name) > 1 for name in found[0]):
        expected = "; ".join(",".join(corners) for corners in CORNER_NAMES)
        raise ManifestError(
            f"{path}:{line}: expected the corners of a box once, as one of {expected}. Found {_listed(names)}."
        )
    return tuple(names.index(name) for name in found[0])


def _record(where: str, fields: Mapping[str, str]) -> BoxRecord:
    if not fields["image"]:
        raise ManifestError(f"{where}: no image.")
    x0, y0, x1, y1 = (_number(where, name, fields[name]) for name in BOX_COLUMNS)
    return BoxRecord(
        where=where,
        image=fields["image"],
        label=fields["label"],
        box=(x0, y0, x1, y1),
        frame=parse_frame(where, fields["frame"]),
        subject=fields["subject"],
        split=parse_split(where, fields["split"]),
        mm_per_px=parse_millimetres(where, fields["mm_per_px"]),
    )


def _number(where: str, name: str, value: str) -> float:
    try:
        number = float(value.replace(",", "."))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ManifestError(
            f"{where}: the corner {name.removeprefix('roi_')} is {value!r}; expected a number of pixels."
        )
    return number


def _listed(names: list[str]) -> str:
    return textwrap.shorten(",".join(names), 200) or "nothing"
