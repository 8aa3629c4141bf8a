"""Boxes in JSON: which kind it is, and LabelMe (one file a frame). The other kinds are read in modules of their own."""

import base64
import io
import json
import math
import warnings
from pathlib import Path

from PIL import Image
from pydantic import BaseModel, ConfigDict, FiniteFloat

from roiae.errors import DataError
from roiae_client.intake.coco import read_coco
from roiae_client.intake.label_studio import is_label_studio, read_label_studio
from roiae_client.intake.parsing import as_model, bounds
from roiae_client.intake.records import NO_BOX, Boxes, BoxRecord, Corners, read_bytes, unknown_of
from roiae_client.intake.via import is_via, read_via

Point = tuple[FiniteFloat, FiniteFloat]
_LABELME = (
    "version",
    "flags",
    "imagePath",
    "imageData",
    "imageHeight",
    "imageWidth",
    "shapes",
    "lineColor",
    "fillColor",
)
_SHAPE = ("label", "points", "shape_type", "group_id", "flags", "description", "line_color", "fill_color", "score")
_SHAPE_MORE = ("difficult", "attributes", "kie_linking")  # of X-AnyLabeling, which writes the same format
_FEWEST_POINTS = {"rectangle": 2, "polygon": 3, "circle": 2}  # of the shapes that have a box


class _Shape(BaseModel):
    model_config = ConfigDict(extra="allow")

    label: str
    points: list[Point]
    shape_type: str = "polygon"


class _LabelMe(BaseModel):
    model_config = ConfigDict(extra="allow")

    imagePath: str  # noqa: N815 - LabelMe's own names
    imageWidth: int | None = None  # noqa: N815
    imageHeight: int | None = None  # noqa: N815
    imageData: str | None = None  # noqa: N815
    shapes: list[_Shape]


def read_json(path: Path) -> Boxes:
    """Boxes of a COCO, LabelMe, Label Studio or VIA file, told apart by their keys.

    Raises:
        DataError: it cannot be read, is none of them, or says something impossible.
    """
    try:
        content = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error}).") from error
    keys = content.keys() if isinstance(content, dict) else set()
    if {"images", "annotations"} <= keys:
        return read_coco(path, content)
    if {"shapes", "imagePath"} <= keys:
        return _labelme(path, as_model(_LabelMe, path, content))
    if is_label_studio(content):
        return read_label_studio(path, content)
    if is_via(content):
        return read_via(path, content)
    raise DataError(
        f"{path}: is neither COCO (images, annotations, categories) nor LabelMe (imagePath, shapes), "
        "nor of Label Studio (a list of tasks) or VIA (regions)."
    )


def _labelme(path: Path, file: _LabelMe) -> Boxes:
    if (file.imageWidth is None) != (file.imageHeight is None):
        raise DataError(f"{path}: states one of imageWidth and imageHeight alone; expected both.")
    picture = None if file.imageWidth is None or file.imageHeight is None else (file.imageWidth, file.imageHeight)
    embedded = _embedded_size(path, file.imageData)
    if embedded is not None and picture not in (None, embedded):
        raise DataError(f"{path}: states {picture} px and holds a picture of {embedded} px. Save it again in LabelMe.")
    picture = picture or embedded
    boxes = Boxes(pictures=[file.imagePath])
    outer = unknown_of(file.model_extra or {}, _LABELME)
    for number, shape in enumerate(file.shapes, start=1):
        where = f"{path}: shape {number}"
        if not shape.points:
            raise DataError(f"{where}: has no points.")
        box, refusal = _box_of(shape)
        unknown = (*outer, *unknown_of(shape.model_extra or {}, (*_SHAPE, *_SHAPE_MORE)))
        boxes.records.append(
            BoxRecord(where, file.imagePath, shape.label, box, picture=picture, refusal=refusal, unknown=unknown)
        )
    return boxes


def _embedded_size(path: Path, data: str | None) -> tuple[int, int] | None:
    """Width and height of the picture that the file itself holds, as it was drawn on."""
    if not data:
        return None
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(base64.b64decode(data))) as image:
            return image.size
    except Exception as error:  # Pillow's own, and those of base64
        raise DataError(f"{path}: the picture in its imageData cannot be read. Save it again in LabelMe.") from error


def _box_of(shape: _Shape) -> tuple[Corners, str]:
    """The box round a shape, and why it is none."""
    points: list[tuple[float, float]] = list(shape.points)
    fewest = _FEWEST_POINTS.get(shape.shape_type)
    if fewest is None:
        return NO_BOX, f"is a {shape.shape_type}, which is no box. Expected one of {', '.join(_FEWEST_POINTS)}."
    if len(points) < fewest or (shape.shape_type == "circle" and len(points) != fewest):
        return NO_BOX, f"is a {shape.shape_type} of {len(points)} points; expected {fewest}."
    if shape.shape_type == "circle":
        (x, y), on_the_rim = points
        radius = math.dist((x, y), on_the_rim)
        points = [(x - radius, y - radius), (x + radius, y + radius)]
    if shape.shape_type == "rectangle" and len(set(points)) > 2 and not _is_upright(points):
        return NO_BOX, "its box is turned. Expected an upright box."
    return bounds(points), ""


def _is_upright(points: list[tuple[float, float]]) -> bool:
    """Whether the corners of a rectangle share two values of x and two of y."""
    return all(len({round(point[axis], 1) for point in points}) <= 2 for axis in (0, 1))
