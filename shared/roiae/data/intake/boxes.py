"""Boxes from whatever an annotation tool exported."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from roiae.data.frames import read_frame
from roiae.data.intake.json_boxes import read_json
from roiae.data.intake.records import BoxRecord
from roiae.data.intake.tables import read_table
from roiae.data.intake.xml_boxes import read_xml
from roiae.errors import DataError, FrameError

_MASK_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp"})
_MASK_ENDINGS = ("_mask", "-mask", "_seg", "-seg", "_label")
_READERS: dict[str, Callable[[Path], list[BoxRecord]]] = {
    ".csv": read_table,
    ".tsv": read_table,
    ".txt": read_table,
    ".json": read_json,
    ".xml": read_xml,
}


def read_boxes(path: Path) -> list[BoxRecord]:
    """The boxes of a table, COCO, LabelMe, Pascal VOC or CVAT file, or of a folder of such files or of binary masks.

    Raises:
        DataError: there are none, or one of the files says something impossible.
    """
    if path.is_dir():
        return _of_folder(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path}: not a kind of boxes that is read. Expected a file ({', '.join(_READERS)}), "
            "a folder of .json or .xml files, or a folder of masks. Save a spreadsheet as 'CSV UTF-8'."
        )
    records = reader(path)
    if not records:
        raise DataError(f"{path}: holds no box.")
    return records


def _of_folder(folder: Path) -> list[BoxRecord]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    annotations = [file for file in files if file.suffix.lower() in (".json", ".xml")]
    masks = [file for file in files if file.suffix.lower() in _MASK_SUFFIXES]
    if annotations and masks:
        masks = []  # tools put their files beside the frames
    records = [record for file in annotations for record in _READERS[file.suffix.lower()](file)]
    records += [record for mask in masks for record in _of_mask(mask)]
    if not records:
        raise DataError(
            f"{folder}: holds no box. Expected .json or .xml files of an annotation tool, or masks as .png."
        )
    return records


def _of_mask(path: Path) -> list[BoxRecord]:
    """The box round a binary mask; none where it is empty. The frame's name is the mask's, without `_mask`."""
    try:
        mask = read_frame(path).pixels
    except FrameError as error:
        raise DataError(str(error)) from error
    levels = np.unique(mask)
    if len(levels) > 2:
        raise DataError(f"{path}: {len(levels)} grey levels are no binary mask; expected 0 and one other, as PNG.")
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return []
    name = path.stem
    for ending in _MASK_ENDINGS:
        name = name.removesuffix(ending)
    box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
    return [BoxRecord(str(path), name, "", box)]
