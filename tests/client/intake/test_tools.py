"""What annotation tools say beside a box: understood and neutral, or refused by its name."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from roiae.errors import DataError
from roiae_client.intake.boxes import read_boxes
from roiae_client.intake.coco import _compressed
from roiae_client.intake.records import BoxRecord, Unit

Write = Callable[[str, Any], Path]
IMAGE = {"id": 1, "file_name": "a.png", "width": 40, "height": 30}
BOX = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [5, 6, 15, 6]}
RUNS = [6 + 30 * 5, *([6, 24] * 14), 6, 18 + 30 * 20]  # rows 6 to 11 of columns 5 to 19, down the columns


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_one(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write_one


def coco(box: dict[str, Any], image: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"images": [IMAGE | (image or {})], "categories": [{"id": 3, "name": "NT"}], "annotations": [BOX | box]}


def labelme(**shape: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "label": "NT",
        "shape_type": "rectangle",
        "points": [[5, 6], [20, 12]],
        "flags": {},
        "group_id": None,
    }
    return {"version": "5", "imagePath": "a.png", "imageWidth": 40, "imageHeight": 30, "shapes": [whole | shape]}


def cvat(shape: str, image: str = "") -> str:
    return f'<annotations><image id="0" name="a.png" width="40" height="30" {image}>{shape}</image></annotations>'


def box(more: str = "") -> str:
    return f'<box label="NT" xtl="5" ytl="6" xbr="20" ybr="12" occluded="0" z_order="0" {more}/>'


def voc(more: str = "", size: str = "<width>40</width><height>30</height>") -> str:
    return f"""<annotation><filename>a.png</filename><size>{size}<depth>1</depth></size><object><name>NT</name>{more}
    <bndbox><xmin>6</xmin><ymin>7</ymin><xmax>20</xmax><ymax>12</ymax></bndbox></object></annotation>"""


def via(shape: dict[str, Any], **image: Any) -> dict[str, Any]:
    region = {"shape_attributes": shape, "region_attributes": {"label": "NT"}}
    return {"a.png99": {"filename": "a.png", "size": 99, "regions": [region], "file_attributes": {}} | image}


def label_studio(value: dict[str, Any] | None = None, **region: Any) -> list[dict[str, Any]]:
    whole = {"x": 12.5, "y": 20, "width": 37.5, "height": 20, "rotation": 0, "rectanglelabels": ["NT"]} | (value or {})
    result = {
        "type": "rectanglelabels",
        "original_width": 40,
        "original_height": 30,
        "image_rotation": 0,
        "value": whole,
    }
    annotation = {"was_cancelled": False, "result": [result | region]}
    return [{"id": 1, "data": {"image": "/data/upload/3/0a1b2c3d-a.png"}, "annotations": [annotation]}]


def one(path: Path) -> BoxRecord:
    (record,) = read_boxes(path).records
    return record


RECT = {"name": "rect", "x": 5, "y": 6, "width": 15, "height": 6}
STREAM = io.BytesIO()
Image.new("L", (40, 30)).save(STREAM, "PNG")
PICTURE = base64.b64encode(STREAM.getvalue()).decode()
STATES_40_BY_30 = [
    ("l.json", labelme() | {"imageData": PICTURE, "imageWidth": None, "imageHeight": None}),
    ("l.json", labelme() | {"imageData": PICTURE}),
    (
        "c.json",
        coco({"bbox": None, "segmentation": {"size": [30, 40], "counts": RUNS}}, {"width": None, "height": None}),
    ),
    ("c.json", coco({})),
    ("l.json", labelme()),
    ("c.xml", cvat(box())),
    ("v.xml", voc()),
    ("s.json", label_studio()),
    ("t.csv", "image,x0,y0,x1,y1,image_width,image_height\na.png,5,6,20,12,40,30\n"),
    ("t.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,40,30,NT,5,6,20,12\n"),
]


@pytest.mark.parametrize(("name", "content"), STATES_40_BY_30)
def test_every_format_hands_on_the_size_that_it_states(write: Write, name: str, content: Any) -> None:
    record = one(write(name, content))
    assert (record.picture, record.refusal, record.unknown) == ((40, 30), "", ())


@pytest.mark.parametrize(
    ("name", "content", "refusal"),
    [
        ("c.json", coco({"iscrowd": 1}), "is a crowd"),
        ("c.json", coco({"attributes": {"rotation": 30.0}}), "its box is turned"),
        ("c.json", coco({"bbox": [5, 6, 15, 9], "segmentation": [[5, 6, 20, 6, 20, 12]]}), "are not the same"),
        ("c.json", coco({"bbox": [0, 0, 0, 0], "segmentation": [[5, 6, 20, 6, 20, 12]]}), "are not the same"),
        ("c.json", coco({"bbox": [], "segmentation": [[5, 6, 9, 6, 9, 8], [15, 8, 20, 8, 20, 12]]}), "has 2 parts"),
        ("c.json", coco({"bbox": [5, 6, 20, 12], "area": 90}), r"of 20×12 px and its area 90"),
        ("c.json", coco({"bbox": None}), "neither bbox nor segmentation"),
        ("c.json", coco({"bbox": [], "segmentation": {"size": [15, 20], "counts": [300]}}), "of 20×15 px"),
        ("c.json", coco({"bbox": None, "segmentation": [[5, 6, 20, 6]]}), "is no polygon"),
        ("c.json", coco({"bbox": None, "segmentation": {"size": [30, 40], "counts": [3, 4]}}), "do not fill its size"),
        ("l.json", labelme(shape_type="point", points=[[5.5, 6.5]]), "is a point, which is no box"),
        ("l.json", labelme(shape_type="line"), "is a line, which is no box"),
        ("l.json", labelme(shape_type="linestrip"), "is a linestrip"),
        ("l.json", labelme(shape_type="rotation", points=[[5, 6], [20, 8], [19, 12], [4, 10]]), "is a rotation"),
        ("l.json", labelme(points=[[5, 6], [20, 8], [19, 12], [4, 10]]), "its box is turned"),
        ("l.json", labelme(shape_type="polygon"), "is a polygon of 2 points"),
        ("l.json", labelme(points=[[5, 6]]), "is a rectangle of 1 points"),
        ("c.xml", cvat(box('rotation="45"')), "its box is turned"),
        ("c.xml", cvat('<ellipse label="NT" cx="9" cy="9" rx="4" ry="2" rotation="10"/>'), "its box is turned"),
        ("c.xml", cvat('<points label="NT" points="5,6;20,12"/>'), "is a points, which is no box"),
        ("c.xml", cvat('<polyline label="NT" points="5,6;20,12"/>'), "is a polyline, which is no box"),
        ("c.xml", cvat('<skeleton label="NT"><points label="1" points="5,6"/></skeleton>'), "is a skeleton"),
        ("c.xml", cvat('<cuboid label="NT" xtl1="5"/>'), "is a cuboid"),
        ("c.xml", cvat('<polygon label="NT" points="5,6;20,12"/>'), "fewer than three points"),
        ("v.xml", voc().replace("bndbox", "robndbox"), "is turned, or an outline alone"),
        ("s.json", label_studio({"rotation": 10}), r"turned \(rotation\)"),
        ("s.json", label_studio(image_rotation=90), r"turned \(image_rotation\)"),
        ("s.json", label_studio(type="keypointlabels"), "is of kind keypointlabels"),
        ("s.json", label_studio(type="brushlabels"), "is of kind brushlabels"),
        ("p.json", via({"name": "point", "cx": 5, "cy": 6}), "is a point, which is no box"),
        ("p.json", via({"name": "polyline", "all_points_x": [5, 6], "all_points_y": [5, 6]}), "is a polyline"),
        ("p.json", via({"name": "ellipse", "cx": 9, "cy": 9, "rx": 4, "ry": 2, "theta": 0.4}), "its ellipse is turned"),
        ("t.csv", "image,x0,y0,x1,y1,rotation\na.png,5,6,20,12,30\n", "its column rotation is '30'"),
        ("y.txt", "0 0.5 0.5 0.2 0.2 0.6 0.6 0.2 0.1", "has 9 fields"),
        ("y.txt", "0 20 15 6 4", "are no shares of the picture"),
    ],
)  # fmt: skip
def test_what_is_no_upright_box_is_refused_by_its_name(write: Write, name: str, content: Any, refusal: str) -> None:
    assert re.search(refusal, one(write(name, content)).refusal)


@pytest.mark.parametrize(
    ("name", "content", "unknown"),
    [
        ("c.json", coco({"theta": 0.3}), "theta"),
        ("c.json", coco({"bbox_mode": "XYXY"}), "bbox_mode"),
        ("c.json", coco({}, {"video_id": 7}), "video_id"),
        ("c.json", coco({"deleted": True}), "deleted"),
        ("l.json", labelme(direction=1.57), "direction"),
        ("l.json", labelme() | {"scale": 2}, "scale"),
        ("c.xml", cvat(box('skew="3"')), "skew"),
        ("c.xml", cvat(box(), 'roi="10,10"'), "roi"),
        ("v.xml", voc("<angle>0.4</angle>"), "angle"),
        ("s.json", label_studio(item_index=2), "item_index"),
        ("p.json", via(RECT | {"angle": 3}), "angle"),
    ],
)
def test_what_is_not_understood_is_named(write: Write, name: str, content: Any, unknown: str) -> None:
    assert one(write(name, content)).unknown == (unknown,)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.json", coco({"theta": 0, "note": "", "iscrowd": False, "attributes": {"rotation": 0.0, "occluded": True}})),
        ("c.json", coco({"score": 0.9, "area": 90, "segmentation": []})),
        ("l.json", labelme(description="seen twice", group_id=4)),
        ("c.xml", cvat(box('rotation="0.0" group_id="3"'), 'subset="train" task_id="4"')),
        ("v.xml", voc("<pose>Left</pose><difficult>1</difficult>")),
        ("s.json", label_studio(score=0.3, item_index=0)),
    ],
)
def test_what_moves_no_box_is_neutral(write: Write, name: str, content: Any) -> None:
    record = one(write(name, content))
    assert (record.unknown, record.refusal) == ((), "")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.json", coco({}) | {"images": [IMAGE, IMAGE | {"file_name": "b.png"}]}, "the image 1 is there twice"),
        ("c.json", coco({}) | {"categories": [{"id": 3, "name": "NT"}, {"id": 3, "name": "CRL"}]}, "the category 3"),
        ("c.json", coco({}, {"height": None}), "one of width and height alone"),
        ("l.json", labelme() | {"imageHeight": None}, "one of imageWidth and imageHeight alone"),
        ("l.json", labelme() | {"imageData": PICTURE, "imageWidth": 80}, "holds a picture of"),
        ("l.json", labelme() | {"imageData": "no picture"}, "imageData cannot be read"),
        ("c.xml", "<annotations><group/></annotations>", "has 'group', which is not understood"),
        ("v.xml", voc().replace("<filename>", "<path>/x/b.png</path><filename>"), "expected the same file in both"),
        ("v.xml", voc(size="<width>40</width>"), "height is None"),
        ("s.json", [{"data": {"text": "x"}, "annotations": []}, *label_studio()], "names 0 images"),
        ("y.txt", "0 0.5 0.5 0.2 0.2\nNT 0.5 0.5 0.2 0.2", "y.txt:2: expected a class's number"),
        ("t.csv", "image,x1,y1,x2,y2,x3,y3,x4,y4\na.png,5,6,20,6,20,12,5,12\n", "the column x3 says more"),
        ("t.csv", "image,x0,y0,x1,y1,unit\na.png,5,6,20,12,inch\n", "unit is 'inch'"),
    ],
)  # fmt: skip
def test_a_file_that_contradicts_itself_is_refused(write: Write, name: str, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_boxes(write(name, content))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.json", coco({"bbox": [], "segmentation": [[5, 6, 20, 6, 20, 12, 5, 12]]})),
        ("c.json", coco({"bbox": None, "segmentation": {"size": [30, 40], "counts": RUNS}})),
        ("c.json", coco({"bbox": [5, 6, 15, 6], "segmentation": {"size": [30, 40], "counts": RUNS}})),
        ("p.json", via(RECT)),
        ("p.json", {"_via_settings": {}, "_via_img_metadata": via(RECT)}),
        ("p.json", via({"name": "polygon", "all_points_x": [5, 20, 7], "all_points_y": [6, 9, 12]})),
        ("p.json", via({"name": "ellipse", "cx": 12.5, "cy": 9, "rx": 7.5, "ry": 3, "theta": 0})),
        ("t.csv", "image,label,x1,y1,x2,y2\na.png,NT,5,6,20,12\n"),
        ("t.csv", "image,label,x,y,width,height\na.png,NT,5,6,15,6\n"),
        (
            "v.csv",
            "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
            'a.png,99,"{}",1,0,"{""name"":""rect"",""x"":5,""y"":6,""width"":15,""height"":6}","{""label"":""NT""}"\n',
        ),
    ],
)
def test_further_formats_give_the_same_box(write: Write, name: str, content: Any) -> None:
    record = one(write(name, content))
    assert (record.image, record.label, record.box, record.refusal) == ("a.png", "NT", (5, 6, 20, 12), "")


def test_label_studio_counts_in_percent_in_both_of_its_forms(write: Write) -> None:
    region = label_studio()[0]["annotations"][0]["result"][0]
    short = [{"image": "/data/local-files/?d=pat/a.png", "label": [region["value"] | {"original_width": 40}]}]
    for path, image in ((write("s.json", label_studio()), "a.png"), (write("m.json", short), "pat/a.png")):
        record = one(path)
        assert (record.image, record.label, record.unit) == (image, "NT", Unit.PERCENT)
        assert record.box == (12.5, 20, 50, 40)


def test_a_cancelled_annotation_and_a_choice_are_no_boxes(write: Write) -> None:
    tasks = label_studio()
    cancelled = tasks[0]["annotations"][0] | {"was_cancelled": True}
    tasks[0]["annotations"][0]["result"].append({"type": "choices", "value": {"choices": ["good"]}})
    tasks[0]["annotations"].append(cancelled)
    assert len(read_boxes(write("s.json", tasks)).records) == 1


@pytest.mark.parametrize("of_names", ["classes.txt", "data.yaml", "dataset.yaml"])
def test_yolo_files_are_of_frames_by_their_names_and_classes_have_theirs(
    write: Write, tmp_path: Path, of_names: str
) -> None:
    names = {"classes.txt": "head\nNT\n", "data.yaml": "names: {0: head, 1: NT}\n", "dataset.yaml": "names: [head, NT]"}
    write(f"y/{of_names}", names[of_names])
    write("y/labels/train/a.txt", "1 0.5 0.5 0.25 0.2\n0 0.5 0.5 1 1\n")
    write("y/labels/train/b.txt", "")
    boxes = read_boxes(tmp_path / "y")
    assert [(r.image, r.label, r.unit) for r in boxes.records] == [
        ("labels/train/a", "NT", Unit.SHARES),
        ("labels/train/a", "head", Unit.SHARES),
    ]
    assert boxes.records[0].box == pytest.approx((0.375, 0.4, 0.625, 0.6))
    assert boxes.pictures == ["labels/train/a", "labels/train/b"]


def test_boxes_of_two_kinds_in_a_folder_are_refused(write: Write, tmp_path: Path) -> None:
    write("both/a.json", labelme())
    write("both/a.xml", voc())
    with pytest.raises(DataError, match=r"several kinds \(\.json, \.xml\)"):
        read_boxes(tmp_path / "both")


def test_a_folder_of_tables_is_read_as_one(write: Write, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(f"tables/{name}.csv", f"image,x0,y0,x1,y1\n{name}.png,5,6,20,12\n")
    assert [record.image for record in read_boxes(tmp_path / "tables").records] == ["a.png", "b.png"]


def test_the_tracks_of_a_projects_tasks_are_of_their_own_videos(write: Write) -> None:
    tasks = "".join(
        f"<task><id>{n}</id><source>v{n}.dcm</source><original_size><width>40</width><height>30</height>"
        "</original_size></task>"
        for n in (7, 8)
    )
    tracks = "".join(f'<track id="{n}" label="NT" task_id="{n}"><box frame="2" outside="0" keyframe="1" xtl="5" '
                     'ytl="6" xbr="20" ybr="12"/></track>' for n in (7, 8))  # fmt: skip
    meta = f"<meta><project><tasks>{tasks}</tasks></project></meta>"
    records = read_boxes(write("p.xml", f"<annotations>{meta}{tracks}</annotations>")).records
    assert [(r.image, r.frame, r.picture) for r in records] == [("v7.dcm", 3, (40, 30)), ("v8.dcm", 3, (40, 30))]
    untold = tracks.replace('task_id="8"', "")
    with pytest.raises(DataError, match="is of 2 videos, and nothing says which"):
        read_boxes(write("q.xml", f"<annotations>{meta}{untold}</annotations>"))


def test_two_labelme_files_of_equal_names_are_of_frames_in_their_own_folders(write: Write, tmp_path: Path) -> None:
    for patient in ("patA", "patB"):
        write(f"ann/{patient}/a.json", labelme())
    assert read_boxes(tmp_path / "ann").pictures == ["patA/a.png", "patB/a.png"]


@pytest.mark.parametrize("stated", ["../frames/a.png", "./a.png", r"..\\images\\a.png", "images/a.png"])
def test_a_name_from_the_folder_of_its_file_is_looked_for_from_there(write: Write, tmp_path: Path, stated: str) -> None:
    for patient in ("patA", "patB"):
        write(f"ann/{patient}/json/a.json", labelme() | {"imagePath": stated})
    first, second = read_boxes(tmp_path / "ann").pictures
    assert (first.split("/")[0], second.split("/")[0]) == ("patA", "patB")


def compress(lengths: list[int]) -> str:
    """As COCO's own tools write runs."""
    text = ""
    for place, length in enumerate(lengths):
        value = length - lengths[place - 2] if place > 2 else length
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(bits + (32 if more else 0) + 48)
    return text


def test_compressed_runs_are_unpacked() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        lengths = [int(length) for length in rng.integers(0, 5000, rng.integers(1, 40))]
        assert _compressed(compress(lengths)) == lengths
