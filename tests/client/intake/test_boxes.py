"""Each format is read into the same record: x0, y0, x1, y1, end exclusive."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from roiae.errors import DataError
from roiae_client.intake.boxes import read_boxes
from roiae_client.intake.records import BoxRecord

VOC = """<annotation><filename>a.png</filename><object><name>NT</name><bndbox>
<xmin>{}</xmin><ymin>{}</ymin><xmax>20</xmax><ymax>12</ymax></bndbox></object></annotation>"""
COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png"}],
    "categories": [{"id": 3, "name": "NT"}],
    "annotations": [{"image_id": 1, "category_id": 3, "bbox": [5, 6, 15, 6]}],
}
LABELME = {"imagePath": "a.png", "shapes": [{"label": "NT", "points": [[20, 12], [5, 6]], "shape_type": "rectangle"}]}
CVAT = """<annotations><image id="0" name="a.png">{}</image></annotations>"""
WriteBoxes = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteBoxes:
    def write_one(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_one


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "image,label,roi_x0,roi_y0,roi_x1,roi_y1\na.png,NT,5,6,20,12\n"),
        ("t.csv", "fname,structure,h_min,w_min,h_max,w_max\na.png,NT,6,5,12,20\n"),
        ("t.csv", "\ufefffilename;class;W_MIN;W_MAX;H_MIN;H_MAX\r\na.png;NT;5,0;20,0;6,0;12,0\r\n"),
        ("t.tsv", "file\tlabel\txmin\tymin\txmax\tymax\na.png\tNT\t5\t6\t20\t12\n"),
        ("t.txt", "image,label,x0,y0,x1,y1\na.png,NT,5,6,20,12\n"),
        ("c.json", json.dumps(COCO)),
        ("l.json", json.dumps(LABELME)),
        ("v.xml", VOC.format(6, 7)),
        ("c.xml", CVAT.format('<box label="NT" xtl="5" ytl="6" xbr="20" ybr="12"/>')),
        ("c.xml", CVAT.format('<polygon label="NT" points="5,6;20,9;7,12"/>')),
        ("c.xml", CVAT.format('<ellipse label="NT" cx="12.5" cy="9" rx="7.5" ry="3"/>')),
        ("c.xml", CVAT.format('<tag label="good"/><mask label="NT" left="5" top="6" width="15" height="6" rle="1"/>')),
    ],
)
def test_every_format_gives_the_same_box(write: WriteBoxes, name: str, content: str) -> None:
    (record,) = read_boxes(write(name, content)).records
    assert (record.image, record.label) == ("a.png", "NT")
    assert record.box == (5, 6, 20, 12)


def test_voc_counts_from_one_unless_a_box_starts_at_zero(write: WriteBoxes) -> None:
    assert read_boxes(write("v.xml", VOC.format(1, 7))).records[0].box == (0, 6, 20, 12)
    assert read_boxes(write("v.xml", VOC.format(0, 7))).records[0].box == (0, 7, 20, 12)


def test_a_labelme_circle_is_boxed_by_its_radius(write: WriteBoxes) -> None:
    shape = {"label": "head", "points": [[20, 15], [23, 19]], "shape_type": "circle"}
    assert read_boxes(write("l.json", json.dumps(LABELME | {"shapes": [shape]}))).records[0].box == (15, 10, 25, 20)


def test_cvat_tracks_are_frames_of_a_cine_counted_from_one(write: WriteBoxes) -> None:
    track = """<annotations><meta><source>cine.dcm</source></meta><track label="NT">
    <box frame="0" outside="0" xtl="5" ytl="6" xbr="20" ybr="12"/>
    <box frame="4" outside="0" xtl="5" ytl="6" xbr="20" ybr="12"/>
    <box frame="5" outside="1" xtl="5" ytl="6" xbr="20" ybr="12"/></track></annotations>"""
    records = read_boxes(write("t.xml", track)).records
    assert [(record.image, record.frame) for record in records] == [("cine.dcm", 1), ("cine.dcm", 5)]


def test_a_table_carries_subject_split_pixel_size_and_frame(write: WriteBoxes) -> None:
    content = "image,patient_id,x0,y0,x1,y1,split,mm_per_px,frame\na.png,P7,5,6,20,12,train,0.1,3\n"
    (record,) = read_boxes(write("t.csv", content)).records
    assert (record.subject, record.split, record.mm_per_px, record.frame) == ("P7", "train", (0.1, 0.1), 3)


def test_a_mask_is_boxed_and_an_empty_one_has_no_box(tmp_path: Path) -> None:
    mask = np.zeros((30, 40), np.uint8)
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks" / "b_mask.png")
    mask[6:12, 5:20] = 1
    Image.fromarray(mask).save(tmp_path / "masks" / "a_mask.png")
    (record,) = read_boxes(tmp_path / "masks").records
    assert (record.image, record.box) == ("a", (5, 6, 20, 12))


def test_a_folder_of_files_is_read_in_the_order_of_their_names(write: WriteBoxes, tmp_path: Path) -> None:
    (tmp_path / "voc").mkdir()
    for name in ("b", "a"):
        write(f"voc/{name}.xml", VOC.format(6, 7).replace("a.png", f"{name}.png"))
    assert [record.image for record in read_boxes(tmp_path / "voc").records] == ["a.png", "b.png"]


BOMB = '<!DOCTYPE a [<!ENTITY b "xxxxxxxxxx"><!ENTITY c "&b;&b;&b;&b;">]><annotation>&c;</annotation>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation><filename>&b;</filename></annotation>'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.xlsx", "PK", "not a kind of boxes.*CSV UTF-8"),
        ("t.csv", "", "no column image"),
        ("t.csv", "image,x0,y0,x1,y1\n", "holds no box"),
        ("t.csv", "image,x0,y0\na.png,1,2\n", "expected the corners of a box once"),
        ("t.csv", "image,x0,y0,x1,y1,xmin,ymin,xmax,ymax\n", "expected the corners of a box once"),
        ("t.csv", "image,file,x0,y0,x1,y1\n", "2 columns image or fname"),
        ("t.csv", "image,x0,x0,y0,x1,y1\n", "expected the corners of a box once"),
        ("t.csv", "x0,y0,x1,y1\n1,2,3,4\n", "no column image"),
        ("t.csv", "image,x0,y0,x1,y1\na.png,1,2,nan,4\n", r":2: a corner is 'nan'"),
        ("t.csv", "image,x0,y0,x1,y1\na.png,1,2,3\n", r":2: 4 fields where the header has 5"),
        ("t.csv", "image,x0,y0,x1,y1\n,1,2,3,4\n", r":2: no image"),
        ("t.csv", "image,x0,y0,x1,y1,split\na.png,1,2,3,4,test\n", r":2: split is 'test'"),
        ("t.csv", "image,subject,x0,y0,x1,y1\na.png,Müller,1,2,3,4\n".encode("latin-1"), r":2: not UTF-8"),
        ("c.json", "", "is not JSON"),
        ("c.json", "[" * 100_000, "is not JSON"),
        ("c.json", "{}", "is neither COCO .* nor LabelMe"),
        ("c.json", "[1]", "is neither COCO .* nor LabelMe"),
        (
            "c.json",
            json.dumps(COCO | {"annotations": [{"image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4]}]}),
            "no image 9",
        ),
        (
            "c.json",
            json.dumps(COCO | {"annotations": [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3]}]}),
            "annotations.0.bbox",
        ),
        ("c.json", json.dumps(COCO).replace("15", "NaN"), r"annotations\.0\.bbox\.2: Input should be a finite number"),
        ("c.json", json.dumps(COCO).replace("15", "9" * 5000), "is not JSON"),
        ("l.json", json.dumps(LABELME).replace("[[20, 12], [5, 6]]", "[]"), "has no points"),
        ("l.json", json.dumps(LABELME).replace("[20, 12]", "[20]"), r"shapes\.0\.points\.0"),
        ("v.xml", "", "is not XML"),
        ("v.xml", "<annotation>", "is not XML"),
        ("v.xml", BOMB, "declares a document type or entities"),
        ("v.xml", OUTSIDE, "declares a document type or entities"),
        ("v.xml", "<html/>", "is neither Pascal VOC .* nor CVAT"),
        ("v.xml", "<annotation/>", "no filename"),
        ("v.xml", VOC.format("six", 7), "xmin is 'six'"),
        ("v.xml", VOC.format("inf", 7), "xmin is 'inf'"),
        ("v.xml", "<annotation><filename>a</filename><object><name>NT</name></object></annotation>", "no bndbox"),
        ("c.xml", CVAT.format('<box label="NT" xtl="5"/>'), "ytl is None"),
        ("c.xml", CVAT.format('<polygon label="NT" points=""/>'), "points is ''"),
        ("c.xml", "<?xml version='1.0' encoding='bogus'?><annotations/>", "is not XML"),
    ],
)
def test_a_broken_file_is_one_message(write: WriteBoxes, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_boxes(write(name, content))


def test_a_mask_of_many_levels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(DataError, match="100 grey levels are no binary mask"):
        read_boxes(tmp_path / "masks")


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.json: cannot be read"):
        read_boxes(tmp_path / "absent.json")
    with pytest.raises(DataError, match="holds no box"):
        read_boxes(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["id", "image_id", "category_id", "bbox", "file_name", "label", "points"]), inner
        )
    ),
    max_leaves=12,
)
KEYS = st.sampled_from(["images", "annotations", "categories", "shapes", "imagePath"])
CELLS = st.sampled_from(["a.png", "1", "-3", "2.5", "1e999", "", '"', "train", "9" * 30]) | st.text(max_size=6)
HEADERS = st.sampled_from(["image,x0,y0,x1,y1", "fname,structure,h_min,w_min,h_max,w_max", "image,subject,frame,split"])
TAGS = st.sampled_from(["box", "polygon", "mask", "ellipse", "object", "bndbox", "xmin", "filename", "image", "track"])
ELEMENTS = st.recursive(
    st.tuples(TAGS, st.text("0123456789,;.- x", max_size=6)).map(lambda pair: f"<{pair[0]} xtl='{pair[1]}'/>"),
    lambda inner: st.tuples(TAGS, st.lists(inner, max_size=3)).map(lambda p: f"<{p[0]}>{''.join(p[1])}</{p[0]}>"),
    max_leaves=8,
)


def read_or_refuse(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(content)
        try:
            records = read_boxes(Path(folder) / name).records
        except DataError as error:
            assert name in str(error)
        else:
            assert all(isinstance(record, BoxRecord) and np.isfinite(record.box).all() for record in records)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.dictionaries(KEYS, JSON).map(lambda content: json.dumps(content).encode()))
def test_arbitrary_json_is_read_or_refused(content: bytes) -> None:
    read_or_refuse("boxes.json", content)


@settings(deadline=None)
@given(st.tuples(HEADERS, st.lists(st.lists(CELLS, max_size=7).map(",".join), max_size=4)))
def test_an_arbitrary_table_is_read_or_refused(table: tuple[str, list[str]]) -> None:
    read_or_refuse("boxes.csv", "\n".join([table[0], *table[1]]).encode())


@settings(deadline=None)
@given(st.binary(max_size=100) | st.lists(ELEMENTS).map(lambda e: f"<annotations>{''.join(e)}</annotations>".encode()))
def test_arbitrary_xml_is_read_or_refused(content: bytes) -> None:
    read_or_refuse("boxes.xml", content)


@given(
    st.tuples(*[st.integers(0, 10_000)] * 4), st.sampled_from(["h_min,w_min,h_max,w_max", "w_max,h_max,w_min,h_min"])
)
def test_named_columns_are_read_in_any_order(box: tuple[int, int, int, int], header: str) -> None:
    x0, y0, x1, y1 = box
    values = {"w_min": x0, "h_min": y0, "w_max": x1, "h_max": y1}
    row = ",".join(str(values[name]) for name in header.split(","))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "boxes.csv"
        path.write_text(f"image,{header}\na.png,{row}\n")
        assert read_boxes(path).records[0].box == box
