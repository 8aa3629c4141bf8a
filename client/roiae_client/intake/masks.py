"""Boxes round binary masks, where a mask can be believed."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from roiae.data.frames import opened_picture, refuse_transparency
from roiae.errors import DataError, FrameError
from roiae_client.intake.names import without_ending
from roiae_client.intake.records import NO_BOX, Boxes, BoxRecord, Unit

SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp"})
ENDINGS = ("_mask", "-mask", "_seg", "-seg", "_label", "_annotation", "_gt", "-gt", "_segmentation")
_MAX_CLASSES = 32  # more levels are a picture, or a mask with soft edges
_MOST = 0.5  # share of the picture that an ROI covers at most
_EIGHT = np.ones((3, 3), dtype=int)  # pixels that touch at a corner are one part


@dataclass(frozen=True)
class Region:
    """The pixels of one class in a mask."""

    box: tuple[int, int, int, int]  # x0, y0, x1, y1 px, end exclusive
    share: float  # of the picture
    parts: tuple[int, ...]  # px in each, the largest first
    at_corners: bool  # holds all four corners of the picture

    def doubt(self) -> str:
        """Why this cannot be meant, or nothing."""
        if self.share > _MOST or self.at_corners:
            return (
                f"its mask covers {self.share:.0%} of the picture{' and all its corners' if self.at_corners else ''}: "
                "probably its inverse. Expected 0 outside the ROI; --odd-masks takes it all the same."
            )
        if len(self.parts) > 1:
            sizes = " and ".join(str(size) for size in self.parts[:3])
            return (
                f"its mask has {len(self.parts)} parts, of {sizes} px. Expected one; correct the mask, "
                "or take the box round all parts with --odd-masks."
            )
        return ""


def read_mask(path: Path, name: str, *, odd: bool) -> Boxes:
    """The box round each class of a mask; none where it is empty.

    Args:
        path: 0 is outside the ROI; one other level is the ROI, several are classes, whose labels are the levels.
        name: of its frame.
        odd: take masks that are not believable, too.

    Raises:
        DataError: it cannot be read, or its levels are no classes.
    """
    try:
        levels = read_levels(path)
    except FrameError as error:
        raise DataError(f"{path}: {error}") from error
    found = [int(level) for level in np.unique(levels)]
    classes = [level for level in found if level]
    if len(found) > _MAX_CLASSES:
        raise DataError(
            f"{path}: {len(found)} grey levels are no binary mask, nor one of classes. Expected 0 and one other, "
            "or 0 and the number of each class, as PNG."
        )
    height, width = levels.shape
    boxes = Boxes(pictures=[name])
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    for level in classes:
        region = region_of(levels == level)
        boxes.shares.append(region.share)
        doubt = "" if odd else region.doubt()
        boxes.records.append(
            BoxRecord(
                where=str(path),
                image=name,
                label=str(level),
                box=NO_BOX if doubt else tuple(map(float, region.box)),  # type: ignore[arg-type]
                picture=(width, height),
                unit=Unit.PIXELS,
                refusal=doubt,
                drawing=sha,
            )
        )
    return boxes


def name_classes(records: list[BoxRecord]) -> list[BoxRecord]:
    """Without labels, where no mask of the set tells classes apart: each has one level, written as 1 or as the same."""
    levels = {record.label for record in records}
    one_each = len({record.where for record in records}) == len(records)
    if one_each and (len(levels) == 1 or levels <= {"1", "255"}):
        return [replace(record, label="") for record in records]
    return records


def read_levels(path: Path) -> NDArray[np.int64]:
    """[H, W] levels as stored: those of a palette are its indices, for its colours say nothing of what is outside.

    Raises:
        FrameError: it cannot be read, has several pictures, or is coloured or transparent.
    """
    with opened_picture(path, None) as (image, _):
        refuse_transparency(image)
        if image.mode in ("RGB", "RGBA", "LA"):
            colours = np.asarray(image.convert("RGB"))
            if (colours != colours[..., :1]).any():
                raise FrameError("is a coloured mask. Expected levels of grey, or a palette: 0 outside the ROI.")
            return colours[..., 0].astype(np.int64)
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
            raise FrameError(f"pixel type {image.mode!r} is none of a mask. Expected greyscale or a palette, as PNG.")
        return np.asarray(image).astype(np.int64)


def region_of(inside: NDArray[np.bool_]) -> Region:
    """What is known of a mask with at least one pixel inside."""
    rows, columns = np.nonzero(inside)
    labelled, _ = ndimage.label(inside, _EIGHT)
    sizes = sorted((int(size) for size in np.bincount(labelled.ravel())[1:]), reverse=True)
    return Region(
        box=(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1),
        share=float(inside.mean()),
        parts=tuple(sizes),
        at_corners=bool(inside[[0, 0, -1, -1], [0, -1, 0, -1]].all()),
    )


def mask_files(files: list[Path]) -> list[Path]:
    """The masks among pictures: a picture beside one that is named as it with `_mask` at its end is a frame."""
    stems = {file: file.with_name(file.stem) for file in files}
    framed = {stem.with_name(bare_name(stem.name)) for stem in stems.values() if bare_name(stem.name) != stem.name}
    return [file for file, stem in stems.items() if stem not in framed]


def bare_name(stem: str) -> str:
    """The name of a mask's frame."""
    return without_ending(stem, ENDINGS)
