"""What a header says of its samples is compared with them: right, or refused."""

import io
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
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import convert_color_space

from roiae.data.frames import read_frame
from roiae.data.phantom import SCANNERS, draw_phantom
from roiae.errors import Fault, FrameError

WriteDicom = Callable[..., Path]
GREY: NDArray[np.uint8] = draw_phantom(SCANNERS[0], 1, side=96).frame
RGB = np.repeat(GREY[..., None], 3, axis=-1)
YBR = convert_color_space(RGB, "RGB", "YBR_FULL")
SECONDARY = uid.SecondaryCaptureImageStorage
TWELVE = GREY.astype(np.uint16) * 16 + 15


def by_plane(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same bytes by plane, in the shape of those by pixel."""
    return np.moveaxis(colours, -1, 0).reshape(colours.shape)


def jpeg(
    write_dicom: WriteDicom,
    pixels: NDArray[np.uint8],
    *,
    as_ybr: bool,
    keep_markers: bool = False,
    **headers: object,
) -> Path:
    """A JPEG baseline object without any marker of what its colours are."""
    path = write_dicom(RGB)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95, keep_rgb=not as_ybr, subsampling=0)
    data = pydicom.dcmread(path)
    codestream = stream.getvalue() if keep_markers else without_markers(stream.getvalue())
    data.PixelData = encapsulate([codestream])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    for keyword, value in headers.items():
        setattr(data, keyword, value)
    data.save_as(path)
    return path


def rewritten(path: Path, **headers: object) -> Path:
    data = pydicom.dcmread(path)
    for keyword, value in headers.items():
        setattr(data, keyword, value)
    data.save_as(path)
    return path


def without_markers(jpeg: bytes) -> bytes:
    """The stream without APP0 (JFIF) and APP14 (Adobe)."""
    place, kept = 2, jpeg[:2]
    while jpeg[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if jpeg[place + 1] not in (0xE0, 0xEE):
            kept += jpeg[place:end]
        place = end
    return kept + jpeg[place:]


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (RGB, {"PhotometricInterpretation": "RGB"}),
        (YBR, {"PhotometricInterpretation": "YBR_FULL"}),
        (by_plane(RGB), {"PhotometricInterpretation": "RGB", "PlanarConfiguration": 1}),
        (by_plane(YBR), {"PhotometricInterpretation": "YBR_FULL", "PlanarConfiguration": 1}),
    ],
)  # fmt: skip
def test_colours_that_are_what_they_say_are_read(
    write_dicom: WriteDicom, samples: NDArray[np.uint8], says: dict[str, Any]
) -> None:
    np.testing.assert_allclose(read_frame(write_dicom(samples, **says)).pixels, GREY.astype(int), atol=1)


@pytest.mark.parametrize(
    ("samples", "says", "refusal"),
    [
        (RGB, {"PhotometricInterpretation": "YBR_FULL"}, "says YBR_FULL, and its samples are RGB"),
        (YBR, {"PhotometricInterpretation": "RGB"}, "says RGB, and its samples are YCbCr"),
        (RGB, {"PhotometricInterpretation": "YBR_FULL_422"}, "its header's numbers give"),
        (RGB, {"PlanarConfiguration": 1}, "says planar configuration 1, and its colours are stored the other way"),
        (by_plane(RGB), {}, "says planar configuration 0, and its colours"),
        (RGB, {"PhotometricInterpretation": "MONOCHROME2"}, "3 samples a pixel and says MONOCHROME2; expected 1"),
        (RGB, {"PhotometricInterpretation": "PALETTE COLOR"}, "3 samples a pixel and says PALETTE COLOR"),
        (GREY, {"PhotometricInterpretation": "RGB"}, "1 samples a pixel and says RGB; expected 3"),
        (GREY, {"Rows": 95}, "has 9216 bytes of pixels where its header's numbers give 9120"),
        (GREY, {"NumberOfFrames": 2}, "holds 2 frames"),
        (GREY, {"BitsAllocated": 16}, "its header's numbers give 18432"),
        (GREY, {"PresentationLUTShape": "INVERSE"}, "MONOCHROME2 with presentation LUT shape INVERSE"),
        (GREY, {"PresentationLUTShape": "LIN OD"}, "with presentation LUT shape LIN OD"),
        (GREY, {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"}, "one says that 0 is"),
        (GREY, {"WindowCenter": 128, "WindowWidth": 0}, "its window has no width"),
        (GREY, {"WindowCenter": 2048, "WindowWidth": 4096}, "its window leaves all below grey level"),
        (GREY, {"RedPaletteColorLookupTableData": b"\0" * 512}, "has a palette and says MONOCHROME2"),
        (RGB, {"PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": 1}, "which cannot be"),
        (GREY, {"RescaleSlope": 0}, "rescale slope is 0"),
    ],
)  # fmt: skip
def test_a_header_that_its_samples_contradict_is_refused(
    write_dicom: WriteDicom, samples: NDArray[np.uint8], says: dict[str, Any], refusal: str
) -> None:
    with pytest.raises(FrameError, match=refusal):
        read_frame(write_dicom(samples, **says))


@pytest.mark.parametrize(
    ("samples", "says", "refusal"),
    [
        (TWELVE << 4, {"BitsStored": 12, "HighBit": 15}, "its 12 bits end at bit 15, not at 11"),
        (TWELVE << 4, {"BitsStored": 12, "HighBit": 11}, "says 12 bits and its samples use more"),
        (TWELVE | np.uint16(1 << 13), {"BitsStored": 12, "HighBit": 11}, "says 12 bits and its samples use more"),
        (TWELVE, {}, "16-bit pixels of which the brightest is 4"),
        (TWELVE // 2, {"BitsStored": 12, "HighBit": 11}, "12-bit pixels of which the brightest"),
        (GREY, {"PixelRepresentation": 1}, "samples are signed, which ultrasound never is"),
        (TWELVE, {"PixelRepresentation": 1, "SOPClassUID": SECONDARY}, "signed samples and no window"),
        (GREY, {"BitsStored": 9, "HighBit": 8}, "says 9 bits stored in 8"),
    ],
)  # fmt: skip
def test_samples_of_another_place_sign_or_depth_than_stated_are_refused(
    write_dicom: WriteDicom, samples: NDArray[Any], says: dict[str, Any], refusal: str
) -> None:
    with pytest.raises(FrameError, match=refusal) as refused:
        read_frame(write_dicom(samples, **says))
    assert refused.value.fault is Fault.BIT_DEPTH


def test_an_overlay_in_the_unused_bits_is_taken_out_where_the_header_says_which(write_dicom: WriteDicom) -> None:
    drawn = TWELVE | np.uint16(1 << 14)
    path = write_dicom(drawn, BitsStored=12, HighBit=11)
    data = pydicom.dcmread(path)
    data.add_new((0x6000, 0x0100), "US", 16)
    data.add_new((0x6000, 0x0102), "US", 14)
    data.save_as(path)
    np.testing.assert_array_equal(read_frame(path).pixels, np.round(TWELVE / 4095 * 255))


def test_a_jpeg_without_markers_is_what_its_header_says_or_refused(write_dicom: WriteDicom) -> None:
    right = jpeg(write_dicom, RGB, as_ybr=True, PhotometricInterpretation="YBR_FULL_422")
    np.testing.assert_allclose(read_frame(right).pixels, GREY.astype(int), atol=12)
    with pytest.raises(FrameError, match="says RGB, and its samples are YCbCr"):
        read_frame(jpeg(write_dicom, RGB, as_ybr=True, PhotometricInterpretation="RGB"))


@pytest.mark.parametrize(
    "keyword",
    ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction", "NumberOfFrames",
     "PresentationLUTShape", "HighBit", "PixelRepresentation", "SequenceOfUltrasoundRegions", "PatientID"],
)  # fmt: skip
def test_an_empty_attribute_says_nothing(write_dicom: WriteDicom, keyword: str) -> None:
    empty: object = [] if keyword == "SequenceOfUltrasoundRegions" else None
    np.testing.assert_array_equal(read_frame(write_dicom(GREY, **{keyword: empty})).pixels, GREY)


@pytest.mark.parametrize("keyword", ["Rows", "Columns", "BitsAllocated", "BitsStored"])
def test_a_needed_attribute_that_is_empty_is_named(write_dicom: WriteDicom, keyword: str) -> None:
    with pytest.raises(FrameError, match=f"its header says nothing of {keyword}"):
        read_frame(rewritten(write_dicom(GREY), **{keyword: None}))


@pytest.mark.parametrize("implicit", [True, False])
def test_a_file_without_preamble_and_meta_is_read(write_dicom: WriteDicom, tmp_path: Path, implicit: bool) -> None:
    data = pydicom.dcmread(write_dicom(GREY))
    del data.file_meta
    data.preamble = None
    data.save_as(tmp_path / "bare", implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    assert (tmp_path / "bare").read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(read_frame(tmp_path / "bare").pixels, GREY)


def test_compressed_pixels_without_a_transfer_syntax_are_refused(tmp_path: Path) -> None:
    name = get_testdata_file("examples_jpeg2k.dcm", download=False)
    assert isinstance(name, str)
    data = pydicom.dcmread(name)
    del data.file_meta.TransferSyntaxUID
    data.save_as(tmp_path / "bare", implicit_vr=False, little_endian=True, enforce_file_format=False)
    with pytest.raises(FrameError, match="no transfer syntax says how"):
        read_frame(tmp_path / "bare")


def test_no_message_is_pythons_own(write_dicom: WriteDicom, tmp_path: Path) -> None:
    whole = write_dicom(GREY).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(whole)
        for place in rng.integers(132, 900, 3):
            broken[place] = rng.integers(256)
        (tmp_path / "b.dcm").write_bytes(broken)
        try:
            read_frame(tmp_path / "b.dcm")
        except FrameError as error:
            for word in ("object has no attribute", "argument must be", "NoneType", "PosixPath", "BoundedFile"):
                assert word not in str(error)


@pytest.mark.parametrize(("more", "fits"), [(bytes(96), True), (b"\1" * 96, False), (bytes(4608), False)])
def test_a_few_zeros_after_the_samples_are_padding(write_dicom: WriteDicom, more: bytes, fits: bool) -> None:
    path = rewritten(write_dicom(GREY), PixelData=GREY.tobytes() + more)
    if fits:
        np.testing.assert_array_equal(read_frame(path).pixels, GREY)
    else:
        with pytest.raises(FrameError, match="its header's numbers give 9216"):
            read_frame(path)


def test_what_pydicom_warns_of_is_a_refusal(write_dicom: WriteDicom) -> None:
    """It goes on with what the stream says, and the header says otherwise."""
    path = jpeg(write_dicom, RGB, as_ybr=True, PhotometricInterpretation="RGB", keep_markers=True)
    with pytest.raises(FrameError, match=r"its pixels are not what its header says: .*JFIF"):
        read_frame(path)
