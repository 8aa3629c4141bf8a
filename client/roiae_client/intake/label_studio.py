"""Boxes of Label Studio's JSON and JSON-MIN: numbers in percent of the picture that the tool showed."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from roiae.errors import DataError
from roiae_client.intake.parsing import bounds
from roiae_client.intake.records import NO_BOX, Boxes, BoxRecord, Corners, Unit, unknown_of

_SHAPES = {
    "rectanglelabels": ("x", "y", "width", "height"),
    "rectangle": ("x", "y", "width", "height"),
    "ellipselabels": ("x", "y", "radiusX", "radiusY"),
    "ellipse": ("x", "y", "radiusX", "radiusY"),
    "polygonlabels": ("points",),
    "polygon": ("points",),
}
_NO_PLACES = ("choices", "labels", "rating", "taxonomy", "textarea", "number", "datetime", "pairwise", "relation")
_ABOUT = (
    "id",
    "type",
    "value",
    "from_name",
    "to_name",
    "original_width",
    "original_height",
    "image_rotation",
    "origin",
    "score",
)
_VALUE = ("rotation", "closed", "text", "labels")
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what the tool puts before the name of an uploaded file


def is_label_studio(content: Any) -> bool:
    """Whether JSON is a list of Label Studio's tasks, in its long or its short form."""
    return isinstance(content, list) and bool(content) and all(_is_long(task) or _regions(task) for task in content)


def _is_long(task: Any) -> bool:
    return isinstance(task, dict) and isinstance(task.get("data"), dict) and isinstance(task.get("annotations"), list)


def read_label_studio(path: Path, content: list[dict[str, Any]]) -> Boxes:
    """The regions of all tasks; those of cancelled annotations are left out.

    Raises:
        DataError: a task names no image, or a region is not of the tool's shape.
    """
    boxes = Boxes()
    for number, task in enumerate(content, start=1):
        where = f"{path}: task {number}"
        image = _image(where, task["data"] if _is_long(task) else task)
        boxes.pictures.append(image)
        for region in _of_annotations(where, task) if _is_long(task) else _regions(task):
            kind = str(region.get("type") or _kind(region))
            if kind not in _NO_PLACES:
                boxes.records.append(_record(where, image, kind, region))
    return boxes


def _image(where: str, data: dict[str, Any]) -> str:
    """The frame's name out of the address that the tool keeps."""
    addresses = [value for value in data.values() if isinstance(value, str) and re.search(r"[^/]\.\w+$|\?d=", value)]
    named = [data[key] for key in ("image", "img") if isinstance(data.get(key), str)] or addresses
    if len(named) != 1:
        raise DataError(f"{where}: names {len(named)} images; expected one, as 'image'.")
    address = urlsplit(named[0].replace("\\", "/"))
    local = parse_qs(address.query).get("d")
    if local:
        return local[0]
    whole = unquote(address.path)
    return _UPLOADED.sub("", whole.rsplit("/", 1)[-1]) if "/upload/" in whole else whole


def _of_annotations(where: str, task: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for annotation in task["annotations"]:
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
            raise DataError(f"{where}: an annotation without a list 'result'.")
        if not annotation.get("was_cancelled"):
            found += [region for region in annotation["result"] if isinstance(region, dict)]
    return found


def _regions(task: Any) -> list[dict[str, Any]]:
    """Regions of the short form, which lie in a list beside the image's address."""
    lists = [value for value in task.values() if isinstance(value, list)] if isinstance(task, dict) else []
    return [region for found in lists for region in found if isinstance(region, dict) and _kind(region)]


def _kind(region: dict[str, Any]) -> str:
    labels = [name for name in region if name.endswith("labels")]
    return next((kind for kind in (*_SHAPES, *labels) if kind in region), "")


def _record(where: str, image: str, kind: str, region: dict[str, Any]) -> BoxRecord:
    value = region["value"] if isinstance(region.get("value"), dict) else region
    labels = value.get(kind) or value.get("labels") or []
    label = ", ".join(map(str, labels)) if isinstance(labels, list) else str(labels)
    wide, high = region.get("original_width"), region.get("original_height")
    picture = (wide, high) if isinstance(wide, int) and isinstance(high, int) else None
    turned = [name for name in ("rotation", "image_rotation") if value.get(name) or region.get(name)]
    if kind not in _SHAPES:
        box, refusal = NO_BOX, f"is of kind {kind}, which is no box. Expected rectangles, ellipses or polygons."
    elif turned:
        box, refusal = NO_BOX, f"its box or picture is turned ({turned[0]}). Expected an upright box."
    else:
        box, refusal = _box(where, [value.get(side) for side in _SHAPES[kind]], kind)
    unknown = unknown_of(
        value if value is region else value | region, (*_ABOUT, *_VALUE, *_SHAPES.get(kind, value), kind)
    )
    return BoxRecord(where, image, label, box, picture=picture, unit=Unit.PERCENT, refusal=refusal, unknown=unknown)


def _box(where: str, sides: list[Any], kind: str) -> tuple[Corners, str]:
    """The box round a shape in percent, and why it is none."""
    if kind.startswith("polygon"):
        points = sides[0] if isinstance(sides[0], list) else []
        if len(points) < 3 or not all(isinstance(point, list) and len(point) == 2 for point in points):
            return NO_BOX, "is a polygon of fewer than three points."
        return bounds([(_number(where, x), _number(where, y)) for x, y in points]), ""
    x, y, one, other = (_number(where, side) for side in sides)
    if kind.startswith("ellipse"):
        return (x - one, y - other, x + one, y + other), ""
    return (x, y, x + one, y + other), ""


def _number(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e6:
        raise DataError(f"{where}: {value!r} is no share in percent.")
    return float(value)
