"""Boxes in XML: Pascal VOC (one file a frame) and CVAT (one file for all)."""

import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from roiae.data.intake.json_boxes import bounds
from roiae.data.intake.records import BoxRecord, read_bytes
from roiae.errors import DataError

Box = tuple[float, float, float, float]


def read_xml(path: Path) -> list[BoxRecord]:
    """Boxes of a Pascal VOC or CVAT file, told apart by their root.

    Raises:
        DataError: it cannot be read, is neither, declares entities, or says something impossible.
    """
    try:
        root = fromstring(read_bytes(path), forbid_dtd=True)
    except DefusedXmlException as error:
        raise DataError(f"{path}: declares a document type or entities, which no tool needs for boxes.") from error
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise DataError(f"{path}: is not XML ({error}).") from error
    if root.tag == "annotation":
        return list(_voc(path, root))
    if root.tag == "annotations":
        return [*_cvat_images(path, root), *_cvat_tracks(path, root)]
    raise DataError(f"{path}: is neither Pascal VOC (annotation) nor CVAT (annotations); its root is {root.tag!r}.")


def _voc(path: Path, root: Element) -> Iterator[BoxRecord]:
    """VOC counts pixels from 1 and its last pixel belongs to the box, so x0 = xmin − 1 and x1 = xmax; many tools count
    from 0 all the same, and are known by a box that starts at 0.
    """
    image = _text(path, root, "filename")
    objects = root.findall("object")
    boxes = []
    for number, item in enumerate(objects, start=1):
        where = f"{path}: object {number}"
        corners = item.find("bndbox")
        if corners is None:
            raise DataError(f"{where}: no bndbox.")
        boxes.append([_number(where, side, corners.findtext(side)) for side in ("xmin", "ymin", "xmax", "ymax")])
    first = 0 if any(min(x0, y0) < 1 for x0, y0, _, _ in boxes) else 1
    for number, (item, (x0, y0, x1, y1)) in enumerate(zip(objects, boxes, strict=True), start=1):
        where = f"{path}: object {number}"
        yield BoxRecord(where, image, _text(path, item, "name"), (x0 - first, y0 - first, x1, y1))


def _cvat_images(path: Path, root: Element) -> Iterator[BoxRecord]:
    for image in root.findall("image"):
        for number, shape in enumerate(image, start=1):
            where = f"{path}: image {image.get('id')}, shape {number}"
            box = _cvat_box(where, shape)
            if box is not None:
                yield BoxRecord(where, image.get("name", ""), shape.get("label", ""), box)


def _cvat_tracks(path: Path, root: Element) -> Iterator[BoxRecord]:
    """Tracks of a cine; CVAT counts its frames from 0."""
    image = next((source.text or "" for source in root.iter("source")), "")
    for number, track in enumerate(root.findall("track"), start=1):
        for shape in track:
            where = f"{path}: track {number}"
            box = None if shape.get("outside") == "1" else _cvat_box(where, shape)
            if box is not None:
                frame = int(_number(where, "frame", shape.get("frame"))) + 1
                yield BoxRecord(where, image, track.get("label", ""), box, frame=frame)


def _cvat_box(where: str, shape: Element) -> Box | None:
    """The box round a shape; None for a tag or another element without a place."""

    def numbers(*names: str) -> list[float]:
        return [_number(where, name, shape.get(name)) for name in names]

    match shape.tag:
        case "box":
            x0, y0, x1, y1 = numbers("xtl", "ytl", "xbr", "ybr")
            return x0, y0, x1, y1
        case "ellipse":
            x, y, rx, ry = numbers("cx", "cy", "rx", "ry")
            return x - rx, y - ry, x + rx, y + ry
        case "mask":
            x, y, width, height = numbers("left", "top", "width", "height")
            return x, y, x + width, y + height
        case "polygon" | "polyline":
            return bounds([_point(where, text) for text in shape.get("points", "").split(";")])
    return None


def _point(where: str, text: str) -> tuple[float, float]:
    x, _, y = text.partition(",")
    return _number(where, "points", x), _number(where, "points", y)


def _number(where: str, name: str, text: str | None) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: {name} is {text!r}; expected a number of pixels.")
    return number


def _text(path: Path, element: Element, name: str) -> str:
    text = (element.findtext(name) or "").strip()
    if not text:
        raise DataError(f"{path}: no {name} in <{element.tag}>.")
    return text
