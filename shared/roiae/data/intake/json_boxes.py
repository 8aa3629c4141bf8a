"""Boxes in JSON: COCO (one file for all frames) and LabelMe (one file a frame)."""

import json
import math
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, FiniteFloat, ValidationError

from roiae.data.intake.records import BoxRecord, read_bytes
from roiae.errors import DataError

Point = tuple[FiniteFloat, FiniteFloat]


class _CocoImage(BaseModel):
    id: int | str
    file_name: str


class _CocoCategory(BaseModel):
    id: int | str
    name: str


class _CocoAnnotation(BaseModel):
    image_id: int | str
    category_id: int | str
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]  # x, y, width, height


class _Coco(BaseModel):
    images: list[_CocoImage]
    categories: list[_CocoCategory]
    annotations: list[_CocoAnnotation]


class _Shape(BaseModel):
    label: str
    points: list[Point]
    shape_type: str = "polygon"


class _LabelMe(BaseModel):
    imagePath: str  # noqa: N815 - LabelMe's own name
    shapes: list[_Shape]


Format = TypeVar("Format", bound=BaseModel)


def read_json(path: Path) -> list[BoxRecord]:
    """Boxes of a COCO or LabelMe file, told apart by their keys.

    Raises:
        DataError: it cannot be read, is neither, or says something impossible.
    """
    try:
        content = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error}).") from error
    keys = content.keys() if isinstance(content, dict) else set()
    if {"images", "annotations"} <= keys:
        return _coco(path, _as(_Coco, path, content))
    if {"shapes", "imagePath"} <= keys:
        return _labelme(path, _as(_LabelMe, path, content))
    raise DataError(f"{path}: is neither COCO (images, annotations, categories) nor LabelMe (imagePath, shapes).")


def _coco(path: Path, coco: _Coco) -> list[BoxRecord]:
    images = {image.id: image.file_name for image in coco.images}
    labels = {category.id: category.name for category in coco.categories}
    found = []
    for number, annotation in enumerate(coco.annotations, start=1):
        where = f"{path}: annotation {number}"
        if annotation.image_id not in images or annotation.category_id not in labels:
            raise DataError(
                f"{where}: no image {annotation.image_id!r} or no category {annotation.category_id!r} in it."
            )
        x, y, width, height = annotation.bbox
        box = (x, y, x + width, y + height)
        found.append(BoxRecord(where, images[annotation.image_id], labels[annotation.category_id], box))
    return found


def _labelme(path: Path, file: _LabelMe) -> list[BoxRecord]:
    found = []
    for number, shape in enumerate(file.shapes, start=1):
        where = f"{path}: shape {number}"
        if not shape.points:
            raise DataError(f"{where}: has no points.")
        points = shape.points
        if shape.shape_type == "circle" and len(points) == 2:
            (x, y), on_the_rim = points
            radius = math.dist((x, y), on_the_rim)
            points = [(x - radius, y - radius), (x + radius, y + radius)]
        found.append(BoxRecord(where, file.imagePath, shape.label, bounds(points)))
    return found


def bounds(points: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 round at least one point."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _as(model: type[Format], path: Path, content: Any) -> Format:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: {place}: {first['msg']}; {error.error_count()} such places.") from error
