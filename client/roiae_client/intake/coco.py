"""Boxes of a COCO file: one for all frames. A box that contradicts its outline is refused."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat

from roiae.data.pixels import MAX_PIXELS
from roiae.errors import DataError
from roiae_client.intake.masks import region_of
from roiae_client.intake.parsing import as_model, bounds
from roiae_client.intake.records import NO_BOX, Boxes, BoxRecord, Corners, unknown_of

_IMAGE = (
    "license",
    "flickr_url",
    "coco_url",
    "date_captured",
    "url",
    "path",
    "dataset_id",
    "annotated",
    "num_annotations",
)
_ABOUT = ("id", "score", "confidence", "caption", "keypoints", "num_keypoints", "isbbox", "color", "creator")
_APART = 1.5  # px that a box and its outline may differ: whether the last pixel counts
_AREA_APART = 0.1  # share that the area of a box and what is stated may differ
Outline = list[list[FiniteFloat]] | dict[str, Any]


class _Image(BaseModel):
    model_config = ConfigDict(extra="allow")

    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None


class _Category(BaseModel):
    id: int | str
    name: str


class _Annotation(BaseModel):
    model_config = ConfigDict(extra="allow")

    image_id: int | str
    category_id: int | str
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = None  # x, y, width, height
    segmentation: Outline | None = None
    area: FiniteFloat | None = None
    iscrowd: int | bool = 0
    attributes: dict[str, Any] | None = None


class _Coco(BaseModel):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


def read_coco(path: Path, content: Any) -> Boxes:
    """The boxes of a COCO file, from `bbox`, else round `segmentation`.

    Raises:
        DataError: it says something impossible, or has one id twice.
    """
    for annotation in content["annotations"] if isinstance(content["annotations"], list) else []:
        if isinstance(annotation, dict) and annotation.get("bbox") == []:
            del annotation["bbox"]  # says nothing
    coco = as_model(_Coco, path, content)
    for kind, ids in (("image", coco.images), ("category", coco.categories)):
        twice = [number for number, times in Counter(item.id for item in ids).items() if times > 1]
        if twice:
            raise DataError(f"{path}: the {kind} {twice[0]!r} is there twice; expected each id once.")
    images = {image.id: image for image in coco.images}
    labels = {category.id: category.name for category in coco.categories}
    boxes = Boxes(pictures=[image.file_name for image in coco.images])
    for number, annotation in enumerate(coco.annotations, start=1):
        where = f"{path}: annotation {number}"
        if annotation.image_id not in images or annotation.category_id not in labels:
            raise DataError(
                f"{where}: no image {annotation.image_id!r} or no category {annotation.category_id!r} in it."
            )
        image = images[annotation.image_id]
        boxes.records.append(_record(where, annotation, image, labels[annotation.category_id]))
    return boxes


def _record(where: str, annotation: _Annotation, image: _Image, label: str) -> BoxRecord:
    if (image.width is None) != (image.height is None):
        raise DataError(f"{where}: its image states one of width and height alone; expected both.")
    picture = None if image.width is None or image.height is None else (image.width, image.height)
    box, refusal = _box_of(annotation, picture)
    inner = annotation.attributes or {}
    if annotation.iscrowd:
        refusal = "is a crowd (iscrowd), the box round many things. Expected one thing."
    elif inner.get("rotation"):
        refusal = f"its box is turned (rotation {inner['rotation']}). Expected an upright box."
    runs = annotation.segmentation if isinstance(annotation.segmentation, dict) else {}
    if picture is None and not refusal and runs.get("size"):
        picture = (runs["size"][1], runs["size"][0])
    unknown = (*unknown_of(image.model_extra or {}, _IMAGE), *unknown_of(annotation.model_extra or {}, _ABOUT))
    return BoxRecord(where, image.file_name, label, box, picture=picture, refusal=refusal, unknown=unknown)


def _box_of(annotation: _Annotation, picture: tuple[int, int] | None) -> tuple[Corners, str]:
    """The box, and why it is none."""
    outline, refusal = _outline(annotation.segmentation, picture)
    if annotation.bbox is None:
        return (outline or NO_BOX), refusal or ("" if outline else "has neither bbox nor segmentation.")
    x, y, width, height = annotation.bbox
    box = (x, y, x + width, y + height)
    shares = 0 < max(box) <= 1  # of the picture, unlike the outline
    if outline and not shares and max(abs(one - other) for one, other in zip(box, outline, strict=True)) > _APART:
        written = [tuple(round(side, 1) for side in sides) for sides in (box, outline)]
        return NO_BOX, f"its bbox {written[0]} and the box round its segmentation {written[1]} are not the same."
    if annotation.area and not annotation.segmentation and not shares and not _is_area(annotation.area, width, height):
        return NO_BOX, (
            f"its bbox is of {width:g}×{height:g} px and its area {annotation.area:g}. "
            "bbox is x, y, width, height; where it is two corners, write the sizes."
        )
    wrong_size = refusal if refusal.startswith("its segmentation is of") else ""
    return box, wrong_size


def _is_area(area: float, width: float, height: float) -> bool:
    """Whether it can be a box's, whose last pixel counts or not."""
    least, most = (width - 1) * (height - 1), (width + 1) * (height + 1)
    return least * (1 - _AREA_APART) <= area <= most * (1 + _AREA_APART)


def _outline(segmentation: Outline | None, picture: tuple[int, int] | None) -> tuple[Corners | None, str]:
    """The box round polygons or a run-length mask, and why it cannot be taken alone."""
    if not segmentation:
        return None, ""
    if isinstance(segmentation, dict):
        return _of_runs(segmentation, picture)
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in segmentation):
        return None, "its segmentation is no polygon: expected x and y of three points or more."
    points = [(polygon[at], polygon[at + 1]) for polygon in segmentation for at in range(0, len(polygon), 2)]
    parts = len(segmentation)
    return bounds(points), "" if parts == 1 else f"its segmentation has {parts} parts and no bbox says which is meant."


def _of_runs(runs: dict[str, Any], picture: tuple[int, int] | None) -> tuple[Corners | None, str]:
    size, counts = runs.get("size"), runs.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        return None, "its segmentation has no size; expected height and width."
    height, width = size
    if picture is not None and picture != (width, height):
        return None, f"its segmentation is of {width}×{height} px, its image of {picture[0]}×{picture[1]} px."
    lengths = _compressed(counts) if isinstance(counts, str) else counts
    if (
        width * height > MAX_PIXELS
        or not isinstance(lengths, list)
        or not all(isinstance(run, int) and run >= 0 for run in lengths)
        or sum(lengths) != width * height
    ):
        return None, "its segmentation's runs do not fill its size."
    inside = _mask(lengths, width, height)
    if not inside.any():
        return None, "its segmentation is empty."
    region = region_of(inside)
    x0, y0, x1, y1 = region.box
    return (float(x0), float(y0), float(x1), float(y1)), region.doubt()


def _mask(lengths: list[int], width: int, height: int) -> NDArray[np.bool_]:
    """Runs outside and inside by turns, down the columns."""
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(width, height).T


def _compressed(text: str) -> list[int]:
    """Lengths of runs in COCO's text form: base 32, five bits a character, the third and later as differences."""
    lengths: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more and place < len(text):
            bits = ord(text[place]) - 48
            value |= (bits & 31) << shift
            more, place, shift = bool(bits & 32), place + 1, shift + 5
            if not more and bits & 16:
                value -= 1 << shift
        if len(lengths) > 2:
            value += lengths[-2]
        lengths.append(value)
    return lengths
