from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HEADER = "image,subject,roi_x0,roi_y0,roi_x1,roi_y1"


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
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "cache"
