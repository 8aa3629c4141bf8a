from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from roiae.data import pixels
from roiae.data.frames import read_frame, square_frame
from roiae.errors import Fault, FrameError

GREY: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)


@pytest.mark.parametrize("name", ["frame.png", "frame.tif", "frame.tiff", "frame.bmp"])
def test_greyscale_is_read_as_stored(tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY).save(tmp_path / name)
    stored = read_frame(tmp_path / name).pixels
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(stored, GREY)


def test_jpeg_is_read_nearly_as_stored(tmp_path: Path) -> None:
    smooth = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1))
    Image.fromarray(smooth).save(tmp_path / "frame.jpg", quality=95)
    np.testing.assert_allclose(read_frame(tmp_path / "frame.jpg").pixels.astype(int), smooth, atol=4)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_kept_in_colour_stays_the_same_grey(tmp_path: Path, mode: str) -> None:
    Image.fromarray(GREY).convert(mode).save(tmp_path / "frame.png")
    np.testing.assert_array_equal(read_frame(tmp_path / "frame.png").pixels, GREY)


def test_colour_becomes_luma(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (255, 0, 0)).save(tmp_path / "red.png")
    assert (read_frame(tmp_path / "red.png").pixels == round(0.299 * 255)).all()


@pytest.mark.parametrize("name", ["frame.png", "frame.tif"])
def test_sixteen_bits_are_scaled_from_their_full_range(tmp_path: Path, name: str) -> None:
    stored = np.random.default_rng(0).integers(0, 2**16, (30, 40), dtype=np.uint16)
    Image.fromarray(stored).save(tmp_path / name)
    np.testing.assert_array_equal(read_frame(tmp_path / name).pixels, np.round(stored / 65535 * 255))


def test_twelve_bits_in_sixteen_are_refused_rather_than_read_as_black(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.uint16) * 16).save(tmp_path / "twelve.png")
    with pytest.raises(FrameError, match=r"twelve\.png: 16-bit pixels of which the brightest is 4080 of 65535"):
        read_frame(tmp_path / "twelve.png")


def test_sixteen_bits_with_white_as_zero_are_refused(tmp_path: Path) -> None:
    tags = ImageFileDirectory_v2()
    tags[262] = 0
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "inverse.tif", tiffinfo=tags)
    with pytest.raises(FrameError, match=r"inverse\.tif: .*0 as black"):
        read_frame(tmp_path / "inverse.tif")


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(FrameError, match=r"float\.tif: pixel type 'F' has no known scale"):
        read_frame(tmp_path / "float.tif")


@pytest.mark.parametrize("name", ["turned.png", "turned.jpg", "turned.tif"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_tag_that_turns_the_picture_is_refused_in_every_format(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GREY).save(tmp_path / name, exif=exif)
    with pytest.raises(FrameError, match=rf"{name}: has an orientation tag \({orientation}\)") as refusal:
        read_frame(tmp_path / name)
    assert refusal.value.fault is Fault.ORIENTATION


@pytest.mark.parametrize("name", ["upright.png", "upright.tif"])
def test_a_tag_that_turns_nothing_is_neutral(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    Image.fromarray(GREY).save(tmp_path / name, exif=exif)
    np.testing.assert_array_equal(read_frame(tmp_path / name).pixels, GREY)


def test_transparent_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.stack([GREY, GREY // 2], axis=-1), "LA").save(tmp_path / "glass.png")
    with pytest.raises(FrameError, match=r"glass\.png: is transparent in places"):
        read_frame(tmp_path / "glass.png")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match=r"absent\.png: no such file"):
        read_frame(tmp_path / "absent.png")


@pytest.mark.parametrize("name", ["frame.png", "frame.tif", "frame.jpg"])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for length in range(0, len(whole) - 12, 53):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(FrameError, match=rf"{name}: cannot be read as an image"):
            read_frame(tmp_path / name)


def test_a_flipped_bit_never_passes_unnoticed(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "frame.png")
    whole = (tmp_path / "frame.png").read_bytes()
    for place in range(0, len(whole), 13):
        (tmp_path / "frame.png").write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            np.testing.assert_array_equal(read_frame(tmp_path / "frame.png").pixels, GREY)
        except FrameError as error:
            assert "frame.png" in str(error)


def test_another_format_is_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "frame.gif")
    with pytest.raises(FrameError, match=r"frame\.gif: .*Expected a whole PNG, JPEG, TIFF, BMP or DICOM file"):
        read_frame(tmp_path / "frame.gif")


def test_a_file_of_several_frames_needs_to_be_told_which(tmp_path: Path) -> None:
    picture = Image.fromarray(GREY)
    picture.save(tmp_path / "loop.tif", save_all=True, append_images=[Image.fromarray(255 - GREY), picture])
    with pytest.raises(FrameError, match=r"loop\.tif: holds 3 frames\. Say which in the manifest's column 'frame'"):
        read_frame(tmp_path / "loop.tif")
    with pytest.raises(FrameError, match=r"loop\.tif: holds 3 frames; frame 4 was asked for"):
        read_frame(tmp_path / "loop.tif", 4)
    np.testing.assert_array_equal(read_frame(tmp_path / "loop.tif", 2).pixels, 255 - GREY)


@pytest.mark.parametrize("limit", ["ours", "Pillow's"])
def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    Image.fromarray(GREY).save(tmp_path / "bomb.png")
    if limit == "ours":
        monkeypatch.setattr(pixels, "MAX_PIXELS", 1000)
    else:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(FrameError, match=r"bomb\.png: refused as a decompression bomb"):
        read_frame(tmp_path / "bomb.png")


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
    square = square_frame(stripes, 16)
    assert square.shape == (16, 16)
    np.testing.assert_allclose(square, 127.5, atol=12)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", ["grey", "colour", "colour by plane", "white is zero"])
@pytest.mark.parametrize("bits", [8, 12, 14, 16])
def test_tiff_of_another_writer_is_read_as_another_reader_reads_it_or_refused(
    tmp_path: Path, bits: int, kind: str, compression: str | None
) -> None:
    tifffile = pytest.importorskip("tifffile")
    stored = (GREY.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint8 if bits == 8 else np.uint16)
    options: dict[str, object] = {"photometric": "minisblack", "compression": compression}
    if kind == "white is zero":
        stored = (2 ** (stored.itemsize * 8) - 1 - stored).astype(stored.dtype)
        options["photometric"] = "miniswhite"
    elif kind != "grey":
        by_plane = kind == "colour by plane"
        stored = np.stack([stored] * 3, axis=0 if by_plane else -1)
        options |= {"photometric": "rgb", "planarconfig": "separate" if by_plane else "contig"}
    tifffile.imwrite(tmp_path / "f.tif", stored, **options)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "f.tif"), stored)
    try:
        frame = read_frame(tmp_path / "f.tif").pixels
    except FrameError:
        assert bits > 8
    else:
        np.testing.assert_allclose(frame, GREY.astype(int), atol=1)
