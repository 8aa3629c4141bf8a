"""Boxes in a table: one row a box, columns recognised by name."""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

from roiae.data.manifest import BOX_COLUMNS, parse_frame, parse_millimetres, parse_split
from roiae.data.table import table_records
from roiae.errors import DataError, ManifestError
from roiae_client.intake.numbers import read_numbers
from roiae_client.intake.records import Boxes, BoxRecord, Corners, Unit
from roiae_client.intake.via import is_via_table, read_via_table

IMAGE_NAMES = ("image", "fname", "filename", "file_name", "file", "image_path", "image_name")
LABEL_NAMES = ("label", "structure", "class", "category")
SUBJECT_NAMES = ("subject", "subject_id", "patient", "patient_id")
WIDTH_NAMES = ("image_width", "img_width", "width_px")
HEIGHT_NAMES = ("image_height", "img_height", "height_px")
# Names of x0, y0, x1, y1, in this order whatever the order of the columns: `h` counts rows, `w` columns.
CORNER_NAMES = (
    BOX_COLUMNS,
    ("w_min", "h_min", "w_max", "h_max"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x0", "y0", "x1", "y1"),
    ("x1", "y1", "x2", "y2"),
)
SIZED_NAMES = (  # x0, y0, width, height
    ("x", "y", "width", "height"),
    ("x", "y", "w", "h"),
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
    ("left", "top", "width", "height"),
)
_SIDE = re.compile(r"[xy]_?\d|[xywh]_?(?:min|max|center|centre)")  # names of a side or corner
_MOVES = ("rotation", "angle", "theta", "iscrowd", "unit", "units")  # of a box: a column that has to say nothing


def read_table(path: Path) -> Boxes:
    """Rows of a CSV table with an image, a box and, where it has them, label, subject, split, mm_per_px, frame, and the
    picture's width and height.

    Raises:
        DataError: it cannot be read.
        ManifestError: it is no table, a column is missing or there twice, or a field is impossible.
    """
    records = table_records(path)
    line, header = next(records, (1, []))
    names = [name.casefold() for name in header]
    if is_via_table(names):
        return read_via_table(path, names, records)
    image = _one_of(path, line, names, IMAGE_NAMES, needed=True)
    places, sized = _corners(path, line, names)
    columns = {
        "image": image,
        "label": _one_of(path, line, names, LABEL_NAMES),
        "subject": _one_of(path, line, names, SUBJECT_NAMES),
        "wide": _one_of(path, line, names, tuple(n for n in (*WIDTH_NAMES, "width") if _free(names, n, places))),
        "high": _one_of(path, line, names, tuple(n for n in (*HEIGHT_NAMES, "height") if _free(names, n, places))),
        **{name: _one_of(path, line, names, (name,)) for name in ("split", "mm_per_px", "frame", *_MOVES)},
        **dict(zip(BOX_COLUMNS, places, strict=True)),
    }
    rows: list[tuple[str, dict[str, str]]] = []
    for line, record in records:
        if len(record) < len(header) or any(record[len(header) :]):
            raise ManifestError(f"{path}:{line}: {len(record)} fields where the header has {len(header)}.")
        rows.append((f"{path}:{line}", {name: "" if at is None else record[at] for name, at in columns.items()}))
    try:
        corners, notes = read_numbers(
            [where for where, _ in rows], [[fields[name] for name in BOX_COLUMNS] for _, fields in rows], sized=sized
        )
    except DataError as error:
        raise ManifestError(str(error)) from error
    found = [_record(where, fields, box) for (where, fields), box in zip(rows, corners, strict=True)]
    return Boxes(found, list(dict.fromkeys(record.image for record in found)), notes)


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


def _free(names: list[str], name: str, places: tuple[int, ...]) -> bool:
    """Whether a column of this name is no side of the box."""
    return name in names and names.index(name) not in places


def _corners(path: Path, line: int, names: list[str]) -> tuple[tuple[int, ...], bool]:
    """Places of the four numbers of a box, and whether the last two are its width and height."""
    found = [(corners, False) for corners in CORNER_NAMES if set(corners) <= set(names)]
    found = found or [(sides, True) for sides in SIZED_NAMES if set(sides) <= set(names)]
    if len(found) != 1 or any(names.count(name) > 1 for name in found[0][0]):
        expected = "; ".join(",".join(corners) for corners in (*CORNER_NAMES, *SIZED_NAMES))
        raise ManifestError(
            f"{path}:{line}: expected the corners of a box once, as one of {expected}. Found {_listed(names)}."
        )
    ((columns, sized),) = found
    more = [name for name in names if _SIDE.fullmatch(name) and name not in columns]
    if more:
        raise ManifestError(
            f"{path}:{line}: the column {more[0]} says more of where a box lies than {','.join(columns)} do; "
            "expected four numbers a box."
        )
    return tuple(names.index(name) for name in columns), sized


def _record(where: str, fields: Mapping[str, str], box: Corners) -> BoxRecord:
    if not fields["image"]:
        raise ManifestError(f"{where}: no image.")
    moved = [name for name in _MOVES if fields[name] not in ("", "0", "0.0") and name != "unit" and name != "units"]
    unit = _unit(where, fields["unit"] or fields["units"])
    return BoxRecord(
        where=where,
        image=fields["image"],
        label=fields["label"],
        box=box,
        frame=parse_frame(where, fields["frame"]),
        subject=fields["subject"],
        split=parse_split(where, fields["split"]),
        mm_per_px=parse_millimetres(where, fields["mm_per_px"]),
        picture=_picture(where, fields["wide"], fields["high"]),
        unit=unit,
        refusal=f"its column {moved[0]} is {fields[moved[0]]!r}; expected an upright box." if moved else "",
    )


def _unit(where: str, text: str) -> Unit | None:
    known = {"": None, "px": Unit.PIXELS, "pixel": Unit.PIXELS, "pixels": Unit.PIXELS, "percent": Unit.PERCENT}
    known |= {"%": Unit.PERCENT, "share": Unit.SHARES, "normalised": Unit.SHARES, "normalized": Unit.SHARES}
    if text.casefold() not in known:
        raise ManifestError(f"{where}: unit is {text!r}; expected px, share or percent.")
    return known[text.casefold()]


def _picture(where: str, wide: str, high: str) -> tuple[int, int] | None:
    if not wide and not high:
        return None
    try:
        return int(wide), int(high)
    except ValueError:
        raise ManifestError(
            f"{where}: the picture is {wide!r} by {high!r}; expected whole numbers of pixels."
        ) from None


def _listed(names: list[str]) -> str:
    return textwrap.shorten(",".join(names), 200) or "nothing"
