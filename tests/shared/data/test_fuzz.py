"""Mutated files of every format: each is read or refused, in bounded time and memory."""

import io
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

DICOM = (
    "examples_palette.dcm",
    "examples_jpeg2k.dcm",
    "ExplVR_BigEnd.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_RLE.dcm",
    "MR_small_implicit.dcm",
    "SC_rgb_jls_lossy_sample.dcm",
    "JPEGLSNearLossless_16.dcm",
)
MEMORY = 2**30  # bytes of address space that a process may take beyond what its imports took
SECONDS = 30.0  # for one file: the JPEG-LS decoder takes some five to refuse certain broken streams
LONG_RUN = 10_000

# Runs in a process of its own: a crash of a decoder or a lack of memory is then a failure and not the end of the tests.
READER = """
import resource, sys, time
from pathlib import Path
from roiae_client.checks.privacy import identity_of
from roiae.data.dicom import is_dicom, read_header
from roiae.data.frames import read_frame
from roiae.errors import FrameError
import pydicom.pixels.decoders
folder, memory, longest = Path(sys.argv[1]), int(sys.argv[2]), 0.0
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + memory
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
count = read = 0
for path in sorted(folder.iterdir()):
    began = time.perf_counter()
    try:
        read_frame(path, 1)
        read += 1
    except FrameError as error:
        assert str(path) in str(error)
    try:
        if is_dicom(path):
            identity_of(read_header(path))
    except FrameError:
        pass
    count += 1
    longest = max(longest, time.perf_counter() - began)
print(count, read, longest)
"""


def originals() -> Iterator[bytes]:
    for name in DICOM:
        path = get_testdata_file(name, download=False)
        assert isinstance(path, str)
        yield Path(path).read_bytes()
    grey = np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)
    for kind in ("PNG", "JPEG", "TIFF", "BMP"):
        stream = io.BytesIO()
        Image.fromarray(grey).save(stream, kind)
        yield stream.getvalue()


def mutated(whole: bytes, rng: random.Random) -> bytes:
    """Cut off, or with bits, bytes and lengths changed, most of them in the header."""
    data = bytearray(whole)
    if rng.random() < 0.15:
        return bytes(data[: rng.randrange(len(data))])
    for _ in range(rng.choice([1, 2, 5, 20])):
        place = rng.randrange(min(len(data), 2000) if rng.random() < 0.6 else len(data))
        match rng.randrange(4):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place] = rng.choice([0, 1, 127, 128, 255])
            case 2:
                data[place : place + 4] = rng.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0"])
            case _:
                data[place:place] = rng.randbytes(4)
    return bytes(data)


@pytest.mark.parametrize("number", [200, pytest.param(LONG_RUN, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_mutated_files_are_read_or_refused_in_bounded_time_and_memory(tmp_path: Path, number: int) -> None:
    rng = random.Random(number)
    sources = list(originals())
    for index in range(number):
        (tmp_path / f"{index:06}").write_bytes(mutated(sources[index % len(sources)], rng))
    command = [sys.executable, "-c", READER, str(tmp_path), str(MEMORY)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    count, read, longest = ended.stdout.split()
    assert int(count) == number
    assert 0 < int(read) < number
    assert float(longest) < SECONDS
