from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from roiae.errors import DataError
from roiae_client.intake.boxes import Reading, read_boxes

ODD = Reading(odd_masks=True)


@pytest.fixture
def mask() -> NDArray[np.uint8]:
    """30×40 px, of which rows 6 to 11 and columns 5 to 19 are 255."""
    pixels = np.zeros((30, 40), np.uint8)
    pixels[6:12, 5:20] = 255
    return pixels


def save(folder: Path, pixels: NDArray[np.generic], name: str = "a_mask.png", mode: str | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    Image.fromarray(pixels, mode).save(folder / name)
    return folder


def test_the_box_the_size_and_the_share_of_a_mask_are_said(tmp_path: Path, mask: NDArray[np.uint8]) -> None:
    boxes = read_boxes(save(tmp_path / "m", mask))
    (record,) = boxes.records
    assert (record.image, record.label, record.box, record.picture) == ("a", "", (5, 6, 20, 12), (40, 30))
    assert "7.5 % of their pictures" in boxes.notes[0]


def spoilt(mask: NDArray[np.uint8], kind: str) -> NDArray[np.uint8]:
    if kind == "inverse":
        return np.invert(mask)
    if kind == "inverse of a large one":
        mask[2:28, 2:38] = 255
        return np.invert(mask)
    if kind == "all of it":
        return mask * 0 + 255
    if kind == "stray pixel":
        mask[28, 38] = 255
    if kind == "two parts":
        mask[20:25, 20:30] = 255
    if kind == "a line through it":
        mask[:, 10] = 0
    return mask


@pytest.mark.parametrize(
    ("kind", "refusal"),
    [
        ("inverse", "probably its inverse"),
        ("inverse of a large one", "all its corners: probably its inverse"),
        ("all of it", "covers 100% of the picture"),
        ("stray pixel", "2 parts, of 90 and 1 px"),
        ("two parts", "2 parts, of 90 and 50 px"),
        ("a line through it", "2 parts, of 54 and 30 px"),
    ],
)
def test_a_mask_that_cannot_be_believed_is_refused_unless_allowed(
    tmp_path: Path, mask: NDArray[np.uint8], kind: str, refusal: str
) -> None:
    folder = save(tmp_path / "m", spoilt(mask, kind))
    (record,) = read_boxes(folder).records
    assert refusal in record.refusal
    assert read_boxes(folder, ODD).records[0].refusal == ""


def test_parts_that_touch_at_a_corner_are_one(tmp_path: Path, mask: NDArray[np.uint8]) -> None:
    mask[12:15, 20:25] = 255
    assert read_boxes(save(tmp_path / "m", mask)).records[0].box == (5, 6, 25, 15)


def test_a_palette_is_read_by_its_indices_and_not_by_its_colours(tmp_path: Path, mask: NDArray[np.uint8]) -> None:
    picture = Image.fromarray((mask // 255).astype(np.uint8), "P")
    picture.putpalette([255, 255, 255, 0, 0, 0])  # white ground
    (tmp_path / "m").mkdir()
    picture.save(tmp_path / "m" / "a_mask.png")
    assert read_boxes(tmp_path / "m").records[0].box == (5, 6, 20, 12)


def test_classes_are_labels(tmp_path: Path, mask: NDArray[np.uint8]) -> None:
    classes = (mask // 255).astype(np.uint8)
    classes[20:25, 20:30] = 2
    records = read_boxes(save(tmp_path / "m", classes)).records
    assert [(r.label, r.box) for r in records] == [("1", (5, 6, 20, 12)), ("2", (20, 20, 30, 25))]


def test_one_class_a_picture_is_a_class_where_others_are_too(tmp_path: Path, mask: NDArray[np.uint8]) -> None:
    save(tmp_path / "m", (mask // 255).astype(np.uint8), "a.png")
    save(tmp_path / "m", (mask // 255 * 2).astype(np.uint8), "b.png")
    assert [record.label for record in read_boxes(tmp_path / "m").records] == ["1", "2"]


def test_sixteen_bit_classes_are_read_as_they_are(tmp_path: Path, mask: NDArray[np.uint8]) -> None:
    records = read_boxes(save(tmp_path / "m", (mask // 255).astype(np.uint16))).records
    assert records[0].box == (5, 6, 20, 12)


def test_a_coloured_or_transparent_mask_is_refused(tmp_path: Path, mask: NDArray[np.uint8]) -> None:
    red = np.stack([mask, mask * 0, mask * 0], axis=-1)
    with pytest.raises(DataError, match="is a coloured mask"):
        read_boxes(save(tmp_path / "red", red))
    glass = np.stack([mask * 0, mask * 0, mask * 0, mask], axis=-1)
    with pytest.raises(DataError, match="is transparent in places"):
        read_boxes(save(tmp_path / "glass", glass))


@pytest.mark.parametrize("ending", ["_mask", "_Annotation", "_SEG", "-gt"])
def test_a_picture_beside_its_mask_is_a_frame(tmp_path: Path, mask: NDArray[np.uint8], ending: str) -> None:
    folder = save(tmp_path / "m", mask, f"001{ending}.png")
    save(folder, np.arange(1200, dtype=np.uint16).reshape(30, 40).astype(np.uint8), "001.png")
    (record,) = read_boxes(folder).records
    assert record.image == "001"


def test_masks_in_folders_are_of_frames_in_such_folders(tmp_path: Path, mask: NDArray[np.uint8]) -> None:
    for patient in ("patA", "patB"):
        (tmp_path / "m" / patient).mkdir(parents=True)
        save(tmp_path / "m" / patient, mask, "img_mask.png")
    assert read_boxes(tmp_path / "m").pictures == ["patA/img", "patB/img"]
