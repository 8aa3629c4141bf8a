"""What is compared with a frame before it is taken, and what the folder that is filled can do wrong."""

import errno
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from roiae.data.manifest import read_manifest
from roiae.errors import DataError, FrameError
from roiae_client.intake import site_folder
from roiae_client.intake.site_folder import import_site
from roiae_client.intake.taking import Rules
from tests.client.intake.conftest import archive, files_below, png, report, table
from tests.files import region

WriteDicom = Callable[..., Path]


def test_a_full_disk_ends_the_import_at_once_and_is_no_bad_frame(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Image.Image, place: Path, *kind: str, **options: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    boxes = table(tmp_path, "a.png,1,2,9,9", "b.png,1,2,9,9")
    before = files_below(tmp_path)
    with pytest.raises(
        DataError, match=r"cannot be written \(No space left on device\)\. Nothing was imported"
    ) as ended:
        import_site(frames, boxes, tmp_path / "site", max_bad_share=1)
    assert not isinstance(ended.value, FrameError)
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_what_is_wrong_with_the_target_is_told_from_what_is_wrong_with_a_frame(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real_open = Path.open

    def refuse(self: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        if "site" in self.parts and "x" in mode:
            raise OSError(code, os.strerror(code))
        return real_open(self, mode, *more, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="cannot be written") as ended:
        import_site(frames, table(tmp_path, "a.png,1,2,9,9"), tmp_path / "site", max_bad_share=1)
    assert not isinstance(ended.value, FrameError)


def test_a_frame_that_the_source_does_not_give_is_set_aside(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = Path.open

    def refuse(self: Path, *more: Any, **options: Any) -> Any:
        if self.name == "b.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_open(self, *more, **options)

    monkeypatch.setattr(Path, "open", refuse)
    boxes = table(tmp_path, "a.png,1,2,9,9", "b.png,1,2,9,9")
    ((name, reason),) = import_site(frames, boxes, tmp_path / "site", max_bad_share=0.5).set_aside
    assert (name, reason) == ("b.png", "cannot be read from the source (Permission denied).")


def test_a_table_that_cannot_be_written_is_one_message(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(site_folder, "write_atomically", full)
    with pytest.raises(DataError, match=r"import\.csv: cannot be written \(No space left on device\)"):
        import_site(frames, table(tmp_path, "a.png,1,2,9,9"), tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_a_copy_holds_pixels_and_no_header(write_dicom: WriteDicom, tmp_path: Path) -> None:
    (tmp_path / "pacs").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (3, 30, 40), np.uint8)
    shutil.move(write_dicom(noise, regions=[region(2, 1, 37, 28)]), tmp_path / "pacs" / "IM1")
    boxes = table(tmp_path, "IM1,1,5,6,20,12", "IM1,3,5,6,20,12", header="image,frame,x0,y0,x1,y1")
    import_site(tmp_path / "pacs", boxes, tmp_path / "site")
    rows = read_manifest(tmp_path / "site")
    assert [(row.image.name, row.frame, row.box) for row in rows] == [
        ("000001.png", None, (3, 5, 18, 11)),
        ("000002.png", None, (3, 5, 18, 11)),
    ]
    assert rows[0].mm_per_px == (0.2, 0.1)
    for row, number in zip(rows, (0, 2), strict=True):
        content = row.image.read_bytes()
        assert (b"Doe" in content, b"4711" in content) == (False, False)
        assert [content[at + 4 : at + 8] for at in png_chunks(content)] == [b"IHDR", b"IDAT", b"IEND"]
        np.testing.assert_array_equal(np.asarray(Image.open(row.image)), noise[number, 1:29, 2:38])


def png_chunks(content: bytes) -> list[int]:
    """Where each chunk of a PNG begins."""
    places = [8]
    while content[places[-1] + 4 : places[-1] + 8] != b"IEND":
        places.append(places[-1] + 12 + int.from_bytes(content[places[-1] : places[-1] + 4], "big"))
    return places


def test_an_attribute_that_is_not_understood_is_refused_unless_ignored(frames: Path, tmp_path: Path) -> None:
    shape = {"label": "NT", "points": [[5, 6], [20, 12]], "shape_type": "rectangle", "direction": 0.4}
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": [shape]}))
    with pytest.raises(DataError, match=r"its file says 'direction', which is not understood.*--ignore direction"):
        import_site(frames, tmp_path / "a.json", tmp_path / "site")
    import_site(frames, tmp_path / "a.json", tmp_path / "site", rules=Rules(ignore=("direction",)))
    assert read_manifest(tmp_path / "site")[0].box == (5, 6, 20, 12)


def test_what_is_refused_of_one_label_does_not_touch_another(frames: Path, tmp_path: Path) -> None:
    shapes = [
        {"label": "NT", "points": [[5, 6], [20, 12]], "shape_type": "rectangle"},
        {"label": "CRL", "points": [[5, 6], [20, 12]], "shape_type": "line"},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": shapes}))
    assert import_site(frames, tmp_path / "a.json", tmp_path / "site", label="NT").imported == 1
    with pytest.raises(DataError, match="is a line, which is no box"):
        import_site(frames, tmp_path / "a.json", tmp_path / "other", label="CRL")


def test_a_box_of_one_pixel_is_none(frames: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is of 1×6 px, which no ROI is"):
        import_site(frames, table(tmp_path, "a.png,5.1,6,5.9,12"), tmp_path / "site")


def test_a_file_of_another_length_than_was_drawn_on_is_refused(frames: Path, tmp_path: Path) -> None:
    shape = {"name": "rect", "x": 5, "y": 6, "width": 15, "height": 6}
    image = {"filename": "a.png", "size": 7, "regions": [{"shape_attributes": shape, "region_attributes": {}}]}
    (tmp_path / "v.json").write_text(json.dumps({"a.png7": image}))
    with pytest.raises(DataError, match="drawn on a file of 7 bytes, and this one has"):
        import_site(frames, tmp_path / "v.json", tmp_path / "site")
    (tmp_path / "v.json").write_text(json.dumps({"a.png": image | {"size": (frames / "a.png").stat().st_size}}))
    assert import_site(frames, tmp_path / "v.json", tmp_path / "site").imported == 1


def test_a_mask_named_as_a_frame_that_is_the_mask_itself_is_refused(tmp_path: Path) -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[6:12, 5:20] = 255
    for folder in ("source", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(mask).save(tmp_path / folder / "001_contour.png")
    with pytest.raises(DataError, match="is a mask or drawing, of two grey levels, and no frame"):
        import_site(tmp_path / "source", tmp_path / "masks", tmp_path / "site")


def test_a_subject_of_a_name_that_two_frames_have_is_refused(frames: Path, tmp_path: Path) -> None:
    shutil.copy(frames / "b.png", frames / "sub" / "a.png")
    (tmp_path / "subjects.csv").write_text("image,subject\na.png,W1\n")
    boxes = table(tmp_path, "sub/a.png,1,2,9,9", "b.png,1,2,9,9")
    with pytest.raises(DataError, match=r"--subjects: a\.png: 2 files of the source go by this name"):
        import_site(frames, boxes, tmp_path / "site", subjects=tmp_path / "subjects.csv")


def test_images_of_the_subjects_table_that_are_not_there_are_said(frames: Path, tmp_path: Path) -> None:
    (tmp_path / "subjects.csv").write_text("image,subject\na.png,W1\nlost.png,W2\n")
    outcome = import_site(
        frames, table(tmp_path, "a.png,1,2,9,9"), tmp_path / "site", subjects=tmp_path / "subjects.csv"
    )
    assert "1 images of --subjects are not in the source (the first: 'lost.png')." in outcome.notes


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "frames.zip", "w") as file:
        file.writestr("p/a.png", png())
        file.writestr("p\\a.png", png())
    with pytest.raises(DataError, match=r"two members are called 'p/a\.png'"):
        import_site(tmp_path / "frames.zip", table(tmp_path, "p/a.png,1,2,9,9"), tmp_path / "site")


def test_a_members_name_is_utf8_where_its_bytes_are(tmp_path: Path) -> None:
    path = archive(tmp_path, {"Mueller.png": png()})
    data = path.read_bytes().replace(b"Mueller.png", "Müller.png".encode())
    assert len("Müller.png".encode()) == len(b"Mueller.png")
    path.write_bytes(data)
    import_site(path, table(tmp_path, "Müller.png,1,2,9,9"), tmp_path / "site")
    assert [row["source"] for row in report(tmp_path / "site")] == ["Müller.png"]
