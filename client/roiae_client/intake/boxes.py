"""Boxes from whatever an annotation tool exported."""

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from roiae.errors import DataError
from roiae_client.intake import masks
from roiae_client.intake.json_boxes import read_json
from roiae_client.intake.names import plain_parts
from roiae_client.intake.numbers import settle_origin, settle_unit
from roiae_client.intake.records import Boxes, Unit
from roiae_client.intake.tables import read_table
from roiae_client.intake.xml_boxes import read_xml
from roiae_client.intake.yolo import CLASSES, is_yolo, read_yolo

_READERS: dict[str, Callable[[Path], Boxes]] = {
    ".csv": read_table,
    ".tsv": read_table,
    ".txt": lambda path: read_yolo(path) if is_yolo(path) else read_table(path),
    ".json": read_json,
    ".xml": read_xml,
}
_FARTHEST = 1e7  # px from the origin
_A_FRAME_EACH = frozenset({".json", ".xml"})


@dataclass(frozen=True)
class Reading:
    """What a user says of boxes that their files do not say."""

    unit: Unit | None = None
    origin: int | None = None  # of Pascal VOC: 0 or 1
    odd_masks: bool = False  # take masks of several parts, or that cover most of the picture


AS_WRITTEN = Reading()


def read_boxes(path: Path, reading: Reading = AS_WRITTEN) -> Boxes:
    """The boxes of one file, or of a folder of files of one kind or of masks, with unit and origin decided for all.

    Raises:
        DataError: there are none, or one of the files says something impossible.
    """
    boxes = _of_folder(path, reading) if path.is_dir() else _of_file(path)
    if not boxes.records:
        raise DataError(f"{path}: holds no box.")
    records, of_origin = settle_origin(boxes.records, reading.origin)
    records, of_unit = settle_unit(records, reading.unit)
    for record in records:
        if not all(abs(side) < _FARTHEST for side in record.box):
            raise DataError(f"{record.where}: the box {record.box} is of no picture; expected numbers of pixels.")
    return Boxes(records, boxes.pictures, [*boxes.notes, *of_origin, *of_unit])


def _of_file(path: Path) -> Boxes:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path}: not a kind of boxes that is read. Expected a file ({', '.join(_READERS)}), "
            "a folder of .json, .xml, .txt or .csv files, or a folder of masks. Save a spreadsheet as 'CSV UTF-8'."
        )
    return reader(path)


def _of_folder(folder: Path, reading: Reading) -> Boxes:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    written = [file for file in files if file.suffix.lower() in _READERS and file.name != CLASSES]
    pictures = [file for file in files if file.suffix.lower() in masks.SUFFIXES]
    kinds = sorted({file.suffix.lower() for file in written})
    if len(kinds) > 1:
        raise DataError(
            f"{folder}: holds boxes of several kinds ({', '.join(kinds)}), and the same box would be read twice. "
            "Give --boxes one of the files, or a folder of one kind."
        )
    boxes = Boxes()
    if written:  # pictures beside them are the frames
        for file in written:
            read = _of_file(file)
            boxes.add(_in_its_folder(read, file, folder) if _names_its_own(file) else read)
    else:
        for file in masks.mask_files(pictures):
            name = file.relative_to(folder).with_name(masks.bare_name(file.stem)).as_posix()
            boxes.add(masks.read_mask(file, name, odd=reading.odd_masks))
        boxes.records = masks.name_classes(boxes.records)
        if boxes.shares:
            least, most = (f"{share * 100:.2g}" for share in (min(boxes.shares), max(boxes.shares)))
            parts = "of one part or several" if reading.odd_masks else "each of one part"
            covered = least if least == most else f"{least} to {most}"
            boxes.notes.append(f"{len(boxes.shares)} masks, {parts}, cover {covered} % of their pictures.")
    if not boxes.records:
        raise DataError(
            f"{folder}: holds no box. Expected .json, .xml, .txt or .csv files of an annotation tool, or masks as .png."
        )
    return boxes


def _names_its_own(file: Path) -> bool:
    """Whether the file is that of one frame, which it names from its own folder."""
    return file.suffix.lower() in _A_FRAME_EACH or is_yolo(file)


def _in_its_folder(boxes: Boxes, file: Path, folder: Path) -> Boxes:
    """The boxes of a file in the folder: a name without a folder, or from the file's own, is looked for from there."""
    below = file.parent.relative_to(folder).as_posix()

    def placed(name: str) -> str:
        slashed = name.replace("\\", "/")
        if not slashed.startswith("../") and len(plain_parts(name)) > 1:
            return name
        joined = posixpath.normpath(posixpath.join(below, slashed))
        return name if joined.startswith("..") else joined

    return Boxes(
        [replace(record, image=placed(record.image)) for record in boxes.records],
        [placed(name) for name in boxes.pictures],
        boxes.notes,
    )
