"""`manifest.csv`, the contract between a hospital and this project.

    image,subject,roi_x0,roi_y0,roi_x1,roi_y1[,split][,mm_per_px][,frame]

One row a frame. `image` is a path below the folder; the box is in pixels of the stored frame, x to the right, y down,
end exclusive. `split` is `train`, `validation` or empty; `mm_per_px` a pixel's size (`0.1`, or `0.2x0.1` along x and
y), or empty; `frame` which frame of a cine, from 1, or empty where the file holds one. Other columns are ignored.
Commas, semicolons or tabs; with or without a byte order mark; any line ends.
"""

import difflib
import math
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from roiae.data.table import table_records
from roiae.errors import DataError, ManifestError

MANIFEST = "manifest.csv"
BOX_COLUMNS = ("roi_x0", "roi_y0", "roi_x1", "roi_y1")
REQUIRED_COLUMNS = ("image", "subject", *BOX_COLUMNS)
OPTIONAL_COLUMNS = ("split", "mm_per_px", "frame")
SPLITS = ("train", "validation")
_WHOLE_NUMBER = re.compile(r"(-?[0-9]{1,9})(?:\.0*)?")  # spreadsheets and pandas write 79 as 79.0


@dataclass(frozen=True)
class ManifestRow:
    """One frame, as the manifest describes it."""

    image: Path  # absolute, inside the site's folder
    line: int  # in manifest.csv, from 1
    subject: str
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels of the stored frame, end exclusive
    split: str | None  # train, validation, or not stated
    mm_per_px: tuple[float, float] | None  # along x and y
    frame: int | None = None  # which of the file's frames, from 1; not stated where it holds one


def read_manifest(folder: Path) -> list[ManifestRow]:
    """The rows of a site's manifest, in its order. Images are not opened, and boxes not compared with them.

    Raises:
        DataError: the folder is missing, empty or holds no manifest.csv.
        ManifestError: the manifest says something impossible; the message names the line.
    """
    rows, impossible = survey_manifest(folder)
    for error in impossible.values():
        raise error
    return rows


def survey_manifest(folder: Path) -> tuple[list[ManifestRow], dict[int, ManifestError]]:
    """The rows of a site's manifest that can be used; by line, what is wrong with each of the others.

    Raises:
        DataError: the folder is missing, empty or holds no manifest.csv.
        ManifestError: the table as a whole cannot be read.
    """
    path = _find(folder)
    records = table_records(path)
    line, header = next(records, (1, []))
    columns = _columns(path, line, header)
    root = folder.resolve()
    rows: list[ManifestRow] = []
    impossible: dict[int, ManifestError] = {}
    first_lines: dict[tuple[Path, int | None], int] = {}
    for line, record in records:
        try:
            row = _row(f"{path}:{line}", line, root, _fields(f"{path}:{line}", header, columns, record))
            first = first_lines.setdefault((row.image, row.frame), line)
            if first != line:
                raise ManifestError(
                    f"{path}:{line}: {row.image.name} is in line {first} already. "
                    "Expected one row a frame; remove one, or say which frame of a cine in a column 'frame'."
                )
        except ManifestError as error:
            impossible[line] = error
        else:
            rows.append(row)
    if not rows and not impossible:
        raise ManifestError(f"{path}:{line}: no rows below the header. Expected one row a frame.")
    return rows, impossible


def _find(folder: Path) -> Path:
    """The path of a site's manifest.

    Raises:
        DataError: the folder is missing, empty or holds no manifest.csv.
    """
    expected = f"Expected a folder with {MANIFEST} and the images it lists."
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. {expected}")
    path = folder / MANIFEST
    if not path.is_file():
        names = sorted(entry.name for entry in folder.iterdir())
        found = textwrap.shorten(", ".join(names), 200) if names else "nothing: the folder is empty"
        raise DataError(f"{folder}: no {MANIFEST}. {expected} Found {found}.")
    return path


def _columns(path: Path, line: int, header: list[str]) -> dict[str, int]:
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    if missing:
        others = [name for name in header if name and name not in REQUIRED_COLUMNS]
        raise ManifestError(
            f"{path}:{line}: no column {', '.join(_with_nearest(name, others) for name in missing)}. "
            f"Expected {','.join(REQUIRED_COLUMNS)}; found {textwrap.shorten(','.join(header), 200) or 'nothing'}."
        )
    known = [name for name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS) if name in header]
    for name in known:
        if header.count(name) > 1:
            raise ManifestError(
                f"{path}:{line}: column '{name}' occurs {header.count(name)} times; remove all but one."
            )
    return {name: header.index(name) for name in known}


def _fields(where: str, header: list[str], columns: Mapping[str, int], record: list[str]) -> dict[str, str]:
    if len(record) < len(header) or any(record[len(header) :]):
        raise ManifestError(f"{where}: {len(record)} fields where the header has {len(header)}.")
    return {name: record[place] for name, place in columns.items()}


def _with_nearest(name: str, others: list[str]) -> str:
    folded = {other.casefold(): other for other in others}
    nearest = difflib.get_close_matches(name, folded, n=1, cutoff=0.4)
    return f"'{name}' (nearest: '{folded[nearest[0]]}')" if nearest else f"'{name}'"


def _row(where: str, line: int, root: Path, fields: Mapping[str, str]) -> ManifestRow:
    if not fields["subject"]:
        raise ManifestError(f"{where}: no subject. Frames are split by subject; give each woman an id of her own.")
    x0, y0, x1, y1 = (_pixels(where, name, fields[name]) for name in BOX_COLUMNS)
    return ManifestRow(
        image=_image(where, root, fields["image"]),
        line=line,
        subject=fields["subject"],
        box=(x0, y0, x1, y1),
        split=parse_split(where, fields.get("split", "")),
        mm_per_px=parse_millimetres(where, fields.get("mm_per_px", "")),
        frame=parse_frame(where, fields.get("frame", "")),
    )


def _image(where: str, root: Path, name: str) -> Path:
    relative = PurePosixPath(name.replace("\\", "/"))
    if not name or relative.is_absolute() or ".." in relative.parts:
        raise ManifestError(f"{where}: image is {name!r}; expected a path below {root}, without '..'.")
    try:
        image = (root / relative).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ManifestError(f"{where}: image {name!r} cannot be followed ({error}).") from error
    if not image.is_relative_to(root):
        raise ManifestError(f"{where}: image {name!r} is a link that leaves {root}; put the file itself below it.")
    return image


def _pixels(where: str, column: str, value: str) -> int:
    match = _WHOLE_NUMBER.fullmatch(value)
    if match is None:
        raise ManifestError(f"{where}: {column} is {value!r}; expected a whole number of pixels.")
    return int(match[1])


def parse_split(where: str, value: str) -> str | None:
    """Train, validation, or None where the table does not say."""
    if value and value not in SPLITS:
        raise ManifestError(f"{where}: split is {value!r}; expected 'train', 'validation' or nothing.")
    return value or None


def parse_frame(where: str, value: str) -> int | None:
    """Which frame of the file, from 1, or None where the table does not say."""
    if not value:
        return None
    match = _WHOLE_NUMBER.fullmatch(value)
    if match is None or int(match[1]) < 1:
        raise ManifestError(f"{where}: frame is {value!r}; expected which frame of the file, from 1, or nothing.")
    return int(match[1])


def parse_millimetres(where: str, value: str) -> tuple[float, float] | None:
    """Millimetres a pixel along x and y, or None where the table does not say: one number for both, or 0.2x0.1."""
    if not value:
        return None
    try:
        sides = [float(side.replace(",", ".")) for side in value.split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or not all(0 < side < math.inf for side in sides):
        raise ManifestError(f"{where}: mm_per_px is {value!r}; expected millimetres above 0, or nothing.")
    return sides[0], sides[-1]


def write_millimetres(mm_per_px: tuple[float, float] | None) -> str:
    """As `parse_millimetres` reads it."""
    if mm_per_px is None:
        return ""
    x, y = (f"{side:.6g}" for side in mm_per_px)
    return x if x == y else f"{x}x{y}"
