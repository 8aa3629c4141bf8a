import io
import logging
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space
from pydicom.pixels.utils import pixel_array

from roiae.data import dicom
from roiae.data.frames import read_frame
from roiae.data.phantom import SCANNERS, draw_phantom
from roiae.errors import Fault, FrameError
from tests.files import region

GREY: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)
WriteDicom = Callable[..., Path]


def bundled(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path)


def luma(colour: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(np.asarray(colour, dtype=np.uint8)).convert("L"))


@pytest.mark.parametrize("name", ["examples_rgb_color.dcm", "ExplVR_BigEnd.dcm", "SC_rgb_rle.dcm"])
def test_colour_becomes_luma(name: str) -> None:
    np.testing.assert_array_equal(read_frame(bundled(name)).pixels, luma(pixel_array(bundled(name))))


def test_jpeg2000_is_what_pillow_decodes() -> None:
    data = pydicom.dcmread(bundled("examples_jpeg2k.dcm"))
    (codestream,) = generate_frames(data.PixelData, number_of_frames=1)
    expected = np.asarray(Image.open(io.BytesIO(codestream)).convert("L"))
    np.testing.assert_array_equal(read_frame(bundled("examples_jpeg2k.dcm")).pixels, expected)


def test_uncompressed_422_is_what_pydicom_converts() -> None:
    name = bundled("SC_ybr_full_422_uncompressed.dcm")
    rgb = convert_color_space(pixel_array(name, raw=True), "YBR_FULL", "RGB")
    np.testing.assert_array_equal(read_frame(name).pixels, luma(rgb))


def test_a_frame_of_a_jpeg_cine_is_what_pillow_decodes_and_its_regions_of_another_size_are_not_used() -> None:
    name = bundled("examples_ybr_color.dcm")
    data = pydicom.dcmread(name)
    codestream = list(generate_frames(data.PixelData, number_of_frames=30))[6]
    place = data.SequenceOfUltrasoundRegions[0]
    whole = np.asarray(Image.open(io.BytesIO(codestream)).convert("L")).astype(int)
    frame = read_frame(name, 7)
    np.testing.assert_allclose(frame.pixels, whole, atol=2)  # two ways from YCbCr to grey round differently
    assert place.RegionLocationMaxX1 > data.Columns  # the example was made smaller, its region not
    assert (frame.origin, frame.mm_per_px) == ((0, 0), None)


def test_a_palette_is_looked_up_and_regions_that_reach_beyond_the_picture_are_not_used() -> None:
    data = pydicom.dcmread(bundled("examples_palette.dcm"))
    red, green, blue = (
        np.frombuffer(data[f"{name}PaletteColorLookupTableData"].value, dtype="<u2")[data.pixel_array] / 257
        for name in ("Red", "Green", "Blue")
    )
    frame = read_frame(bundled("examples_palette.dcm"))
    np.testing.assert_allclose(frame.pixels, 0.299 * red + 0.587 * green + 0.114 * blue, atol=1)
    tissue, _ = data.SequenceOfUltrasoundRegions
    assert tissue.RegionLocationMaxX1 >= data.Columns  # the example was cut, its region not
    assert (frame.origin, frame.mm_per_px) == ((0, 0), None)


@pytest.mark.parametrize(
    ("compressed", "plain"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
        ("SC_rgb_small_odd_big_endian.dcm", "SC_rgb_small_odd.dcm"),
    ],
)
def test_every_lossless_encoding_gives_the_same_frame(compressed: str, plain: str) -> None:
    np.testing.assert_array_equal(read_frame(bundled(compressed)).pixels, read_frame(bundled(plain)).pixels)


def test_phantoms_written_as_a_cine_come_back_frame_by_frame(write_dicom: WriteDicom) -> None:
    phantoms = np.stack([draw_phantom(SCANNERS[0], seed, side=96).frame for seed in range(3)])
    path = write_dicom(phantoms, regions=[region(8, 4, 87, 90)])
    for number in (1, 2, 3):
        frame = read_frame(path, number)
        np.testing.assert_array_equal(frame.pixels, phantoms[number - 1, 4:91, 8:88])
        assert frame.origin == (8, 4)
        assert frame.mm_per_px == pytest.approx((0.2, 0.1))
    with pytest.raises(FrameError, match=r"holds 3 frames\. Say which"):
        read_frame(path)
    with pytest.raises(FrameError, match=r"holds 3 frames; frame 4"):
        read_frame(path, 4)


def test_a_frame_without_a_region_is_whole_and_has_no_pixel_size(write_dicom: WriteDicom) -> None:
    frame = read_frame(write_dicom(GREY))
    np.testing.assert_array_equal(frame.pixels, GREY)
    assert (frame.origin, frame.mm_per_px) == ((0, 0), None)


def test_a_doppler_region_does_not_cut_the_frame(write_dicom: WriteDicom) -> None:
    frame = read_frame(write_dicom(GREY, regions=[region(0, 20, 39, 29, spatial=3), region(5, 5, 14, 9)]))
    np.testing.assert_array_equal(frame.pixels, GREY[5:10, 5:15])


def test_a_region_in_other_units_gives_no_pixel_size(write_dicom: WriteDicom) -> None:
    assert read_frame(write_dicom(GREY, regions=[region(0, 0, 39, 29, units=4)])).mm_per_px is None


def test_a_region_that_ends_before_it_starts_is_refused(write_dicom: WriteDicom) -> None:
    with pytest.raises(FrameError, match=r"its ultrasound region .* lies outside the picture \(40×30 px\)"):
        read_frame(write_dicom(GREY, regions=[region(20, 5, 10, 9)]))


@pytest.mark.parametrize("corners", [(50, 5, 60, 9), (0, 30, 39, 40), (0, 0, 79, 59), (0, 0, 39, 31), (0, 0, 41, 29)])
def test_regions_of_another_picture_measure_and_cut_nothing(
    write_dicom: WriteDicom, corners: tuple[int, int, int, int]
) -> None:
    frame = read_frame(write_dicom(GREY, regions=[region(2, 2, 20, 20), region(*corners)]))
    assert (frame.pixels.shape, frame.origin, frame.mm_per_px) == ((30, 40), (0, 0), None)


def test_a_region_whose_end_is_written_for_its_last_pixel_is_kept(write_dicom: WriteDicom) -> None:
    frame = read_frame(write_dicom(GREY, regions=[region(0, 0, 40, 30)]))
    assert frame.pixels.shape == (30, 40)
    assert frame.mm_per_px == pytest.approx((0.2, 0.1))


def test_the_smallest_region_that_holds_the_box_measures_it(write_dicom: WriteDicom) -> None:
    path = write_dicom(GREY, regions=[region(0, 0, 39, 29), region(20, 10, 39, 29, delta=0.01)])
    frame = read_frame(path)
    assert frame.mm_per_px == pytest.approx((0.2, 0.1))
    assert frame.holding((22, 12, 30, 20)).mm_per_px == pytest.approx((0.1, 0.05))
    assert frame.holding((2, 12, 30, 20)).mm_per_px == pytest.approx((0.2, 0.1))


def test_a_box_in_the_smaller_of_two_pictures_is_cut_to_that_one(write_dicom: WriteDicom) -> None:
    frame = read_frame(write_dicom(GREY, regions=[region(0, 0, 24, 29), region(26, 0, 39, 29)]))
    assert frame.holding((28, 3, 35, 9)).origin == (26, 0)


def test_a_box_in_a_spectrum_has_no_size(write_dicom: WriteDicom) -> None:
    frame = read_frame(write_dicom(GREY, regions=[region(0, 0, 39, 29), region(20, 10, 39, 29, spatial=3)]))
    assert frame.holding((22, 12, 30, 20)).mm_per_px is None


def test_a_falling_delta_is_a_direction_and_a_region_as_wide_as_a_room_measures_nothing(
    write_dicom: WriteDicom,
) -> None:
    assert read_frame(write_dicom(GREY, regions=[region(0, 0, 39, 29, delta=-0.02)])).mm_per_px == pytest.approx(
        (0.2, 0.1)
    )
    assert read_frame(write_dicom(GREY, regions=[region(0, 0, 39, 29, delta=2.0)])).mm_per_px is None


def test_monochrome1_is_inverted(write_dicom: WriteDicom) -> None:
    path = write_dicom(GREY, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_frame(path).pixels, 255 - GREY)


def test_twelve_bits_are_scaled_from_their_range(write_dicom: WriteDicom) -> None:
    stored = np.random.default_rng(0).integers(0, 4096, (30, 40), dtype=np.uint16)
    expected = np.round(stored / 4095 * 255)
    np.testing.assert_array_equal(read_frame(write_dicom(stored, BitsStored=12, HighBit=11)).pixels, expected)


def test_eight_bits_in_a_16_bit_object_are_refused_rather_than_read_as_black(write_dicom: WriteDicom) -> None:
    with pytest.raises(FrameError, match=r"16-bit pixels of which the brightest is 255 of 65535") as refusal:
        read_frame(write_dicom(GREY.astype(np.uint16)))
    assert refusal.value.fault is Fault.BIT_DEPTH


def test_rescale_and_window_are_applied(write_dicom: WriteDicom) -> None:
    stored = np.random.default_rng(0).integers(0, 4096, (30, 40), dtype=np.uint16)
    window = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 3000, "WindowWidth": 2001}
    path = write_dicom(stored, BitsStored=12, HighBit=11, **window)
    shown = (stored * 2.0 - 100 - 2999.5) / 2000 + 0.5  # PS3.3 C.11.2.1.2.1
    np.testing.assert_allclose(read_frame(path).pixels, np.round(np.clip(shown, 0, 1) * 255), atol=1)


def test_a_falling_rescale_is_refused(write_dicom: WriteDicom) -> None:
    with pytest.raises(FrameError, match="rescale slope is -1; expected one above 0"):
        read_frame(write_dicom(GREY, RescaleSlope=-1, RescaleIntercept=0))


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        (
            "MR_small_jpeg_ls_lossless.dcm",
            r"JPEG-LS.* no decoder is installed\. Install it: pip install 'roiae\[dicom\]'",
        ),
        ("SC_rgb_jpeg_gdcm.dcm", r"JPEG Lossless.* Convert it to uncompressed, RLE or JPEG 2000"),
        ("JPGExtended.dcm", r"JPEG Extended.* Convert it"),
    ],
)
def test_a_missing_decoder_is_a_refusal_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, name: str, remedy: str
) -> None:

    class Bare:
        is_available = False

    monkeypatch.setattr(
        dicom, "get_decoder", lambda of: Bare() if of in uid.JPEGLSTransferSyntaxes else get_decoder(of)
    )
    with pytest.raises(FrameError, match=remedy) as refusal:
        read_frame(bundled(name))
    assert refusal.value.fault is Fault.NO_DECODER


def test_an_object_without_an_image_is_refused() -> None:
    with pytest.raises(FrameError, match=r"is DICOM without an image \(Basic Text SR Storage\)"):
        read_frame(bundled("reportsi.dcm"))


def test_an_unknown_colour_space_is_refused(write_dicom: WriteDicom) -> None:
    with pytest.raises(FrameError, match=r"photometric interpretation 'HSV' is not known"):
        read_frame(write_dicom(np.zeros((3, 4, 3), np.uint8), PhotometricInterpretation="HSV"))


def test_truncated_pixels_are_refused() -> None:
    with pytest.raises(FrameError, match=r"MR_truncated\.dcm: cannot be read as DICOM"):
        read_frame(bundled("MR_truncated.dcm"))


def test_a_deflated_object_is_not_inflated() -> None:
    with pytest.raises(FrameError, match=r"is deflated as a whole"):
        read_frame(bundled("image_dfl.dcm"))


def test_a_header_that_claims_a_huge_picture_is_refused_before_it_is_decoded(write_dicom: WriteDicom) -> None:
    path = write_dicom(GREY, Rows=60_000, Columns=60_000)
    with pytest.raises(FrameError, match=r"decompression bomb \(60000×60000 px\)"):
        read_frame(path)


@pytest.mark.parametrize("name", ["examples_jpeg2k.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_dcmtk.dcm"])
def test_a_compressed_frame_of_another_size_than_the_header_is_not_decoded(tmp_path: Path, name: str) -> None:
    data = pydicom.dcmread(bundled(name))
    data.Rows = data.Rows - 1
    data.save_as(tmp_path / "bomb.dcm")
    with pytest.raises(FrameError, match=r"holds a compressed frame of .* where its header says"):
        read_frame(tmp_path / "bomb.dcm")


def test_one_frame_of_a_long_cine_needs_the_memory_of_one(write_dicom: WriteDicom) -> None:
    path = write_dicom(np.zeros((200, 300, 300), np.uint8))
    read_frame(path, 1)
    tracemalloc.start()
    try:
        read_frame(path, 200)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 * 300 * 300 / 4


def test_header_values_reach_no_log(write_dicom: WriteDicom, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", logged.append)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    path = write_dicom(GREY)
    damaged = path.read_bytes().replace(b"19800101", b"Mueller!")
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    dicom.read_header(path).PatientBirthDate  # noqa: B018 - pydicom looks at a value when it is asked for
    logging.getLogger("pydicom.pixels.decoders.base").warning("Mueller!")
    logging.getLogger("another").warning("seen")
    assert [record.getMessage() for record in logged] == ["seen"]
