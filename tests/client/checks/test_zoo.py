"""Data as they go wrong in hospitals: each kind has its finding, raises nothing, and changes nothing in the folder."""

import io
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from pydicom.data import get_testdata_file

from roiae_client.checks.findings import RULES, CheckFinding
from tests.files import HEADER, region

SMALL_SITE = {"few-subjects", "few-frames"}  # what every folder of twelve frames is told
NOISE = np.random.default_rng(7).integers(0, 256, (30, 40), dtype=np.uint8)
Spoil = Callable[[Path], object]


def bundled(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path)


def content(data: bytes) -> Spoil:
    return lambda site: (site / "f00.png").write_bytes(data)


def picture(pixels: Any, kind: str = "PNG", **options: Any) -> Spoil:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return content(stream.getvalue())


def cut(kind: str) -> Spoil:
    stream = io.BytesIO()
    Image.fromarray(NOISE).save(stream, kind)
    return content(stream.getvalue()[:200])


def rows(old: str, new: str) -> Spoil:
    def spoil(site: Path) -> None:
        text = (site / "manifest.csv").read_text()
        assert old in text
        (site / "manifest.csv").write_text(text.replace(old, new))

    return spoil


def box(corners: str) -> Spoil:
    return rows("f00.png,S00,5,6,20,12", f"f00.png,S00,{corners}")


def manifest(data: bytes) -> Spoil:
    return lambda site: (site / "manifest.csv").write_bytes(data)


def extra_column(name: str, first: str, others: str = "") -> Spoil:
    """One more column, with its value in the first row and in the others."""

    def spoil(site: Path) -> None:
        header, top, *rest = (site / "manifest.csv").read_text().splitlines()
        lines = [f"{header},{name}", f"{top},{first}", *(f"{row},{others}" for row in rest)]
        (site / "manifest.csv").write_text("\n".join(lines))

    return spoil


def copied(source: str, target: str) -> Spoil:
    return lambda site: shutil.copy(site / source, site / target)


def linked(target: str) -> Spoil:
    def spoil(site: Path) -> None:
        (site / "f00.png").unlink()
        (site / "f00.png").symlink_to(target)

    return spoil


def both(*spoils: Spoil) -> Spoil:
    def spoil(site: Path) -> None:
        for one in spoils:
            one(site)

    return spoil


def dicom(name: str = "MR_small.dcm", **headers: Any) -> Spoil:
    """A bundled object in place of the first frame, with other header values; None takes one away."""

    def spoil(site: Path) -> None:
        data = pydicom.dcmread(bundled(name))
        for keyword, value in headers.items():
            if value is None:
                delattr(data, keyword)
            else:
                setattr(data, keyword, value)
        data.save_as(site / "f00.png")

    return spoil


def latin_1(site: Path) -> None:
    text = (site / "manifest.csv").read_text().replace("S00", "Müller")
    (site / "manifest.csv").write_bytes(text.encode("latin-1"))


def huge_png(site: Path) -> None:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (site / "f00.png").write_bytes(head)


def as_folder(site: Path) -> None:
    (site / "f00.png").unlink()
    (site / "f00.png").mkdir()


def nearly_the_same(site: Path) -> None:
    Image.open(site / "f00.png").convert("L").point(lambda grey: grey * 0.9).save(site / "f01.png")


def white_is_zero(site: Path) -> None:
    tags = ImageFileDirectory_v2()
    tags[262] = 0
    Image.fromarray(NOISE.astype(np.uint16) * 257).save(site / "f00.png", "TIFF", tiffinfo=tags)


def stack(site: Path) -> None:
    Image.fromarray(NOISE).save(site / "f00.png", "TIFF", save_all=True, append_images=[Image.fromarray(NOISE)])


def without_transfer_syntax(site: Path) -> None:
    data = pydicom.dcmread(bundled("MR_small.dcm"))
    whole = bundled("MR_small.dcm").read_bytes()
    syntax = data.file_meta["TransferSyntaxUID"].value.encode()
    (site / "f00.png").write_bytes(whole.replace(syntax, b"9.9.9.9.9".ljust(len(syntax), b"\0"), 1))


def of_another_size(site: Path) -> None:
    data = pydicom.dcmread(bundled("examples_jpeg2k.dcm"))
    data.Rows = data.Rows + 1
    data.save_as(site / "f00.png")


NO_NUMBERS = ("", " ", "1,5", "0x5", "1e1", "5px", "NaN", "inf", "٥", "1_0", "5;", "'5", "--5", "5.5.5", "1 000", "½")
NO_SIZES = ("0", "-0.1", "nan", "inf", "0.1mm", "0.1x", "x0.1", "0.1x0.1x0.1", "0.1x0", "10 %")
KINDS = ("PNG", "JPEG", "TIFF")


def turned(kind: str, orientation: int) -> Spoil:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return picture(NOISE, kind, exif=exif)


def colour_of_16_bits(bits: int) -> Spoil:
    """A PNG of 16 bits a colour of which fewer are used; Pillow writes none, so its bytes are put together here."""
    rows = np.repeat((NOISE[..., None].astype(np.uint16) << (bits - 8)).astype(">u2"), 3, axis=-1)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 40, 30, 16, 2, 0, 0, 0)), (b"IDAT", packed), (b"IEND", b"")]
    framed = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return content(b"\x89PNG\r\n\x1a\n" + b"".join(framed))


def with_region(*corners: int) -> Spoil:
    return dicom(SequenceOfUltrasoundRegions=[region(*corners)])


ZOO: dict[str, tuple[Spoil, set[str]]] = {
    # frames
    "missing image": (lambda site: (site / "f00.png").unlink(), {"unreadable"}),
    "empty file": (content(b""), {"unreadable"}),
    "one byte": (content(b"\x89"), {"unreadable"}),
    "truncated PNG": (cut("PNG"), {"unreadable"}),
    "truncated JPEG": (cut("JPEG"), {"unreadable"}),
    "truncated TIFF": (cut("TIFF"), {"unreadable"}),
    "truncated BMP": (cut("BMP"), {"unreadable"}),
    "text named as an image": (content(b"see the other folder"), {"unreadable"}),
    "a web page named as an image": (content(b"<!doctype html><title>404</title>"), {"unreadable"}),
    "PDF named as an image": (content(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3"), {"unreadable"}),
    "GIF": (picture(NOISE, "GIF"), {"unreadable"}),
    "WebP": (picture(NOISE, "WEBP"), {"unreadable"}),
    "a folder named as an image": (as_folder, {"unreadable"}),
    "a picture that claims to be huge": (huge_png, {"unreadable"}),
    "two pictures in one file": (stack, {"unreadable"}),
    "a frame the file does not have": (extra_column("frame", "2"), {"unreadable"}),
    "floating point pixels": (picture(NOISE.astype(np.float32), "TIFF"), {"bit-depth"}),
    "12 bits in 16": (picture(NOISE.astype(np.uint16) * 16), {"bit-depth"}),
    "32-bit integers": (picture(NOISE.astype(np.int32), "TIFF"), {"bit-depth"}),
    "16 bits with white as zero": (white_is_zero, {"bit-depth"}),
    "all black": (picture(NOISE * 0), {"constant"}),
    "all white": (picture(NOISE * 0 + 255), {"constant"}),
    "nearly black": (picture(NOISE // 16), {"dark"}),
    "7 bits in 8": (picture(np.tile(np.arange(40, dtype=np.uint8) * 3, (30, 1))), {"dark"}),
    "few grey levels": (picture(NOISE // 4 + 90), {"low-contrast"}),
    "few grey levels near white": (picture(NOISE // 8 + 220), {"low-contrast"}),
    "13 bits in 16": (picture(NOISE.astype(np.uint16) * 32), {"bit-depth"}),
    "14 bits in 16": (picture(NOISE.astype(np.uint16) * 64), {"bit-depth"}),
    "15 bits in 16": (picture(NOISE.astype(np.uint16) * 128), {"bit-depth"}),
    "14 bits in 16 as TIFF": (picture(NOISE.astype(np.uint16) * 64, "TIFF"), {"bit-depth"}),
    "12 bits in 16-bit colour": (colour_of_16_bits(12), {"bit-depth"}),
    "14 bits in 16-bit colour": (colour_of_16_bits(14), {"bit-depth"}),
    "CMYK": (lambda site: Image.fromarray(NOISE).convert("CMYK").save(site / "f00.png", "TIFF"), {"bit-depth"}),
    "transparent in places": (picture(np.stack([NOISE, NOISE // 2], axis=-1)), {"unreadable"}),
    "a transparent level": (picture(NOISE, transparency=7), {"unreadable"}),
    **{f"EXIF orientation {n} in {kind}": (turned(kind, n), {"orientation"}) for kind in KINDS for n in range(2, 9)},
    # repeats and splits
    "the same frame of two subjects": (copied("f00.png", "f01.png"), {"duplicate-across-subjects"}),
    "the same frame twice of one subject": (
        both(copied("f00.png", "f01.png"), rows("f01.png,S01", "f01.png,S00")),
        {"duplicate"},
    ),
    "the same frame on both sides": (
        both(copied("f00.png", "f01.png"), extra_column("split", "validation", "train")),
        {"duplicate-across-subjects", "duplicate-across-splits"},
    ),
    "nearly the same frame of two subjects": (nearly_the_same, {"near-duplicate-across-subjects"}),
    "nearly the same frame on both sides": (
        both(nearly_the_same, extra_column("split", "validation", "train")),
        {"near-duplicate-across-subjects", "near-duplicate-across-splits"},
    ),
    "a subject on both sides": (
        both(
            rows("f01.png,S01", "f01.png,S06"),
            extra_column("split", "validation", ""),
            rows("S06,5,6,20,12,\n", "S06,5,6,20,12,train\n"),
            rows("f00.png,S00", "f00.png,S06"),
        ),
        {"subject-across-splits"},
    ),
    "nothing to validate on": (extra_column("split", "train", "train"), {"split-empty"}),
    "nothing to train on": (extra_column("split", "validation", "validation"), {"split-empty"}),
    # boxes
    "box over the right border": (box("5,6,41,12"), {"roi-outside"}),
    "box over the lower border": (box("5,6,38,31"), {"roi-outside"}),
    "box before the origin": (box("-1,6,20,12"), {"roi-outside"}),
    "box far away": (box("900000,6,999999,12"), {"roi-outside"}),
    "box without width": (box("5,6,5,12"), {"roi-degenerate"}),
    "box without height": (box("5,6,20,6"), {"roi-degenerate"}),
    "box with exchanged ends": (box("20,12,5,6"), {"roi-degenerate"}),
    "box with exchanged axes": (box("3,31,9,39"), {"roi-outside", "roi-swapped"}),
    "box of one row": (
        both(
            lambda site: Image.fromarray(np.kron(NOISE, np.ones((8, 8), np.uint8))).save(site / "f00.png"),
            box("5,6,20,7"),
        ),
        {"roi-small"},
    ),
    # the table
    "no table": (lambda site: (site / "manifest.csv").unlink(), {"manifest"}),
    "empty table": (manifest(b""), {"manifest"}),
    "header alone": (manifest(HEADER.encode()), {"manifest"}),
    "binary table": (manifest(bytes(range(256))), {"manifest"}),
    "Latin-1": (latin_1, {"manifest"}),
    "UTF-16": (manifest(f"{HEADER}\n".encode("utf-16")), {"manifest"}),
    "missing column": (rows("roi_x0", "left"), {"manifest"}),
    "repeated column": (extra_column("subject", "A", "A"), {"manifest"}),
    "short row": (rows("f00.png,S00,5,6,20,12", "f00.png,S00,5,6,20"), {"manifest"}),
    "long row": (rows("f00.png,S00,5,6,20,12", "f00.png,S00,5,6,20,12,9"), {"manifest"}),
    "open quote": (rows("f00.png,S00", '"f00.png,S00'), {"manifest"}),
    "path that climbs out": (rows("f00.png,", "../f00.png,"), {"manifest"}),
    "path that climbs out with backslashes": (rows("f00.png,", "a\\..\\..\\f00.png,"), {"manifest"}),
    "absolute path": (rows("f00.png,", "/etc/passwd,"), {"manifest"}),
    "link that leaves the folder": (linked("/etc/passwd"), {"manifest"}),
    "link to itself": (linked("f00.png"), {"manifest"}),
    "dangling link": (linked("gone.png"), {"unreadable"}),
    "the same row twice": (rows("f01.png,S01", "f00.png,S00"), {"manifest"}),
    "corner that is no number": (box("five,6,20,12"), {"manifest"}),
    "corner between pixels": (box("5.5,6,20,12"), {"manifest"}),
    "no subject": (rows("f00.png,S00", "f00.png,"), {"manifest"}),
    "no image": (rows("f00.png,S00", ",S00"), {"manifest"}),
    "unknown split": (extra_column("split", "test"), {"manifest"}),
    "impossible pixel size": (extra_column("mm_per_px", "-0.1"), {"manifest"}),
    "impossible frame": (extra_column("frame", "0"), {"manifest"}),
    "very long name": (rows("f00.png,", f"{'a' * 5000},"), {"unreadable"}),
    **{f"corner {text!r}": (box(f"{text},6,20,12"), {"manifest"}) for text in NO_NUMBERS},
    **{f"frame {text!r}": (extra_column("frame", text), {"manifest"}) for text in ("1.5", "-1", "first", "1e0")},
    **{f"pixel size {text!r}": (extra_column("mm_per_px", text), {"manifest"}) for text in NO_SIZES},
    # what is odd and fine
    "an orientation that turns nothing": (turned("PNG", 1), set()),
    "a pixel size of two sides": (extra_column("mm_per_px", "0.2x0.1", "0.1"), set()),
    "DICOM without what may be left out": (dicom(WindowCenter=600, WindowWidth=1600), set()),
    "a region larger than its picture": (with_region(0, 0, 200, 200), set()),
    "MONOCHROME2 that is shown as it is": (dicom(PresentationLUTShape="IDENTITY"), set()),
    "byte order mark": (rows(HEADER, f"\ufeff{HEADER}"), set()),
    "semicolons": (rows(",", ";"), set()),
    "CRLF": (rows("\n", "\r\n"), set()),
    "16 bits that are stretched": (picture(NOISE.astype(np.uint16) * 257), set()),
    # DICOM
    "truncated DICOM": (lambda site: content(bundled("MR_small.dcm").read_bytes()[:5000])(site), {"unreadable"}),
    "DICOM without pixels": (lambda site: content(bundled("reportsi.dcm").read_bytes())(site), {"unreadable"}),
    "DICOM preamble alone": (content(b"\0" * 128 + b"DICM"), {"unreadable"}),
    "DICOM of an unknown transfer syntax": (without_transfer_syntax, {"no-decoder"}),
    "deflated DICOM": (lambda site: content(bundled("image_dfl.dcm").read_bytes())(site), {"unreadable"}),
    "lossless JPEG": (lambda site: content(bundled("SC_rgb_jpeg_gdcm.dcm").read_bytes())(site), {"no-decoder"}),
    "DICOM that claims to be huge": (dicom(Rows=60_000, Columns=60_000), {"unreadable"}),
    "DICOM without a row": (dicom(Rows=0), {"unreadable"}),
    "compressed frame of another size": (of_another_size, {"unreadable"}),
    "cine without a chosen frame": (dicom("SC_rgb_rle_2frame.dcm"), {"unreadable"}),
    "unknown colour space": (dicom("SC_rgb_small_odd.dcm", PhotometricInterpretation="CMYK"), {"unreadable"}),
    "palette without a table": (
        dicom(PhotometricInterpretation="PALETTE COLOR", PixelRepresentation=0),
        {"unreadable"},
    ),
    "DICOM without a photometric interpretation": (dicom(PhotometricInterpretation=None), {"unreadable"}),
    "32 bits of dose": (dicom("rtdose_1frame.dcm"), {"bit-depth"}),
    "DICOM of signed samples without a window": (dicom(WindowCenter=None, WindowWidth=None), {"bit-depth"}),
    "DICOM with samples at the upper end": (dicom(BitsStored=12, HighBit=15), {"bit-depth"}),
    "DICOM of fewer bits than its samples use": (dicom(BitsStored=8, HighBit=7, PixelRepresentation=0), {"bit-depth"}),
    "DICOM of more bits stored than there are": (dicom(BitsStored=17, HighBit=16), {"bit-depth"}),
    "DICOM of an unknown presentation": (dicom(PresentationLUTShape="LIN OD"), {"unreadable"}),
    "MONOCHROME2 that is shown inverse": (dicom(PresentationLUTShape="INVERSE"), {"unreadable"}),
    "MONOCHROME1 that is shown as it is": (
        dicom(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="IDENTITY"),
        {"unreadable"},
    ),
    "DICOM with a row less than it has": (dicom(Rows=63), {"unreadable"}),
    "DICOM with a row more than it has": (dicom(Rows=65), {"unreadable"}),
    "grey that says colour": (dicom(PhotometricInterpretation="RGB"), {"unreadable"}),
    "colour that says grey": (dicom("SC_rgb_small_odd.dcm", PhotometricInterpretation="MONOCHROME2"), {"unreadable"}),
    "colour that says another length": (
        dicom("SC_rgb_small_odd.dcm", PhotometricInterpretation="YBR_FULL_422"),
        {"unreadable"},
    ),
    "a window without width": (dicom(WindowWidth=0), {"unreadable"}),
    "a rescale that falls": (dicom(RescaleSlope=-1, RescaleIntercept=0), {"unreadable"}),
    "a rescale of nothing": (dicom(RescaleSlope=0, RescaleIntercept=0), {"unreadable"}),
    "DICOM without BitsStored": (dicom(BitsStored=None), {"unreadable"}),
    "DICOM without Rows": (dicom(Rows=None), {"unreadable"}),
    "a region that ends before it starts": (with_region(30, 5, 10, 20), {"unreadable"}),
    "a box outside the region": (with_region(30, 30, 50, 50), {"roi-outside"}),
    "burned-in annotation": (dicom("examples_rgb_color.dcm", BurnedInAnnotation="YES"), {"burned-in", "text"}),
}
HEADERS = {"header-identity", "identity-not-removed"}  # the bundled objects name their patients


@pytest.mark.parametrize("name", ZOO)
def test_each_kind_of_broken_data_has_its_finding(
    site: Path, tmp_path: Path, found: Callable[[Path], dict[str, CheckFinding]], name: str
) -> None:
    spoil, expected = ZOO[name]
    spoil(site)
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    findings = found(site)
    assert set(findings) - SMALL_SITE - HEADERS == expected
    assert all(finding.level is RULES[code].level for code, finding in findings.items())
    after = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    written = {path for path in after if path not in before or after[path] != before[path]} - {tmp_path}
    assert all(path.is_relative_to(tmp_path / "cache") for path in written)


def test_the_zoo_is_as_large_as_promised() -> None:
    assert sum(bool(expected) for _, expected in ZOO.values()) >= 150
