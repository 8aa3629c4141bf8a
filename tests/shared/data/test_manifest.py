import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roiae.data.manifest import read_manifest, survey_manifest
from roiae.errors import DataError, ManifestError

HEADER = "image,subject,roi_x0,roi_y0,roi_x1,roi_y1"
FULL_HEADER = f"{HEADER},split,mm_per_px"
CINE_HEADER = f"{HEADER},frame"
ROW = "images/a.png,S1,1,2,30,40"
WriteManifest = Callable[[str | bytes], Path]


def test_a_row_carries_image_subject_box_split_and_pixel_size(write_manifest: WriteManifest) -> None:
    folder = write_manifest(f"{FULL_HEADER}\n{ROW},validation,0.12\n")
    (row,) = read_manifest(folder)
    assert row.image == (folder / "images/a.png").resolve()
    assert row.image.is_absolute()
    assert (row.line, row.subject, row.box) == (2, "S1", (1, 2, 30, 40))
    assert (row.split, row.mm_per_px) == ("validation", (0.12, 0.12))


def test_optional_cells_may_be_empty_and_other_columns_are_ignored(write_manifest: WriteManifest) -> None:
    (row,) = read_manifest(write_manifest(f"age,{FULL_HEADER},note\n31,{ROW},,,good\n"))
    assert (row.split, row.mm_per_px) == (None, None)


@pytest.mark.parametrize(
    "content",
    [
        f"\ufeff{HEADER}\n{ROW}\n",
        f"{HEADER}\r\n{ROW}\r\n",
        f"{HEADER}\r{ROW}\r",
        f"{HEADER}\n{ROW}".replace(",", ";"),
        f"{HEADER}\n{ROW}".replace(",", "\t"),
        f"{HEADER},,\n{ROW},,\n,,,,,,,\n",
        f"{HEADER}\nimages\\a.png, S1 ,1.0,2,30,40\n",
        f'{HEADER}\n"images/a.png","S1","1","2","30","40"\n',
    ],
    ids=["byte order mark", "CRLF", "CR", "semicolons", "tabs", "blank cells", "Windows habits", "quotes"],
)
def test_what_spreadsheets_write_is_read(write_manifest: WriteManifest, content: str) -> None:
    folder = write_manifest(content)
    (row,) = read_manifest(folder)
    assert (row.image, row.subject, row.box) == ((folder / "images/a.png").resolve(), "S1", (1, 2, 30, 40))


def test_a_decimal_comma_is_read_where_semicolons_separate(write_manifest: WriteManifest) -> None:
    (row,) = read_manifest(write_manifest(f"{FULL_HEADER}\n{ROW}\n".replace(",", ";").replace("40", "40;;0,25")))
    assert row.mm_per_px == (0.25, 0.25)


def test_rows_keep_their_order_and_lines(write_manifest: WriteManifest) -> None:
    rows = read_manifest(write_manifest(f'{HEADER},note\nz.png,A,0,0,1,1,"two\nlines"\n\na.png,A,0,0,1,1,\n'))
    assert [(row.image.name, row.line) for row in rows] == [("z.png", 2), ("a.png", 5)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r":1: no column 'image', .*found nothing"),
        (HEADER, r":1: no rows"),
        (
            HEADER.replace("roi_x0", "ROI_X0") + f"\n{ROW}",
            r":1: no column 'roi_x0' \(nearest: 'ROI_X0'\)\. Expected image",
        ),
        (f"{HEADER},subject\n{ROW},S2", r":1: column 'subject' occurs 2 times"),
        (f"{HEADER}\n{ROW}\nb.png,S2,1,2,30", r":3: 5 fields where the header has 6"),
        (f"{HEADER}\n{ROW},7", r":2: 7 fields where the header has 6"),
        (f"{HEADER}\n{ROW}\n{ROW}", r":3: a\.png is in line 2 already"),
        (f"{HEADER}\na.png,S1,one,2,30,40", r":2: roi_x0 is 'one'; expected a whole number"),
        (f"{HEADER}\na.png,S1,1,2.5,30,40", r":2: roi_y0 is '2\.5'"),
        (f"{HEADER}\na.png,S1,1,2,,40", r":2: roi_x1 is ''"),
        (f"{HEADER}\na.png,,1,2,30,40", r":2: no subject"),
        (f"{HEADER}\n,S1,1,2,30,40", r":2: image is ''"),
        (f"{HEADER}\n/etc/passwd,S1,1,2,30,40", r":2: image is '/etc/passwd'; expected a path below"),
        (f"{HEADER}\na/../../b.png,S1,1,2,30,40", r":2: image is 'a/\.\./\.\./b\.png'"),
        (f"{HEADER}\n..\\b.png,S1,1,2,30,40", r":2: image is "),
        (f"{FULL_HEADER}\n{ROW},test,", r":2: split is 'test'; expected 'train', 'validation'"),
        (f"{FULL_HEADER}\n{ROW},,-1", r":2: mm_per_px is '-1'"),
        (f"{FULL_HEADER}\n{ROW},,nan", r":2: mm_per_px is 'nan'"),
        (f"{CINE_HEADER}\n{ROW},0", r":2: frame is '0'; expected which frame of the file, from 1"),
        (f"{CINE_HEADER}\n{ROW},3\n{ROW},3", r":3: a\.png is in line 2 already"),
        (f'{HEADER}\n"a.png,S1,1,2,30,40', r":2: not a CSV table"),
        (f"{HEADER}\na.png,S\0,1,2,30,40", r":2: binary data"),
        (f"{HEADER}\na.png,Müller,1,2,30,40".encode("latin-1"), r":2: not UTF-8 text"),
    ],
)
def test_an_impossible_manifest_is_refused_by_line(
    write_manifest: WriteManifest, content: str | bytes, message: str
) -> None:
    with pytest.raises(ManifestError, match=r"manifest\.csv" + message):
        read_manifest(write_manifest(content))


def test_frames_of_one_cine_are_rows_of_their_own(write_manifest: WriteManifest) -> None:
    rows = read_manifest(write_manifest(f"{CINE_HEADER}\n{ROW},3\n{ROW},7\nb.png,S2,1,2,30,40,\n"))
    assert [(row.image.name, row.frame) for row in rows] == [("a.png", 3), ("a.png", 7), ("b.png", None)]


def test_a_survey_keeps_the_good_rows_and_names_every_bad_one(write_manifest: WriteManifest) -> None:
    rows, impossible = survey_manifest(write_manifest(f"{HEADER}\n{ROW}\nb.png,,1,2,3,4\nc.png,S3,x,2,3,4\n"))
    assert [row.line for row in rows] == [2]
    assert {line: str(error).partition("manifest.csv")[2][:3] for line, error in impossible.items()} == {
        3: ":3:",
        4: ":4:",
    }


def test_a_link_that_leaves_the_folder_is_refused(write_manifest: WriteManifest, tmp_path: Path) -> None:
    folder = write_manifest(f"{HEADER}\nlinked.png,S1,1,2,30,40\n")
    (tmp_path / "elsewhere.png").touch()
    (folder / "linked.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(ManifestError, match=r"manifest\.csv:2: image 'linked\.png' is a link that leaves"):
        read_manifest(folder)


def test_a_folder_reached_by_a_link_is_read(write_manifest: WriteManifest, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(write_manifest(f"{HEADER}\n{ROW}\n"))
    assert len(read_manifest(tmp_path / "link")) == 1


def test_a_folder_without_a_manifest_is_described(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent: no such folder\. Expected a folder with manifest\.csv"):
        read_manifest(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no manifest\.csv.*the folder is empty"):
        read_manifest(tmp_path)
    (tmp_path / "Manifest.CSV").touch()
    with pytest.raises(DataError, match=r"no manifest\.csv.*Found Manifest\.CSV"):
        read_manifest(tmp_path)


CELLS = st.sampled_from(
    ["a.png", "S1", "1", "40", "-3", "2.0", "", '"', "..", "train", "9" * 30, "\r", "\n", "a" * 300]
)
TABLES = st.lists(st.lists(st.one_of(CELLS, st.text(max_size=8)), max_size=9).map(",".join), max_size=5)


@settings(deadline=None)
@given(st.one_of(st.binary(), st.text().map(str.encode), TABLES.map(lambda rows: "\n".join([HEADER, *rows]).encode())))
@example(f"{HEADER}\n{'a' * 5000},S1,1,2,30,40".encode())
def test_arbitrary_content_is_read_or_refused_as_data(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "manifest.csv").write_bytes(content)
        try:
            rows = read_manifest(Path(name))
        except DataError as error:
            assert "manifest.csv" in str(error)
        else:
            assert all(row.image.is_relative_to(Path(name).resolve()) for row in rows)
