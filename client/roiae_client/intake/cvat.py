"""Boxes of CVAT's XML: shapes of images, and tracks of cines."""

from pathlib import Path
from xml.etree.ElementTree import Element

from roiae.errors import DataError
from roiae_client.intake.parsing import bounds, number_of, size_of
from roiae_client.intake.records import NO_BOX, Boxes, BoxRecord, Corners, Unit, unknown_of

_ROOT = ("version", "meta", "image", "track")
_IMAGE = ("id", "name", "width", "height", "subset", "task_id", "job_id")
_TRACK = ("id", "label", "source", "task_id", "job_id", "subset", "group_id")
_ABOUT = ("label", "source", "occluded", "z_order", "group_id", "frame", "keyframe", "outside", "rotation", "id")
_PLACES = {
    "box": ("xtl", "ytl", "xbr", "ybr"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "mask": ("left", "top", "width", "height", "rle"),
    "polygon": ("points",),
}
_NO_SHAPES = ("tag",)  # says something of the whole frame


def read_cvat(path: Path, root: Element) -> Boxes:
    """The shapes of one CVAT file: of a task, or of a project's several.

    Raises:
        DataError: something in it is impossible, or cannot be told apart.
    """
    odd = sorted({child.tag for child in root} - set(_ROOT))
    if odd:
        raise DataError(f"{path}: has {odd[0]!r}, which is not understood. Expected CVAT's {', '.join(_ROOT)}.")
    if any((item.text or "").strip() for item in root.iter("frame_filter")):
        raise DataError(f"{path}: its task takes some frames of a video alone (frame_filter). Export all of them.")
    boxes = Boxes()
    for image in root.findall("image"):
        _read_image(path, image, boxes)
    videos = _videos(root)
    for number, track in enumerate(root.findall("track"), start=1):
        _read_track(f"{path}: track {number}", track, videos, boxes)
    boxes.pictures += {name for name, _ in videos.values() if root.find("track") is not None}
    return boxes


def _read_image(path: Path, image: Element, boxes: Boxes) -> None:
    name, number = image.get("name", ""), image.get("id")
    where = f"{path}: image {number}"
    picture = None
    if image.get("width") is not None or image.get("height") is not None:
        picture = (
            round(number_of(where, "width", image.get("width"))),
            round(number_of(where, "height", image.get("height"))),
        )
    boxes.pictures.append(name)
    outer = unknown_of(image.attrib, _IMAGE)
    for at, shape in enumerate(image, start=1):
        if shape.tag not in _NO_SHAPES:
            boxes.records.append(
                _record(f"{where}, shape {at}", shape, name, shape.get("label", ""), None, picture, outer)
            )


def _read_track(
    where: str, track: Element, videos: dict[str, tuple[str, tuple[int, int] | None]], boxes: Boxes
) -> None:
    """Boxes of a cine; CVAT counts its frames from 0."""
    task = track.get("task_id", "")
    if len(videos) > 1 and task not in videos:
        raise DataError(
            f"{where}: the file is of {len(videos)} videos, and nothing says which this is of. Export each."
        )
    image, picture = videos.get(task) or next(iter(videos.values()), ("", None))
    outer = unknown_of(track.attrib, _TRACK)
    for shape in track:
        if shape.get("outside") == "1" or shape.tag in _NO_SHAPES:
            continue
        frame = number_of(where, "frame", shape.get("frame"))
        if frame < 0 or frame != int(frame):
            raise DataError(f"{where}: frame is {frame:g}; expected a whole number from 0.")
        boxes.records.append(_record(where, shape, image, track.get("label", ""), int(frame) + 1, picture, outer))


def _videos(root: Element) -> dict[str, tuple[str, tuple[int, int] | None]]:
    """A task's number → its video, and the size of its frames."""
    found: dict[str, tuple[str, tuple[int, int] | None]] = {}
    for task in [*root.iter("task"), *root.iter("job")]:
        source = (task.findtext("source") or root.findtext("meta/source") or "").strip()
        number = (task.findtext("id") or str(len(found))).strip()
        found[number] = (source, size_of("its task", task.find("original_size")))
    if not found:
        sources = [(item.text or "").strip() for item in root.iter("source")]
        found = {
            str(at): (source, size_of("its meta", root.find("meta/original_size"))) for at, source in enumerate(sources)
        }
    return found


def _record(
    where: str,
    shape: Element,
    image: str,
    label: str,
    frame: int | None,
    picture: tuple[int, int] | None,
    outer: tuple[str, ...],
) -> BoxRecord:
    box, refusal = NO_BOX, ""
    if shape.tag not in _PLACES:
        refusal = f"is a {shape.tag}, which is no box. Expected one of {', '.join(_PLACES)}."
    elif number_of(where, "rotation", shape.get("rotation", "0")) != 0:
        refusal = f"its box is turned (rotation {shape.get('rotation')}). Expected an upright box."
    else:
        box, refusal = _box(where, shape)
    unknown = (*outer, *unknown_of(shape.attrib, (*_ABOUT, *_PLACES.get(shape.tag, shape.attrib))))
    return BoxRecord(
        where,
        image,
        label,
        box,
        frame=frame,
        picture=picture,
        refusal=refusal,
        unknown=unknown,
        unit=Unit.PIXELS if shape.tag == "mask" else None,
    )


def _box(where: str, shape: Element) -> tuple[Corners, str]:
    """The box round a shape, and why it is none."""
    if shape.tag == "polygon":
        points = [_point(where, text) for text in shape.get("points", "").split(";")]
        return bounds(points), "" if len(points) > 2 else "is a polygon of fewer than three points."
    one, two, three, four = (number_of(where, name, shape.get(name)) for name in _PLACES[shape.tag][:4])
    match shape.tag:
        case "ellipse":
            return (one - three, two - four, one + three, two + four), ""
        case "mask":
            return (one, two, one + three, two + four), ""
        case _:
            return (one, two, three, four), ""


def _point(where: str, text: str) -> tuple[float, float]:
    x, _, y = text.partition(",")
    return number_of(where, "points", x), number_of(where, "points", y)
