import json
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roiae.data.manifest import read_manifest
from roiae.data.site_data import SiteData
from roiae.errors import DataError
from roiae_client.intake import source as source_module
from roiae_client.intake.site_folder import import_site
from roiae_client.intake.taking import Rules
from tests.client.intake.conftest import archive, files_below, png, report, table

WriteDicom = Callable[..., Path]


def test_frames_with_boxes_become_a_site_that_a_run_opens(frames: Path, tmp_path: Path) -> None:
    boxes = table(
        tmp_path,
        "a.png,S1,5,6,20,12,train",
        "b.png,S2,5,6,20,12,validation",
        "sub/c.png,S3,1,2,30,9,",
        header="image,subject,x0,y0,x1,y1,split",
    )
    outcome = import_site(frames, boxes, tmp_path / "site")
    assert (outcome.imported, outcome.set_aside) == (3, [])
    assert outcome.notes == ["1 frames of the source have no box and were left out."]
    data = SiteData.open(tmp_path / "site", image_size=32, cache_dir=tmp_path / "cache")
    assert {"S1", "S2", "S3"} == {*data.train.subjects, *data.validation.subjects}
    first = read_manifest(tmp_path / "site")[0]
    assert (first.box, first.split) == ((5, 6, 20, 12), "train")
    np.testing.assert_array_equal(np.asarray(Image.open(first.image)), np.asarray(Image.open(frames / "a.png")))


def test_the_report_says_what_became_of_every_frame(frames: Path, tmp_path: Path) -> None:
    boxes = table(tmp_path, "a.png,5,6,20,12", "b.png,5,6,80,12", "lost.png,1,2,3,4")
    outcome = import_site(frames, boxes, tmp_path / "site", max_bad_share=0.7)
    assert [name for name, _ in outcome.set_aside] == ["b.png", "lost.png"]
    found = {row["source"]: (row["outcome"], row["detail"]) for row in report(tmp_path / "site")}
    assert found["a.png"] == ("imported", "images/000001.png")
    assert found["b.png"][0] == found["lost.png"][0] == "set aside"
    assert "lies outside the frame (40×30 px)" in found["b.png"][1]
    assert "no such file in the source" in found["lost.png"][1]
    assert found["sub/c.png"][0] == found["sub/d.jpg"][0] == "no box"
    assert sorted(path.name for path in (tmp_path / "site" / "images").iterdir()) == ["000001.png"]


def test_more_bad_frames_than_allowed_leave_nothing(frames: Path, tmp_path: Path) -> None:
    boxes = table(tmp_path, "a.png,5,6,20,12", "b.png,5,6,80,12")
    before = files_below(tmp_path)
    with pytest.raises(DataError, match=r"1 of 2 frames with a box .* allowed is 0\.(.|\n)*  b\.png: ROI"):
        import_site(frames, boxes, tmp_path / "site")
    assert files_below(tmp_path) == before


def test_a_box_drawn_to_the_border_is_cut_and_fractions_are_rounded_outwards(frames: Path, tmp_path: Path) -> None:
    import_site(frames, table(tmp_path, "a.png,-0.4,6.2,40.6,11.7"), tmp_path / "site")
    assert read_manifest(tmp_path / "site")[0].box == (0, 6, 40, 12)


def test_frames_are_found_by_path_name_or_stem_wherever_the_tool_ran(frames: Path, tmp_path: Path) -> None:
    boxes = table(tmp_path, r"C:\data\a.png,1,2,9,9", "../other/b.png,1,2,9,9", "sub/c.png,1,2,9,9", "d,1,2,9,9")
    import_site(frames, boxes, tmp_path / "site")
    assert [row["source"] for row in report(tmp_path / "site")] == ["a.png", "b.png", "sub/c.png", "sub/d.jpg"]


def test_a_name_that_two_files_have_is_ambiguous(frames: Path, tmp_path: Path) -> None:
    shutil.copy(frames / "b.png", frames / "sub" / "a.png")
    boxes = table(tmp_path, "data/a.png,1,2,9,9")
    with pytest.raises(DataError, match="2 files of the source go by this name"):
        import_site(frames, boxes, tmp_path / "site")
    import_site(frames, table(tmp_path, "sub/a.png,1,2,9,9"), tmp_path / "site")


def test_two_boxes_on_one_frame_are_a_reason(frames: Path, tmp_path: Path) -> None:
    boxes = table(tmp_path, "a.png,1,2,9,9", "a.png,1,2,9,8")
    (aside,) = import_site(frames, boxes, tmp_path / "site", max_bad_share=0.5).set_aside
    assert "second box" in aside[1]


def test_one_label_of_several_is_chosen_by_name(frames: Path, tmp_path: Path) -> None:
    boxes = table(tmp_path, "a.png,NT,1,2,9,9", "a.png,head,1,2,30,20", header="image,label,x0,y0,x1,y1")
    with pytest.raises(DataError, match=r"several labels; say which with --label\. Found NT \(1\), head \(1\)"):
        import_site(frames, boxes, tmp_path / "site")
    with pytest.raises(DataError, match="no box has the label 'CRL'"):
        import_site(frames, boxes, tmp_path / "site", label="CRL")
    outcome = import_site(frames, boxes, tmp_path / "site", label="head")
    assert (outcome.label, read_manifest(tmp_path / "site")[0].box) == ("head", (1, 2, 30, 20))


def test_subjects_come_from_a_table_or_are_said_to_be_unknown(frames: Path, tmp_path: Path) -> None:
    (tmp_path / "subjects.csv").write_text("image;subject\na.png;W1\nsub/c.png;W1\n")
    boxes = table(tmp_path, "a.png,1,2,9,9", "b.png,1,2,9,9", "c.png,1,2,9,9")
    outcome = import_site(frames, boxes, tmp_path / "site", subjects=tmp_path / "subjects.csv")
    assert [row.subject for row in read_manifest(tmp_path / "site")] == ["W1", "frame-000002", "W1"]
    assert any(note.startswith("1 frames have no known subject") for note in outcome.notes)


def test_a_subject_table_that_contradicts_itself_is_refused(frames: Path, tmp_path: Path) -> None:
    (tmp_path / "subjects.csv").write_text("image,subject\na.png,W1\na.png,W2\n")
    with pytest.raises(DataError, match=r"subjects\.csv:3: this image has another subject"):
        import_site(frames, table(tmp_path, "a.png,1,2,9,9"), tmp_path / "site", subjects=tmp_path / "subjects.csv")


def test_a_cine_that_is_kept_is_copied_once_and_its_patient_becomes_a_number(
    write_dicom: WriteDicom, tmp_path: Path
) -> None:
    (tmp_path / "pacs").mkdir()
    shutil.move(
        write_dicom(np.random.default_rng(0).integers(0, 255, (5, 30, 40), np.uint8)), tmp_path / "pacs" / "IM1"
    )
    boxes = table(tmp_path, "IM1,1,1,2,9,9", "IM1,4,1,2,9,9", header="image,frame,x0,y0,x1,y1")
    import_site(tmp_path / "pacs", boxes, tmp_path / "site", rules=Rules(keep_files=True))
    rows = read_manifest(tmp_path / "site")
    assert [(row.image.name, row.frame, row.subject) for row in rows] == [
        ("000001", 1, "patient-000001"),
        ("000001", 4, "patient-000001"),
    ]


def test_what_is_set_aside_of_a_cine_is_named_with_its_frame(write_dicom: WriteDicom, tmp_path: Path) -> None:
    (tmp_path / "pacs").mkdir()
    shutil.move(write_dicom(np.zeros((5, 30, 40), np.uint8)), tmp_path / "pacs" / "IM1")
    boxes = table(tmp_path, "IM1,1,1,2,9,9", "IM1,4,1,2,90,9", header="image,frame,x0,y0,x1,y1")
    with pytest.raises(DataError, match=r"\n  IM1, frame 4: ROI \(1, 2, 90, 9\) lies outside"):
        import_site(tmp_path / "pacs", boxes, tmp_path / "site")


def test_masks_beside_the_frames_are_no_frames(frames: Path, tmp_path: Path) -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[6:12, 5:20] = 255
    (frames / "masks").mkdir()
    for name in ("a", "b"):
        Image.fromarray(mask).save(frames / "masks" / f"{name}.png")
    outcome = import_site(frames, frames / "masks", tmp_path / "site")
    assert (outcome.imported, outcome.notes[1]) == (2, "2 frames of the source have no box and were left out.")


def test_labelme_files_beside_the_frames_are_read(frames: Path, tmp_path: Path) -> None:
    shape = {"label": "NT", "points": [[5, 6], [20, 12]], "shape_type": "rectangle"}
    (frames / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": [shape]}))
    assert import_site(frames, frames, tmp_path / "site").imported == 1


def test_progress_counts_boxes(frames: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    boxes = table(tmp_path, "a.png,1,2,9,9", "b.png,1,2,9,9")
    import_site(frames, boxes, tmp_path / "site", on_frame=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]


def test_an_interrupted_import_leaves_nothing(frames: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    boxes = table(tmp_path, "a.png,1,2,9,9")
    before = files_below(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        import_site(frames, boxes, tmp_path / "site", on_frame=stop)
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("target", ["frames/site", "."])
def test_a_target_in_the_source_is_refused(frames: Path, tmp_path: Path, target: str) -> None:
    with pytest.raises(DataError, match="lies in the source, or the source in it"):
        import_site(frames, table(tmp_path, "a.png,1,2,9,9"), tmp_path / target)


def test_a_target_with_something_in_it_is_refused_and_kept(frames: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "precious.txt").touch()
    with pytest.raises(DataError, match="exists already"):
        import_site(frames, table(tmp_path, "a.png,1,2,9,9"), tmp_path / "site")
    assert (tmp_path / "site" / "precious.txt").exists()


def test_links_in_the_source_are_not_followed(frames: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.move(frames / "b.png", tmp_path / "elsewhere" / "b.png")
    (frames / "b.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    (frames / "far").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"b\.png: no such file in the source"):
        import_site(frames, table(tmp_path, "b.png,1,2,9,9"), tmp_path / "site")


def test_an_archive_is_a_source(tmp_path: Path) -> None:
    members = {"x/a.png": png(), "__MACOSX/x/._a.png": b"", "x/.DS_Store": b""}
    import_site(archive(tmp_path, members), table(tmp_path, "a.png,1,2,9,9"), tmp_path / "site")
    assert [row["source"] for row in report(tmp_path / "site")] == ["x/a.png"]


def test_an_odd_ending_is_left_out_of_the_new_name(tmp_path: Path) -> None:
    boxes = table(tmp_path, "a.x;y,1,2,9,9")
    import_site(archive(tmp_path, {"a.x;y": png()}), boxes, tmp_path / "site", rules=Rules(keep_files=True))
    assert read_manifest(tmp_path / "site")[0].image.name == "000001"


def link() -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("a.png")
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return member


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "frames.zip", "w") as file:
        file.writestr(link(), "/etc/passwd")
    with pytest.raises(DataError, match="a member is a symbolic link"):
        import_site(tmp_path / "frames.zip", table(tmp_path, "a.png,1,2,9,9"), tmp_path / "site")


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "x/../../a.png", "..\\a.png", "C:\\a.png"])
def test_an_archive_that_reaches_out_of_itself_is_refused(tmp_path: Path, name: str) -> None:
    boxes = table(tmp_path, "a.png,1,2,9,9")
    path = archive(tmp_path, {name: png()})
    before = files_below(tmp_path)
    with pytest.raises(DataError, match="leads out of the archive"):
        import_site(path, boxes, tmp_path / "site")
    assert files_below(tmp_path) == before


def test_a_zip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "_BOMB_BYTES", 2**20)
    path = archive(tmp_path, {"a.png": bytes(2**21)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=r"zip bomb: 'a\.png' unpacks 1\d\d\d to 1, to 2097152 bytes"):
        import_site(path, table(tmp_path, "a.png,1,2,9,9"), tmp_path / "site")


def test_many_small_bombs_are_one_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "_BOMB_BYTES", 2**20)
    path = archive(tmp_path, {f"{n}.png": bytes(2**19) for n in range(5)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=r"zip bomb: the archive unpacks \d+ to 1, to 2621440 bytes"):
        import_site(path, table(tmp_path, "0.png,1,2,9,9"), tmp_path / "site")


def test_an_archive_larger_than_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(DataError, match="more than is free here"):
        import_site(archive(tmp_path, {"a.png": png()}), table(tmp_path, "a.png,1,2,9,9"), tmp_path / "site")


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path, {"a.png": png()})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    path.write_bytes(data)
    with pytest.raises(DataError, match="is encrypted"):
        import_site(path, table(tmp_path, "a.png,1,2,9,9"), tmp_path / "site")


def test_a_damaged_member_is_set_aside(tmp_path: Path) -> None:
    path = archive(tmp_path, {"a.png": png(), "b.png": png()})
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 9] ^= 255
    path.write_bytes(data)
    boxes = table(tmp_path, "a.png,1,2,9,9", "b.png,1,2,9,9")
    ((name, reason),) = import_site(path, boxes, tmp_path / "site", max_bad_share=0.5).set_aside
    assert (name, "Bad CRC-32" in reason) == ("a.png", True)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06 and then nothing", b"no archive"])
def test_a_broken_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "frames.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"neither a folder nor a \.zip|cannot be read"):
        import_site(tmp_path / "frames.zip", table(tmp_path, "a.png,1,2,9,9"), tmp_path / "site")


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent: neither a folder nor a \.zip archive"):
        import_site(tmp_path / "absent", table(tmp_path, "a.png,1,2,9,9"), tmp_path / "site")
