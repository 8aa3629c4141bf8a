"""A frame and its box, written here in every format, orientation and depth, come back as they were or are refused."""

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset

from roiae.data.manifest import read_manifest
from roiae.data.pixels import Box
from roiae.errors import DataError
from roiae_client.intake.boxes import Reading
from roiae_client.intake.records import Unit
from roiae_client.intake.site_folder import import_site
from roiae_client.intake.taking import Rules

Grey = NDArray[np.uint8]
WIDTH, HEIGHT = 160, 120


@st.composite
def frames(draw: st.DrawFn) -> Grey:
    """Noise smooth enough for JPEG, from black to white."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    coarse = rng.integers(0, 256, (HEIGHT // 20, WIDTH // 20), dtype=np.uint8)
    coarse[0, 0], coarse[-1, -1] = 0, 255
    return np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Not within the first 100 px alone, where they could be percent."""
    x0, y0 = draw(st.integers(0, 100)), draw(st.integers(0, HEIGHT - 12))
    return x0, y0, draw(st.integers(x0 + 10, WIDTH)), draw(st.integers(y0 + 5, HEIGHT))


def table(box: Box, image: str) -> tuple[str, str]:
    return "b.csv", f"image,x0,y0,x1,y1\n{image},{','.join(map(str, box))}\n"


def sized_table(box: Box, image: str) -> tuple[str, str]:
    x0, y0, x1, y1 = box
    return "b.csv", f"image;x;y;width;height\n{image};{x0},0;{y0},0;{x1 - x0},0;{y1 - y0},0\n"


def shares(box: Box, image: str) -> tuple[str, str]:
    numbers = [f"{side / whole:.4f}" for side, whole in zip(box, (WIDTH, HEIGHT) * 2, strict=True)]
    return "b.csv", f"image,xmin,ymin,xmax,ymax\n{image},{','.join(numbers)}\n"


def of_coco(annotation: dict[str, object], image: str) -> tuple[str, str]:
    images = [{"id": 1, "file_name": image, "width": WIDTH, "height": HEIGHT}]
    annotation |= {"id": 1, "image_id": 1, "category_id": 1}
    content = {"images": images, "categories": [{"id": 1, "name": "NT"}], "annotations": [annotation]}
    return "b.json", json.dumps(content)


def coco(box: Box, image: str) -> tuple[str, str]:
    x0, y0, x1, y1 = box
    return of_coco({"bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}, image)


def coco_outline(box: Box, image: str) -> tuple[str, str]:
    x0, y0, x1, y1 = box
    return of_coco({"segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}, image)


def labelme(box: Box, image: str) -> tuple[str, str]:
    x0, y0, x1, y1 = box
    shape = {"label": "NT", "shape_type": "rectangle", "points": [[x1, y0], [x0, y1]]}
    whole = {"imagePath": image, "imageWidth": WIDTH, "imageHeight": HEIGHT, "shapes": [shape]}
    return "b.json", json.dumps(whole)


def label_studio(box: Box, image: str) -> tuple[str, str]:
    x0, y0, x1, y1 = (side * 100 / whole for side, whole in zip(box, (WIDTH, HEIGHT) * 2, strict=True))
    value = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0, "rectanglelabels": ["NT"]}
    region = {"type": "rectanglelabels", "value": value, "original_width": WIDTH, "original_height": HEIGHT}
    return "b.json", json.dumps([{"data": {"image": f"/x/{image}"}, "annotations": [{"result": [region]}]}])


def via(box: Box, image: str) -> tuple[str, str]:
    x0, y0, x1, y1 = box
    shape = {"name": "rect", "x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
    regions = [{"shape_attributes": shape, "region_attributes": {"label": "NT"}}]
    return "b.json", json.dumps({image: {"filename": image, "size": -1, "regions": regions}})


def voc(box: Box, image: str) -> tuple[str, str]:
    x0, y0, x1, y1 = box
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    corners = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
    thing = f"<object><name>NT</name><bndbox>{corners}</bndbox></object>"
    return "b.xml", f"<annotation><filename>{image}</filename>{size}{thing}</annotation>"


def cvat(box: Box, image: str) -> tuple[str, str]:
    x0, y0, x1, y1 = box
    shape = f'<box label="NT" xtl="{x0}.00" ytl="{y0}.00" xbr="{x1}.00" ybr="{y1}.00" rotation="0.0"/>'
    picture = f'<image id="0" name="{image}" width="{WIDTH}" height="{HEIGHT}">{shape}</image>'
    return "b.xml", f"<annotations><version>1.1</version>{picture}</annotations>"


def yolo(box: Box, image: str) -> tuple[str, str]:
    x0, y0, x1, y1 = (side / whole for side, whole in zip(box, (WIDTH, HEIGHT) * 2, strict=True))
    return f"{Path(image).stem}.txt", f"0 {(x0 + x1) / 2:.6f} {(y0 + y1) / 2:.6f} {x1 - x0:.6f} {y1 - y0:.6f}\n"


FORMATS = (table, sized_table, shares, coco, coco_outline, labelme, label_studio, via, voc, cvat, yolo)


def picture(kind: str, **options: object) -> Callable[[Grey, Path], None]:
    def write(frame: Grey, path: Path) -> None:
        Image.fromarray(frame).save(path, kind, **options)

    return write


def colour(frame: Grey, path: Path) -> None:
    Image.fromarray(frame).convert("RGB").save(path, "PNG")


def sixteen_bits(frame: Grey, path: Path) -> None:
    Image.fromarray(frame.astype(np.uint16) * 257).save(path, "PNG")


def dicom(bits: int, *, inverse: bool = False, colours: str = "") -> Callable[[Grey, Path], None]:
    def write(frame: Grey, path: Path) -> None:
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        data.SOPClassUID, data.SOPInstanceUID = uid.UltrasoundImageStorage, uid.generate_uid(entropy_srcs=["x"])
        samples = (255 - frame if inverse else frame).astype(np.float64) * (2**bits - 1) / 255
        stored = np.rint(samples).astype(np.uint8 if bits == 8 else np.uint16)
        data.PhotometricInterpretation = colours or ("MONOCHROME1" if inverse else "MONOCHROME2")
        data.SamplesPerPixel = 3 if colours else 1
        if colours:
            stored = np.repeat(stored[..., None], 3, axis=-1)
            data.PlanarConfiguration = 0
            if colours == "YBR_FULL":
                stored[..., 1:] = 128
        data.Rows, data.Columns = frame.shape
        data.BitsAllocated, data.BitsStored, data.HighBit = stored.itemsize * 8, bits, bits - 1
        data.PixelRepresentation = 0
        data.PixelData = stored.tobytes()
        data.save_as(path, enforce_file_format=True)

    return write


WRITERS = {
    "PNG": picture("PNG"),
    "TIFF": picture("TIFF"),
    "BMP": picture("BMP"),
    "colour": colour,
    "16-bit PNG": sixteen_bits,
    "DICOM": dicom(8),
    "DICOM of 10 bits": dicom(10),
    "DICOM of 12 bits": dicom(12),
    "DICOM of 16 bits": dicom(16),
    "MONOCHROME1": dicom(8, inverse=True),
    "RGB": dicom(8, colours="RGB"),
    "YBR_FULL": dicom(8, colours="YBR_FULL"),
}


def imported(write: Callable[[Grey, Path], None], frame: Grey, file: str, text: str) -> tuple[Grey, Box]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "source").mkdir()
        write(frame, folder / "source" / "f.png")
        (folder / file).write_text(text)
        import_site(folder / "source", folder / file, folder / "site", reading=Reading(), rules=Rules())
        (row,) = read_manifest(folder / "site")
        with Image.open(row.image) as image:
            return np.array(image), row.box


@settings(deadline=None, max_examples=150)
@given(frames(), boxes(), st.sampled_from(FORMATS), st.sampled_from(sorted(WRITERS)))
def test_a_frame_and_its_box_come_back(
    frame: Grey, box: Box, of_format: Callable[[Box, str], tuple[str, str]], kind: str
) -> None:
    file, text = of_format(box, "f.png")
    if of_format is voc and 0 in box[:2]:
        box = (max(box[0], 1), max(box[1], 1), *box[2:])  # a set that starts at 1 is told from one that starts at 0
        file, text = of_format(box, "f.png")
    pixels, found = imported(WRITERS[kind], frame, file, text)
    assert np.abs(np.array(found) - np.array(box)).max() <= 1
    assert np.abs(pixels.astype(int) - frame).max() <= 1


@settings(deadline=None, max_examples=60)
@given(frames(), boxes(), st.sampled_from(FORMATS), st.integers(2, 8), st.sampled_from(["PNG", "JPEG", "TIFF"]))
def test_a_turned_frame_is_refused_whatever_the_boxes_are_written_in(
    frame: Grey, box: Box, of_format: Callable[[Box, str], tuple[str, str]], orientation: int, kind: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    with pytest.raises(DataError, match=rf"has an orientation tag \({orientation}\)"):
        imported(picture(kind, exif=exif), frame, *of_format(box, "f.png"))


@settings(deadline=None, max_examples=60)
@given(frames(), st.sampled_from([9, 10, 11, 12, 13, 14]), st.booleans(), st.integers(0, 10))
def test_fewer_bits_than_the_type_are_never_read_darker(frame: Grey, bits: int, as_dicom: bool, dim: int) -> None:
    def write(pixels: Grey, path: Path) -> None:
        few = (pixels.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
        if as_dicom:
            stream = io.BytesIO()
            dicom(16)(pixels, stream)  # type: ignore[arg-type]
            path.write_bytes(stream.getvalue()[: -few.nbytes] + few.tobytes())
        else:
            Image.fromarray(few).save(path, "PNG" if dim % 2 else "TIFF")

    with pytest.raises(DataError, match="probably fewer bits in a larger type"):
        imported(write, frame, *table((20, 20, 120, 60), "f.png"))


def test_percent_come_back_where_they_are_said() -> None:
    frame = np.tile(np.arange(WIDTH, dtype=np.uint8), (HEIGHT, 1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "source").mkdir()
        Image.fromarray(frame).save(folder / "source" / "f.png")
        (folder / "b.csv").write_text("image,x0,y0,x1,y1\nf.png,12.5,10,62.5,45\n")
        said = {"reading": Reading(unit=Unit.PERCENT), "rules": Rules(unit=Unit.PERCENT)}
        import_site(folder / "source", folder / "b.csv", folder / "site", **said)  # type: ignore[arg-type]
        assert read_manifest(folder / "site")[0].box == (20, 12, 100, 54)
