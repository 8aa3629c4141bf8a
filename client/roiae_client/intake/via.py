"""Boxes of the VGG Image Annotator: its project, its JSON export and its CSV export."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from roiae.errors import DataError
from roiae_client.intake.parsing import bounds
from roiae_client.intake.records import NO_BOX, Boxes, BoxRecord, Corners, unknown_of

_PROJECT = "_via_img_metadata"
_NAME, _SHAPE, _LABEL = "filename", "region_shape_attributes", "region_attributes"
_SIDES = {
    "rect": ("x", "y", "width", "height"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "polygon": ("all_points_x", "all_points_y"),
}


def is_via(content: Any) -> bool:
    """Whether JSON is a project of VIA, or its export of annotations."""
    images = content.get(_PROJECT, content) if isinstance(content, dict) else None
    return isinstance(images, dict) and bool(images) and all(_is_image(image) for image in images.values())


def _is_image(image: Any) -> bool:
    return isinstance(image, dict) and {"filename", "regions"} <= image.keys()


def is_via_table(names: list[str]) -> bool:
    """Whether a table's header is that of VIA's CSV export."""
    return {_SHAPE, _LABEL} <= set(names) and bool({_NAME, f"#{_NAME}"} & set(names))


def read_via(path: Path, content: Mapping[str, Any]) -> Boxes:
    """Regions of all images.

    Raises:
        DataError: a region is not of VIA's shape.
    """
    boxes = Boxes()
    for number, image in enumerate(content.get(_PROJECT, content).values(), start=1):
        name, regions = str(image["filename"]), image["regions"]
        boxes.pictures.append(name)
        listed = regions.values() if isinstance(regions, dict) else regions
        if not isinstance(listed, Iterable):
            raise DataError(f"{path}: image {number}: its regions are no list.")
        for at, region in enumerate(listed, start=1):
            where = f"{path}: image {number}, region {at}"
            if not isinstance(region, dict):
                raise DataError(f"{where}: expected shape_attributes and region_attributes.")
            shape, label = region.get("shape_attributes"), region.get("region_attributes") or {}
            boxes.records.append(_record(where, name, _bytes(image.get("size")), shape, label))
    return boxes


def read_via_table(path: Path, names: list[str], records: Iterable[tuple[int, list[str]]]) -> Boxes:
    """Rows of VIA's CSV export.

    Args:
        names: the header in small letters.
        records: line and fields of each row.

    Raises:
        DataError: a row is not of VIA's shape.
    """
    header = [name.removeprefix("#") for name in names]
    boxes = Boxes()
    for line, row in records:
        where = f"{path}:{line}"
        fields = dict(zip(header, row, strict=False))
        try:
            shape, label = json.loads(fields[_SHAPE] or "{}"), json.loads(fields[_LABEL] or "{}")
        except (KeyError, ValueError, RecursionError):
            raise DataError(f"{where}: expected JSON in {_SHAPE} and {_LABEL}, as VIA writes it.") from None
        if fields[_NAME] not in boxes.pictures:
            boxes.pictures.append(fields[_NAME])
        if shape:
            size = fields.get("file_size", "")
            boxes.records.append(
                _record(where, fields[_NAME], _bytes(int(size) if size.isdecimal() else None), shape, label)
            )
    return boxes


def _record(where: str, name: str, size: int | None, shape: Any, label: Any) -> BoxRecord:
    if not isinstance(shape, dict) or not isinstance(label, dict):
        raise DataError(f"{where}: expected shape_attributes and region_attributes.")
    kind = str(shape.get("name"))
    if kind not in _SIDES:
        box, refusal = NO_BOX, f"is a {kind}, which is no box. Expected one of {', '.join(_SIDES)}."
    elif shape.get("theta"):
        box, refusal = NO_BOX, f"its ellipse is turned (theta {shape['theta']}). Expected an upright one."
    else:
        box, refusal = _box(where, kind, [shape.get(side) for side in _SIDES[kind]])
    unknown = unknown_of(shape, ("name", "theta", *_SIDES.get(kind, shape)))
    return BoxRecord(where, name, _label(label), box, refusal=refusal, unknown=unknown, file_bytes=size)


def _box(where: str, kind: str, sides: list[Any]) -> tuple[Corners, str]:
    """The box round a shape, and why it is none."""
    if kind == "polygon":
        xs, ys = (side if isinstance(side, list) else [] for side in sides)
        points = [(_number(where, x), _number(where, y)) for x, y in zip(xs, ys, strict=False)]
        whole = len(points) > 2 and len(xs) == len(ys)
        return (bounds(points), "") if whole else (NO_BOX, "is a polygon of fewer than three points.")
    x, y, *far = (_number(where, side) for side in sides)
    if kind == "rect":
        return (x, y, x + far[0], y + far[1]), ""
    rx, ry = far[0], far[-1]
    return (x - rx, y - ry, x + rx, y + ry), ""


def _number(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise DataError(f"{where}: {value!r} is no number of pixels.")
    return float(value)


def _label(attributes: dict[str, Any]) -> str:
    """The value of the one attribute; of several, all of them with their names."""
    values = {}
    for name, value in attributes.items():
        chosen = [key for key, on in value.items() if on] if isinstance(value, dict) else [str(value)]
        values[name] = "+".join(chosen).strip()
    if len(values) == 1:
        return next(iter(values.values()))
    return ", ".join(f"{name}={value}" for name, value in values.items() if value)


def _bytes(size: Any) -> int | None:
    return size if isinstance(size, int) and size > 0 else None
