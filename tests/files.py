"""Frames, tables and DICOM files on disk, small enough to write for each test."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset

HEADER = "image,subject,roi_x0,roi_y0,roi_x1,roi_y1"


def region(x0: int, y0: int, x1: int, y1: int, *, spatial: int = 1, units: int = 3, delta: float = 0.02) -> Dataset:
    """An ultrasound region whose corners are its first and last pixel."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = spatial, 1
    item.RegionLocationMinX0, item.RegionLocationMinY0 = x0, y0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x1, y1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = delta, delta / 2
    return item


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Twelve frames of 40×30 px from twelve subjects; line 2 of the manifest is f00.png of S00."""
    folder = tmp_path / "site"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for index in range(12):
        pixels = noise.integers(0, 256, (30, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"f{index:02}.png")
    rows = [f"f{index:02}.png,S{index:02},5,6,20,12" for index in range(12)]
    (folder / "manifest.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return folder


@pytest.fixture
def write_manifest(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Writes a manifest into a folder without images, and returns the folder."""

    def write(content: str | bytes) -> Path:
        folder = tmp_path / "manifest"
        folder.mkdir(exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        (folder / "manifest.csv").write_bytes(data)
        return folder

    return write


@pytest.fixture
def write_dicom(tmp_path: Path) -> Callable[..., Path]:
    """Writes pixels [H, W], [N, H, W] or [H, W, 3] as an uncompressed ultrasound object."""

    def write(
        pixels: NDArray[Any], regions: Sequence[Dataset] = (), name: str = "frame.dcm", **headers: object
    ) -> Path:
        colour = pixels.shape[-1] == 3
        frames = pixels.shape[0] if pixels.ndim - colour == 3 else None
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        data.SOPClassUID = uid.UltrasoundMultiFrameImageStorage if frames else uid.UltrasoundImageStorage
        data.SOPInstanceUID, data.Modality = uid.generate_uid(entropy_srcs=[str(tmp_path), name]), "US"
        data.PatientName, data.PatientID, data.PatientBirthDate = "Doe^Jane", "4711", "19800101"
        data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
        if colour:
            data.PlanarConfiguration = 0
        if frames:
            data.NumberOfFrames = frames
        data.Rows, data.Columns = pixels.shape[:-1][-2:] if colour else pixels.shape[-2:]
        data.BitsAllocated = data.BitsStored = pixels.itemsize * 8
        data.HighBit, data.PixelRepresentation = data.BitsStored - 1, 0
        if regions:
            data.SequenceOfUltrasoundRegions = list(regions)
        data.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
        for keyword, value in headers.items():
            setattr(data, keyword, value)
        data.save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path / name

    return write
