"""YOLO text files: one a frame, a row a box: class, centre x, centre y, width, height as shares of the picture."""

import math
from pathlib import Path

import yaml

from roiae.errors import DataError
from roiae_client.intake.records import NO_BOX, Boxes, BoxRecord, Unit, read_bytes

CLASSES = "classes.txt"
_SETTINGS = ("data.yaml", "dataset.yaml")
_FIELDS = 5
_OVER = 1e-3  # of a share: rounding to a few digits


def is_yolo(file: Path) -> bool:
    """Whether a .txt file has no header but rows that begin with a class's number, or nothing at all."""
    if file.suffix.lower() != ".txt":
        return False
    first = read_bytes(file).decode("utf-8-sig", errors="replace").strip().partition("\n")[0].split()
    return not first or (len(first) >= _FIELDS and all(_number(field) is not None for field in first))


def read_yolo(path: Path) -> Boxes:
    """The boxes of one frame, which has the name of the file; none where the file is empty.

    A sixth field is a tool's confidence. Rows of more are polygons or boxes with an angle, and are no boxes.

    Raises:
        DataError: a row is no box.
    """
    names = {number: name.strip() for number, name in _class_names(path).items() if name.strip()}
    boxes = Boxes(pictures=[path.stem])
    text = read_bytes(path).decode("utf-8-sig", errors="replace")
    for line, row in enumerate(text.splitlines(), start=1):
        fields = row.split()
        if not fields:
            continue
        where = f"{path}:{line}"
        numbers = [_number(field) for field in fields]
        if len(fields) < _FIELDS or None in numbers or not fields[0].isdecimal():
            raise DataError(f"{where}: expected a class's number, centre x, centre y, width and height.")
        label = names.get(int(fields[0]), fields[0])
        _, x, y, width, height, *more = (number or 0.0 for number in numbers)
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        refusal = ""
        if len(more) > 1:
            refusal = f"has {len(fields)} fields: a polygon, or a box with an angle. Expected 5: export boxes."
        elif not (min(box) >= -_OVER and max(box) <= 1 + _OVER):
            refusal = "its numbers are no shares of the picture, 0 to 1. Export YOLO with normalised numbers."
        boxes.records.append(
            BoxRecord(where, path.stem, label, NO_BOX if refusal else box, unit=Unit.SHARES, refusal=refusal)
        )
    return boxes


def _class_names(path: Path) -> dict[int, str]:
    """Names of the classes, from `classes.txt` or `data.yaml` in the file's folder or the three above it."""
    for folder in list(path.absolute().parents)[:4]:
        if (folder / CLASSES).is_file():
            return dict(enumerate(read_bytes(folder / CLASSES).decode("utf-8-sig", errors="replace").split("\n")))
        for name in _SETTINGS:
            if (folder / name).is_file():
                return _of_settings(folder / name)
    return {}


def _of_settings(path: Path) -> dict[int, str]:
    try:
        settings = yaml.safe_load(read_bytes(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not YAML, and the names of classes are looked for in it.") from error
    names = settings.get("names") if isinstance(settings, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(isinstance(key, int) for key in names):
        raise DataError(f"{path}: expected the names of classes as 'names', a list or number: name.")
    return {number: str(name) for number, name in names.items()}


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
