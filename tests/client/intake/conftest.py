import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Four frames of 40×30 px: a.png, b.png, sub/c.png and sub/d.jpg."""
    folder = tmp_path / "frames"
    (folder / "sub").mkdir(parents=True)
    noise = np.random.default_rng(0)
    for name in ("a.png", "b.png", "sub/c.png", "sub/d.jpg"):
        Image.fromarray(noise.integers(0, 256, (30, 40), dtype=np.uint8)).save(folder / name)
    return folder


def table(folder: Path, *rows: str, header: str = "image,x0,y0,x1,y1") -> Path:
    path = folder / "boxes.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def report(site: Path) -> list[dict[str, str]]:
    with (site / "import.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def files_below(folder: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def archive(folder: Path, members: dict[str, bytes], **options: Any) -> Path:
    path = folder / "frames.zip"
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()
