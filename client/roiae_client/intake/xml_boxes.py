"""Boxes in XML: which kind it is, and Pascal VOC (one file a frame). CVAT is read in `cvat`."""

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from roiae.errors import DataError
from roiae_client.intake.cvat import read_cvat
from roiae_client.intake.parsing import number_of, size_of
from roiae_client.intake.records import NO_BOX, Boxes, BoxRecord, read_bytes, unknown_of

_VOC = ("folder", "filename", "path", "source", "size", "segmented", "object", "owner")
# Of an object: what it is and how well it is seen. `part` are boxes of other things in it, `polygon` its outline.
_VOC_OBJECT = ("name", "bndbox", "pose", "truncated", "difficult", "occluded", "attributes", "part", "polygon", "type")
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_xml(path: Path) -> Boxes:
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
        return _voc(path, root)
    if root.tag == "annotations":
        return read_cvat(path, root)
    raise DataError(f"{path}: is neither Pascal VOC (annotation) nor CVAT (annotations); its root is {root.tag!r}.")


def _voc(path: Path, root: Element) -> Boxes:
    """VOC counts pixels from 1 and its last pixel belongs to the box; `settle_origin` looks at the whole set."""
    image = _voc_image(path, root)
    picture = size_of(str(path), root.find("size"))
    boxes = Boxes(pictures=[image])
    outer = unknown_of({child.tag: child.text or (len(child) and "…") for child in root}, _VOC)
    for number, item in enumerate(root.findall("object"), start=1):
        where = f"{path}: object {number}"
        attributes = {child.tag: child.text or (len(child) and "…") for child in item}
        label = _text(path, item, "name")
        corners = item.findall("bndbox")
        refusal, box = "", NO_BOX
        if not corners and attributes.keys() & {"robndbox", "polygon"}:
            refusal = "is turned, or an outline alone. Expected an upright box in bndbox."
        elif len(corners) != 1:
            raise DataError(f"{where}: {len(corners) or 'no'} bndbox; expected one.")
        else:
            x0, y0, x1, y1 = (number_of(where, side, corners[0].findtext(side)) for side in _SIDES)
            box = (x0, y0, x1, y1)
        unknown = (*outer, *unknown_of(attributes, _VOC_OBJECT))
        boxes.records.append(
            BoxRecord(where, image, label, box, picture=picture, from_one=True, refusal=refusal, unknown=unknown)
        )
    return boxes


def _voc_image(path: Path, root: Element) -> str:
    """The frame's name, with as much of its path as the file states."""
    name = _text(path, root, "filename")
    whole = (root.findtext("path") or "").strip().replace("\\", "/")
    folder = (root.findtext("folder") or "").strip()
    if whole and whole.rsplit("/", 1)[-1] != name.replace("\\", "/").rsplit("/", 1)[-1]:
        raise DataError(f"{path}: filename is {name!r} and path is {whole!r}; expected the same file in both.")
    if "/" in whole:
        return whole
    return name if not folder or "/" in name.replace("\\", "/") else f"{folder}/{name}"


def _text(path: Path, element: Element, name: str) -> str:
    text = (element.findtext(name) or "").strip()
    if not text:
        raise DataError(f"{path}: no {name} in <{element.tag}>.")
    return text
